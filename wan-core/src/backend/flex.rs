//! Flex: the default CPU backend. Its tensors are plain memory, so the kernels of [`cpu`] read and
//! write them directly; anything but f32 takes the portable way.

use burn::backend::Flex;
use burn::tensor::{Bytes, DType, Shape, Tensor, TensorPrimitive, activation};
use burn_flex::{FlexDevice, FlexTensor, Layout};

use super::cpu::{self, Affine, Heads};
use super::{Backend, DeviceError, DeviceInfo, DeviceKind, Padding, portable};

impl Backend for Flex {
    fn open_device(index: usize) -> Result<Self::Device, DeviceError> {
        match index {
            0 => Ok(FlexDevice),
            _ => Err(DeviceError::NoSuchDevice { backend: "flex", index, count: 1 }),
        }
    }

    fn devices() -> Result<Vec<DeviceInfo>, DeviceError> {
        Ok(vec![DeviceInfo { name: "all cores".into(), kind: DeviceKind::Cpu }])
    }

    fn wan_linear<const D: usize>(
        x: Tensor<Self, D>,
        weight: Tensor<Self, 2>,
        bias: Option<Tensor<Self, 1>>,
    ) -> Tensor<Self, D> {
        assert_eq!(x.dtype(), weight.dtype(), "linear: the input and the weight differ in dtype");
        if x.dtype() != DType::F32 {
            return portable::linear(x, weight, bias);
        }
        let mut shape = x.dims();
        let sizes = weight.dims();
        shape[D - 1] = sizes[1];
        let (x, weight, bias) = (contiguous(x), raw(weight), bias.map(contiguous));
        let strides = weight.layout().strides().to_vec();
        let strides = [strides[0] as usize, strides[1] as usize];
        let stored = &weight.storage::<f32>()[weight.layout().start_offset()..];
        let y = cpu::linear(slice(&x), sizes, stored, strides, bias.as_ref().map(slice));
        tensor(y, shape)
    }

    fn wan_gelu(x: Tensor<Self, 3>) -> Tensor<Self, 3> {
        match x.dtype() {
            DType::F32 => in_place(x, cpu::gelu),
            _ => activation::gelu_approximate(x),
        }
    }

    fn wan_attention(
        q: Tensor<Self, 4>,
        k: Tensor<Self, 4>,
        v: Tensor<Self, 4>,
        bias: Option<Tensor<Self, 4>>,
        scale: f64,
    ) -> Tensor<Self, 4> {
        if q.dtype() != DType::F32 {
            return portable::attention(q, k, v, bias, scale);
        }
        let [batch, heads, queries, width] = q.dims();
        let keys = k.dims()[2];
        let (q, k, v) = (rows_together(q), rows_together(k), rows_together(v));
        let bias = bias.map(|bias| rows_together(bias.expand([batch, heads, queries, keys])));
        let out = cpu::attention(&cpu::Attention {
            q: as_heads(&q),
            k: as_heads(&k),
            v: as_heads(&v),
            bias: bias.as_ref().map(as_heads),
            scale: scale as f32,
            batch,
            heads,
            queries,
            keys,
            width,
        });
        tensor(out, [batch, queries, heads, width]).swap_dims(1, 2)
    }

    fn wan_rope(
        x: Tensor<Self, 4>,
        cos: Tensor<Self, 2>,
        sin: Tensor<Self, 2>,
        dtype: DType,
    ) -> Tensor<Self, 4> {
        let [_, tokens, heads, _] = x.dims();
        let (cos, sin) = (contiguous(cos), contiguous(sin));
        let rotate = |x: &mut [f32]| cpu::rope(x, slice(&cos), slice(&sin), heads, tokens);
        in_place(x.cast(DType::F32), rotate).cast(dtype)
    }

