//! The two inner loops of convolution, on packed signals.
//!
//! A packed input is one long signal per channel: the planes of several images laid end to end,
//! rows separated by the zeros of the padding. A tap of the kernel is then a fixed offset, and a
//! convolution is `out[o][p] = Σ_k w[o][k] · x[offset_k + p]` with `k` running over (input
//! channel, tap). Both loops hold a tile of accumulators in registers:
//!
//! - [`correlate`]: a block of outputs × three vectors of positions, `k` innermost;
//! - [`contract`]: `dw[o][k] = Σ_p dy[o][p] · x[offset_k + p]`, a block of outputs × three `k`,
//!   positions innermost.

use pulp::{Arch, Simd, WithSimd};

/// Outputs in a tile: as many as the register file holds beside the loaded vectors.
pub fn rows<S: Simd>() -> usize {
    if S::F32_LANES >= 16 || S::F32_LANES == 4 { 8 } else { 4 }
}

/// The widest vector of any instruction set, in elements: signals are padded to a multiple.
pub const LANES: usize = 16;

/// `Σ_k w[o][k] · x[offset_k + p]` for every output `o` and position `p`.
pub struct Correlate<'a> {
    /// Packed signals; `offset_k + positions` lies inside for every `k`, rounded up to [`LANES`].
    pub x: &'a [f32],
    /// Offset of each `k`.
    pub offsets: &'a [usize],
    /// Weights `[outputs][k]`.
    pub w: &'a [f32],
    /// Initial value of each output, or zeros.
    pub bias: Option<&'a [f32]>,
    /// Number of outputs.
    pub outputs: usize,
    /// Positions to compute, a multiple of [`LANES`].
    pub positions: usize,
    /// `[outputs][positions]`.
    pub out: &'a mut [f32],
    /// Space for `outputs · k` weights in tile order.
    pub packed_w: &'a mut [f32],
}

/// Balanced split of `total` into blocks of at most `most`: (start, length).
fn blocks(total: usize, most: usize) -> impl Iterator<Item = (usize, usize)> {
    let count = total.div_ceil(most);
    (0..count).map(move |i| {
        let start = i * total / count;
        (start, (i + 1) * total / count - start)
    })
}

impl WithSimd for Correlate<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { x, offsets, w, bias, outputs, positions, out, packed_w } = self;
        let k_count = offsets.len();
        for (first, count) in blocks(outputs, rows::<S>()) {
            let block = &mut packed_w[first * k_count..(first + count) * k_count];
            for (k, chunk) in block.chunks_exact_mut(count).enumerate() {
                for (r, slot) in chunk.iter_mut().enumerate() {
                    *slot = w[(first + r) * k_count + k];
                }
            }
        }
        let vectors = positions / S::F32_LANES;
        for (start, wide) in blocks(vectors, 3) {
            let p = start * S::F32_LANES;
            for (first, count) in blocks(outputs, rows::<S>()) {
                let tile = CorrelateTile {
                    simd,
                    x: &x[p..],
                    offsets,
                    w: &packed_w[first * k_count..(first + count) * k_count],
                    bias: bias.map(|b| &b[first..first + count]),
                    out: &mut out[first * positions + p..],
                    stride: positions,
                };
                match (count, wide) {
                    (8, 3) => tile.run::<8, 3>(),
                    (7, 3) => tile.run::<7, 3>(),
                    (6, 3) => tile.run::<6, 3>(),
                    (5, 3) => tile.run::<5, 3>(),
                    (4, 3) => tile.run::<4, 3>(),
                    (3, 3) => tile.run::<3, 3>(),
                    (2, 3) => tile.run::<2, 3>(),
                    (1, 3) => tile.run::<1, 3>(),
                    (8, 2) => tile.run::<8, 2>(),
                    (7, 2) => tile.run::<7, 2>(),
                    (6, 2) => tile.run::<6, 2>(),
                    (5, 2) => tile.run::<5, 2>(),
                    (4, 2) => tile.run::<4, 2>(),
                    (3, 2) => tile.run::<3, 2>(),
                    (2, 2) => tile.run::<2, 2>(),
                    (1, 2) => tile.run::<1, 2>(),
                    (8, _) => tile.run::<8, 1>(),
                    (7, _) => tile.run::<7, 1>(),
                    (6, _) => tile.run::<6, 1>(),
                    (5, _) => tile.run::<5, 1>(),
                    (4, _) => tile.run::<4, 1>(),
                    (3, _) => tile.run::<3, 1>(),
                    (2, _) => tile.run::<2, 1>(),
                    _ => tile.run::<1, 1>(),
                }
            }
        }
    }
}

struct CorrelateTile<'a, S> {
    simd: S,
    x: &'a [f32],
    offsets: &'a [usize],
    w: &'a [f32],
    bias: Option<&'a [f32]>,
    out: &'a mut [f32],
    stride: usize,
}

impl<S: Simd> CorrelateTile<'_, S> {
    #[inline(always)]
    fn run<const R: usize, const V: usize>(self) {
        let Self { simd, x, offsets, w, bias, out, stride } = self;
        let span = V * S::F32_LANES;
        let mut sum = [[simd.splat_f32s(0.0); V]; R];
        if let Some(bias) = bias {
            for r in 0..R {
                sum[r] = [simd.splat_f32s(bias[r]); V];
            }
        }
        for (&offset, w) in offsets.iter().zip(w.as_chunks::<R>().0) {
            let x = S::as_simd_f32s(&x[offset..offset + span]).0;
            let x: [S::f32s; V] = std::array::from_fn(|v| x[v]);
            for r in 0..R {
                let w = simd.splat_f32s(w[r]);
                for v in 0..V {
                    sum[r][v] = simd.mul_add_e_f32s(w, x[v], sum[r][v]);
                }
            }
        }
        for r in 0..R {
            let out = S::as_mut_simd_f32s(&mut out[r * stride..r * stride + span]).0;
            out[..V].copy_from_slice(&sum[r]);
        }
    }
}

