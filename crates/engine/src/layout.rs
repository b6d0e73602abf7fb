//! Where the elements of an activation lie in memory.

/// Channels that lie side by side.
pub(crate) const LANES: usize = 16;

/// Channels, rows and columns of an activation of batch 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Extent {
    /// Channels; features of a vector.
    pub channels: usize,
    /// Rows; 1 for a vector or a sequence.
    pub height: usize,
    /// Columns; 1 for a vector.
    pub width: usize,
}

impl Extent {
    /// The extent of a tensor of this shape: `[1, C]`, `[1, C, W]` or `[1, C, H, W]`.
    pub fn of(shape: &[usize]) -> Option<Self> {
        let (channels, height, width) = match *shape {
            [1, c] => (c, 1, 1),
            [1, c, w] => (c, 1, w),
            [1, c, h, w] => (c, h, w),
            _ => return None,
        };
        (channels > 0 && height > 0 && width > 0).then_some(Self { channels, height, width })
    }

    /// Number of elements.
    pub fn len(self) -> usize {
        self.channels * self.height * self.width
    }

    /// It has no spatial axes.
    pub fn is_vector(self) -> bool {
        self.height * self.width == 1
    }
}

/// Pixels of zeros around an activation, so that kernels need no code for boundaries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(crate) struct Halo {
    /// Rows above.
    pub top: usize,
    /// Columns to the left.
    pub left: usize,
    /// Rows below.
    pub bottom: usize,
    /// Columns to the right.
    pub right: usize,
}

impl Halo {
    /// The smallest that holds both.
    pub fn join(self, o: Self) -> Self {
        Self { top: self.top.max(o.top), left: self.left.max(o.left), bottom: self.bottom.max(o.bottom), right: self.right.max(o.right) }
    }
}

/// An activation with its halo: blocks of `lanes` channels, each a plane of pixels, each pixel `lanes` elements (`NCHWc16`).
///
/// With one lane it is planar (`NCHW`). Then the zeros to the right of a row are those to the left of the next, the first pixel of
/// a plane is at a multiple of 16, and so much lies behind the last row that vectors of 16 pixels counted through all rows stay in the plane,
/// wherever within the halo they are shifted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Layout {
    /// Without the halo.
    pub extent: Extent,
    /// Around every plane.
    pub halo: Halo,
    /// 16, or 1 for planar.
    pub lanes: usize,
}

impl Layout {
    /// Elements between two rows.
    pub fn row(&self) -> usize {
        let Halo { left, right, .. } = self.halo;
        let around = if self.is_planar() { left.max(right) } else { left + right };
        (around + self.extent.width) * self.lanes
    }

    fn is_planar(&self) -> bool {
        self.lanes == 1
    }

    /// Elements of a plane before its first pixel.
    fn front(&self) -> usize {
        let front = self.halo.top * self.row() + self.halo.left * self.lanes;
        if self.is_planar() { front.next_multiple_of(LANES) } else { front }
    }

    /// Elements between two blocks of channels.
    pub fn block(&self) -> usize {
        let rows = self.halo.top + self.extent.height + self.halo.bottom;
        if !self.is_planar() {
            return rows * self.row();
        }
        let pixels = (self.extent.height - 1) * self.row() + self.extent.width;
        let behind = self.halo.bottom * self.row() + self.halo.right;
        // An odd number of cache lines, so that planes do not compete for the same sets.
        ((self.front() + pixels.next_multiple_of(LANES) + behind).div_ceil(LANES) | 1) * LANES
    }

    /// Blocks of channels.
    pub fn blocks(&self) -> usize {
        self.extent.channels.div_ceil(self.lanes)
    }

    /// Elements in all.
    pub fn len(&self) -> usize {
        self.blocks() * self.block()
    }

    /// The whole of it as a view.
    pub fn view(&self) -> View {
        View { extent: self.extent, lanes: self.lanes, base: self.front(), row: self.row(), block: self.block(), len: self.len() }
    }
}

/// Part of a buffer seen as an activation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct View {
    /// Channels, rows, columns.
    pub extent: Extent,
    /// Channels side by side.
    pub lanes: usize,
    /// Element of channel 0, row 0, column 0.
    pub base: usize,
    /// Elements between two rows.
    pub row: usize,
    /// Elements between two blocks of channels.
    pub block: usize,
    /// Elements of the buffer.
    pub len: usize,
}

impl View {
    /// A user's array: planes without anything between them.
    pub fn plain(extent: Extent) -> Self {
        Self { extent, lanes: 1, base: 0, row: extent.width, block: extent.height * extent.width, len: extent.len() }
    }

    /// Where an element is.
    pub fn at(&self, channel: usize, y: usize, x: usize) -> usize {
        self.base + channel / self.lanes * self.block + y * self.row + x * self.lanes + channel % self.lanes
    }

    /// Blocks of channels.
    pub fn blocks(&self) -> usize {
        self.extent.channels.div_ceil(self.lanes)
    }
}
