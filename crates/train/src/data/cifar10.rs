//! The binary records of CIFAR-10: a label byte and 3,072 pixels (R, G, B planes of 32×32).

use std::path::{Path, PathBuf};

use super::{Pixels, Source};
use crate::error::{Error, Result};

const RECORD: usize = 1 + 3 * 32 * 32;

/// The files of one part: a single file, or the batches of the original archive.
fn files(dir: &Path, single: &str, batches: &[&str]) -> Option<Vec<PathBuf>> {
    let single = dir.join(single);
    if single.is_file() {
        return Some(vec![single]);
    }
    let found: Vec<PathBuf> = batches.iter().map(|b| dir.join(b)).filter(|p| p.is_file()).collect();
    (found.len() == batches.len()).then_some(found)
}

pub(super) fn read(dir: &Path) -> Result<Source> {
    let missing = |what: &str| Error::Data {
        path: dir.display().to_string(),
        reason: format!(
            "no {what} in it; the binary version of CIFAR-10 has data_batch_1.bin … data_batch_5.bin and test_batch.bin (or train.bin and test.bin)"
        ),
    };
    let names = ["data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"];
    let train = files(dir, "train.bin", &names).ok_or_else(|| missing("training records"))?;
    let test = files(dir, "test.bin", &["test_batch.bin"]).ok_or_else(|| missing("test records"))?;
    let mut pixels = Vec::new();
    let mut labels = Vec::new();
    for path in &train {
        records(path, &mut pixels, &mut labels)?;
    }
    let test_from = labels.len();
    for path in &test {
        records(path, &mut pixels, &mut labels)?;
    }
    Ok(Source { pixels: Pixels::Bytes(pixels), count: labels.len(), labels: Some(labels), shape: [3, 32, 32], test_from: Some(test_from) })
}

fn records(path: &Path, pixels: &mut Vec<u8>, labels: &mut Vec<u32>) -> Result<()> {
    let bytes = std::fs::read(path).map_err(|source| Error::Io { path: path.to_owned(), source })?;
    let fail = |reason: String| Err(Error::Data { path: path.display().to_string(), reason });
    if bytes.is_empty() {
        return fail("the file is empty; copy it again".into());
    }
    if !bytes.len().is_multiple_of(RECORD) {
        return fail(format!("{} bytes are not a whole number of records of {RECORD}: the file is truncated; copy it again", bytes.len()));
    }
    for (i, record) in bytes.chunks_exact(RECORD).enumerate() {
        if record[0] > 9 {
            return fail(format!(
                "record {i} has label {}, out of range 0…9; this is not the CIFAR-10 binary format (CIFAR-100 has two label bytes)",
                record[0]
            ));
        }
        labels.push(u32::from(record[0]));
        pixels.extend_from_slice(&record[1..]);
    }
    Ok(())
}
