//! One layer as a model of its own, to measure what it costs at other widths.

use crate::coupling::labels::seeded;
use crate::error::Result;
use crate::facts::Facts;
use crate::graph::{Graph, Node, NodeId, ValueId};
use crate::model::Model;
use crate::ops::{Binary, Conv, Op};
use crate::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto, attribute_proto::AttributeType, tensor_proto::DataType,
    tensor_shape_proto::{Dimension, dimension},
    type_proto,
};
use crate::tensor::{Data, Tensor};
