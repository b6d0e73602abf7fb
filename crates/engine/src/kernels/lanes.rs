//! Some `f32` side by side: what the kernels are written in, and what each instruction set has to provide.

/// Sixteen `f32` lanes; where `WIDTH` says so, as many as that instead in all methods.
///
/// The methods are `inline(always)` and carry no target feature of their own: they become the instructions of the set they are
/// named after only inside a function compiled for it, which is where `isa_kernels!` puts them.
///
/// # Safety
/// Every method requires a CPU with the instruction set of the implementation. Pointers must be valid for the elements that
/// the method names; `load` and `store` need no alignment.
pub(crate) trait Lanes: Copy {
    /// How many.
    const WIDTH: usize = 16;
    /// Kernels of three pixels should use [`Lanes::add_products`].
    const THREES: bool = false;
    /// Survivors that tile kernels take per turn of their loop, which pay for its instructions once.
    const TOGETHER: usize = 4;
    /// Whether tile kernels ask for the weights of survivors further on. Where few multiply-adds are in a survivor, the request
    /// takes the place of an instruction, and the hardware's own prefetching is enough.
    const ASKS_AHEAD: bool = false;
    /// Sixteen elements from `p`.
    unsafe fn load(p: *const f32) -> Self;
    /// Sixteen elements to `p`.
    unsafe fn store(self, p: *mut f32);
    /// The element at `p` in every lane.
    unsafe fn splat_at(p: *const f32) -> Self;
    /// `v` in every lane.
    unsafe fn splat(v: f32) -> Self;
    /// `self·a + b`; rounded once where the instruction set fuses.
    unsafe fn mul_add(self, a: Self, b: Self) -> Self;
    /// Adds the elements at `p` times `factors[i]` to `sums[i]`; they are loaded as late as possible where that saves registers.
    #[inline(always)]
    unsafe fn add_loaded_products(p: *const f32, factors: &[Self; 3], sums: &mut [Self; 3]) {
        // SAFETY: the contract is the same.
        unsafe { Self::load(p).add_products(factors, sums) }
    }
    /// Adds `self·factors[i]` to `sums[i]`; what is loaded next is loaded after it where that saves registers.
    #[inline(always)]
    unsafe fn add_products(self, factors: &[Self; 3], sums: &mut [Self; 3]) {
        for (sum, f) in sums.iter_mut().zip(factors) {
            // SAFETY: the contract is the same.
            *sum = unsafe { self.mul_add(*f, *sum) };
        }
    }
    /// Adds `self·x` to `sum`, where `x` has the same element in every lane; what is loaded next is loaded after it where that saves
    /// registers.
    #[inline(always)]
    unsafe fn add_product(self, x: Self, sum: &mut Self) {
        // SAFETY: the contract is the same.
        *sum = unsafe { self.mul_add(x, *sum) };
    }
    /// Lane by lane.
    unsafe fn add(self, o: Self) -> Self;
    /// Lane by lane; a NaN of `o` stays one, one of `self` need not.
    unsafe fn max(self, o: Self) -> Self;
    /// Lane by lane; a NaN of `o` stays one, one of `self` need not.
    unsafe fn min(self, o: Self) -> Self;
    /// The bits that both have, lane by lane.
    unsafe fn and(self, o: Self) -> Self;
    /// Asks for the cache line at `p`, which may lie anywhere.
    #[inline(always)]
    unsafe fn prefetch(p: *const f32) {
        let _ = p;
    }
    /// The same, into the second-level cache.
    #[inline(always)]
    unsafe fn prefetch_far(p: *const f32) {
        let _ = p;
    }
}

/// Plain Rust; the compiler makes of it what the baseline of the target allows.
#[derive(Clone, Copy)]
pub(crate) struct Plain([f32; 16]);

impl Plain {
    #[inline(always)]
    fn zip(self, o: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        let mut r = self.0;
        for (a, b) in r.iter_mut().zip(o.0) {
            *a = f(*a, b);
        }
        Self(r)
    }
}

