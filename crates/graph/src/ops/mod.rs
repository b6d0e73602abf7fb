//! The operators: one file each, with its attributes and what follows from them.
//!
//! [`Op`] is matched exhaustively everywhere, so an operator added here is asked for by the compiler in every place that
//! must know it. What has no variant is [`Op::Opaque`]: kept byte for byte and never guessed about.

mod batch_normalization;
mod binary;
mod concat;
mod constant;
mod conv;
mod conv_transpose;
mod expand;
mod flatten;
mod gather;
mod gemm;
mod layer_normalization;
mod matmul;
mod normalization;
mod pad;
mod pool;
mod rearrange;
mod recurrent;
mod reduce;
mod reshape;
mod resize;
mod select;
mod shape;
mod slice;
mod softmax;
mod split;
mod squeeze;
mod transpose;
mod unary;
mod window;

pub use batch_normalization::BatchNormalization;
pub use binary::Binary;
pub use concat::Concat;
pub use constant::ConstantOfShape;
pub use conv::Conv;
pub use conv_transpose::ConvTranspose;
pub use flatten::Flatten;
pub use gather::Gather;
pub use gemm::Gemm;
pub use layer_normalization::LayerNormalization;
pub use normalization::{GroupNormalization, InstanceNormalization, Lrn};
pub use pad::{Pad, PadMode};
pub use pool::{Pool, PoolKind};
pub use rearrange::DepthSpace;
pub use recurrent::{Recurrent, RecurrentKind};
pub use reduce::{Reduce, ReduceKind};
pub use reshape::Reshape;
pub use resize::Resize;
pub use slice::Slice;
pub use softmax::Softmax;
pub use split::Split;
pub use squeeze::Squeeze;
pub use transpose::Transpose;
pub use unary::Unary;
pub use window::{AutoPad, Window};

use crate::attributes::Attributes;
use crate::coupling::rules::Coupling;
use crate::error::Result;
use crate::facts::{Inference, Outputs};
use crate::proto::NodeProto;
use crate::surgery::rewriter::Rewriter;

/// What a node computes, with its attributes typed and their defaults filled in.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// Convolution of any rank, grouped or not.
    Conv(Conv),
    /// Transposed convolution.
    ConvTranspose(ConvTranspose),
    /// `alpha·A·B + beta·C`, operands transposed on request.
    Gemm(Gemm),
    /// Matrix product, batched over leading axes.
    MatMul,
    /// Normalisation by stored or batch statistics, per channel (axis 1).
    BatchNormalization(BatchNormalization),
    /// Normalisation over trailing axes.
    LayerNormalization(LayerNormalization),
    /// Normalisation of each channel of each sample.
    InstanceNormalization(InstanceNormalization),
    /// Normalisation of groups of channels of each sample.
    GroupNormalization(GroupNormalization),
    /// Local response normalisation over neighbouring channels.
    Lrn(Lrn),
    /// `LSTM`, `GRU`, `RNN`.
    Recurrent(Recurrent),
    /// Elementwise, one operand.
    Unary(Unary),
    /// Elementwise with broadcasting, two operands (or more, for `Sum`, `Max`, `Min`).
    Binary(Binary),
    /// `Where`: elementwise choice with broadcasting.
    Where,
    /// Join along an axis.
    Concat(Concat),
    /// Cut along an axis.
    Split(Split),
    /// Strided selection along axes.
    Slice(Slice),
    /// Selection by indices along an axis.
    Gather(Gather),
    /// Values added around.
    Pad(Pad),
    /// Local maximum or mean.
    Pool(Pool),
    /// Mean, sum, maximum … over axes; global pooling too.
    Reduce(Reduce),
    /// Softmax along an axis.
    Softmax(Softmax),
    /// The same elements in another shape.
    Reshape(Reshape),
    /// Two-dimensional reshape.
    Flatten(Flatten),
    /// Axes permuted.
    Transpose(Transpose),
    /// Axes of size 1 removed.
    Squeeze(Squeeze),
    /// Axes of size 1 inserted.
    Unsqueeze(Squeeze),
    /// Spatial resampling.
    Resize(Resize),
    /// Channels to blocks of positions, or back.
    DepthSpace(DepthSpace),
    /// Repeated along axes.
    Tile,
    /// Broadcast to a shape.
    Expand,
    /// The shape of the operand as a tensor.
    Shape,
    /// A tensor stored in the node.
    Constant,
    /// A tensor of one value.
    ConstantOfShape(ConstantOfShape),
    /// `Range`: start, limit, step.
    Range,
    /// An operator this program has no rule for, by name (with its domain if it is not the default one).
    Opaque(String),
}

