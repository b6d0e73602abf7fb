//! The kernel for layers of a single output pixel: linear layers, and convolutions over all of their input.

// Loops over constants of what is an array of registers: indices say which.
#![allow(clippy::needless_range_loop)]

use super::lanes::{Lanes, Plain};
use super::table::Isa;
use super::tile::{Groups, Layer, TileKernel};

/// One output pixel for a range of filter blocks: survivors in turn go to one of eight sums, so that they need not wait for each other.
///
/// # Safety
/// As `tile`, for one pixel and one block per group.
#[inline(always)]
unsafe fn pixel<L: Lanes>(call: &Layer, input: *const f32, output: *mut f32, residual: *const f32, groups: Groups) {
    const SUMS: usize = 8;
    // Weights are used once and come from memory; the hardware's own prefetching stops at pages.
    const AHEAD: usize = 48;
    // SAFETY: all accesses are those that the caller vouches for.
    unsafe {
        for group in groups.first as usize..groups.last as usize {
            let list = *call.lists.add(group);
            let mut sums = [L::splat(0.0); SUMS];
            sums[0] = L::load(call.bias.add(16 * group));
            let mut weights = call.weights.add(16 * list.weights as usize);
            let mut offset = call.offsets.add(list.offsets as usize);
            let mut left = list.count as usize;
            while left >= SUMS {
                for (s, sum) in sums.iter_mut().enumerate() {
                    L::prefetch(weights.wrapping_add(16 * (s + AHEAD)));
                    let x = L::splat_at(input.byte_add(*offset.add(s) as usize));
                    *sum = L::load(weights.add(16 * s)).mul_add(x, *sum);
                }
                weights = weights.add(16 * SUMS);
                offset = offset.add(SUMS);
                left -= SUMS;
            }
            for s in 0..left {
                let x = L::splat_at(input.byte_add(*offset.add(s) as usize));
                sums[s] = L::load(weights.add(16 * s)).mul_add(x, sums[s]);
            }
            let mut width = SUMS / 2;
            while width > 0 {
                for s in 0..width {
                    sums[s] = sums[s].add(sums[s + width]);
                }
                width /= 2;
            }
            let mut v = sums[0];
            if !residual.is_null() {
                v = v.add(L::load(residual.add(group * call.residual_block)));
            }
            if call.slope != 1.0 {
                // In this order of operands a NaN stays one.
                v = L::splat(call.slope).mul_add(L::splat(0.0).min(v), L::splat(0.0).max(v));
            }
            // Here, too.
            v = L::splat(call.high).min(L::splat(call.low).max(v));
            v.store(output.add(group * call.output_block));
        }
    }
}

macro_rules! vector {
    ($name:ident, $lanes:ty, $feature:literal) => {
        /// # Safety
        /// As [`pixel`].
        #[target_feature(enable = $feature)]
        unsafe fn $name(l: &Layer, i: *const f32, o: *mut f32, r: *const f32, g: Groups, _: *const f32) {
            // SAFETY: the caller's contract is that of `pixel`.
            unsafe { pixel::<$lanes>(l, i, o, r, g) }
        }
    };
}
#[cfg(target_arch = "x86_64")]
vector!(avx512, super::lanes::x86::Avx512, "avx512f");
#[cfg(target_arch = "x86_64")]
vector!(avx2, super::lanes::x86::Avx2, "avx2,fma");
#[cfg(target_arch = "aarch64")]
vector!(neon, super::lanes::arm::Neon, "neon");

/// # Safety
/// As [`pixel`].
unsafe fn plain(l: &Layer, i: *const f32, o: *mut f32, r: *const f32, g: Groups, _: *const f32) {
    // SAFETY: the caller's contract is that of `pixel`; plain Rust needs no instruction set.
    unsafe { pixel::<Plain>(l, i, o, r, g) }
}

/// The kernel of an instruction set; `None` where this target does not have it.
pub(crate) fn vector_kernel(isa: Isa) -> Option<TileKernel> {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => Some(avx512),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => Some(avx2),
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => Some(neon),
        Isa::Plain => Some(plain),
        #[allow(unreachable_patterns)]
        _ => None,
    }
}
