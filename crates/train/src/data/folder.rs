//! Folders of images: one folder per class (optionally below `train` and `test` or `val`), or a
//! flat folder, labelled where it has a `labels.csv`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer, images::Image};

use super::{Pixels, Source};
use crate::error::{Error, Result};

fn fail(path: &Path, reason: impl Into<String>) -> Error {
    Error::Data { path: path.display().to_string(), reason: reason.into() }
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let list = std::fs::read_dir(dir).map_err(|source| Error::Io { path: dir.to_owned(), source })?;
    let mut all = Vec::new();
    for entry in list {
        all.push(entry.map_err(|source| Error::Io { path: dir.to_owned(), source })?.path());
    }
    all.sort();
    Ok(all)
}

fn is_image(path: &Path) -> bool {
    let extension = path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
    matches!(extension.as_deref(), Some("jpg" | "jpeg" | "png" | "bmp"))
}

/// Images of a flat folder.
fn images(dir: &Path) -> Result<Vec<PathBuf>> {
    Ok(entries(dir)?.into_iter().filter(|p| is_image(p)).collect())
}

/// Images of the class folders below `dir`; classes are numbered by name.
fn classes(dir: &Path, paths: &mut Vec<PathBuf>, labels: &mut Vec<u32>) -> Result<Vec<String>> {
    let folders: Vec<PathBuf> = entries(dir)?.into_iter().filter(|p| p.is_dir()).collect();
    let mut names = Vec::new();
    for (label, folder) in folders.iter().enumerate() {
        for path in entries(folder)?.into_iter().filter(|p| is_image(p)) {
            paths.push(path);
            labels.push(label as u32);
        }
        names.push(folder.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default());
    }
    Ok(names)
}

pub(super) fn read(dir: &Path) -> Result<Source> {
    let (mut paths, mut labels) = (Vec::new(), Vec::new());
    let csv = dir.join("labels.csv");
    let parts = [dir.join("train"), ["test", "val"].iter().map(|n| dir.join(n)).find(|p| p.is_dir()).unwrap_or_default()];
    let mut test_from = None;
    if csv.is_file() {
        flat(dir, &csv, &mut paths, &mut labels)?;
    } else if parts.iter().all(|p| p.is_dir()) {
        let train = classes(&parts[0], &mut paths, &mut labels)?;
        test_from = Some(paths.len());
        let test = classes(&parts[1], &mut paths, &mut labels)?;
        if train != test {
            return Err(fail(dir, "the training and test parts do not have the same class folders"));
        }
        if paths.is_empty() {
            paths.extend(images(&parts[0])?);
            test_from = Some(paths.len());
            paths.extend(images(&parts[1])?);
        }
    } else {
        classes(dir, &mut paths, &mut labels)?;
        if paths.is_empty() {
            paths.extend(images(dir)?);
        }
    }
    if paths.is_empty() {
        return Err(fail(
            dir,
            "there are no images (jpg, png, bmp) in it or in folders of classes in it; lay labelled images out as DIR/CLASS/IMAGE.jpg, \
             others as DIR/IMAGE.jpg",
        ));
    }
    let labels = (labels.len() == paths.len()).then_some(labels);
    Ok(Source { count: paths.len(), pixels: Pixels::Files(paths), labels, shape: [3, 0, 0], test_from })
}

/// `labels.csv` has a header, the label in its first column; the file is found by its name in any
/// column, or by a prefix `LABEL_` (zero-padded) that no other image's name has.
fn flat(dir: &Path, csv: &Path, paths: &mut Vec<PathBuf>, labels: &mut Vec<u32>) -> Result<()> {
    let text = std::fs::read_to_string(csv).map_err(|source| Error::Io { path: csv.to_owned(), source })?;
    let images = images(dir)?;
    let name_of = |p: &Path| p.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let by_name: HashMap<String, &PathBuf> = images.iter().map(|p| (name_of(p), p)).collect();
    let mut by_number: HashMap<u32, Vec<&PathBuf>> = HashMap::new();
    for path in &images {
        if let Some(number) = name_of(path).split(['_', '.']).next().and_then(|n| n.parse().ok()) {
            by_number.entry(number).or_default().push(path);
        }
    }
    for (line, row) in text.lines().enumerate().skip(1).filter(|(_, row)| !row.trim().is_empty()) {
        let bad = |reason: &str| fail(csv, format!("line {}: {reason}", line + 1));
        let columns: Vec<&str> = row.split(',').map(str::trim).collect();
        let label: u32 = columns[0].parse().map_err(|_| bad("its first column is no whole number, to be the label"))?;
        let path = match (columns.iter().find_map(|c| by_name.get(*c)), by_number.get(&label).map(Vec::as_slice)) {
            (Some(path), _) | (None, Some([path])) => *path,
            (None, Some([_, _, ..])) => return Err(bad("several images begin with its label; give the file's name in a column")),
            (None, _) => return Err(bad("no image of that name beside the file")),
        };
        paths.push(path.clone());
        labels.push(label);
    }
    Ok(())
}

/// Decodes an image as `[C, H, W]` grey levels: the shorter side is brought to 8/7 of the wanted
/// one (unless the sizes agree already), then the middle is cut out.
pub(super) fn decode(path: &Path, [c, h, w]: [usize; 3]) -> Result<Vec<u8>> {
    let bad = |e: &dyn std::fmt::Display| fail(path, format!("it does not decode ({e}); replace or remove the file"));
    let image = image::open(path).map_err(|e| bad(&e))?.into_rgb8();
    let (width, height) = (image.width() as usize, image.height() as usize);
    let (mut pixels, mut size) = (image.into_raw(), [height, width]);
    if size != [h, w] {
        let factor = (h as f64 / height as f64).max(w as f64 / width as f64) * if h.min(w) >= 96 { 8.0 / 7.0 } else { 1.0 };
        let wanted = [(height as f64 * factor).round().max(h as f64), (width as f64 * factor).round().max(w as f64)].map(|x| x as usize);
        let source = Image::from_vec_u8(width as u32, height as u32, pixels, PixelType::U8x3).map_err(|e| bad(&e))?;
        let mut target = Image::new(wanted[1] as u32, wanted[0] as u32, PixelType::U8x3);
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
        Resizer::new().resize(&source, &mut target, &options).map_err(|e| bad(&e))?;
        (pixels, size) = (target.into_vec(), wanted);
    }
    let (top, left) = ((size[0] - h) / 2, (size[1] - w) / 2);
    let mut planes = vec![0u8; c * h * w];
    for y in 0..h {
        for x in 0..w {
            let rgb = &pixels[((y + top) * size[1] + x + left) * 3..][..3];
            match c {
                1 => planes[y * w + x] = ((u32::from(rgb[0]) * 299 + u32::from(rgb[1]) * 587 + u32::from(rgb[2]) * 114) / 1000) as u8,
                _ => (0..c.min(3)).for_each(|k| planes[(k * h + y) * w + x] = rgb[k]),
            }
        }
    }
    Ok(planes)
}