/// `dw[o][k] += Σ_p dy[o][p] · x[offset_k + p]`.
pub struct Contract<'a> {
    /// Packed signals; `offset_k + positions` lies inside for every `k`.
    pub x: &'a [f32],
    /// Offset of each `k`.
    pub offsets: &'a [usize],
    /// Output gradients: the signal of output `o` starts at `o * dy_stride`.
    pub dy: &'a [f32],
    /// Distance between the signals of two outputs.
    pub dy_stride: usize,
    /// Number of outputs.
    pub outputs: usize,
    /// Positions to sum over, a multiple of [`LANES`].
    pub positions: usize,
    /// `[outputs][k]`, added to.
    pub dw: &'a mut [f32],
}

impl WithSimd for Contract<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { x, offsets, dy, dy_stride, outputs, positions, dw } = self;
        let k_count = offsets.len();
        // With one or two outputs (depthwise) more `k` keep the multipliers busy.
        let most_k = if outputs <= 2 && rows::<S>() == 8 { 8 } else { 3 };
        // Positions in stretches that stay in the first cache while all tiles pass over them.
        const STRETCH: usize = 1024;
        let mut from = 0;
        while from < positions {
            let length = STRETCH.min(positions - from);
            for (first, count) in blocks(outputs, rows::<S>()) {
                for (k, wide) in blocks(k_count, most_k) {
                    let tile = ContractTile {
                        simd,
                        x: &x[from..],
                        offsets: &offsets[k..k + wide],
                        dy: &dy[first * dy_stride + from..],
                        dy_stride,
                        positions: length,
                        dw: &mut dw[first * k_count + k..],
                        k_count,
                    };
                    match (count, wide) {
                        (8, 3) => tile.run::<8, 3>(),
                        (7, 3) => tile.run::<7, 3>(),
                        (6, 3) => tile.run::<6, 3>(),
                        (5, 3) => tile.run::<5, 3>(),
                        (4, 3) => tile.run::<4, 3>(),
                        (3, 3) => tile.run::<3, 3>(),
                        (2, 8) => tile.run::<2, 8>(),
                        (1, 8) => tile.run::<1, 8>(),
                        (2, 5) => tile.run::<2, 5>(),
                        (1, 5) => tile.run::<1, 5>(),
                        (2, 4) => tile.run::<2, 4>(),
                        (1, 4) => tile.run::<1, 4>(),
                        (2, 3) => tile.run::<2, 3>(),
                        (1, 3) => tile.run::<1, 3>(),
                        (8, 2) => tile.run::<8, 2>(),
                        (7, 2) => tile.run::<7, 2>(),
                        (6, 2) => tile.run::<6, 2>(),
                        (5, 2) => tile.run::<5, 2>(),
                        (4, 2) => tile.run::<4, 2>(),
                        (3, 2) => tile.run::<3, 2>(),
                        _ => tile.one_by_one(count, wide),
                    }
                }
            }
            from += length;
        }
    }
}

struct ContractTile<'a, S> {
    simd: S,
    x: &'a [f32],
    offsets: &'a [usize],
    dy: &'a [f32],
    dy_stride: usize,
    positions: usize,
    dw: &'a mut [f32],
    k_count: usize,
}

impl<S: Simd> ContractTile<'_, S> {
    #[inline(always)]
    fn run<const R: usize, const K: usize>(self) {
        let Self { simd, x, offsets, dy, dy_stride, positions, dw, k_count } = self;
        let mut sum = [[simd.splat_f32s(0.0); K]; R];
        let vectors = positions / S::F32_LANES;
        let x: [&[S::f32s]; K] = std::array::from_fn(|k| &S::as_simd_f32s(&x[offsets[k]..offsets[k] + positions]).0[..vectors]);
        let dy: [&[S::f32s]; R] = std::array::from_fn(|r| &S::as_simd_f32s(&dy[r * dy_stride..r * dy_stride + positions]).0[..vectors]);
        for v in 0..vectors {
            let x: [S::f32s; K] = std::array::from_fn(|k| x[k][v]);
            for r in 0..R {
                let dy = dy[r][v];
                for k in 0..K {
                    sum[r][k] = simd.mul_add_e_f32s(dy, x[k], sum[r][k]);
                }
            }
        }
        for r in 0..R {
            for k in 0..K {
                dw[r * k_count + k] += simd.reduce_sum_f32s(sum[r][k]);
            }
        }
    }

    /// Any other shape of tile, column by column.
    #[inline(always)]
    fn one_by_one(self, count: usize, wide: usize) {
        for r in 0..count {
            for k in 0..wide {
                ContractTile {
                    simd: self.simd,
                    x: self.x,
                    offsets: &self.offsets[k..k + 1],
                    dy: &self.dy[r * self.dy_stride..],
                    dy_stride: self.dy_stride,
                    positions: self.positions,
                    dw: &mut self.dw[r * self.k_count + k..],
                    k_count: self.k_count,
                }
                .run::<1, 1>();
            }
        }
    }
}

/// Runs the loop with the best instruction set of this machine.
pub fn correlate(work: Correlate<'_>) {
    Arch::new().dispatch(work);
}

/// Runs the loop with the best instruction set of this machine.
pub fn contract(work: Contract<'_>) {
    Arch::new().dispatch(work);
}
