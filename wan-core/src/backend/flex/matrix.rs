//! Matrix products on slices.

use gemm::Parallelism;

/// A matrix inside a slice. Rows may overlap, which makes a convolution of it.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    pub(super) data: &'a [f32],
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) row_stride: usize,
    pub(super) column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Rows one after the other, `row_stride` apart.
    pub(super) fn rows(data: &'a [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        Self { data, rows, columns, row_stride, column_stride: 1 }
    }

    pub(super) fn transpose(self) -> Self {
        Self {
            data: self.data,
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
        }
    }

    fn fits(&self) -> bool {
        let last = |count: usize, stride: usize| count.saturating_sub(1) * stride;
        last(self.rows, self.row_stride) + last(self.columns, self.column_stride) < self.data.len()
    }
}

/// The beta of a matrix product: what the destination is multiplied with before the product is added.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Beta {
    /// The product replaces the destination.
    Zero,
    /// The product is added to the destination.
    One,
}

/// `destination = alpha * left * right + beta * destination`. The destination's rows are `stride`
/// apart.
pub(super) fn multiply(
    destination: &mut [f32],
    stride: usize,
    beta: Beta,
    alpha: f32,
    left: Matrix,
    right: Matrix,
    parallelism: Parallelism,
) {
    let (m, n, k) = (left.rows, right.columns, left.columns);
    if m == 0 || n == 0 {
        return;
    }
    assert_eq!(k, right.rows, "the inner sizes of a matrix product differ");
    assert!(left.fits() && right.fits(), "a matrix is larger than its data");
    assert!(
        stride >= n && (m - 1) * stride + n <= destination.len(),
        "the destination is too small"
    );
    // SAFETY: the three matrices lie inside their slices, as asserted; the destination is borrowed
    // exclusively, and its rows do not overlap.
    #[allow(unsafe_code)]
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            destination.as_mut_ptr(),
            1,
            stride as isize,
            beta == Beta::One,
            left.data.as_ptr(),
            left.column_stride as isize,
            left.row_stride as isize,
            right.data.as_ptr(),
            right.column_stride as isize,
            right.row_stride as isize,
            1.0,
            alpha,
            false,
            false,
            false,
            parallelism,
        );
    }
}
