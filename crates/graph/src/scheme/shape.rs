//! A layer's weight tensor as the regularities see it.

/// The weight of a convolution `[F, C/g, k…]` or of a linear layer (`[out, in]`, or `[in, out]`): filters × input channels ×
/// kernel positions, in partitions that do not see each other.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WeightShape {
    /// Filters (outputs), those of all partitions.
    pub filters: usize,
    /// Input channels that a filter reads: C/g.
    pub channels: usize,
    /// Kernel; empty for a linear layer.
    pub kernel: Vec<usize>,
    /// Partitions (the `group` of a convolution).
    pub partitions: usize,
    /// The tensor is stored as `[in, out]`.
    pub transposed: bool,
}

impl WeightShape {
    /// The weight `[F, C/g, k…]` of a convolution in `partitions`; `None` where the dimensions are not of that form.
    pub fn conv(dims: &[usize], partitions: usize) -> Option<Self> {
        let (&[filters, channels], kernel) = dims.split_first_chunk::<2>()?;
        let whole = partitions > 0 && filters.is_multiple_of(partitions) && !kernel.is_empty();
        whole.then(|| Self { filters, channels, kernel: kernel.to_vec(), partitions, transposed: false })
    }

    /// The weight of a linear layer, stored as `[outputs, inputs]`, or as `[inputs, outputs]` if `transposed`.
    pub fn linear(outputs: usize, inputs: usize, transposed: bool) -> Self {
        Self { filters: outputs, channels: inputs, kernel: Vec::new(), partitions: 1, transposed }
    }

    /// A linear layer.
    pub fn is_linear(&self) -> bool {
        self.kernel.is_empty()
    }

    /// Kernel positions; 1 for a linear layer.
    pub fn positions(&self) -> usize {
        self.kernel.iter().product()
    }

    /// Number of weights.
    pub fn len(&self) -> usize {
        self.filters * self.channels * self.positions()
    }

    /// No weights.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Filters of one partition.
    pub fn partition_filters(&self) -> usize {
        self.filters / self.partitions.max(1)
    }

    /// Where the weight of a filter, channel (within the partition) and kernel position is stored.
    pub fn index(&self, filter: usize, channel: usize, position: usize) -> usize {
        if self.transposed { channel * self.filters + filter } else { (filter * self.channels + channel) * self.positions() + position }
    }

    /// Filter, channel and kernel position of a stored weight; the inverse of [`WeightShape::index`].
    pub fn place(&self, index: usize) -> (usize, usize, usize) {
        if self.transposed {
            return (index % self.filters, index / self.filters, 0);
        }
        let (kernel, position) = (index / self.positions(), index % self.positions());
        (kernel / self.channels, kernel % self.channels, position)
    }

    /// All weights as (index, filter, channel, position), in the order they are stored.
    pub(super) fn places(&self) -> impl Iterator<Item = (usize, usize, usize, usize)> + '_ {
        (0..self.len()).map(|i| {
            let (f, c, k) = self.place(i);
            (i, f, c, k)
        })
    }
}