impl Op {
    /// Reads the operator of `node`.
    ///
    /// # Errors
    /// Attributes the operator cannot have.
    pub fn parse(node: &NodeProto, opset: i64) -> Result<Self> {
        let a = Attributes(node);
        if !matches!(node.domain(), "" | "ai.onnx") {
            return Ok(Self::Opaque(format!("{}:{}", node.domain(), node.op_type())));
        }
        if let Some(u) = Unary::parse(&a)? {
            return Ok(Self::Unary(u));
        }
        if let Some(b) = Binary::parse(&a)? {
            return Ok(Self::Binary(b));
        }
        if let Some(r) = Reduce::parse(&a)? {
            return Ok(Self::Reduce(r));
        }
        if let Some(r) = Recurrent::parse(&a) {
            return Ok(Self::Recurrent(r));
        }
        Ok(match node.op_type() {
            "Conv" => Self::Conv(Conv::parse(&a)?),
            "ConvTranspose" => Self::ConvTranspose(ConvTranspose::parse(&a)?),
            "Gemm" => Self::Gemm(Gemm::parse(&a)),
            "MatMul" => Self::MatMul,
            "BatchNormalization" => Self::BatchNormalization(BatchNormalization::parse(&a)?),
            "LayerNormalization" => Self::LayerNormalization(LayerNormalization::parse(&a)),
            "InstanceNormalization" => Self::InstanceNormalization(InstanceNormalization::parse(&a)),
            "GroupNormalization" => Self::GroupNormalization(GroupNormalization::parse(&a)?),
            "LRN" => Self::Lrn(Lrn::parse(&a)),
            "DepthToSpace" | "SpaceToDepth" => Self::DepthSpace(DepthSpace::parse(&a)?),
            // Before opset 6 the repeats were per axis, one axis at a time.
            "Tile" if opset >= 6 => Self::Tile,
            "Where" => Self::Where,
            "Concat" => Self::Concat(Concat::parse(&a)?),
            "Split" => Self::Split(Split::parse(&a)),
            "Slice" => Self::Slice(Slice::parse(&a)),
            "Gather" => Self::Gather(Gather::parse(&a)),
            "Pad" => Self::Pad(Pad::parse(&a)?),
            "MaxPool" | "AveragePool" => Self::Pool(Pool::parse(&a)?),
            "Softmax" | "LogSoftmax" => Self::Softmax(Softmax::parse(&a, opset)),
            "Reshape" => Self::Reshape(Reshape::parse(&a)),
            "Flatten" => Self::Flatten(Flatten::parse(&a)),
            "Transpose" => Self::Transpose(Transpose::parse(&a)?),
            "Squeeze" => Self::Squeeze(Squeeze::parse(&a)),
            "Unsqueeze" => Self::Unsqueeze(Squeeze::parse(&a)),
            "Resize" | "Upsample" => Self::Resize(Resize::parse(&a)),
            "Expand" => Self::Expand,
            "Shape" => Self::Shape,
            "Constant" => Self::Constant,
            "ConstantOfShape" => Self::ConstantOfShape(ConstantOfShape::parse(&a)?),
            "Range" => Self::Range,
            other => Self::Opaque(other.to_owned()),
        })
    }

