//! CPU kernels of the operators that decide the time of a training step: plain functions on
//! `f32` slices in NCHW order, two or more threads through rayon, SIMD through `pulp` (AVX-512,
//! AVX2, NEON or scalar, chosen at run time). They know nothing of Burn or of graphs.

pub mod buffers;
pub mod conv;
pub mod norm;
pub mod rows;
pub mod tiles;
