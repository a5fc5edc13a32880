//! burn's part of [`Counting`]: every operation that burn requires of a backend, handed to the
//! backend inside.
//!
//! A wrapper needs all of them, since Rust lets no type take over the traits of another. A backend
//! written from scratch has its own operations here, and its own types of tensors and devices.

use burn::tensor::backend::{Backend as BurnBackend, BackendTypes, DTypeUsageSet, ExecutionError};
use burn::tensor::ops::*;
use burn::tensor::quantization::{QuantScheme, QuantizationParametersPrimitive};
use burn::tensor::{
    BoolDType, DType, Distribution, FloatDType, IndexingUpdateOp, IntDType, Scalar, Shape, Slice,
    TensorData,
};

use super::Counting;

type Float<B> = FloatTensor<B>;
type Int<B> = IntTensor<B>;
type Bool<B> = BoolTensor<B>;
type Quantized<B> = QuantizedTensor<B>;
/// What reading a tensor back gives, at last.
type Read = Result<TensorData, ExecutionError>;
/// Height and width.
type Sides = [usize; 2];

/// Methods that call those of the same name of `B`, listed under the signature they share.
macro_rules! delegate {
    ($(fn $arguments:tt -> $output:ty { $($name:ident),* $(,)? })*) => {
        $($(delegate!(@method $name $arguments -> $output);)*)*
    };
    (@method $name:ident ($($argument:ident: $type:ty),* $(,)?) -> $output:ty) => {
        fn $name($($argument: $type),*) -> $output {
            B::$name($($argument),*)
        }
    };
}

// With the types of `B` a tensor goes in and out without being converted.
impl<B: BurnBackend> BackendTypes for Counting<B> {
    type Device = B::Device;
    type FloatTensorPrimitive = B::FloatTensorPrimitive;
    type FloatElem = B::FloatElem;
    type IntTensorPrimitive = B::IntTensorPrimitive;
    type IntElem = B::IntElem;
    type BoolTensorPrimitive = B::BoolTensorPrimitive;
    type BoolElem = B::BoolElem;
    type QuantizedTensorPrimitive = B::QuantizedTensorPrimitive;
}

impl<B: BurnBackend> BurnBackend for Counting<B> {
    fn name(device: &B::Device) -> String {
        format!("counting {}", B::name(device))
    }

    fn seed(device: &B::Device, seed: u64) {
        B::seed(device, seed);
    }

    // The default waits for nothing, which is wrong where `B` works in the background.
    fn sync(device: &B::Device) -> Result<(), ExecutionError> {
        B::sync(device)
    }

    // The default frees nothing.
    fn memory_cleanup(device: &B::Device) {
        B::memory_cleanup(device);
    }

    fn dtype_usage(device: &B::Device, dtype: DType) -> DTypeUsageSet {
        B::dtype_usage(device, dtype)
    }

    fn device_count(type_id: u16) -> usize {
        B::device_count(type_id)
    }
}

