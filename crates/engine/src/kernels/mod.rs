//! The only place with `unsafe` code.
//!
//! Its boundaries are [`Convolution`], [`PlanarConvolution`] and [`Pair`]: `new` checks every access the kernels will make against the
//! lengths of the buffers, `run` checks the lengths. [`Buffer`] is aligned memory, [`Team`] the threads, [`accelerate`] compiles plain
//! loops for the CPU's instruction set, [`planes_to_blocks`] and [`blocks_to_planes`] check what they are given.
#![allow(unsafe_code)]

mod accelerate;
mod buffer;
mod convolve;
#[cfg(target_arch = "x86_64")]
mod eight;
mod lanes;
mod order;
mod pair;
mod peak;
mod planar;
mod shares;
mod strips;
mod table;
mod team;
mod tile;
mod transpose;
mod vector;

pub(crate) use accelerate::accelerate;
pub(crate) use buffer::Buffer;
pub(crate) use convolve::{Clamp, Convolution, Geometry};
pub(crate) use pair::Pair;
pub use peak::peak_operations;
pub(crate) use planar::{SUBSETS, SortedList, strip_kernel};
pub(crate) use strips::{PlanarConvolution, channels_per_pass};
pub use table::Isa;
pub(crate) use table::{Access, Shape, kernel as tile_kernel};
pub(crate) use team::Team;
pub use team::empty_job;
pub(crate) use tile::List;
pub(crate) use transpose::{blocks_to_planes, planes_to_blocks};

#[cfg(test)]
mod tests;