    /// The operator's ONNX name.
    pub fn name(&self) -> &str {
        match self {
            Self::Conv(_) => "Conv",
            Self::ConvTranspose(_) => "ConvTranspose",
            Self::Gemm(_) => "Gemm",
            Self::MatMul => "MatMul",
            Self::BatchNormalization(_) => "BatchNormalization",
            Self::LayerNormalization(_) => "LayerNormalization",
            Self::InstanceNormalization(_) => "InstanceNormalization",
            Self::GroupNormalization(_) => "GroupNormalization",
            Self::Lrn(_) => "LRN",
            Self::Recurrent(r) => r.name(),
            Self::DepthSpace(d) => d.name(),
            Self::Tile => "Tile",
            Self::Unary(u) => u.name(),
            Self::Binary(b) => b.name(),
            Self::Where => "Where",
            Self::Concat(_) => "Concat",
            Self::Split(_) => "Split",
            Self::Slice(_) => "Slice",
            Self::Gather(_) => "Gather",
            Self::Pad(_) => "Pad",
            Self::Pool(p) => p.name(),
            Self::Reduce(r) => r.name(),
            Self::Softmax(s) => s.name(),
            Self::Reshape(_) => "Reshape",
            Self::Flatten(_) => "Flatten",
            Self::Transpose(_) => "Transpose",
            Self::Squeeze(_) => "Squeeze",
            Self::Unsqueeze(_) => "Unsqueeze",
            Self::Resize(_) => "Resize",
            Self::Expand => "Expand",
            Self::Shape => "Shape",
            Self::Constant => "Constant",
            Self::ConstantOfShape(_) => "ConstantOfShape",
            Self::Range => "Range",
            Self::Opaque(name) => name,
        }
    }

    /// Element types, shapes and constants of the outputs.
    ///
    /// # Errors
    /// Inputs that do not fit the operator.
    pub fn infer(&self, i: &Inference) -> Result<Outputs> {
        // Where the first operand of an operator is not known, neither is its result.
        let needs_first = !matches!(self, Self::Constant | Self::Opaque(_) | Self::Concat(_) | Self::Range);
        if needs_first && i.fact(0).is_none() {
            return i.unknown();
        }
        match self {
            Self::Conv(o) => o.infer(i),
            Self::ConvTranspose(o) => o.infer(i),
            Self::Gemm(o) => o.infer(i),
            Self::MatMul => matmul::infer(i),
            Self::BatchNormalization(o) => o.infer(i),
            Self::LayerNormalization(o) => o.infer(i),
            Self::InstanceNormalization(_) | Self::GroupNormalization(_) | Self::Lrn(_) => normalization::infer(i),
            Self::Recurrent(o) => o.infer(i),
            Self::DepthSpace(o) => o.infer(i),
            Self::Tile => rearrange::infer_tile(i),
            Self::Unary(o) => o.infer(i),
            Self::Binary(o) => o.infer(i),
            Self::Where => select::infer(i),
            Self::Concat(o) => o.infer(i),
            Self::Split(o) => o.infer(i),
            Self::Slice(o) => o.infer(i),
            Self::Gather(o) => o.infer(i),
            Self::Pad(o) => o.infer(i),
            Self::Pool(o) => o.infer(i),
            Self::Reduce(o) => o.infer(i),
            Self::Softmax(o) => o.infer(i),
            Self::Reshape(o) => o.infer(i),
            Self::Flatten(o) => o.infer(i),
            Self::Transpose(o) => o.infer(i),
            Self::Squeeze(o) => o.infer_squeeze(i),
            Self::Unsqueeze(o) => o.infer_unsqueeze(i),
            Self::Resize(o) => o.infer(i),
            Self::Expand => expand::infer(i),
            Self::Shape => shape::infer(i),
            Self::Constant => constant::infer(i),
            Self::ConstantOfShape(o) => o.infer(i),
            Self::Range => constant::infer_range(i),
            Self::Opaque(_) => i.unknown(),
        }
    }

    /// Which labels of inputs and outputs are equal.
    pub(crate) fn couple(&self, c: &mut Coupling) -> Result<()> {
        match self {
            Self::Conv(o) => o.couple(c),
            Self::ConvTranspose(o) => o.couple(c),
            Self::Gemm(o) => o.couple(c),
            Self::MatMul => matmul::couple(c),
            Self::BatchNormalization(o) => o.couple(c),
            Self::LayerNormalization(o) => o.couple(c),
            Self::InstanceNormalization(o) => o.couple(c),
            Self::GroupNormalization(o) => o.couple(c),
            Self::Lrn(o) => o.couple(c),
            Self::Recurrent(o) => o.couple(c),
            Self::DepthSpace(o) => o.couple(c),
            Self::Tile => rearrange::couple_tile(c),
            Self::Unary(o) => o.couple(c),
            Self::Binary(o) => o.couple(c),
            Self::Where => select::couple(c),
            Self::Concat(o) => o.couple(c),
            Self::Split(o) => o.couple(c),
            Self::Slice(o) => o.couple(c),
            Self::Gather(o) => o.couple(c),
            Self::Pad(o) => o.couple(c),
            Self::Pool(o) => o.couple(c),
            Self::Reduce(o) => o.couple(c),
            Self::Softmax(o) => o.couple(c),
            Self::Reshape(o) => o.couple(c),
            Self::Flatten(o) => o.couple(c),
            Self::Transpose(o) => o.couple(c),
            Self::Squeeze(o) | Self::Unsqueeze(o) => o.couple(c),
            Self::Resize(o) => o.couple(c),
            Self::Expand => expand::couple(c),
            Self::Shape => shape::couple(c),
            Self::ConstantOfShape(o) => o.couple(c),
            // A stored tensor has its labels from the start; a range is of indices.
            Self::Constant | Self::Range => Ok(()),
            // Its operands are frozen before any rule is asked.
            Self::Opaque(_) => Ok(()),
        }
    }