impl<B: BurnBackend> FloatTensorOps<Self> for Counting<B> {
    delegate! {
        fn(shape: Shape, device: &Device<B>, dtype: FloatDType) -> Float<B> { float_empty }
        fn(
            shape: Shape,
            distribution: Distribution,
            device: &Device<B>,
            dtype: FloatDType,
        ) -> Float<B> { float_random }
        fn(data: TensorData, device: &Device<B>) -> Float<B> { float_from_data }
        fn(x: Float<B>) -> impl Future<Output = Read> + Send { float_into_data }
        fn(x: &Float<B>) -> Device<B> { float_device }
        fn(x: Float<B>, device: &Device<B>) -> Float<B> { float_to_device }
        fn(x: Float<B>, dtype: FloatDType) -> Float<B> { float_cast }
        fn(x: Float<B>, dtype: IntDType) -> Int<B> { float_into_int }

        fn(x: Float<B>) -> Float<B> {
            float_recip, float_sqrt, float_abs, float_exp, float_log, float_log1p, float_erf,
            float_cos, float_sin, float_tan, float_cosh, float_sinh, float_tanh,
            float_acos, float_asin, float_atan, float_acosh, float_asinh, float_atanh,
            float_round, float_floor, float_ceil, float_trunc, float_sum,
        }
        fn(lhs: Float<B>, rhs: Float<B>) -> Float<B> {
            float_add, float_sub, float_mul, float_div, float_remainder, float_powf, float_atan2,
            float_matmul,
        }
        fn(lhs: Float<B>, rhs: Scalar) -> Float<B> {
            float_add_scalar, float_sub_scalar, float_mul_scalar, float_div_scalar,
            float_remainder_scalar, float_powf_scalar_impl,
        }
        fn(lhs: Float<B>, rhs: Float<B>, dim: usize) -> Float<B> { float_cross }
        fn(lhs: Float<B>, rhs: Float<B>, dtype: BoolDType) -> Bool<B> {
            float_equal, float_greater, float_greater_equal, float_lower, float_lower_equal,
        }
        fn(lhs: Float<B>, rhs: Scalar, dtype: BoolDType) -> Bool<B> {
            float_equal_elem, float_greater_elem, float_greater_equal_elem, float_lower_elem,
            float_lower_equal_elem,
        }
        fn(x: Float<B>, dim: usize) -> Float<B> {
            float_sum_dim, float_mean_dim, float_cumsum, float_cumprod, float_cummin, float_cummax,
        }
        fn(x: Float<B>, dim: usize, dtype: IntDType) -> Int<B> { float_argmax, float_argmin }
        fn(x: Float<B>, dim: usize, k: usize, dtype: IntDType) -> Int<B> { float_argtopk }

        fn(x: Float<B>, shape: Shape) -> Float<B> { float_reshape, float_expand }
        fn(x: Float<B>, dim1: usize, dim2: usize) -> Float<B> { float_swap_dims }
        fn(x: Float<B>, axes: &[usize]) -> Float<B> { float_permute, float_flip }
        fn(x: Float<B>, dim: usize, size: usize, step: usize) -> Float<B> { float_unfold }
        fn(x: Float<B>, slices: &[Slice]) -> Float<B> { float_slice }
        fn(x: Float<B>, slices: &[Slice], value: Float<B>) -> Float<B> { float_slice_assign }
        fn(x: Float<B>, mask: Bool<B>, value: Float<B>) -> Float<B> { float_mask_where }
        fn(x: Float<B>, mask: Bool<B>, value: Scalar) -> Float<B> { float_mask_fill }
        fn(x: Float<B>, dim: usize, indices: Int<B>) -> Float<B> { float_select }
        fn(x: Float<B>, dim: usize, indices: Int<B>, value: Float<B>) -> Float<B> {
            float_select_add
        }
        fn(dim: usize, x: Float<B>, indices: Int<B>) -> Float<B> { float_gather }
        fn(dim: usize, x: Float<B>, indices: Int<B>, value: Float<B>) -> Float<B> {
            float_scatter_add
        }
    }

    // Not required, but their defaults panic.
    delegate! {
        fn(x: Float<B>, indices: Int<B>) -> Float<B> { float_gather_nd }
        fn(x: Float<B>, indices: Int<B>, values: Float<B>, how: IndexingUpdateOp) -> Float<B> {
            float_scatter_nd
        }
    }
}

