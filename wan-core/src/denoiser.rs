//! The network that predicts the velocity of the flow from noise to video.

use std::any::Any;
use std::error::Error;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use burn::tensor::Tensor;

use crate::{Backend, BurnBackend, CancelToken, Cancelled, TextConditioning};

/// Everything but the latents and their timesteps that a prediction depends on.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Conditioning<B: BurnBackend> {
    /// The text that is attended to.
    pub text: TextConditioning<B>,
    /// The states of an image encoder that are attended to beside the text, `[B, N, D]`: those of a first and a
    /// last frame follow each other.
    pub image: Option<Tensor<B, 3>>,
    /// Channels that stand behind those of the latents in every pass, `[B, C, T, H, W]`, f32: masks, and the
    /// latents of what is known of the video.
    pub channels: Option<Tensor<B, 5>>,
    /// A video that controls the prediction by blocks of its own (VACE).
    pub control: Option<Control<B>>,
}

impl<B: BurnBackend> Conditioning<B> {
    /// A conditioning on text alone.
    pub fn new(text: TextConditioning<B>) -> Self {
        Self { text, image: None, channels: None, control: None }
    }

    /// And on the states of an image encoder, `[B, N, D]`.
    #[must_use]
    pub fn image(mut self, states: impl Into<Option<Tensor<B, 3>>>) -> Self {
        self.image = states.into();
        self
    }

    /// And on channels beside those of the latents, `[B, C, T, H, W]`.
    #[must_use]
    pub fn channels(mut self, channels: impl Into<Option<Tensor<B, 5>>>) -> Self {
        self.channels = channels.into();
        self
    }

    /// And on a control video.
    #[must_use]
    pub fn control(mut self, control: impl Into<Option<Control<B>>>) -> Self {
        self.control = control.into();
        self
    }
}

/// A control video of a VACE model.
#[derive(Clone, Debug)]
pub struct Control<B: BurnBackend> {
    /// Its latents and mask, `[B, C, T, H, W]`, f32.
    pub latents: Tensor<B, 5>,
    /// How strongly each block of the control is felt; the last one counts for all that follow. 1 where there
    /// is none.
    pub scales: Vec<f32>,
}

impl<B: BurnBackend> Control<B> {
    /// How strongly block `i` of the control is felt.
    pub fn scale(&self, i: usize) -> f32 {
        self.scales.get(i).or(self.scales.last()).copied().unwrap_or(1.0)
    }
}

/// Everything that is constant over a run for one conditioning and one size of latents, such as embedded
/// text, rotary tables, and keys and values of cross-attention. It belongs to the [`Denoiser`] that made it.
/// Clones share it.
pub struct Branch<B: BurnBackend> {
    state: Arc<dyn Any + Send + Sync>,
    backend: PhantomData<fn() -> B>,
}

impl<B: BurnBackend> Branch<B> {
    /// A branch with the state of a network.
    pub fn new(state: impl Any + Send + Sync) -> Self {
        Self { state: Arc::new(state), backend: PhantomData }
    }

    /// The state that it was made with.
    ///
    /// # Panics
    /// If it was made by another kind of network.
    pub fn state<T: Any>(&self) -> &T {
        self.state.downcast_ref().expect("a branch of the denoiser that it is given to")
    }
}

impl<B: BurnBackend> Clone for Branch<B> {
    fn clone(&self) -> Self {
        Self { state: self.state.clone(), backend: PhantomData }
    }
}

impl<B: BurnBackend> std::fmt::Debug for Branch<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Branch").finish_non_exhaustive()
    }
}

/// One prediction to make.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Pass<'a, B: BurnBackend> {
    /// `[B, C, T, H, W]`, f32.
    pub latents: Tensor<B, 5>,
    /// How far each part of `latents` is from clean.
    pub timesteps: Timesteps,
    /// The conditioning.
    pub branch: &'a Branch<B>,
}

impl<'a, B: BurnBackend> Pass<'a, B> {
    /// A pass over `latents` `[B, C, T, H, W]`; one timestep a sample may be given as a `Vec`.
    pub fn new(
        latents: Tensor<B, 5>,
        timesteps: impl Into<Timesteps>,
        branch: &'a Branch<B>,
    ) -> Self {
        Self { latents, timesteps: timesteps.into(), branch }
    }
}

/// How far latents are from clean: 1000 for pure noise, 0 for a clean video.
#[derive(Debug, Clone, PartialEq)]
pub enum Timesteps {
    /// One timestep for each sample.
    PerSample(Vec<f32>),
    /// For each sample one timestep for each token, in the order of the tokens (frame by frame, row by row):
    /// where a part of the video is known, it has the timestep 0.
    PerToken(Vec<Vec<f32>>),
}

impl From<Vec<f32>> for Timesteps {
    fn from(timesteps: Vec<f32>) -> Self {
        Self::PerSample(timesteps)
    }
}

/// Predicts the velocity of the flow from noise to video.
pub trait Denoiser<B: Backend>: Send + Sync {
    /// The branches of some conditionings for latents `[B, C, T, H, W]` of the size `[T, H, W]`. What
    /// they have in common is computed once.
    fn branches(&self, conditionings: &[Conditioning<B>], size: [usize; 3]) -> Vec<Branch<B>>;

    /// The velocity of each pass, of the shape of its latents and in f32.
    ///
    /// The passes go through the network together, block by block, so that the weights of a block are
    /// touched once for all of them; but each is computed alone, so that a prediction does not depend
    /// on what else is in the list.
    ///
    /// # Errors
    /// [`ForwardError::Cancelled`] soon after `cancel` says so: it is asked before each layer of each
    /// pass. [`ForwardError::Weights`] if weights are read during the pass, and cannot be.
    fn velocities(
        &self,
        passes: &[Pass<'_, B>],
        cancel: &CancelToken,
    ) -> Result<Vec<Tensor<B, 5>>, ForwardError>;

    /// How the reading of weights has gone so far, where they are read during each pass.
    fn reading(&self) -> Option<ReadingPace> {
        None
    }
}

/// Why a forward pass has ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ForwardError {
    /// The caller asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    /// Weights that are read during the pass cannot be read.
    #[error(transparent)]
    Weights(Box<dyn Error + Send + Sync>),
}

/// How weights come from their files while a network computes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub struct ReadingPace {
    /// Bytes read.
    pub bytes: u64,
    /// Time in which they were read.
    pub reading: Duration,
    /// Time in which the computation waited for them.
    pub waiting: Duration,
    /// Time of the passes in all.
    pub total: Duration,
}

impl ReadingPace {
    /// Whether the computation waits for the disk most of the time.
    pub fn is_slower_than_computation(&self) -> bool {
        2 * self.waiting > self.total && 2 * self.reading > self.total
    }

    /// Bytes read in a second.
    pub fn bytes_per_second(&self) -> f64 {
        self.bytes as f64 / self.reading.as_secs_f64().max(1e-9)
    }
}
