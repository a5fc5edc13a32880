use burn::tensor::Tensor;

use super::combine::{Apg, classifier_free, from_clean, rescale, to_clean, zero_star};
use super::{GuidanceRule, needs_unconditional};
use crate::BurnBackend;

/// The forward passes that a step needs for one sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passes {
    /// None: the guide knows the prediction.
    Neither,
    /// The conditional one.
    Conditional,
    /// The conditional and the unconditional one.
    Both,
}

/// The operands of a [`Guide`]: the velocities that were predicted for one sample in one step, all
/// `[1, C, T, H, W]` in f32.
#[derive(Debug, Clone)]
pub struct Predictions<B: BurnBackend> {
    /// The prediction for the prompt, unless the step has no pass.
    pub conditional: Option<Tensor<B, 5>>,
    /// The prediction for the negative prompt, where the step has both passes.
    pub unconditional: Option<Tensor<B, 5>>,
    /// The sample that the predictions are for.
    pub sample: Tensor<B, 5>,
    /// Its noise level.
    pub sigma: f64,
}

/// Guides one sample through a run: one instance a sample, since it may carry state from step to
/// step. [`Guidance::guide`](super::Guidance::guide) makes those of the built-in rules.
pub trait Guide<B: BurnBackend>: Send {
    /// The forward passes that step `step` needs, counted from 0 over the whole run.
    fn passes(&self, step: usize) -> Passes;

    /// The velocity to follow in step `step`, `[1, C, T, H, W]`. Called once a step, in order.
    ///
    /// # Panics
    /// May panic if a prediction that [`passes`](Self::passes) asks for is not there.
    fn combine(&mut self, step: usize, predictions: Predictions<B>) -> Tensor<B, 5>;

    /// The state that must be kept to go on later as if nothing had happened. Default: none.
    fn state(&self) -> Vec<(String, Tensor<B, 5>)> {
        Vec::new()
    }

    /// Takes back what [`state`](Self::state) gave; names that it does not know have no effect.
    fn restore(&mut self, state: Vec<(String, Tensor<B, 5>)>) {
        let _ = state;
    }
}

/// The guide of a [`GuidanceRule`].
pub(super) struct BuiltIn<B: BurnBackend> {
    rule: GuidanceRule,
    scales: Vec<f64>,
    rescale: f64,
    /// The running sum of APG, once there is one.
    momentum: Option<Tensor<B, 5>>,
}

/// The name of APG's running sum in a saved state.
const MOMENTUM: &str = "momentum";

impl<B: BurnBackend> BuiltIn<B> {
    pub(super) fn new(rule: GuidanceRule, scales: Vec<f64>, rescale: f64) -> Self {
        Self { rule, scales, rescale, momentum: None }
    }

    /// Beyond the run there is no guidance.
    fn scale(&self, step: usize) -> f64 {
        self.scales.get(step).copied().unwrap_or(1.0)
    }

    fn guided(
        &mut self,
        scale: f64,
        conditional: Tensor<B, 5>,
        unconditional: Tensor<B, 5>,
    ) -> Tensor<B, 5> {
        debug_assert!(needs_unconditional(scale));
        let guided = match self.rule {
            GuidanceRule::Cfg => classifier_free(conditional.clone(), unconditional, scale),
            GuidanceRule::CfgZeroStar { .. } => {
                zero_star(conditional.clone(), unconditional, scale)
            }
            GuidanceRule::Apg { eta, momentum, norm_threshold, .. } => {
                Apg { eta, momentum, norm_threshold }.combine(
                    conditional.clone(),
                    unconditional,
                    scale,
                    &mut self.momentum,
                )
            }
        };
        if self.rescale > 0.0 { rescale(guided, &conditional, self.rescale) } else { guided }
    }
}

impl<B: BurnBackend> Guide<B> for BuiltIn<B> {
    fn passes(&self, step: usize) -> Passes {
        self.rule.passes(step, self.scale(step))
    }

    fn combine(&mut self, step: usize, predictions: Predictions<B>) -> Tensor<B, 5> {
        let passes = self.passes(step);
        let Predictions { conditional, unconditional, sample, sigma } = predictions;
        if passes == Passes::Neither {
            return sample.zeros_like();
        }
        let conditional = conditional.expect("the step asks for the conditional prediction");
        if passes == Passes::Conditional {
            return conditional;
        }
        let unconditional = unconditional.expect("the step asks for the unconditional prediction");
        let scale = self.scale(step);
        if !matches!(self.rule, GuidanceRule::Apg { clean: true, .. }) {
            return self.guided(scale, conditional, unconditional);
        }
        let clean = |velocity| to_clean(velocity, sample.clone(), sigma);
        let guided = self.guided(scale, clean(conditional), clean(unconditional));
        from_clean(guided, sample, sigma)
    }

    fn state(&self) -> Vec<(String, Tensor<B, 5>)> {
        self.momentum.iter().map(|sum| (MOMENTUM.to_owned(), sum.clone())).collect()
    }

    fn restore(&mut self, state: Vec<(String, Tensor<B, 5>)>) {
        let sum = state.into_iter().find(|(name, _)| name == MOMENTUM);
        self.momentum = sum.map(|(_, sum)| sum);
    }
}