impl<B: BurnBackend> IntTensorOps<Self> for Counting<B> {
    delegate! {
        fn(shape: Shape, device: &Device<B>, dtype: IntDType) -> Int<B> { int_empty }
        fn(
            shape: Shape,
            distribution: Distribution,
            device: &Device<B>,
            dtype: IntDType,
        ) -> Int<B> { int_random }
        fn(data: TensorData, device: &Device<B>) -> Int<B> { int_from_data }
        fn(x: Int<B>) -> impl Future<Output = Read> + Send { int_into_data }
        fn(x: &Int<B>) -> Device<B> { int_device }
        fn(x: Int<B>, device: &Device<B>) -> Int<B> { int_to_device }
        fn(x: Int<B>, dtype: IntDType) -> Int<B> { int_cast }
        fn(x: Int<B>, dtype: FloatDType) -> Float<B> { int_into_float }

        fn(x: Int<B>) -> Int<B> { int_abs, int_sum, int_prod, bitwise_not }
        fn(lhs: Int<B>, rhs: Int<B>) -> Int<B> {
            int_add, int_sub, int_mul, int_div, int_remainder, int_matmul, bitwise_and, bitwise_or,
            bitwise_xor, bitwise_left_shift, bitwise_right_shift,
        }
        fn(lhs: Int<B>, rhs: Scalar) -> Int<B> {
            int_add_scalar, int_sub_scalar, int_mul_scalar, int_div_scalar, int_remainder_scalar,
            bitwise_and_scalar, bitwise_or_scalar, bitwise_xor_scalar, bitwise_left_shift_scalar,
            bitwise_right_shift_scalar,
        }
        fn(lhs: Int<B>, rhs: Int<B>, dtype: BoolDType) -> Bool<B> {
            int_equal, int_greater, int_greater_equal, int_lower, int_lower_equal,
        }
        fn(lhs: Int<B>, rhs: Scalar, dtype: BoolDType) -> Bool<B> {
            int_equal_elem, int_greater_elem, int_greater_equal_elem, int_lower_elem,
            int_lower_equal_elem,
        }
        fn(x: Int<B>, dim: usize) -> Int<B> {
            int_sum_dim, int_prod_dim, int_mean_dim, int_cumsum, int_cumprod, int_cummin,
            int_cummax, int_argmax, int_argmin,
        }
        fn(x: Int<B>, dim: usize, k: usize) -> Int<B> { int_argtopk }

        fn(x: Int<B>, shape: Shape) -> Int<B> { int_reshape, int_expand }
        fn(x: Int<B>, dim1: usize, dim2: usize) -> Int<B> { int_swap_dims }
        fn(x: Int<B>, axes: &[usize]) -> Int<B> { int_permute, int_flip }
        fn(x: Int<B>, dim: usize, size: usize, step: usize) -> Int<B> { int_unfold }
        fn(x: Int<B>, slices: &[Slice]) -> Int<B> { int_slice }
        fn(x: Int<B>, slices: &[Slice], value: Int<B>) -> Int<B> { int_slice_assign }
        fn(x: Int<B>, mask: Bool<B>, value: Int<B>) -> Int<B> { int_mask_where }
        fn(x: Int<B>, mask: Bool<B>, value: Scalar) -> Int<B> { int_mask_fill }
        fn(x: Int<B>, dim: usize, indices: Int<B>) -> Int<B> { int_select }
        fn(x: Int<B>, dim: usize, indices: Int<B>, value: Int<B>) -> Int<B> { int_select_add }
        fn(dim: usize, x: Int<B>, indices: Int<B>) -> Int<B> { int_gather }
        fn(dim: usize, x: Int<B>, indices: Int<B>, value: Int<B>) -> Int<B> { int_scatter_add }
    }

    // Not required, but their defaults panic.
    delegate! {
        fn(x: Int<B>, indices: Int<B>) -> Int<B> { int_gather_nd }
        fn(x: Int<B>, indices: Int<B>, values: Int<B>, how: IndexingUpdateOp) -> Int<B> {
            int_scatter_nd
        }
    }
}

