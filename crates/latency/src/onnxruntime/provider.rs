//! Execution providers by name.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use ort::ep::{self, ArbitrarilyConfigurableExecutionProvider, ExecutionProvider, ExecutionProviderDispatch};

use crate::error::Error;

/// An execution provider of ONNX Runtime that this crate can register.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Provider {
    Cpu,
    Cuda,
    TensorRt,
    OpenVino,
    OneDnn,
    Xnnpack,
    Qnn,
    CoreMl,
}

impl Provider {
    /// All of them.
    pub const ALL: [Self; 8] =
        [Self::Cpu, Self::Cuda, Self::TensorRt, Self::OpenVino, Self::OneDnn, Self::Xnnpack, Self::Qnn, Self::CoreMl];

    fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::TensorRt => "tensorrt",
            Self::OpenVino => "openvino",
            Self::OneDnn => "onednn",
            Self::Xnnpack => "xnnpack",
            Self::Qnn => "qnn",
            Self::CoreMl => "coreml",
        }
    }

    fn in_library(self) -> bool {
        match self {
            Self::Cpu => ep::CPU::is_available(),
            Self::Cuda => ep::CUDA::is_available(),
            Self::TensorRt => ep::TensorRT::is_available(),
            Self::OpenVino => ep::OpenVINO::is_available(),
            Self::OneDnn => ep::OneDNN::is_available(),
            Self::Xnnpack => ep::XNNPACK::is_available(),
            Self::Qnn => ep::QNN::is_available(),
            Self::CoreMl => ep::CoreML::is_available(),
        }
        .unwrap_or(false)
    }

    /// The provider with its options, ready to be registered.
    pub(super) fn dispatch(self, options: &BTreeMap<String, String>) -> ExecutionProviderDispatch {
        fn configured<E>(mut ep: E, options: &BTreeMap<String, String>) -> ExecutionProviderDispatch
        where
            E: ArbitrarilyConfigurableExecutionProvider + Into<ExecutionProviderDispatch>,
        {
            for (key, value) in options {
                ep = ep.with_arbitrary_config(key, value);
            }
            ep.into()
        }
        match self {
            Self::Cpu => ep::CPU::default().build(),
            Self::Cuda => configured(ep::CUDA::default(), options),
            Self::TensorRt => configured(ep::TensorRT::default(), options),
            Self::OpenVino => configured(ep::OpenVINO::default(), options),
            Self::OneDnn => configured(ep::OneDNN::default(), options),
            Self::Xnnpack => configured(ep::XNNPACK::default(), options),
            Self::Qnn => configured(ep::QNN::default(), options),
            Self::CoreMl => configured(ep::CoreML::default(), options),
        }
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Provider {
    type Err = Error;

    /// Accepts `cuda`, `CUDA` and ONNX Runtime's own `CUDAExecutionProvider`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let lower = text.to_lowercase();
        let short = lower.strip_suffix("executionprovider").unwrap_or(&lower);
        Self::ALL.into_iter().find(|p| p.name() == short).ok_or_else(|| Error::ProviderUnknown {
            provider: text.to_string(),
            known: Self::ALL.iter().map(ToString::to_string).collect(),
        })
    }
}

/// The providers the loaded library was built with. Load the library first.
pub(super) fn available() -> Vec<Provider> {
    Provider::ALL.into_iter().filter(|p| p.in_library()).collect()
}