    /// What of the node itself changes when channels of its operands go: attributes and integer operands.
    pub(crate) fn rewrite(&self, r: &mut Rewriter) -> Result<()> {
        match self {
            Self::Conv(o) => o.rewrite(r),
            Self::ConvTranspose(o) => o.rewrite(r),
            Self::Split(o) => o.rewrite(r),
            Self::Slice(o) => o.rewrite(r),
            Self::Gather(o) => o.rewrite(r),
            Self::Pad(o) => o.rewrite(r),
            Self::Reshape(o) => o.rewrite(r),
            Self::Squeeze(o) => o.rewrite_squeeze(r),
            Self::Resize(o) => o.rewrite(r),
            Self::Expand => expand::rewrite(r),
            Self::ConstantOfShape(o) => o.rewrite(r),
            Self::Recurrent(o) => o.rewrite(r),
            Self::InstanceNormalization(_)
            | Self::GroupNormalization(_)
            | Self::Lrn(_)
            | Self::DepthSpace(_)
            | Self::Tile
            | Self::Gemm(_)
            | Self::MatMul
            | Self::BatchNormalization(_)
            | Self::LayerNormalization(_)
            | Self::Unary(_)
            | Self::Binary(_)
            | Self::Where
            | Self::Concat(_)
            | Self::Pool(_)
            | Self::Reduce(_)
            | Self::Softmax(_)
            | Self::Flatten(_)
            | Self::Transpose(_)
            | Self::Unsqueeze(_)
            | Self::Shape
            | Self::Constant
            | Self::Range
            | Self::Opaque(_) => Ok(()),
        }
    }

    /// Multiply-accumulates for these shapes of operands and output; 0 where a shape is not known.
    pub fn macs(&self, inputs: &[Option<&[usize]>], out: &[usize]) -> u64 {
        let (Some(Some(a)), b) = (inputs.first(), inputs.get(1).copied().flatten()) else { return 0 };
        match self {
            Self::Conv(_) => b.map_or(0, |w| Conv::macs(w, out)),
            Self::ConvTranspose(_) => b.map_or(0, |w| ConvTranspose::macs(a, w)),
            Self::Gemm(o) => o.macs(a, out),
            Self::MatMul => matmul::macs(a, out),
            Self::Recurrent(_) => Recurrent::macs(a, inputs.get(1..3).unwrap_or_default()),
            Self::InstanceNormalization(_)
            | Self::GroupNormalization(_)
            | Self::Lrn(_)
            | Self::DepthSpace(_)
            | Self::Tile
            | Self::BatchNormalization(_)
            | Self::LayerNormalization(_)
            | Self::Unary(_)
            | Self::Binary(_)
            | Self::Where
            | Self::Concat(_)
            | Self::Split(_)
            | Self::Slice(_)
            | Self::Gather(_)
            | Self::Pad(_)
            | Self::Pool(_)
            | Self::Reduce(_)
            | Self::Softmax(_)
            | Self::Reshape(_)
            | Self::Flatten(_)
            | Self::Transpose(_)
            | Self::Squeeze(_)
            | Self::Unsqueeze(_)
            | Self::Resize(_)
            | Self::Expand
            | Self::Shape
            | Self::Constant
            | Self::ConstantOfShape(_)
            | Self::Range
            | Self::Opaque(_) => 0,
        }
    }

    /// An operator that multiplies with a weight.
    pub fn is_layer(&self) -> bool {
        matches!(self, Self::Conv(_) | Self::ConvTranspose(_) | Self::Gemm(_) | Self::MatMul)
    }
}