impl<B: BurnBackend> BoolTensorOps<Self> for Counting<B> {
    delegate! {
        fn(shape: Shape, device: &Device<B>, dtype: BoolDType) -> Bool<B> {
            bool_empty, bool_zeros, bool_ones,
        }
        fn(data: TensorData, device: &Device<B>) -> Bool<B> { bool_from_data }
        fn(x: Bool<B>) -> impl Future<Output = Read> + Send { bool_into_data }
        fn(x: &Bool<B>) -> Device<B> { bool_device }
        fn(x: Bool<B>, device: &Device<B>) -> Bool<B> { bool_to_device }
        fn(x: Bool<B>, dtype: IntDType) -> Int<B> { bool_into_int }
        fn(x: Bool<B>, dtype: FloatDType) -> Float<B> { bool_into_float }

        fn(x: Bool<B>) -> Bool<B> { bool_not }
        fn(lhs: Bool<B>, rhs: Bool<B>) -> Bool<B> { bool_and, bool_or, bool_equal }
        fn(lhs: Bool<B>, rhs: Scalar) -> Bool<B> { bool_equal_elem }

        fn(x: Bool<B>, shape: Shape) -> Bool<B> { bool_reshape, bool_expand }
        fn(x: Bool<B>, dim1: usize, dim2: usize) -> Bool<B> { bool_swap_dims }
        fn(x: Bool<B>, axes: &[usize]) -> Bool<B> { bool_permute, bool_flip }
        fn(x: Bool<B>, dim: usize, size: usize, step: usize) -> Bool<B> { bool_unfold }
        fn(x: Bool<B>, slices: &[Slice]) -> Bool<B> { bool_slice }
        fn(x: Bool<B>, slices: &[Slice], value: Bool<B>) -> Bool<B> { bool_slice_assign }
        fn(x: Bool<B>, mask: Bool<B>, value: Bool<B>) -> Bool<B> { bool_mask_where }
        fn(x: Bool<B>, mask: Bool<B>, value: Scalar) -> Bool<B> { bool_mask_fill }
        fn(x: Bool<B>, dim: usize, indices: Int<B>) -> Bool<B> { bool_select }
        fn(x: Bool<B>, dim: usize, indices: Int<B>, value: Bool<B>) -> Bool<B> { bool_select_or }
        fn(dim: usize, x: Bool<B>, indices: Int<B>) -> Bool<B> { bool_gather }
        fn(dim: usize, x: Bool<B>, indices: Int<B>, value: Bool<B>) -> Bool<B> { bool_scatter_or }
    }
}

impl<B: BurnBackend> QTensorOps<Self> for Counting<B> {
    delegate! {
        fn(data: TensorData, device: &Device<B>) -> Quantized<B> { q_from_data }
        fn(x: Quantized<B>) -> impl Future<Output = Read> + Send { q_into_data }
        fn(x: &Quantized<B>) -> Device<B> { q_device }
        fn(x: Quantized<B>, device: &Device<B>) -> Quantized<B> { q_to_device }
        fn(x: Quantized<B>, dtype: FloatDType) -> Float<B> { dequantize }
        fn(x: Quantized<B>, shape: Shape) -> Quantized<B> { q_reshape, q_expand }
        fn(x: Quantized<B>, dim1: usize, dim2: usize) -> Quantized<B> { q_swap_dims }
        fn(x: Quantized<B>, axes: &[usize]) -> Quantized<B> { q_permute, q_flip }
        fn(x: Quantized<B>, slices: &[Slice]) -> Quantized<B> { q_slice }
        fn(x: Quantized<B>, dim: usize, indices: Int<B>) -> Quantized<B> { q_select }
    }

    fn quantize(
        x: Float<B>,
        scheme: &QuantScheme,
        parameters: QuantizationParametersPrimitive<Self>,
    ) -> Quantized<B> {
        B::quantize(x, scheme, QuantizationParametersPrimitive { scales: parameters.scales })
    }
}

