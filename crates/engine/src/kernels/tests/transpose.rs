//! Between planes and blocks, and back.

use super::*;
use crate::kernels::{blocks_to_planes, planes_to_blocks};

/// Every number of pixels: element by element, and nothing beside them.
#[test]
fn channels_change_places_with_pixels() {
    for isa in Isa::available() {
        for (pixels, step) in (0..=16).flat_map(|n| [17, 40].map(|step| (n, step))) {
            let planes: Vec<f32> = (0..15 * step + pixels).map(|i| i as f32).collect();
            let mut blocks = vec![-1.0; 17 * LANES];
            planes_to_blocks(isa, &planes, step, pixels, &mut blocks);
            for (i, v) in blocks.iter().enumerate() {
                let (p, l) = (i / LANES, i % LANES);
                assert_eq!(*v, if p < pixels { (l * step + p) as f32 } else { -1.0 }, "{isa:?}, {pixels} pixels");
            }
            let mut back = vec![-1.0; planes.len() + 3];
            blocks_to_planes(isa, &blocks, pixels, &mut back, step);
            for (i, v) in back.iter().enumerate() {
                assert_eq!(*v, if i % step < pixels && i < planes.len() { i as f32 } else { -1.0 }, "{isa:?}, {pixels} pixels");
            }
        }
    }
}
