//! Plain loops, compiled once more for each instruction set.

use super::table::Isa;

/// Runs `f` in a function compiled for `isa`, so that the compiler vectorises what is inlined into it; `f` and what it calls
/// should be `inline(always)`. Falls back to the baseline where the CPU lacks the set.
#[inline(always)]
pub(crate) fn accelerate<R>(isa: Isa, f: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,fma")]
        fn avx512<R>(f: impl FnOnce() -> R) -> R {
            f()
        }
        #[target_feature(enable = "avx2,fma")]
        fn avx2<R>(f: impl FnOnce() -> R) -> R {
            f()
        }
        if isa == Isa::Avx512
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512bw")
        {
            // SAFETY: the CPU has the features, as was just asked.
            return unsafe { avx512(f) };
        }
        if matches!(isa, Isa::Avx512 | Isa::Avx2) && is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the CPU has the features, as was just asked.
            return unsafe { avx2(f) };
        }
    }
    let _ = isa;
    f()
}
