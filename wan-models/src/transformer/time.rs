//! The embedded timesteps of a pass, and how they modulate tokens.

use std::ops::Range;

use burn::tensor::activation::silu;
use burn::tensor::{DType, Tensor, TensorData};
use wan_core::{Backend, BurnBackend, Timesteps};

use super::WanTransformerConfig;
use crate::Probe;
use crate::layers::{Linear, ModulatedNorm};
use crate::load::Scope;
use crate::probe::Trace;

/// Embeds timesteps. All in f32.
#[derive(Debug, Clone)]
pub(super) struct TimeEmbedder<B: BurnBackend> {
    linear_in: Linear<B>,
    linear_out: Linear<B>,
    proj: Linear<B>,
    freq_dim: usize,
}

/// The embedded timesteps of a pass: those of tokens that follow each other and have the same one are
/// held once.
#[derive(Debug, Clone)]
pub(super) struct Time<B: BurnBackend>(Vec<TimeOfSpan<B>>);

#[derive(Debug, Clone)]
struct TimeOfSpan<B: BurnBackend> {
    tokens: Range<usize>,
    /// Modulates the head, `[B, 1, inner]`.
    embedding: Tensor<B, 3>,
    /// Modulates the blocks, `[B, 6, inner]`.
    modulation: Tensor<B, 3>,
}

/// Tokens that follow each other and have the same timestep, in each sample.
#[derive(Debug, PartialEq)]
struct Span {
    tokens: Range<usize>,
    /// One a sample.
    timesteps: Vec<f32>,
}

impl<B: Backend> TimeEmbedder<B> {
    pub(super) fn load(config: &WanTransformerConfig, scope: &Scope<B>) -> Self {
        let (scope, inner) = (scope.in_f32(), config.inner_dim());
        let embedder = scope.at("time_embedder");
        Self {
            linear_in: Linear::load(&embedder.at("linear_1"), config.freq_dim, inner),
            linear_out: Linear::load(&embedder.at("linear_2"), inner, inner),
            proj: Linear::load(&scope.at("time_proj"), inner, 6 * inner),
            freq_dim: config.freq_dim,
        }
    }

    /// The embedded timesteps of a pass over so many tokens.
    pub(super) fn forward(
        &self,
        timesteps: &Timesteps,
        tokens: usize,
        device: &B::Device,
        trace: &mut Trace<'_, impl Probe<B>>,
    ) -> Time<B> {
        let spans = spans(timesteps, tokens);
        let all: Vec<f32> = spans.iter().flat_map(|span| span.timesteps.clone()).collect();
        let sinusoid = TensorData::new(sinusoid(&all, self.freq_dim), [all.len(), self.freq_dim]);
        let sinusoid: Tensor<B, 2> = Tensor::from_data(sinusoid, (device, DType::F32));
        let is_per_token = matches!(timesteps, Timesteps::PerToken(_));
        trace.see("sinusoid", || match is_per_token {
            true => per_token(&sinusoid, &spans).flatten(0, 1),
            false => sinusoid.clone(),
        });
        let mut show = |name: &str, x: &Tensor<B, 2>| match is_per_token {
            true => trace.see(name, || per_token(x, &spans)),
            false => trace.see(name, || x.clone()),
        };
        let temb = self.linear_out.forward(silu(self.linear_in.forward(sinusoid)));
        show("temb", &temb);
        let modulation = self.proj.forward(silu(temb.clone()));
        show("timestep_proj", &modulation);
        let inner = temb.dims()[1];
        let mut row = 0;
        let of_span = |Span { tokens, timesteps }: Span| {
            let batch = timesteps.len();
            let rows = |x: &Tensor<B, 2>| x.clone().narrow(0, row, batch);
            let embedding = rows(&temb).reshape([batch, 1, inner]);
            let modulation = rows(&modulation).reshape([batch, 6, inner]);
            row += batch;
            TimeOfSpan { tokens, embedding, modulation }
        };
        Time(spans.into_iter().map(of_span).collect())
    }
}

impl<B: Backend> Time<B> {
    /// How a layer is modulated: rows `first` to `first + 2` of the timesteps' modulation and of a table
    /// `[1, 6, inner]` together.
    pub(super) fn modulation(&self, table: &Tensor<B, 3>, first: usize) -> Modulation<B> {
        let rows = |x: &Tensor<B, 3>| x.clone().narrow(1, first, 3);
        self.sums(|span| rows(table) + rows(&span.modulation))
    }

    /// How the head is modulated: the embeddings and a table `[1, 2, inner]` together.
    pub(super) fn modulation_of_head(&self, table: &Tensor<B, 3>) -> Modulation<B> {
        self.sums(|span| table.clone() + span.embedding.clone())
    }

    fn sums(&self, rows: impl Fn(&TimeOfSpan<B>) -> Tensor<B, 3>) -> Modulation<B> {
        Modulation(self.0.iter().map(|span| (span.tokens.clone(), rows(span))).collect())
    }
}