    fn wan_layer_norm(
        x: Tensor<Self, 3>,
        affine: Option<(Tensor<Self, 1>, Tensor<Self, 1>)>,
        eps: f64,
        dtype: DType,
    ) -> Tensor<Self, 3> {
        let width = x.dims()[2];
        let affine = affine.map(|(weight, bias)| (contiguous(weight), contiguous(bias)));
        let affine = affine.as_ref().map(|(weight, bias)| (slice(weight), slice(bias)));
        in_place(x.cast(DType::F32), |x| {
            let of_row = |_| affine.map(|(scale, shift)| Affine { scale, base: 0.0, shift });
            cpu::layer_norm(x, width, eps as f32, of_row);
        })
        .cast(dtype)
    }

    fn wan_rms_norm(
        x: Tensor<Self, 3>,
        weight: Tensor<Self, 1>,
        eps: f64,
        dtype: DType,
    ) -> Tensor<Self, 3> {
        let weight = contiguous(weight);
        let norm = |x: &mut [f32]| cpu::rms_norm(x, slice(&weight), eps as f32);
        in_place(x.cast(DType::F32), norm).cast(dtype)
    }

    fn wan_modulated_norm(
        x: Tensor<Self, 3>,
        shift: Tensor<Self, 3>,
        scale: Tensor<Self, 3>,
        eps: f64,
        dtype: DType,
    ) -> Tensor<Self, 3> {
        let [_, rows, width] = x.dims();
        let repeat = rows / shift.dims()[1];
        let (shift, scale) = (contiguous(shift), contiguous(scale));
        let (shift, scale) = (slice(&shift), slice(&scale));
        in_place(x.cast(DType::F32), |x| {
            let of_row = |row: usize| {
                let vector = row / repeat * width..(row / repeat + 1) * width;
                Some(Affine { scale: &scale[vector.clone()], base: 1.0, shift: &shift[vector] })
            };
            cpu::layer_norm(x, width, eps as f32, of_row);
        })
        .cast(dtype)
    }

    fn wan_gated_residual(
        x: Tensor<Self, 3>,
        y: Tensor<Self, 3>,
        gate: Tensor<Self, 3>,
    ) -> Tensor<Self, 3> {
        let [_, rows, width] = x.dims();
        let repeat = rows / gate.dims()[1];
        let (y, gate) = (contiguous(y.cast(DType::F32)), contiguous(gate));
        let gate = slice(&gate);
        in_place(x, |x| {
            let of_row = |row: usize| &gate[row / repeat * width..][..width];
            cpu::gated_residual(x, slice(&y), width, of_row);
        })
    }

    fn wan_channel_norm_silu(x: Tensor<Self, 5>, weight: Tensor<Self, 1>) -> Tensor<Self, 5> {
        let weight = contiguous(weight);
        in_place(x.cast(DType::F32), |x| cpu::channel_norm(x, slice(&weight), true))
    }

    fn wan_channel_norm(x: Tensor<Self, 5>, weight: Tensor<Self, 1>) -> Tensor<Self, 5> {
        let weight = contiguous(weight);
        in_place(x.cast(DType::F32), |x| cpu::channel_norm(x, slice(&weight), false))
    }

    /// In memory the taps come first and the output channels last: `[kt, kh, kw, Cin, Cout]`.
    fn wan_conv3d_weight(weight: Tensor<Self, 5>) -> Tensor<Self, 5> {
        if weight.dtype() != DType::F32 {
            return weight;
        }
        let taps_first = weight.permute([2, 3, 4, 1, 0]);
        let shape = taps_first.dims();
        let copied = contiguous(taps_first);
        tensor(slice(&copied).to_vec(), shape).permute([4, 3, 0, 1, 2])
    }

