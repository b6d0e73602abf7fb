//! Covering a plane of output pixels with tiles that there are kernels for.

use crate::kernels::{Access, Isa, Shape, tile_kernel};

/// A rectangle of output pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tile {
    /// First row.
    pub y: usize,
    /// First column.
    pub x: usize,
    /// Kernel shape.
    pub shape: Shape,
}

/// Tiles that cover a plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cover {
    /// In the order of memory.
    pub tiles: Vec<Tile>,
    /// Time per survivor and group of blocks, in arbitrary units.
    pub cost: usize,
}

/// Time of a tile per survivor, in arbitrary units: at each step `blocks` weights and an offset are loaded beside the pixels, and
/// fewer multiply-adds than hide their own latency take as long as those that would.
fn cost(shape: Shape, isa: Isa) -> usize {
    let pixels = shape.rows * shape.columns;
    let (sums, hidden) = match isa {
        Isa::Avx512 => (pixels * shape.blocks, 8),
        // Its own multiply-adds and loads are what keeps the core busy: two registers per 16 filters, each pixel loaded once.
        Isa::Avx2 => return 100 * (pixels * shape.blocks * 2 + pixels + 2 * shape.blocks + 2).max(15) + 20,
        Isa::Plain => (pixels * shape.blocks * 2, 8),
        // Four registers per 16 filters.
        Isa::Neon => (pixels * shape.blocks * 4, 8),
    };
    let loads = if shape.blocks == 1 { sums + 2 } else { pixels + 3 };
    // A small price per tile for its prologue and epilogue.
    100 * loads.max(sums).max(hidden) + 20
}

/// Kernel columns to choose from, and rows for each.
const COLUMNS: [usize; 15] = [28, 24, 20, 16, 14, 12, 10, 9, 8, 7, 6, 5, 4, 3, 2];

/// The cheapest cover of `height × width` output pixels by strips of columns, each cut into rows of tiles; `None` if no kernel
/// reads in this way.
pub(crate) fn cover(isa: Isa, access: Access, blocks: usize, height: usize, width: usize) -> Option<Cover> {
    let exists = |rows, columns| {
        let shape = Shape { blocks, rows, columns };
        (rows <= height && rows * columns * blocks <= isa.accumulators() && tile_kernel(isa, access, shape).is_some()).then_some(shape)
    };
    // For a strip of `columns`: the cheapest rows to cut it into.
    let strip = |columns: usize| -> Option<(usize, Vec<Shape>)> {
        let shapes: Vec<Shape> = (1..=8).filter_map(|rows| exists(rows, columns)).collect();
        let mut best: Vec<(usize, Option<Shape>)> = vec![(0, None); height + 1];
        for y in 1..=height {
            best[y] = shapes
                .iter()
                .filter(|s| s.rows <= y && (y == s.rows || best[y - s.rows].1.is_some()))
                .map(|&s| (best[y - s.rows].0 + cost(s, isa), Some(s)))
                .min_by_key(|b| b.0)
                .unwrap_or((usize::MAX / 4, None));
        }
        let mut parts = Vec::new();
        let mut y = height;
        while y > 0 {
            let shape = best[y].1?;
            parts.push(shape);
            y -= shape.rows;
        }
        Some((best[height].0, parts))
    };
    let strips: Vec<(usize, usize, Vec<Shape>)> =
        COLUMNS.into_iter().chain([1]).filter(|&c| c <= width).filter_map(|c| strip(c).map(|(cost, parts)| (c, cost, parts))).collect();
    let mut best: Vec<(usize, Option<usize>)> = vec![(0, None); width + 1];
    for x in 1..=width {
        best[x] = strips
            .iter()
            .enumerate()
            .filter(|(_, s)| s.0 <= x && (x == s.0 || best[x - s.0].1.is_some()))
            .map(|(i, s)| (best[x - s.0].0 + s.1, Some(i)))
            .min_by_key(|b| b.0)
            .unwrap_or((usize::MAX / 4, None));
    }
    let mut columns = Vec::new();
    let mut x = width;
    while x > 0 {
        let strip = &strips[best[x].1?];
        x -= strip.0;
        columns.push((x, &strip.2));
    }
    let mut tiles = Vec::new();
    for (x, parts) in columns {
        let mut y = 0;
        for &shape in parts {
            tiles.push(Tile { y, x, shape });
            y += shape.rows;
        }
    }
    // Row by row, so that neighbours in time are neighbours in memory.
    tiles.sort_by_key(|t| (t.y, t.x));
    Some(Cover { tiles, cost: best[width].0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Every pixel is in exactly one tile, and every tile has a kernel.
        #[test]
        fn covers_every_pixel_once(height in 1usize..40, width in 1usize..70, step in prop::sample::select(vec![16usize, 32, 48, 1, 2, 4]),
                                   vector in any::<bool>(), blocks in 1usize..3) {
            for isa in Isa::available() {
                let access = Access { step, vector: vector && step >= 16 };
                let Some(Cover { tiles, .. }) = cover(isa, access, blocks, height, width) else {
                    prop_assert!(blocks == 2, "one block is always covered");
                    continue;
                };
                let mut seen = vec![0; height * width];
                for t in &tiles {
                    prop_assert!(tile_kernel(isa, access, t.shape).is_some());
                    for y in t.y..t.y + t.shape.rows {
                        for x in t.x..t.x + t.shape.columns {
                            seen[y * width + x] += 1;
                        }
                    }
                }
                prop_assert!(seen.iter().all(|&n| n == 1));
            }
        }
    }
}