/// How timesteps change a layer: for each span of tokens the rows shift, scale and, but for the head, gate,
/// `[B, 2 or 3, inner]` in f32.
pub(super) struct Modulation<B: BurnBackend>(Vec<(Range<usize>, Tensor<B, 3>)>);

impl<B: Backend> Modulation<B> {
    /// Tokens `[B, S, inner]` normed, scaled and shifted.
    pub(super) fn norm(&self, norm: &ModulatedNorm, x: Tensor<B, 3>) -> Tensor<B, 3> {
        let row = |rows: &Tensor<B, 3>, i| rows.clone().narrow(1, i, 1);
        self.by_span([x], |[x], rows| norm.forward(x, row(rows, 0), row(rows, 1)))
    }

    /// The residual stream `x` with what a layer made of it.
    pub(super) fn add_gated(&self, x: Tensor<B, 3>, y: Tensor<B, 3>) -> Tensor<B, 3> {
        let gate = |rows: &Tensor<B, 3>| rows.clone().narrow(1, 2, 1);
        self.by_span([x, y], |[x, y], rows| B::wan_gated_residual(x, y, gate(rows)))
    }

    fn by_span<const N: usize>(
        &self,
        tokens: [Tensor<B, 3>; N],
        change: impl Fn([Tensor<B, 3>; N], &Tensor<B, 3>) -> Tensor<B, 3>,
    ) -> Tensor<B, 3> {
        if let [(_, rows)] = &self.0[..] {
            return change(tokens, rows);
        }
        let changed = self.0.iter().map(|(span, rows)| {
            change(tokens.clone().map(|x| x.narrow(1, span.start, span.len())), rows)
        });
        Tensor::cat(changed.collect(), 1)
    }
}

/// The tokens of a pass in spans of equal timesteps.
fn spans(timesteps: &Timesteps, tokens: usize) -> Vec<Span> {
    let samples = match timesteps {
        Timesteps::PerSample(timesteps) => {
            return vec![Span { tokens: 0..tokens, timesteps: timesteps.clone() }];
        }
        Timesteps::PerToken(samples) => samples,
    };
    for sample in samples {
        assert_eq!(sample.len(), tokens, "timesteps, one for each token");
    }
    let mut spans: Vec<Span> = Vec::new();
    for token in 0..tokens {
        let timesteps: Vec<f32> = samples.iter().map(|sample| sample[token]).collect();
        match spans.last_mut() {
            Some(last) if last.timesteps == timesteps => last.tokens.end = token + 1,
            _ => spans.push(Span { tokens: token..token + 1, timesteps }),
        }
    }
    spans
}

/// A row for each token, `[B, S, D]`, from one for each span and sample.
fn per_token<B: Backend>(x: &Tensor<B, 2>, spans: &[Span]) -> Tensor<B, 3> {
    let [rows, width] = x.dims();
    let batch = rows / spans.len();
    let expand = |(i, span): (usize, &Span)| {
        let rows = x.clone().narrow(0, i * batch, batch).reshape([batch, 1, width]);
        rows.expand([batch, span.tokens.len(), width])
    };
    Tensor::cat(spans.iter().enumerate().map(expand).collect(), 1)
}

/// Sinusoidal features of each timestep: the cosines, then the sines, computed in f64 as the
/// original does.
fn sinusoid(timestep: &[f32], width: usize) -> Vec<f32> {
    let half = width / 2;
    let frequency = |i: usize| 10_000f64.powf(-(i as f64) / half as f64);
    let mut features = Vec::with_capacity(timestep.len() * width);
    for &t in timestep {
        features.extend((0..half).map(|i| (f64::from(t) * frequency(i)).cos() as f32));
        features.extend((0..half).map(|i| (f64::from(t) * frequency(i)).sin() as f32));
    }
    features
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_with_equal_timesteps_are_one_span() {
        let spans = |samples: &[&[f32]], tokens| {
            let samples = samples.iter().map(|sample| sample.to_vec()).collect();
            let spans = spans(&Timesteps::PerToken(samples), tokens);
            spans.into_iter().map(|span| (span.tokens, span.timesteps)).collect::<Vec<_>>()
        };
        let clean_start: [f32; 6] = [0.0, 0.0, 7.0, 7.0, 7.0, 7.0];
        assert_eq!(spans(&[&clean_start], 6), [(0..2, vec![0.0]), (2..6, vec![7.0])]);
        let all_equal: [f32; 3] = [7.0; 3];
        assert_eq!(spans(&[&all_equal], 3), [(0..3, vec![7.0])]);
        // Where the samples differ in which tokens are known, a span ends where any of them changes.
        let (a, b): ([f32; 3], [f32; 3]) = ([0.0, 7.0, 7.0], [0.0, 0.0, 5.0]);
        let expected = [(0..1, vec![0.0, 0.0]), (1..2, vec![7.0, 0.0]), (2..3, vec![7.0, 5.0])];
        assert_eq!(spans(&[&a, &b], 3), expected);
    }
}
