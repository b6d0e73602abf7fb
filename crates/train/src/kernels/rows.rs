//! Copying planes between a dense layout and one with gaps of zeros between rows. Rows are short
//! (a few vectors), so the usual widths are compiled: a call per row would cost as much as the
//! row.

/// Dense rows of `width` to rows at distance `pitch`, zeros between; `to` begins at the first row
/// and its tail after the last row is zeroed up to one pitch.
pub fn spread(from: &[f32], width: usize, to: &mut [f32], pitch: usize) {
    if width == pitch {
        to[..from.len()].copy_from_slice(from);
        return;
    }
    match width {
        4 => spread_fixed::<4>(from, to, pitch),
        7 => spread_fixed::<7>(from, to, pitch),
        8 => spread_fixed::<8>(from, to, pitch),
        14 => spread_fixed::<14>(from, to, pitch),
        16 => spread_fixed::<16>(from, to, pitch),
        28 => spread_fixed::<28>(from, to, pitch),
        32 => spread_fixed::<32>(from, to, pitch),
        _ => {
            for (row, slot) in from.chunks_exact(width).zip(to.chunks_mut(pitch)) {
                let (head, gap) = slot.split_at_mut(width);
                head.copy_from_slice(row);
                gap.fill(0.0);
            }
        }
    }
}

fn spread_fixed<const W: usize>(from: &[f32], to: &mut [f32], pitch: usize) {
    for (row, slot) in from.as_chunks::<W>().0.iter().zip(to.chunks_mut(pitch)) {
        if let Some((head, gap)) = slot.split_first_chunk_mut::<W>() {
            *head = *row;
            for zero in gap {
                *zero = 0.0;
            }
        }
    }
}

/// The reverse of [`spread`].
pub fn gather(from: &[f32], pitch: usize, to: &mut [f32], width: usize) {
    if width == pitch {
        to.copy_from_slice(&from[..to.len()]);
        return;
    }
    match width {
        4 => gather_fixed::<4>(from, pitch, to),
        7 => gather_fixed::<7>(from, pitch, to),
        8 => gather_fixed::<8>(from, pitch, to),
        14 => gather_fixed::<14>(from, pitch, to),
        16 => gather_fixed::<16>(from, pitch, to),
        28 => gather_fixed::<28>(from, pitch, to),
        32 => gather_fixed::<32>(from, pitch, to),
        _ => {
            for (row, source) in to.chunks_exact_mut(width).zip(from.chunks(pitch)) {
                row.copy_from_slice(&source[..width]);
            }
        }
    }
}

fn gather_fixed<const W: usize>(from: &[f32], pitch: usize, to: &mut [f32]) {
    for (row, source) in to.as_chunks_mut::<W>().0.iter_mut().zip(from.chunks(pitch)) {
        if let Some(head) = source.first_chunk::<W>() {
            *row = *head;
        }
    }
}
