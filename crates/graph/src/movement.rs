//! Rearranging the elements of a tensor: what the data-moving operators do, on values.

use crate::map_type;
use crate::tensor::Tensor;

/// Row-major strides of `shape`.
pub fn strides(shape: &[usize]) -> Vec<usize> {
    let mut s = vec![1; shape.len()];
    for i in (0..shape.len().saturating_sub(1)).rev() {
        s[i] = s[i + 1] * shape[i + 1];
    }
    s
}

/// Calls `f` with every index of `shape` in row-major order.
pub fn for_each_index(shape: &[usize], mut f: impl FnMut(&[usize])) {
    if shape.contains(&0) {
        return;
    }
    let mut index = vec![0; shape.len()];
    loop {
        f(&index);
        let mut axis = shape.len();
        loop {
            if axis == 0 {
                return;
            }
            axis -= 1;
            index[axis] += 1;
            if index[axis] < shape[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
}

/// The shape two operands broadcast to; `None` where they do not.
pub fn broadcast(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let at = |s: &[usize], i: usize| if i + s.len() < rank { 1 } else { s[i + s.len() - rank] };
    (0..rank)
        .map(|i| match (at(a, i), at(b, i)) {
            (x, y) if x == y => Some(x),
            (1, y) => Some(y),
            (x, 1) => Some(x),
            _ => None,
        })
        .collect()
}

impl Tensor {
    /// A tensor of `shape` whose element at each index is this tensor's element at the linear position `source` gives.
    pub fn gather_flat(&self, shape: &[usize], mut source: impl FnMut(&[usize]) -> usize) -> Self {
        let mut positions = Vec::with_capacity(shape.iter().product());
        for_each_index(shape, |i| positions.push(source(i)));
        let data = map_type!(&self.data, v => positions.iter().map(|&p| v[p]).collect());
        Self { shape: shape.to_vec(), data }
    }

    /// The same elements in another shape; `None` if the counts differ.
    pub fn reshape(&self, shape: &[usize]) -> Option<Self> {
        (shape.iter().product::<usize>() == self.len()).then(|| Self { shape: shape.to_vec(), data: self.data.clone() })
    }

    /// Axis `i` of the result is axis `perm[i]` of this tensor.
    pub fn transpose(&self, perm: &[usize]) -> Self {
        let s = strides(&self.shape);
        let shape: Vec<usize> = perm.iter().map(|&p| self.shape[p]).collect();
        self.gather_flat(&shape, |i| i.iter().zip(perm).map(|(&x, &p)| x * s[p]).sum())
    }

    /// Broadcast to `shape`, which this tensor's shape must allow.
    pub fn expand(&self, shape: &[usize]) -> Self {
        let s = strides(&self.shape);
        let skip = shape.len() - self.shape.len();
        self.gather_flat(shape, |i| i[skip..].iter().zip(&s).zip(&self.shape).map(|((&x, &st), &d)| if d == 1 { 0 } else { x * st }).sum())
    }

    /// Tensors of one element type joined along `axis`; `None` where types or shapes differ.
    pub fn concat(parts: &[&Self], axis: usize) -> Option<Self> {
        let first = parts.first()?;
        let mut shape = first.shape.clone();
        shape[axis] = parts.iter().map(|p| p.shape[axis]).sum();
        let outer: usize = shape[..axis].iter().product();
        macro_rules! join {
            ($($kind:ident),*) => {
                match &first.data {
                    $(crate::Data::$kind(_) => {
                        let mut out = Vec::with_capacity(shape.iter().product());
                        for o in 0..outer {
                            for p in parts {
                                let crate::Data::$kind(v) = &p.data else { return None };
                                let chunk: usize = p.shape[axis..].iter().product();
                                out.extend_from_slice(v.get(o * chunk..(o + 1) * chunk)?);
                            }
                        }
                        crate::Data::$kind(out)
                    })*
                }
            };
        }
        let data = join!(F32, F64, F16, BF16, I64, I32, I16, I8, U8, U16, U32, U64, Bool);
        (data.len() == shape.iter().product::<usize>()).then_some(Self { shape, data })
    }
}
