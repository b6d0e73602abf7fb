//! Multiply-adds that wait for nothing: what a core can do at most.

use super::lanes::{Lanes, Plain};
use super::table::Isa;

/// `SUMS` independent sums: enough to hide the latency of every unit, few enough for the registers.
///
/// # Safety
/// The CPU has the instruction set of `L`.
#[inline(always)]
unsafe fn multiply_add<L: Lanes, const SUMS: usize>(rounds: usize) -> f32 {
    // SAFETY: of the caller; the array that is written has 16 elements.
    unsafe {
        let (factor, term) = (L::splat(0.999), L::splat(0.001));
        let mut sums = [L::splat(0.1); SUMS];
        for _ in 0..rounds {
            for s in &mut sums {
                *s = s.mul_add(factor, term);
            }
        }
        let mut all = [0f32; 16];
        sums.into_iter().fold(L::splat(0.0), |a, b| a.add(b)).store(all.as_mut_ptr());
        all.iter().sum()
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn avx512(rounds: usize) -> f32 {
    // SAFETY: this function is compiled for the instruction set, and only called where it is there.
    unsafe { multiply_add::<super::lanes::x86::Avx512, 12>(rounds) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2(rounds: usize) -> f32 {
    // SAFETY: this function is compiled for the instruction set, and only called where it is there.
    unsafe { multiply_add::<super::lanes::x86::Avx2, 5>(rounds) }
}

/// Does multiply-adds on registers; returns how many floating-point operations they were, and a sum that keeps the compiler from
/// leaving them out. Timed by the caller, it is the peak that kernels are compared with.
pub fn peak_operations(isa: Isa, rounds: usize) -> (u64, f32) {
    let (sum, sums) = match isa {
        // SAFETY: the CPU has the instruction set.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 if isa.is_available() => (unsafe { avx512(rounds) }, 12),
        // SAFETY: the CPU has the instruction set.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 if isa.is_available() => (unsafe { avx2(rounds) }, 5),
        // SAFETY: NEON is part of the baseline of aarch64.
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => (unsafe { multiply_add::<super::lanes::arm::Neon, 5>(rounds) }, 5),
        // SAFETY: plain Rust needs no instruction set.
        _ => (unsafe { multiply_add::<Plain, 1>(rounds) }, 1),
    };
    ((rounds * sums * 16 * 2) as u64, sum)
}
