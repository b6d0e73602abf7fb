//! Which tile kernels there are, for every instruction set.

use super::lanes::Plain;
use super::tile::{Groups, Layer, TileKernel, tile};

/// An instruction set that kernels exist for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Isa {
    /// Plain Rust, for any CPU; what the others are tested against.
    Plain,
    /// AVX2 with FMA.
    Avx2,
    /// AVX-512F.
    Avx512,
    /// NEON, part of every aarch64.
    Neon,
}

impl Isa {
    /// All that this CPU can run, the fastest first.
    pub fn available() -> Vec<Self> {
        let mut sets = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") {
                sets.push(Self::Avx512);
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                sets.push(Self::Avx2);
            }
        }
        #[cfg(target_arch = "aarch64")]
        sets.push(Self::Neon);
        sets.push(Self::Plain);
        sets
    }

    /// This CPU can run it.
    pub fn is_available(self) -> bool {
        Self::available().contains(&self)
    }

    /// The fastest that this CPU can run.
    pub fn best() -> Self {
        Self::available().first().copied().unwrap_or(Self::Plain)
    }

    /// A name for reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Neon => "neon",
        }
    }

    /// Weights that stay in the second-level cache beside activations, in bytes. AVX-512 comes with 1 MiB of it or more, what has
    /// AVX2 alone often with 512 KiB.
    pub(crate) fn chunk_bytes(self) -> usize {
        match self {
            Self::Avx512 => 512 << 10,
            Self::Plain | Self::Avx2 | Self::Neon => 192 << 10,
        }
    }

    /// Weights that stay in the first-level cache beside pixels and sums while a batch of tiles meets them, in bytes; `None` where tiles
    /// have pixels enough to take weights from the second-level cache.
    pub(crate) fn panel_bytes(self) -> Option<usize> {
        (self == Self::Avx2).then_some(24 << 10)
    }

    /// What is stored at a time of the activation between two convolutions that are computed together, in bytes.
    pub(crate) fn band_bytes(self) -> usize {
        match self {
            // All of a group's planes stay in its second-level cache.
            Self::Avx512 => usize::MAX,
            Self::Plain | Self::Avx2 | Self::Neon => 96 << 10,
        }
    }

    /// Accumulators of 16 lanes that its registers hold.
    pub(crate) fn accumulators(self) -> usize {
        match self {
            Self::Avx512 => 28,
            Self::Plain | Self::Avx2 | Self::Neon => 6,
        }
    }
}

/// How a kernel reads its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Access {
    /// Elements between two output pixels of a row.
    pub step: usize,
    /// Sixteen elements meet sixteen weights, instead of one broadcast to all.
    pub vector: bool,
}

/// Rows, columns and filter blocks of a tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Shape {
    /// Filter blocks computed together.
    pub blocks: usize,
    /// Rows of output pixels.
    pub rows: usize,
    /// Columns of output pixels.
    pub columns: usize,
}

macro_rules! shapes {
    ($shape:expr, $make:ident, [$step:tt, $vector:tt]: $(($fb:literal, $th:literal, $tw:literal))*) => {
        match ($shape.blocks, $shape.rows, $shape.columns) {
            $(($fb, $th, $tw) => $make!($fb, $th, $tw, $step, $vector),)*
            _ => return None,
        }
    };
}