    fn wan_conv3d(
        past: Option<Tensor<Self, 5>>,
        x: Tensor<Self, 5>,
        weight: Tensor<Self, 5>,
        bias: Tensor<Self, 1>,
        stride: [usize; 3],
        padding: Padding,
    ) -> Tensor<Self, 5> {
        if weight.dtype() != DType::F32 {
            return portable::conv3d(past, x, weight, bias, stride, padding);
        }
        let [batch, chunk, height, width, cin] = x.dims();
        let [cout, _, kt, kh, kw] = weight.dims();
        let known = past.as_ref().map_or(0, |past| past.dims()[1]);
        let (past, x) = (past.map(contiguous), contiguous(x));
        let (weight, bias) = (contiguous(weight.permute([2, 3, 4, 1, 0])), contiguous(bias));
        let frame = height * width * cin;
        let operands = |b: usize| {
            let frames = |tensor, frames: usize| {
                slice(tensor)[b * frames * frame..(b + 1) * frames * frame].chunks_exact(frame)
            };
            let before = past.iter().flat_map(|past| frames(past, known));
            cpu::Conv3d {
                frames: before.chain(frames(&x, chunk)).collect(),
                height,
                width,
                channels: [cin, cout],
                weight: slice(&weight),
                bias: slice(&bias),
                kernel: [kt, kh, kw],
                stride,
                padding,
            }
        };
        let [t, h, w] = operands(0).output();
        let mut out = vec![0.0; batch * t * h * w * cout];
        for (b, out) in out.chunks_exact_mut(t * h * w * cout).enumerate() {
            cpu::conv3d(&operands(b), out);
        }
        tensor(out, [batch, t, h, w, cout])
    }

    fn wan_upsample(x: Tensor<Self, 5>) -> Tensor<Self, 5> {
        if x.dtype() != DType::F32 {
            return portable::upsample(x);
        }
        let [batch, frames, height, width, channels] = x.dims();
        let out = cpu::upsample(slice(&contiguous(x)), width, channels);
        tensor(out, [batch, frames, 2 * height, 2 * width, channels])
    }
}

fn raw<const D: usize>(x: Tensor<Flex, D>) -> FlexTensor {
    x.into_primitive().tensor()
}

/// Row-major, without a copy if it is that already.
fn contiguous<const D: usize>(x: Tensor<Flex, D>) -> FlexTensor {
    let x = raw(x);
    match x.as_slice::<f32>() {
        Some(_) => x,
        None => x.to_contiguous(),
    }
}

/// The numbers of a tensor that went through [`contiguous`].
fn slice(x: &FlexTensor) -> &[f32] {
    x.as_slice().expect("a contiguous tensor of f32")
}

fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> Tensor<Flex, D> {
    let layout = Layout::contiguous(Shape::from(shape));
    let tensor = FlexTensor::new(Bytes::from_elems(values), layout, DType::F32);
    Tensor::from_primitive(TensorPrimitive::Float(tensor))
}

/// Changes the numbers of a tensor, in its own memory if nobody else has it.
fn in_place<const D: usize>(
    x: Tensor<Flex, D>,
    change: impl FnOnce(&mut [f32]),
) -> Tensor<Flex, D> {
    let shape = x.dims();
    let mut x = contiguous(x);
    let whole =
        x.layout().start_offset() == 0 && x.bytes().len() == 4 * shape.iter().product::<usize>();
    if whole && let Some(values) = x.try_storage_mut::<f32>() {
        change(values);
        return Tensor::from_primitive(TensorPrimitive::Float(x));
    }
    let mut values = cpu::copy(slice(&x));
    change(&mut values);
    tensor(values, shape)
}

/// With the numbers of each row together; the rows may lie anywhere.
fn rows_together(x: Tensor<Flex, 4>) -> FlexTensor {
    let x = raw(x);
    let ok = x.layout().strides()[3] == 1 && x.layout().strides().iter().all(|&s| s >= 0);
    if ok { x } else { x.to_contiguous() }
}

fn as_heads(x: &FlexTensor) -> Heads<'_> {
    let strides = x.layout().strides();
    Heads {
        data: &x.storage::<f32>()[x.layout().start_offset()..],
        strides: [0, 1, 2].map(|axis| strides[axis] as usize),
    }
}
