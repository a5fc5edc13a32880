use burn::tensor::Tensor;

use super::sums::rescale;
use super::{GuidanceRule, needs_unconditional};
use crate::Backend;

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
pub struct Predictions<B: Backend> {
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
pub trait Guide<B: Backend>: Send {
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
pub(super) struct BuiltIn<B: Backend> {
    rule: GuidanceRule,
    scales: Vec<f64>,
    rescale: f64,
    /// What the rule keeps from step to step.
    kept: Option<Tensor<B, 5>>,
}

impl<B: Backend> BuiltIn<B> {
    pub(super) fn new(rule: GuidanceRule, scales: Vec<f64>, rescale: f64) -> Self {
        Self { rule, scales, rescale, kept: None }
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
        let guided = self.rule.combine(conditional.clone(), unconditional, scale, &mut self.kept);
        if self.rescale > 0.0 { rescale(guided, &conditional, self.rescale) } else { guided }
    }
}

impl<B: Backend> Guide<B> for BuiltIn<B> {
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
        if !self.rule.combines_clean() {
            return self.guided(scale, conditional, unconditional);
        }
        let clean = |velocity: Tensor<B, 5>| sample.clone() - velocity * sigma;
        let guided = self.guided(scale, clean(conditional), clean(unconditional));
        (sample - guided) / sigma
    }

    fn state(&self) -> Vec<(String, Tensor<B, 5>)> {
        let kept = self.rule.keeps().zip(self.kept.clone());
        kept.map(|(name, tensor)| (name.to_owned(), tensor)).into_iter().collect()
    }

    fn restore(&mut self, state: Vec<(String, Tensor<B, 5>)>) {
        let kept = state.into_iter().find(|(name, _)| Some(name.as_str()) == self.rule.keeps());
        self.kept = kept.map(|(_, tensor)| tensor);
    }
}