/// Tiles of one filter block that 28 accumulators allow.
#[cfg(target_arch = "x86_64")]
macro_rules! large {
    ($shape:expr, $make:ident, $step:tt, $vector:tt) => {
        shapes!($shape, $make, [$step, $vector]:
            (1, 1, 1) (1, 2, 1) (1, 3, 1) (1, 4, 1) (1, 5, 1) (1, 6, 1) (1, 7, 1) (1, 8, 1)
            (1, 1, 2) (1, 2, 2) (1, 3, 2) (1, 4, 2) (1, 5, 2) (1, 6, 2) (1, 7, 2) (1, 8, 2)
            (1, 1, 3) (1, 2, 3) (1, 3, 3) (1, 4, 3) (1, 5, 3) (1, 6, 3) (1, 7, 3) (1, 8, 3)
            (1, 1, 4) (1, 2, 4) (1, 3, 4) (1, 4, 4) (1, 5, 4) (1, 6, 4) (1, 7, 4)
            (1, 1, 5) (1, 2, 5) (1, 3, 5) (1, 4, 5) (1, 5, 5)
            (1, 1, 6) (1, 2, 6) (1, 3, 6) (1, 4, 6)
            (1, 1, 7) (1, 2, 7) (1, 3, 7) (1, 4, 7)
            (1, 1, 8) (1, 2, 8) (1, 3, 8)
            (1, 1, 9) (1, 2, 9) (1, 3, 9)
            (1, 1, 10) (1, 2, 10) (1, 1, 12) (1, 2, 12) (1, 1, 14) (1, 2, 14)
            (1, 1, 16) (1, 1, 20) (1, 1, 24) (1, 1, 28))
    };
}

/// Tiles of two filter blocks: 10 pixels at most, since the compiler wants a register for every pixel too.
#[cfg(target_arch = "x86_64")]
macro_rules! paired {
    ($shape:expr, $make:ident, $step:tt, $vector:tt) => {
        shapes!($shape, $make, [$step, $vector]:
            (2, 1, 1) (2, 2, 1) (2, 3, 1) (2, 4, 1) (2, 5, 1) (2, 6, 1) (2, 7, 1)
            (2, 1, 2) (2, 2, 2) (2, 3, 2) (2, 4, 2) (2, 5, 2)
            (2, 1, 3) (2, 2, 3) (2, 3, 3)
            (2, 1, 4) (2, 2, 4) (2, 1, 5) (2, 2, 5) (2, 1, 6) (2, 1, 7) (2, 1, 8) (2, 1, 9) (2, 1, 10))
    };
}

/// Tiles of two filter blocks that six accumulators allow.
#[cfg(target_arch = "x86_64")]
macro_rules! threes {
    ($shape:expr, $make:ident, $step:tt, $vector:tt) => {
        shapes!($shape, $make, [$step, $vector]: (2, 1, 1) (2, 2, 1) (2, 3, 1) (2, 1, 2) (2, 1, 3))
    };
}

/// Tiles of one row.
#[cfg(target_arch = "x86_64")]
macro_rules! flat {
    ($shape:expr, $make:ident, $step:tt, $vector:tt) => {
        shapes!($shape, $make, [$step, $vector]:
            (1, 1, 1) (1, 1, 2) (1, 1, 3) (1, 1, 4) (1, 1, 5) (1, 1, 6) (1, 1, 7) (1, 1, 8) (1, 1, 10) (1, 1, 12) (1, 1, 14)
            (1, 1, 16) (1, 1, 20) (1, 1, 24) (1, 1, 28)
            (1, 2, 14) (1, 3, 8) (1, 2, 8) (1, 2, 12))
    };
}

/// Tiles that six accumulators allow.
macro_rules! small {
    ($shape:expr, $make:ident, $step:tt, $vector:tt) => {
        shapes!($shape, $make, [$step, $vector]:
            (1, 1, 1) (1, 1, 2) (1, 1, 3) (1, 1, 4) (1, 1, 5) (1, 1, 6) (1, 2, 1) (1, 2, 2) (1, 2, 3) (1, 3, 1) (1, 3, 2) (1, 6, 1))
    };
}

/// Tiles for steps that no kernel has as a constant.
macro_rules! any_step {
    ($shape:expr, $make:ident, $step:tt, $vector:tt) => {
        shapes!($shape, $make, [$step, $vector]: (1, 1, 1) (1, 1, 4))
    };
}

/// No tiles of this kind.
macro_rules! none {
    ($shape:expr, $make:ident, $step:tt, $vector:tt) => {
        return None
    };
}

