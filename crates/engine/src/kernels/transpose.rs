//! Sixteen channels between planes and blocks.

use super::table::Isa;
use crate::layout::LANES;

/// `pixels` (at most 16) of 16 planes, `step` elements apart, to blocks of 16 channels. `from` begins at the first pixel of the first
/// plane.
///
/// # Panics
/// Slices too short.
pub(crate) fn planes_to_blocks(isa: Isa, from: &[f32], step: usize, pixels: usize, to: &mut [f32]) {
    assert!(pixels <= LANES && from.len() >= (LANES - 1) * step + pixels && to.len() >= pixels * LANES);
    #[cfg(target_arch = "x86_64")]
    if isa == Isa::Avx512 && isa.is_available() {
        // SAFETY: the CPU has AVX-512F, and the lengths were checked.
        return unsafe { x86::planes_to_blocks(from.as_ptr(), step, pixels, to.as_mut_ptr()) };
    }
    let _ = isa;
    for (p, block) in to.chunks_exact_mut(LANES).take(pixels).enumerate() {
        block.iter_mut().enumerate().for_each(|(l, v)| *v = from[l * step + p]);
    }
}

/// The other way round: `pixels` (at most 16) blocks of 16 channels to 16 planes, `step` elements apart.
///
/// # Panics
/// Slices too short.
pub(crate) fn blocks_to_planes(isa: Isa, from: &[f32], pixels: usize, to: &mut [f32], step: usize) {
    assert!(pixels <= LANES && to.len() >= (LANES - 1) * step + pixels && from.len() >= pixels * LANES);
    #[cfg(target_arch = "x86_64")]
    if isa == Isa::Avx512 && isa.is_available() {
        // SAFETY: the CPU has AVX-512F, and the lengths were checked.
        return unsafe { x86::blocks_to_planes(from.as_ptr(), pixels, to.as_mut_ptr(), step) };
    }
    let _ = isa;
    for l in 0..LANES {
        for p in 0..pixels {
            to[l * step + p] = from[p * LANES + l];
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use core::arch::x86_64::*;

    use crate::layout::LANES;

    /// Rows become columns.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn transpose(r: [__m512; LANES]) -> [__m512; LANES] {
        let zero = _mm512_setzero_ps();
        let (mut pairs, mut fours, mut columns) = ([zero; LANES], [zero; LANES], [zero; LANES]);
        for i in (0..LANES).step_by(2) {
            pairs[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
            pairs[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
        }
        let low = |a, b| _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
        let high = |a, b| _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
        for i in (0..LANES).step_by(4) {
            fours[i] = low(pairs[i], pairs[i + 2]);
            fours[i + 1] = high(pairs[i], pairs[i + 2]);
            fours[i + 2] = low(pairs[i + 1], pairs[i + 3]);
            fours[i + 3] = high(pairs[i + 1], pairs[i + 3]);
        }
        // Part `k` of `fours[4g + j]` is column `4k + j` of rows `4g..4g + 4`.
        for j in 0..4 {
            let even = |a, b| _mm512_shuffle_f32x4::<0x88>(a, b);
            let odd = |a, b| _mm512_shuffle_f32x4::<0xDD>(a, b);
            let (a, b) = (even(fours[j], fours[4 + j]), even(fours[8 + j], fours[12 + j]));
            let (c, d) = (odd(fours[j], fours[4 + j]), odd(fours[8 + j], fours[12 + j]));
            columns[j] = even(a, b);
            columns[8 + j] = odd(a, b);
            columns[4 + j] = even(c, d);
            columns[12 + j] = odd(c, d);
        }
        columns
    }

    /// The lowest lanes.
    fn mask(pixels: usize) -> __mmask16 {
        ((1u32 << pixels) - 1) as __mmask16
    }

    /// # Safety
    /// 16 planes of `pixels` elements are readable, `16·pixels` elements writable.
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn planes_to_blocks(from: *const f32, step: usize, pixels: usize, to: *mut f32) {
        let mut rows = [_mm512_setzero_ps(); LANES];
        for (l, row) in rows.iter_mut().enumerate() {
            // SAFETY: of the caller; what the mask leaves out is not read.
            *row = unsafe { _mm512_maskz_loadu_ps(mask(pixels), from.add(l * step)) };
        }
        for (p, column) in transpose(rows).into_iter().enumerate().take(pixels) {
            // SAFETY: of the caller.
            unsafe { _mm512_storeu_ps(to.add(p * LANES), column) };
        }
    }

    /// # Safety
    /// `16·pixels` elements are readable, 16 planes of `pixels` elements writable.
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn blocks_to_planes(from: *const f32, pixels: usize, to: *mut f32, step: usize) {
        let mut blocks = [_mm512_setzero_ps(); LANES];
        for (p, block) in blocks.iter_mut().enumerate().take(pixels) {
            // SAFETY: of the caller.
            *block = unsafe { _mm512_loadu_ps(from.add(p * LANES)) };
        }
        for (l, row) in transpose(blocks).into_iter().enumerate() {
            // SAFETY: of the caller; what the mask leaves out is not written.
            unsafe { _mm512_mask_storeu_ps(to.add(l * step), mask(pixels), row) };
        }
    }
}
