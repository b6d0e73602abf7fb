//! Memory that vectors can be loaded from without crossing cache lines.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::NonNull;

/// Bytes of a cache line.
const LINE: usize = 64;

/// Bytes of a large page. Buffers of at least half of one are put on large pages where the system has them: walking 4 KiB pages
/// costs some percent of the time in networks whose weights exceed the caches, more in virtual machines.
const LARGE_PAGE: usize = 2 << 20;

/// A fixed number of `f32`, the first at a multiple of 64 bytes.
#[derive(Debug)]
pub(crate) struct Buffer {
    start: NonNull<f32>,
    len: usize,
}

// SAFETY: a buffer owns its memory, and gives it out by the usual rules of borrowing only.
unsafe impl Send for Buffer {}
// SAFETY: as above; nothing is changed through a shared reference.
unsafe impl Sync for Buffer {}

impl Buffer {
    fn layout(len: usize) -> Layout {
        let bytes = len * size_of::<f32>();
        let align = if bytes >= LARGE_PAGE / 2 { LARGE_PAGE } else { LINE };
        // Only lengths beyond the address space have no layout; they cannot be allocated either.
        match Layout::from_size_align(bytes.next_multiple_of(align), align) {
            Ok(l) => l,
            Err(_) => handle_alloc_error(Layout::new::<f32>()),
        }
    }

    /// `len` zeros.
    pub fn zeros(len: usize) -> Self {
        let layout = Self::layout(len);
        if layout.size() == 0 {
            return Self { start: NonNull::dangling(), len: 0 };
        }
        // SAFETY: the size is not zero; the memory is written before anything is read from it, all of it.
        unsafe {
            let bytes = alloc(layout);
            let Some(start) = NonNull::new(bytes.cast::<f32>()) else { handle_alloc_error(layout) };
            if layout.align() == LARGE_PAGE {
                want_large_pages(bytes, layout.size());
            }
            bytes.write_bytes(0, layout.size());
            Self { start, len }
        }
    }

    /// A copy of `values`.
    pub fn from_slice(values: &[f32]) -> Self {
        let mut b = Self::zeros(values.len());
        b.as_mut_slice().copy_from_slice(values);
        b
    }

    /// The elements.
    pub fn as_slice(&self) -> &[f32] {
        // SAFETY: `start` is valid and initialised for `len` elements, or dangling for none.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    /// The elements.
    pub fn as_mut_slice(&mut self) -> &mut [f32] {
        // SAFETY: as in `as_slice`, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl Default for Buffer {
    fn default() -> Self {
        Self::zeros(0)
    }
}

impl Clone for Buffer {
    fn clone(&self) -> Self {
        Self::from_slice(self.as_slice())
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let layout = Self::layout(self.len);
        if layout.size() > 0 {
            // SAFETY: allocated with this layout in `zeros`.
            unsafe { dealloc(self.start.as_ptr().cast(), layout) }
        }
    }
}

/// Tells Linux that large pages are welcome here; it may refuse, which changes nothing but speed.
///
/// # Safety
/// The range is allocated and begins at a page.
unsafe fn want_large_pages(start: *mut u8, bytes: usize) {
    #[cfg(target_os = "linux")]
    {
        unsafe extern "C" {
            fn madvise(start: *mut std::ffi::c_void, bytes: usize, advice: std::ffi::c_int) -> std::ffi::c_int;
        }
        const MADV_HUGEPAGE: std::ffi::c_int = 14;
        // SAFETY: this advice does not change what the memory holds.
        unsafe { madvise(start.cast(), bytes, MADV_HUGEPAGE) };
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (start, bytes);
}
