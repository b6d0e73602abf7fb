//! The sliding window that convolutions and poolings share.

use crate::attributes::Attributes;
use crate::error::Result;
use crate::facts::{Inference, addressable};

/// How padding was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AutoPad {
    /// Explicitly, in `pads`.
    Explicit,
    /// So that output size is ⌈input/stride⌉, the odd one at the end.
    SameUpper,
    /// The same, the odd one at the start.
    SameLower,
    /// None.
    Valid,
}

/// Strides, dilations and padding over the spatial axes. Empty lists stand for the defaults (1, 1, 0).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Kernel size per spatial axis; empty where the weight tells it.
    pub kernel: Vec<usize>,
    /// Step per spatial axis.
    pub strides: Vec<usize>,
    /// Distance of kernel elements per spatial axis.
    pub dilations: Vec<usize>,
    /// Padding, all starts before all ends.
    pub pads: Vec<usize>,
    /// How padding was given.
    pub auto_pad: AutoPad,
}

/// Longest kernel, step, dilation and padding: with these, positions of windows are numbers.
const LONGEST: usize = 1 << 31;

impl Window {
    pub(crate) fn parse(a: &Attributes) -> Result<Self> {
        let auto_pad = match a.string("auto_pad").unwrap_or("NOTSET") {
            "NOTSET" | "" => AutoPad::Explicit,
            "SAME_UPPER" => AutoPad::SameUpper,
            "SAME_LOWER" => AutoPad::SameLower,
            "VALID" => AutoPad::Valid,
            other => return Err(a.error(format!("auto_pad `{other}` is not one of NOTSET, SAME_UPPER, SAME_LOWER, VALID"))),
        };
        let window = Self {
            kernel: a.sizes("kernel_shape")?.unwrap_or_default(),
            strides: a.sizes("strides")?.unwrap_or_default(),
            dilations: a.sizes("dilations")?.unwrap_or_default(),
            pads: a.sizes("pads")?.unwrap_or_default(),
            auto_pad,
        };
        if window.strides.contains(&0) || window.dilations.contains(&0) {
            return Err(a.error("a stride or dilation of 0"));
        }
        let all = [&window.kernel, &window.strides, &window.dilations, &window.pads];
        if let Some(long) = all.into_iter().flatten().find(|n| **n > LONGEST) {
            return Err(a.error(format!("a kernel, stride, dilation or padding of {long}, which is longer than any input")));
        }
        Ok(window)
    }

    /// Stride along spatial axis `d`.
    pub fn stride(&self, d: usize) -> usize {
        self.strides.get(d).copied().unwrap_or(1)
    }

    /// Dilation along spatial axis `d`.
    pub fn dilation(&self, d: usize) -> usize {
        self.dilations.get(d).copied().unwrap_or(1)
    }

    /// Positions from the first to the last element of a kernel of `kernel` elements along spatial axis `d`.
    pub(super) fn extent(&self, d: usize, kernel: usize) -> usize {
        self.dilation(d).saturating_mul(kernel.saturating_sub(1)).saturating_add(1)
    }

    /// Padding `(start, end)` along spatial axis `d` for an input of `size` and a kernel of `kernel` elements.
    pub fn pad(&self, d: usize, size: usize, kernel: usize) -> (usize, usize) {
        let same = |upper: bool| {
            let last = size.div_ceil(self.stride(d)).saturating_sub(1) * self.stride(d);
            let total = last.saturating_add(self.extent(d, kernel)).saturating_sub(size);
            if upper { (total / 2, total - total / 2) } else { (total - total / 2, total / 2) }
        };
        match self.auto_pad {
            AutoPad::Valid => (0, 0),
            AutoPad::SameUpper => same(true),
            AutoPad::SameLower => same(false),
            AutoPad::Explicit => {
                let n = self.pads.len() / 2;
                (self.pads.get(d).copied().unwrap_or(0), self.pads.get(n + d).copied().unwrap_or(0))
            }
        }
    }

    /// Padding of all spatial axes, resolved for an input of spatial sizes `sizes`.
    pub fn resolve_pads(&self, sizes: &[usize], kernel: &[usize]) -> Vec<(usize, usize)> {
        sizes.iter().zip(kernel).enumerate().map(|(d, (&s, &k))| self.pad(d, s, k)).collect()
    }

    /// Output sizes; `ceil` rounds up instead of down (pooling with `ceil_mode`).
    pub(crate) fn output(&self, i: &Inference, sizes: &[usize], kernel: &[usize], ceil: bool) -> Result<Vec<usize>> {
        if kernel.len() != sizes.len() {
            return i.error(format!("a kernel of rank {} on an input with {} spatial axes", kernel.len(), sizes.len()));
        }
        let mut out = Vec::with_capacity(sizes.len());
        for (d, (&size, &k)) in sizes.iter().zip(kernel).enumerate() {
            if k == 0 {
                return i.error("a kernel of size 0");
            }
            let (before, after) = self.pad(d, size, k);
            let extent = self.extent(d, k);
            let padded = size.checked_add(before).and_then(|n| n.checked_add(after)).filter(|&n| addressable(&[n]));
            let Some(padded) = padded else {
                return i.error(format!("padding of {before} and {after} around {size}, which is longer than any machine holds"));
            };
            if padded < extent {
                return i.error(format!("a kernel reaching over {extent} on a padded input of {padded} along spatial axis {d}"));
            }
            let span = padded - extent;
            let stride = self.stride(d);
            let mut n = if ceil { span.div_ceil(stride) } else { span / stride } + 1;
            // A window must start inside the input or its left padding.
            if ceil && (n - 1) * stride >= size + before {
                n -= 1;
            }
            out.push(n);
        }
        Ok(out)
    }
}