/// Finds the kernel of one instruction set: `$large` and so on are the lists of shapes for each way to read.
macro_rules! find {
    ($access:expr, $shape:expr, $make:ident, $blocked:ident, $paired:ident, $planar:ident) => {
        Some(match ($access.step, $access.vector, $shape.blocks) {
            (16, false, 1) => $blocked!($shape, $make, 16, false),
            (32, false, 1) => $blocked!($shape, $make, 32, false),
            (16, false, 2) => $paired!($shape, $make, 16, false),
            (32, false, 2) => $paired!($shape, $make, 32, false),
            (1, false, 1) => $planar!($shape, $make, 1, false),
            (2, false, 1) => $blocked!($shape, $make, 2, false),
            (1, false, 2) => $paired!($shape, $make, 1, false),
            (2, false, 2) => $paired!($shape, $make, 2, false),
            (16, true, 1) => $planar!($shape, $make, 16, true),
            (32, true, 1) => $planar!($shape, $make, 32, true),
            (_, false, 1) => any_step!($shape, $make, 0, false),
            (_, true, 1) => any_step!($shape, $make, 0, true),
            _ => return None,
        })
    };
}

/// Wraps the generic kernel into functions compiled for one instruction set.
macro_rules! isa_kernels {
    ($name:ident, $lanes:ty, $feature:literal) => {
        mod $name {
            use super::*;

            /// # Safety
            /// As [`tile`].
            #[target_feature(enable = $feature)]
            pub(super) unsafe fn run<const FB: usize, const TH: usize, const TW: usize, const STEP: usize, const VECTOR: bool>(
                l: &Layer,
                i: *const f32,
                o: *mut f32,
                r: *const f32,
                g: Groups,
                n: *const f32,
            ) {
                // SAFETY: the caller's contract is that of `tile`.
                unsafe { tile::<$lanes, FB, TH, TW, STEP, VECTOR>(l, i, o, r, g, n) }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
isa_kernels!(avx512, super::super::lanes::x86::Avx512, "avx512f");
#[cfg(target_arch = "x86_64")]
isa_kernels!(avx2, super::super::lanes::x86::Avx2, "avx2,fma");
#[cfg(target_arch = "aarch64")]
isa_kernels!(neon, super::super::lanes::arm::Neon, "neon");

/// # Safety
/// As [`tile`].
unsafe fn plain<const FB: usize, const TH: usize, const TW: usize, const STEP: usize, const VECTOR: bool>(
    l: &Layer,
    i: *const f32,
    o: *mut f32,
    r: *const f32,
    g: Groups,
    n: *const f32,
) {
    // SAFETY: the caller's contract is that of `tile`; plain Rust needs no instruction set.
    unsafe { tile::<Plain, FB, TH, TW, STEP, VECTOR>(l, i, o, r, g, n) }
}

/// The kernel for tiles of `shape`, if there is one.
pub(crate) fn kernel(isa: Isa, access: Access, shape: Shape) -> Option<TileKernel> {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => {
            macro_rules! make {
                ($fb:literal, $th:literal, $tw:literal, $step:literal, $vector:literal) => {
                    avx512::run::<$fb, $th, $tw, $step, $vector> as TileKernel
                };
            }
            find!(access, shape, make, large, paired, flat)
        }
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => {
            macro_rules! make {
                ($fb:literal, $th:literal, $tw:literal, $step:literal, $vector:literal) => {
                    avx2::run::<$fb, $th, $tw, $step, $vector> as TileKernel
                };
            }
            find!(access, shape, make, small, threes, small)
        }
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => {
            macro_rules! make {
                ($fb:literal, $th:literal, $tw:literal, $step:literal, $vector:literal) => {
                    neon::run::<$fb, $th, $tw, $step, $vector> as TileKernel
                };
            }
            find!(access, shape, make, small, none, small)
        }
        Isa::Plain => {
            macro_rules! make {
                ($fb:literal, $th:literal, $tw:literal, $step:literal, $vector:literal) => {
                    plain::<$fb, $th, $tw, $step, $vector> as TileKernel
                };
            }
            find!(access, shape, make, small, none, small)
        }
        #[allow(unreachable_patterns)]
        _ => None,
    }
}
