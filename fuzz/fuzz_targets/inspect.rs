//! Any bytes as a file: read, analysed, cut, and its masked twin made, or refused with a cause.
#![no_main]

#[path = "../../crates/graph/tests/support/mutate.rs"]
mod mutate;

use libfuzzer_sys::{fuzz_mutator, fuzz_target};

fuzz_target!(|data: &[u8]| mutate::one_input(data));

// Most random bytes are no message at all: half of the changes are those of the mutation test, which edits decoded fields.
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    if seed % 2 == 0 {
        return libfuzzer_sys::fuzzer_mutate(data, size, max_size);
    }
    let changed = mutate::mutate(&data[..size], seed.into());
    let length = changed.len().min(max_size);
    data[..length].copy_from_slice(&changed[..length]);
    length
});
