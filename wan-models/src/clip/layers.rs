//! The layers that the towers share.

use burn::tensor::{DType, Tensor, TensorData};
use wan_core::backend::AttentionArgs;
use wan_core::{Backend, BurnBackend};
use wan_io::files::FileError;

use super::activation::Activation;
use crate::layers::{LayerNorm, Linear};
use crate::load::{HostTable, Scope};

/// Added to the score of a key that is not to be seen: the weight of it is 0 in f32.
const UNSEEN: f32 = -1e9;

/// The sizes of a layer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    /// Of the residual stream.
    pub(super) width: usize,
    /// Of the feed-forward network.
    pub(super) inner: usize,
    pub(super) heads: usize,
    pub(super) eps: f64,
    pub(super) activation: Activation,
}

/// Self-attention of several heads.
#[derive(Debug)]
pub(super) struct SelfAttention<B: BurnBackend> {
    q: Linear<B>,
    k: Linear<B>,
    v: Linear<B>,
    out: Linear<B>,
    heads: usize,
}

impl<B: Backend> SelfAttention<B> {
    /// Loads its layers from below `names`: queries, keys, values, output.
    pub(super) fn load(sizes: &Sizes, scope: &Scope<B>, names: [&str; 4]) -> Self {
        let [q, k, v, out] =
            names.map(|name| Linear::load(&scope.at(name), sizes.width, sizes.width));
        Self { q, k, v, out, heads: sizes.heads }
    }

    /// The dtype it computes in.
    pub(super) fn dtype(&self) -> DType {
        self.q.dtype()
    }

    /// `[B, S, D]` to `[B, S, D]` in the dtype it computes in; `bias` is added to the scores.
    pub(super) fn forward(&self, x: Tensor<B, 3>, bias: Option<Tensor<B, 4>>) -> Tensor<B, 3> {
        let [batch, length, width] = x.dims();
        let head = width / self.heads;
        let [q, k, v] = [&self.q, &self.k, &self.v].map(|linear| {
            let y = linear.forward(x.clone());
            y.reshape([batch, length, self.heads, head]).swap_dims(1, 2)
        });
        let scale = (head as f64).powf(-0.5);
        let attended = B::wan_attention(AttentionArgs::new(q, k, v, scale).bias(bias));
        let joined = attended.swap_dims(1, 2).reshape([batch, length, width]);
        self.out.forward(joined)
    }
}

/// A layer of a CLIP tower: attention and a feed-forward network, each after a norm and added to the
/// residual stream.
#[derive(Debug)]
pub(super) struct ClipLayer<B: BurnBackend> {
    layer_norm1: LayerNorm<B>,
    self_attn: SelfAttention<B>,
    layer_norm2: LayerNorm<B>,
    fc1: Linear<B>,
    fc2: Linear<B>,
    activation: Activation,
}

impl<B: Backend> ClipLayer<B> {
    pub(super) fn load(sizes: &Sizes, scope: &Scope<B>) -> Self {
        let Sizes { width, inner, eps, activation, .. } = *sizes;
        let names = ["q_proj", "k_proj", "v_proj", "out_proj"];
        let self_attn = SelfAttention::load(sizes, &scope.at("self_attn"), names);
        let norm = |name| LayerNorm::load(&scope.at(name), width, eps, self_attn.dtype());
        Self {
            layer_norm1: norm("layer_norm1"),
            layer_norm2: norm("layer_norm2"),
            self_attn,
            fc1: Linear::load(&scope.at("mlp.fc1"), width, inner),
            fc2: Linear::load(&scope.at("mlp.fc2"), inner, width),
            activation,
        }
    }

    /// The residual stream `[B, S, D]` in f32; `mask` is added to the scores.
    pub(super) fn forward(&self, x: Tensor<B, 3>, mask: Option<Tensor<B, 4>>) -> Tensor<B, 3> {
        let attended = self.self_attn.forward(self.layer_norm1.forward(x.clone()), mask);
        let x = B::wan_add(x, attended);
        let inner = self.fc1.forward(self.layer_norm2.forward(x.clone()));
        let y = self.fc2.forward(self.activation.forward(inner));
        B::wan_add(x, y)
    }
}

/// What hides the tokens behind each token, `[1, 1, S, S]` in f32.
pub(super) fn causal_mask<B: Backend>(length: usize, device: &B::Device) -> Tensor<B, 4> {
    let pairs = (0..length).flat_map(|query| (0..length).map(move |key| (query, key)));
    let bias: Vec<f32> = pairs.map(|(q, k)| if k > q { UNSEEN } else { 0.0 }).collect();
    Tensor::from_data(TensorData::new(bias, [1, 1, length, length]), (device, DType::F32))
}

/// The sum of one row of each table for each token, `[1, S, width]` in f32, read from the host.
pub(super) fn gather<B: Backend>(
    tables: &[(&HostTable, &[u32])],
    width: usize,
    device: &B::Device,
) -> Result<Tensor<B, 3>, FileError> {
    let mut sum = Vec::new();
    for (table, rows) in tables {
        let rows = table.gather(rows)?;
        match sum.is_empty() {
            true => sum = rows,
            false => sum.iter_mut().zip(rows).for_each(|(sum, row)| *sum += row),
        }
    }
    let shape = [1, sum.len() / width, width];
    let data = TensorData::new(sum, shape);
    Ok(Tensor::from_data(data, (device, DType::F32)))
}
