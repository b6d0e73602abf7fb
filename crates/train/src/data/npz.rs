//! NumPy archives: `x` `[N, C, H, W]` or `[N, F]` (float32 or uint8), `y` `[N]` where there are labels; optionally
//! `x_test`, `y_test`. Floats are taken as they are, grey levels are normalised.

use std::path::Path;

use npyz::{DType, TypeChar, npz::NpzArchive};

use super::{Pixels, Source};
use crate::error::{Error, Result};

enum Values {
    Bytes(Vec<u8>),
    Floats(Vec<f32>),
    Integers(Vec<i64>),
}

struct Array {
    shape: Vec<usize>,
    values: Values,
}

type Archive = NpzArchive<std::io::BufReader<std::fs::File>>;

fn fail(path: &Path, reason: impl Into<String>) -> Error {
    Error::Data { path: path.display().to_string(), reason: reason.into() }
}

fn array(path: &Path, archive: &mut Archive, name: &str) -> Result<Option<Array>> {
    let damaged = |e: std::io::Error| fail(path, format!("array `{name}` cannot be read ({e}); write the archive again"));
    let Some(file) = archive.by_name(name).map_err(damaged)? else { return Ok(None) };
    let shape: Vec<usize> = file.shape().iter().map(|d| *d as usize).collect();
    if file.order() != npyz::Order::C {
        return Err(fail(path, format!("array `{name}` is in Fortran order; save np.ascontiguousarray of it")));
    }
    let kind = match file.dtype() {
        DType::Plain(t) => (t.type_char(), t.size_field()),
        _ => return Err(fail(path, format!("array `{name}` has a structured type; save plain numbers"))),
    };
    let values = match kind {
        (TypeChar::Uint, 1) => Values::Bytes(file.into_vec().map_err(damaged)?),
        (TypeChar::Float, 4) => Values::Floats(file.into_vec().map_err(damaged)?),
        (TypeChar::Float, 8) => Values::Floats(file.into_vec::<f64>().map_err(damaged)?.into_iter().map(|x| x as f32).collect()),
        (TypeChar::Int, 8) => Values::Integers(file.into_vec().map_err(damaged)?),
        (TypeChar::Int, 4) => Values::Integers(file.into_vec::<i32>().map_err(damaged)?.into_iter().map(i64::from).collect()),
        _ => return Err(fail(path, format!("array `{name}` has an element type other than uint8, int32, int64, float32, float64"))),
    };
    Ok(Some(Array { shape, values }))
}

pub(super) fn read(path: &Path) -> Result<Source> {
    let file = std::fs::File::open(path).map_err(|source| Error::Io { path: path.to_owned(), source })?;
    let mut archive = NpzArchive::new(std::io::BufReader::new(file))
        .map_err(|e| fail(path, format!("it is not a NumPy archive ({e}); make it with np.savez")))?;
    let mut find = |name: &str| array(path, &mut archive, name);
    let Some(mut x) = find("x")? else {
        return Err(fail(path, "there is no array `x` in it; save it with np.savez(FILE, x=images, y=labels)"));
    };
    let mut labels = find("y")?.map(|y| to_labels(path, "y", &y)).transpose()?;
    let mut test_from = None;
    if let Some(x_test) = find("x_test")? {
        match (&mut labels, find("y_test")?) {
            (Some(all), Some(y_test)) => all.extend(to_labels(path, "y_test", &y_test)?),
            (None, None) => {}
            _ => return Err(fail(path, "of y and y_test there is only one; label both parts or none")),
        }
        test_from = Some(x.shape[0]);
        if x_test.shape.get(1..) != x.shape.get(1..) {
            return Err(fail(path, format!("x has shape {:?}, x_test {:?}", x.shape, x_test.shape)));
        }
        x.shape[0] += x_test.shape[0];
        match (&mut x.values, x_test.values) {
            (Values::Bytes(a), Values::Bytes(b)) => a.extend(b),
            (Values::Floats(a), Values::Floats(b)) => a.extend(b),
            _ => return Err(fail(path, "x and x_test have different element types")),
        }
    }
    let shape = match x.shape[..] {
        [_, c, h, w] => [c, h, w],
        [_, h, w] => [1, h, w],
        [_, f] => [1, 1, f],
        _ => return Err(fail(path, format!("x has shape {:?}; it should be [N, C, H, W]", x.shape))),
    };
    let count = x.shape[0];
    if let Some(labels) = labels.as_ref().filter(|l| l.len() != count) {
        return Err(fail(path, format!("{count} images but {} labels", labels.len())));
    }
    let pixels = match x.values {
        Values::Bytes(v) => Pixels::Bytes(v),
        Values::Floats(v) => {
            if let Some(i) = v.iter().position(|x| !x.is_finite()) {
                return Err(fail(path, format!("element {i} of x is NaN or infinite")));
            }
            Pixels::Floats(v)
        }
        Values::Integers(_) => return Err(fail(path, "x holds wide integers; save it as uint8 or float32")),
    };
    Ok(Source { pixels, count, labels, shape, test_from })
}

fn to_labels(path: &Path, name: &str, array: &Array) -> Result<Vec<u32>> {
    if array.shape.len() != 1 {
        return Err(fail(path, format!("{name} has shape {:?}; labels are one whole number per image", array.shape)));
    }
    let bad = |v: i64| fail(path, format!("{name} holds the label {v}, out of range"));
    match &array.values {
        Values::Bytes(v) => Ok(v.iter().map(|x| u32::from(*x)).collect()),
        Values::Integers(v) => v.iter().map(|x| u32::try_from(*x).ok().filter(|x| *x < 1 << 24).ok_or_else(|| bad(*x))).collect(),
        Values::Floats(_) => Err(fail(path, format!("{name} holds floats; labels are whole numbers"))),
    }
}