// SAFETY (of every block here): the caller's pointer is valid for what the trait names.
impl Lanes for Plain {
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: sixteen elements are readable.
        Self(unsafe { p.cast::<[f32; 16]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        // SAFETY: sixteen elements are writable.
        unsafe { p.cast::<[f32; 16]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    unsafe fn splat_at(p: *const f32) -> Self {
        // SAFETY: one element is readable.
        Self([unsafe { *p }; 16])
    }
    #[inline(always)]
    unsafe fn splat(v: f32) -> Self {
        Self([v; 16])
    }
    #[inline(always)]
    unsafe fn mul_add(self, a: Self, b: Self) -> Self {
        self.zip(a, |x, y| x * y).zip(b, |x, y| x + y)
    }
    #[inline(always)]
    unsafe fn add(self, o: Self) -> Self {
        self.zip(o, |x, y| x + y)
    }
    #[inline(always)]
    unsafe fn max(self, o: Self) -> Self {
        self.zip(o, |x, y| if x > y { x } else { y })
    }
    #[inline(always)]
    unsafe fn min(self, o: Self) -> Self {
        self.zip(o, |x, y| if x < y { x } else { y })
    }
    #[inline(always)]
    unsafe fn and(self, o: Self) -> Self {
        self.zip(o, |x, y| f32::from_bits(x.to_bits() & y.to_bits()))
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) mod x86 {
    use super::Lanes;
    use crate::kernels::eight::{add_product, add_products};
    use core::arch::x86_64::*;

    /// One 512-bit register.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx512(__m512);

    // SAFETY (of every block here): the CPU has AVX-512F, which is the contract of the trait, and pointers are valid for
    // what the trait names.
    #[allow(clippy::undocumented_unsafe_blocks)]
    impl Lanes for Avx512 {
        const TOGETHER: usize = 1;
        const ASKS_AHEAD: bool = true;
        #[inline(always)]
        unsafe fn prefetch(p: *const f32) {
            unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
        }
        #[inline(always)]
        unsafe fn prefetch_far(p: *const f32) {
            unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
        }
        #[inline(always)]
        unsafe fn load(p: *const f32) -> Self {
            Self(unsafe { _mm512_loadu_ps(p) })
        }
        #[inline(always)]
        unsafe fn store(self, p: *mut f32) {
            unsafe { _mm512_storeu_ps(p, self.0) }
        }
        #[inline(always)]
        unsafe fn splat_at(p: *const f32) -> Self {
            Self(unsafe { _mm512_set1_ps(*p) })
        }
        #[inline(always)]
        unsafe fn splat(v: f32) -> Self {
            Self(unsafe { _mm512_set1_ps(v) })
        }
        #[inline(always)]
        unsafe fn mul_add(self, a: Self, b: Self) -> Self {
            Self(unsafe { _mm512_fmadd_ps(self.0, a.0, b.0) })
        }
        #[inline(always)]
        unsafe fn add(self, o: Self) -> Self {
            Self(unsafe { _mm512_add_ps(self.0, o.0) })
        }
        #[inline(always)]
        unsafe fn max(self, o: Self) -> Self {
            Self(unsafe { _mm512_max_ps(self.0, o.0) })
        }
        #[inline(always)]
        unsafe fn min(self, o: Self) -> Self {
            Self(unsafe { _mm512_min_ps(self.0, o.0) })
        }
        #[inline(always)]
        unsafe fn and(self, o: Self) -> Self {
            Self(unsafe { _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(self.0), _mm512_castps_si512(o.0))) })
        }
    }

    /// Two 256-bit registers.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx2(__m256, __m256);

    // SAFETY (of every block here): the CPU has AVX2 and FMA, which is the contract of the trait, and pointers are valid for
    // what the trait names.
    #[allow(clippy::undocumented_unsafe_blocks)]
    impl Lanes for Avx2 {
        const THREES: bool = true;
        #[inline(always)]
        unsafe fn add_product(self, x: Self, sum: &mut Self) {
            let [low, high] = unsafe { add_product([sum.0, sum.1], [self.0, self.1], x.0) };
            *sum = Self(low, high);
        }
        #[inline(always)]
        unsafe fn add_loaded_products(p: *const f32, factors: &[Self; 3], sums: &mut [Self; 3]) {
            unsafe {
                let low = add_products(sums.map(|s| s.0), _mm256_loadu_ps(p), factors.map(|f| f.0));
                let high = add_products(sums.map(|s| s.1), _mm256_loadu_ps(p.add(8)), factors.map(|f| f.1));
                *sums = [Self(low[0], high[0]), Self(low[1], high[1]), Self(low[2], high[2])];
            }
        }
        #[inline(always)]
        unsafe fn prefetch(p: *const f32) {
            unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
        }
        #[inline(always)]
        unsafe fn prefetch_far(p: *const f32) {
            unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
        }
        #[inline(always)]
        unsafe fn load(p: *const f32) -> Self {
            unsafe { Self(_mm256_loadu_ps(p), _mm256_loadu_ps(p.add(8))) }
        }
        #[inline(always)]
        unsafe fn store(self, p: *mut f32) {
            unsafe {
                _mm256_storeu_ps(p, self.0);
                _mm256_storeu_ps(p.add(8), self.1);
            }
        }
        #[inline(always)]
        unsafe fn splat_at(p: *const f32) -> Self {
            let v = unsafe { _mm256_broadcast_ss(&*p) };
            Self(v, v)
        }
        #[inline(always)]
        unsafe fn splat(v: f32) -> Self {
            let v = unsafe { _mm256_set1_ps(v) };
            Self(v, v)
        }
        #[inline(always)]
        unsafe fn mul_add(self, a: Self, b: Self) -> Self {
            unsafe { Self(_mm256_fmadd_ps(self.0, a.0, b.0), _mm256_fmadd_ps(self.1, a.1, b.1)) }
        }
        #[inline(always)]
        unsafe fn add(self, o: Self) -> Self {
            unsafe { Self(_mm256_add_ps(self.0, o.0), _mm256_add_ps(self.1, o.1)) }
        }
        #[inline(always)]
        unsafe fn max(self, o: Self) -> Self {
            unsafe { Self(_mm256_max_ps(self.0, o.0), _mm256_max_ps(self.1, o.1)) }
        }
        #[inline(always)]
        unsafe fn min(self, o: Self) -> Self {
            unsafe { Self(_mm256_min_ps(self.0, o.0), _mm256_min_ps(self.1, o.1)) }
        }
        #[inline(always)]
        unsafe fn and(self, o: Self) -> Self {
            unsafe { Self(_mm256_and_ps(self.0, o.0), _mm256_and_ps(self.1, o.1)) }
        }
    }
}

#[cfg(target_arch = "aarch64")]
pub(crate) mod arm {
    use super::Lanes;
    use core::arch::aarch64::*;

    /// Four 128-bit registers.
    #[derive(Clone, Copy)]
    pub(crate) struct Neon([float32x4_t; 4]);

    impl Neon {
        #[inline(always)]
        fn each(self, o: Self, f: impl Fn(float32x4_t, float32x4_t) -> float32x4_t) -> Self {
            Self([f(self.0[0], o.0[0]), f(self.0[1], o.0[1]), f(self.0[2], o.0[2]), f(self.0[3], o.0[3])])
        }
    }

    // SAFETY (of every block here): NEON is part of the baseline of aarch64, and pointers are valid for what the trait names.
    #[allow(clippy::undocumented_unsafe_blocks)]
    impl Lanes for Neon {
        #[inline(always)]
        unsafe fn load(p: *const f32) -> Self {
            unsafe { Self([vld1q_f32(p), vld1q_f32(p.add(4)), vld1q_f32(p.add(8)), vld1q_f32(p.add(12))]) }
        }
        #[inline(always)]
        unsafe fn store(self, p: *mut f32) {
            unsafe {
                vst1q_f32(p, self.0[0]);
                vst1q_f32(p.add(4), self.0[1]);
                vst1q_f32(p.add(8), self.0[2]);
                vst1q_f32(p.add(12), self.0[3]);
            }
        }
        #[inline(always)]
        unsafe fn splat_at(p: *const f32) -> Self {
            Self([unsafe { vld1q_dup_f32(p) }; 4])
        }
        #[inline(always)]
        unsafe fn splat(v: f32) -> Self {
            Self([unsafe { vdupq_n_f32(v) }; 4])
        }
        #[inline(always)]
        unsafe fn mul_add(self, a: Self, b: Self) -> Self {
            let f = |i: usize| unsafe { vfmaq_f32(b.0[i], self.0[i], a.0[i]) };
            Self([f(0), f(1), f(2), f(3)])
        }
        #[inline(always)]
        unsafe fn add(self, o: Self) -> Self {
            self.each(o, |x, y| unsafe { vaddq_f32(x, y) })
        }
        #[inline(always)]
        unsafe fn max(self, o: Self) -> Self {
            self.each(o, |x, y| unsafe { vmaxq_f32(x, y) })
        }
        #[inline(always)]
        unsafe fn min(self, o: Self) -> Self {
            self.each(o, |x, y| unsafe { vminq_f32(x, y) })
        }
        #[inline(always)]
        unsafe fn and(self, o: Self) -> Self {
            self.each(o, |x, y| unsafe { vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(x), vreinterpretq_u32_f32(y))) })
        }
    }
}
