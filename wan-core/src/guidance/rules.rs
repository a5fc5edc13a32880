//! The rules of guidance: each is a file of this folder and a row of the table below.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::{Apg, Cfg, CfgZeroStar, GuidanceError};
use crate::Backend;

/// What the file of a rule says of it; its type holds the parameters.
pub(super) trait Rule: Default {
    /// Its name in texts.
    const NAME: &'static str;

    /// What it is, in a few words for a list of the rules.
    const SUMMARY: &'static str;

    /// The name in saved states of the tensor that it keeps from step to step, if it keeps one.
    const KEEPS: Option<&'static str> = None;

    /// Checks the parameters against a run of `steps` steps.
    fn validate(&self, steps: usize) -> Result<(), GuidanceError> {
        let _ = steps;
        Ok(())
    }

    /// Whether the prediction of this step is zero, so that no pass is needed.
    fn is_zero(&self, step: usize) -> bool {
        let _ = step;
        false
    }

    /// Whether clean predictions are combined instead of velocities.
    fn combines_clean(&self) -> bool {
        false
    }

    /// The guided prediction of one sample, for a scale above 1. `kept` holds what the step before
    /// left there.
    fn combine<B: Backend>(
        &self,
        conditional: Tensor<B, 5>,
        unconditional: Tensor<B, 5>,
        scale: f64,
        kept: &mut Option<Tensor<B, 5>>,
    ) -> Tensor<B, 5>;
}

macro_rules! rules {
    ($($(#[$doc:meta])* $rule:ident,)+) => {
        /// The way in which the predictions are combined, with its parameters.
        #[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        #[non_exhaustive]
        pub enum GuidanceRule {
            $($(#[$doc])* $rule($rule),)+
        }

        $(impl From<$rule> for GuidanceRule {
            fn from(rule: $rule) -> Self {
                Self::$rule(rule)
            }
        })+

        impl GuidanceRule {
            /// All rules, with their default parameters.
            pub fn all() -> Vec<Self> {
                vec![$($rule::default().into(),)+]
            }

            /// Its name, such as `cfg-zero-star`.
            pub fn name(&self) -> &'static str {
                match self { $(Self::$rule(_) => $rule::NAME,)+ }
            }

            /// What it is, in a few words.
            pub fn summary(&self) -> &'static str {
                match self { $(Self::$rule(_) => $rule::SUMMARY,)+ }
            }

            pub(super) fn keeps(&self) -> Option<&'static str> {
                match self { $(Self::$rule(_) => $rule::KEEPS,)+ }
            }

            pub(super) fn validate(&self, steps: usize) -> Result<(), GuidanceError> {
                match self { $(Self::$rule(rule) => rule.validate(steps),)+ }
            }

            pub(super) fn is_zero(&self, step: usize) -> bool {
                match self { $(Self::$rule(rule) => rule.is_zero(step),)+ }
            }

            pub(super) fn combines_clean(&self) -> bool {
                match self { $(Self::$rule(rule) => rule.combines_clean(),)+ }
            }

            pub(super) fn combine<B: Backend>(
                &self,
                conditional: Tensor<B, 5>,
                unconditional: Tensor<B, 5>,
                scale: f64,
                kept: &mut Option<Tensor<B, 5>>,
            ) -> Tensor<B, 5> {
                match self {
                    $(Self::$rule(rule) => {
                        rule.combine(conditional, unconditional, scale, kept)
                    })+
                }
            }
        }
    };
}

rules! {
    /// Classifier-free guidance.
    Cfg,
    /// CFG-Zero*.
    CfgZeroStar,
    /// Adaptive projected guidance.
    Apg,
}
