//! One 256-bit register: what the planar kernels of AVX2 are written in, and two or three multiply-adds as one piece.
//!
//! Twelve sums with what they are made of take fifteen or all of the sixteen registers. Left to itself, the compiler loads ahead,
//! runs out of them, and moves sums around or keeps them in memory, which costs up to half of the speed.

use core::arch::asm;
use core::arch::x86_64::*;

use super::lanes::Lanes;

/// `sums[i] + a·factors[i]`, with nothing that touches memory moved across.
///
/// # Safety
/// The CPU has AVX2 and FMA.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn add_products(sums: [__m256; 3], a: __m256, factors: [__m256; 3]) -> [__m256; 3] {
    let [mut x, mut y, mut z] = sums;
    // SAFETY: arithmetic on registers alone. That it uses no memory is not said on purpose: the next load has to stay behind it.
    unsafe {
        asm!(
            "vfmadd231ps {x}, {a}, {f}",
            "vfmadd231ps {y}, {a}, {g}",
            "vfmadd231ps {z}, {a}, {h}",
            x = inout(ymm_reg) x,
            y = inout(ymm_reg) y,
            z = inout(ymm_reg) z,
            a = in(ymm_reg) a,
            f = in(ymm_reg) factors[0],
            g = in(ymm_reg) factors[1],
            h = in(ymm_reg) factors[2],
            options(nostack, preserves_flags),
        );
    }
    [x, y, z]
}

/// `sums[i] + a[i]·x`, with nothing that touches memory moved across.
///
/// # Safety
/// The CPU has AVX2 and FMA.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn add_product(sums: [__m256; 2], a: [__m256; 2], x: __m256) -> [__m256; 2] {
    let [mut low, mut high] = sums;
    // SAFETY: as above.
    unsafe {
        asm!(
            "vfmadd231ps {low}, {a}, {x}",
            "vfmadd231ps {high}, {b}, {x}",
            low = inout(ymm_reg) low,
            high = inout(ymm_reg) high,
            a = in(ymm_reg) a[0],
            b = in(ymm_reg) a[1],
            x = in(ymm_reg) x,
            options(nostack, preserves_flags),
        );
    }
    [low, high]
}

/// One 256-bit register.
#[derive(Clone, Copy)]
pub(crate) struct Eight(__m256);

// SAFETY (of every block here): the CPU has AVX2 and FMA, which is the contract of the trait, and pointers are valid for what
// the trait names.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Lanes for Eight {
    const WIDTH: usize = 8;
    const THREES: bool = true;
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        Self(unsafe { _mm256_loadu_ps(p) })
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        unsafe { _mm256_storeu_ps(p, self.0) }
    }
    #[inline(always)]
    unsafe fn splat_at(p: *const f32) -> Self {
        Self(unsafe { _mm256_broadcast_ss(&*p) })
    }
    #[inline(always)]
    unsafe fn splat(v: f32) -> Self {
        Self(unsafe { _mm256_set1_ps(v) })
    }
    #[inline(always)]
    unsafe fn mul_add(self, a: Self, b: Self) -> Self {
        Self(unsafe { _mm256_fmadd_ps(self.0, a.0, b.0) })
    }
    #[inline(always)]
    unsafe fn add_products(self, factors: &[Self; 3], sums: &mut [Self; 3]) {
        *sums = unsafe { add_products(sums.map(|s| s.0), self.0, factors.map(|f| f.0)) }.map(Self);
    }
    #[inline(always)]
    unsafe fn add(self, o: Self) -> Self {
        Self(unsafe { _mm256_add_ps(self.0, o.0) })
    }
    #[inline(always)]
    unsafe fn max(self, o: Self) -> Self {
        Self(unsafe { _mm256_max_ps(self.0, o.0) })
    }
    #[inline(always)]
    unsafe fn min(self, o: Self) -> Self {
        Self(unsafe { _mm256_min_ps(self.0, o.0) })
    }
    #[inline(always)]
    unsafe fn and(self, o: Self) -> Self {
        Self(unsafe { _mm256_and_ps(self.0, o.0) })
    }
}
