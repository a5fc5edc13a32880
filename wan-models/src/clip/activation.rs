//! The activations of the feed-forward networks.

use burn::tensor::activation::{gelu, sigmoid};
use burn::tensor::{DType, Tensor};
use wan_core::Backend;

use crate::config::{ConfigError, require};

/// An activation by its name in configs (`hidden_act`).
#[derive(Debug, Clone, Copy)]
pub(super) enum Activation {
    /// `x Phi(x)`, exactly: not its tanh approximation.
    Gelu,
    /// `x sigmoid(1.702 x)`
    QuickGelu,
}

const NAMES: [(&str, Activation); 2] =
    [("quick_gelu", Activation::QuickGelu), ("gelu", Activation::Gelu)];

/// Fails unless `hidden_act` is known.
pub(super) fn require_known(name: &str) -> Result<(), ConfigError> {
    let known = NAMES.iter().any(|(known, _)| *known == name);
    require(known, "hidden_act", name, "\"quick_gelu\" or \"gelu\"")
}

impl Activation {
    /// That of a valid config.
    pub(super) fn named(name: &str) -> Self {
        let found = NAMES.iter().find(|(known, _)| *known == name);
        found.expect("the config is valid").1
    }

    /// In f32.
    pub(super) fn forward<B: Backend>(self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        let x = B::wan_cast(x, DType::F32);
        match self {
            Self::Gelu => gelu(x),
            Self::QuickGelu => x.clone() * sigmoid(x.mul_scalar(1.702)),
        }
    }
}