impl<B: BurnBackend> ModuleOps<Self> for Counting<B> {
    delegate! {
        fn(
            x: Float<B>,
            weight: Float<B>,
            bias: Option<Float<B>>,
            options: ConvOptions<2>,
        ) -> Float<B> { conv2d }
        fn(
            x: Float<B>,
            weight: Float<B>,
            bias: Option<Float<B>>,
            options: ConvOptions<3>,
        ) -> Float<B> { conv3d }
        fn(
            x: Float<B>,
            weight: Float<B>,
            bias: Option<Float<B>>,
            options: ConvTransposeOptions<2>,
        ) -> Float<B> { conv_transpose2d }
        fn(
            x: Float<B>,
            weight: Float<B>,
            bias: Option<Float<B>>,
            options: ConvTransposeOptions<3>,
        ) -> Float<B> { conv_transpose3d }
        fn(
            x: Float<B>,
            offset: Float<B>,
            weight: Float<B>,
            mask: Option<Float<B>>,
            bias: Option<Float<B>>,
            options: DeformConvOptions<2>,
        ) -> Float<B> { deform_conv2d }
        fn(
            x: Float<B>,
            kernel: Sides,
            stride: Sides,
            padding: Sides,
            count_include_pad: bool,
            ceil_mode: bool,
        ) -> Float<B> { avg_pool2d }
        fn(
            x: Float<B>,
            grad: Float<B>,
            kernel: Sides,
            stride: Sides,
            padding: Sides,
            count_include_pad: bool,
            ceil_mode: bool,
        ) -> Float<B> { avg_pool2d_backward }
        fn(x: Float<B>, size: Sides) -> Float<B> { adaptive_avg_pool2d }
        fn(x: Float<B>, grad: Float<B>) -> Float<B> { adaptive_avg_pool2d_backward }
        fn(
            x: Float<B>,
            kernel: Sides,
            stride: Sides,
            padding: Sides,
            dilation: Sides,
            ceil_mode: bool,
        ) -> Float<B> { max_pool2d }
        fn(x: Float<B>, size: Sides, options: InterpolateOptions) -> Float<B> { interpolate }
        fn(x: Float<B>, grad: Float<B>, size: Sides, options: InterpolateOptions) -> Float<B> {
            interpolate_backward
        }
        fn(
            query: Float<B>,
            key: Float<B>,
            value: Float<B>,
            mask: Option<Bool<B>>,
            bias: Option<Float<B>>,
            options: AttentionModuleOptions,
        ) -> Float<B> { attention }
        fn(x: Float<B>, dim: usize, n: Option<usize>) -> (Float<B>, Float<B>) { rfft }
        fn(re: Float<B>, im: Float<B>, dim: usize, n: Option<usize>) -> Float<B> { irfft }
    }

    // The structs that these return name the backend, so they are taken apart and put together.

    fn deform_conv2d_backward(
        x: Float<B>,
        offset: Float<B>,
        weight: Float<B>,
        mask: Option<Float<B>>,
        bias: Option<Float<B>>,
        grad: Float<B>,
        options: DeformConvOptions<2>,
    ) -> DeformConv2dBackward<Self> {
        let DeformConv2dBackward { x_grad, offset_grad, weight_grad, mask_grad, bias_grad } =
            B::deform_conv2d_backward(x, offset, weight, mask, bias, grad, options);
        DeformConv2dBackward { x_grad, offset_grad, weight_grad, mask_grad, bias_grad }
    }

    fn max_pool2d_with_indices(
        x: Float<B>,
        kernel: Sides,
        stride: Sides,
        padding: Sides,
        dilation: Sides,
        ceil_mode: bool,
    ) -> MaxPool2dWithIndices<Self> {
        let MaxPool2dWithIndices { output, indices } =
            B::max_pool2d_with_indices(x, kernel, stride, padding, dilation, ceil_mode);
        MaxPool2dWithIndices { output, indices }
    }

    fn max_pool2d_with_indices_backward(
        x: Float<B>,
        kernel: Sides,
        stride: Sides,
        padding: Sides,
        dilation: Sides,
        ceil_mode: bool,
        grad: Float<B>,
        indices: Int<B>,
    ) -> MaxPool2dBackward<Self> {
        let MaxPool2dBackward { x_grad } = B::max_pool2d_with_indices_backward(
            x, kernel, stride, padding, dilation, ceil_mode, grad, indices,
        );
        MaxPool2dBackward { x_grad }
    }
}

// Their methods all have defaults, built on those above.
impl<B: BurnBackend> ActivationOps<Self> for Counting<B> {}
impl<B: BurnBackend> TransactionOps<Self> for Counting<B> {}
