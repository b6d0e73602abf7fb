//! Recycled memory. A training step allocates and frees the same few hundred megabytes of
//! activations every time; returned to the operating system they would be paged in again, which
//! costs as much as the arithmetic.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};

/// Smallest buffer worth keeping, in elements.
const SMALLEST: usize = 16 * 1024;
/// Buffers of one size that are kept at most.
const KEPT_PER_SIZE: usize = 1024;

static KEPT: LazyLock<Mutex<HashMap<usize, Vec<Vec<f32>>>>> = LazyLock::new(Mutex::default);

/// A vector of `len` elements whose content is unspecified (earlier results or zeros).
pub fn take(len: usize) -> Vec<f32> {
    if len >= SMALLEST
        && let Ok(mut kept) = KEPT.lock()
        && let Some(buffer) = kept.get_mut(&len).and_then(Vec::pop)
    {
        return buffer;
    }
    vec![0.0; len]
}

/// Gives a vector back for a later [`take`] of the same length.
pub fn give(buffer: Vec<f32>) {
    if buffer.len() < SMALLEST {
        return;
    }
    if let Ok(mut kept) = KEPT.lock() {
        let same_size = kept.entry(buffer.len()).or_default();
        if same_size.len() < KEPT_PER_SIZE {
            same_size.push(buffer);
        }
    }
}

/// Frees everything kept, e.g. between networks of different sizes.
pub fn release() {
    if let Ok(mut kept) = KEPT.lock() {
        kept.clear();
    }
}

/// Memory that goes back to the pool when its last user drops it.
#[derive(Debug)]
pub struct Recycled(Vec<f32>);

impl Recycled {
    /// Takes charge of `buffer`.
    pub fn new(buffer: Vec<f32>) -> Self {
        Self(buffer)
    }
}

impl AsRef<[u8]> for Recycled {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

impl Drop for Recycled {
    fn drop(&mut self) {
        give(std::mem::take(&mut self.0));
    }
}

/// Scratch memory of one thread, kept between calls.
#[derive(Debug, Default)]
pub struct Scratch {
    slots: Vec<Vec<f32>>,
}

impl Scratch {
    /// Slices of the given lengths with unspecified content.
    pub fn slices<const N: usize>(&mut self, lengths: [usize; N]) -> [&mut [f32]; N] {
        if self.slots.len() < N {
            self.slots.resize_with(N, Vec::new);
        }
        let mut slots = self.slots.iter_mut();
        lengths.map(|length| match slots.next() {
            Some(slot) => {
                if slot.len() < length {
                    slot.resize(length, 0.0);
                }
                &mut slot[..length]
            }
            None => &mut [],
        })
    }
}

thread_local! {
    static SCRATCH: RefCell<Vec<Scratch>> = const { RefCell::new(Vec::new()) };
}

/// Runs `work` with this thread's scratch memory (nested calls get their own).
pub fn with_scratch<R>(work: impl FnOnce(&mut Scratch) -> R) -> R {
    let mut scratch = SCRATCH.with(|free| free.borrow_mut().pop()).unwrap_or_default();
    let result = work(&mut scratch);
    SCRATCH.with(|free| free.borrow_mut().push(scratch));
    result
}
