//! Every kernel that the processor has against plain loops in f64, on random shapes.

use half::bf16;

use super::kernels::Form;
use super::operands::{left_words, pack_left, pack_left_columns};
use super::*;
use crate::backend::Padding;
use crate::backend::geometry::Geometry;
use crate::noise::TorchGenerator;

struct Random(TorchGenerator);

impl Random {
    fn new(seed: u64) -> Self {
        Self(TorchGenerator::new(seed))
    }

    fn values(&mut self, count: usize) -> Vec<bf16> {
        self.0.randn(count).into_iter().map(bf16::from_f32).collect()
    }

    fn floats(&mut self, count: usize) -> Vec<f32> {
        self.0.randn(count)
    }

    /// From `low` to `high`.
    fn size(&mut self, low: usize, high: usize) -> usize {
        let drawn = self.0.randn(1)[0].abs().fract();
        low + ((high - low + 1) as f32 * drawn) as usize
    }

    fn coin(&mut self) -> bool {
        self.0.randn(1)[0] > 0.0
    }
}

/// Calls `test` with each kernel that can run here, and says which cannot.
fn on_each_kernel(test: impl Fn(CpuKernel)) {
    for kernel in CpuKernel::ALL {
        match kernel.is_available() {
            true => test(kernel),
            false => println!("skipped: this processor has no {kernel}"),
        }
    }
}

/// What sums of so many products in f32 may be off.
fn tolerance(products: usize) -> f64 {
    5e-6 * (products as f64).sqrt()
}

fn assert_near(what: &str, found: f64, expected: f64, tolerance: f64) {
    let allowed = tolerance * (1.0 + expected.abs());
    assert!((found - expected).abs() <= allowed, "{what}: {found} instead of {expected}");
}

#[test]
fn products() {
    let mut random = Random::new(1);
    let mut shapes = vec![[0, 5, 3], [1, 1, 1], [1, 1537, 17], [33, 64, 16], [5, 3100, 40]];
    for _ in 0..20 {
        shapes.push([random.size(1, 140), random.size(1, 400), random.size(1, 90)]);
    }
    for [rows, depth, columns] in shapes {
        let (x, w) = (random.values(rows * depth), random.values(depth * columns));
        let bias = random.coin().then(|| random.floats(columns));
        let words = pack_right([1, depth, columns], |_, k, n| w[n * depth + k].to_bits());
        assert_eq!(words, pack_columns(depth, columns, |n| &w[n * depth..][..depth]));
        let right = Right { words: &words, taps: 1, depth, columns };
        on_each_kernel(|kernel| {
            let y: Vec<f32> = multiply(kernel, &x, &right, bias.as_deref());
            let rounded: Vec<bf16> = multiply(kernel, &x, &right, bias.as_deref());
            assert_eq!(y.len(), rows * columns);
            for (i, (&y, &rounded)) in y.iter().zip(&rounded).enumerate() {
                let (row, n) = (i / columns, i % columns);
                let products = x[row * depth..][..depth].iter().zip(&w[n * depth..]);
                let sum: f64 = products.map(|(x, w)| x.to_f64() * w.to_f64()).sum();
                let sum = sum + bias.as_ref().map_or(0.0, |bias| f64::from(bias[n]));
                let what = format!("{kernel}: {rows} x {depth} x {columns} at {row}, {n}");
                assert_near(&what, f64::from(y), sum, tolerance(depth));
                assert_eq!(rounded, bf16::from_f32(y), "{what}");
            }
        });
    }
}

/// Left operands are the same whether their rows are given or their columns, in all forms.
#[test]
fn left_operands_of_rows_and_columns() {
    let mut random = Random::new(5);
    let mut shapes = vec![[1, 1], [12, 33], [32, 32], [128, 288], [130, 1]];
    for _ in 0..20 {
        shapes.push([random.size(1, 140), random.size(1, 90)]);
    }
    for [rows, depth] in shapes {
        let x = random.values(rows * depth);
        let columns: Vec<bf16> =
            (0..rows * depth).map(|i| x[i % rows * depth + i / rows]).collect();
        for (form, at_a_time) in [(Form::Wide, 12), (Form::Pairs, 12), (Form::Rows, 32)] {
            let size = left_words(form, at_a_time, [rows, depth]);
            let (mut expected, mut found) = (vec![u32::MAX; size], vec![0; size]);
            pack_left(form, at_a_time, x.chunks_exact(depth), depth, &mut expected);
            pack_left_columns(form, at_a_time, rows, columns.chunks_exact(rows), &mut found);
            assert_eq!(found, expected, "{rows} x {depth} as {form:?}");
        }
    }
}

#[test]
fn convolutions() {
    let mut random = Random::new(2);
    let cases = [
        ([3, 3, 3], [1, 1, 1], false),
        ([3, 3, 3], [1, 1, 1], true),
        ([1, 3, 3], [1, 1, 1], true),
        ([1, 3, 3], [1, 2, 2], false),
        ([3, 1, 1], [1, 1, 1], false),
        ([3, 1, 1], [2, 1, 1], false),
        ([1, 1, 1], [1, 1, 1], false),
    ];
    let cases = cases.into_iter().cycle().take(42);
    let mut geometries: Vec<Geometry> =
        cases.map(|case| random_geometry(&mut random, case)).collect();
    // Rows that do not fit a task.
    geometries.push(Geometry {
        frames: 3,
        size: [2, 300],
        upsample: false,
        channels: [190, 3],
        kernel: [3, 3, 3],
        stride: [1, 1, 1],
        padding: Padding { time: 0, height: [1, 1], width: [1, 1] },
    });
    for geometry in geometries {
        let case = Convolution::new(&mut random, geometry);
        on_each_kernel(|kernel| case.check(kernel, convolve, 1.0));
    }
}

/// By Winograd's method the last bits of f32 differ more.
#[test]
fn convolutions_by_tiles() {
    let mut random = Random::new(4);
    let cases = [
        ([3, 3, 3], [1, 1, 1], false),
        ([1, 3, 3], [1, 1, 1], true),
        ([1, 3, 3], [1, 1, 1], false),
        ([3, 3, 3], [1, 1, 1], true),
    ];
    for case in cases.into_iter().cycle().take(24) {
        let geometry = random_geometry(&mut random, case);
        let case = Convolution::new(&mut random, geometry);
        on_each_kernel(|kernel| case.check(kernel, winograd::convolve, 4.0));
    }
    // As the VAE has them: more tiles than a task takes at a time.
    let geometry = Geometry {
        frames: 2,
        size: [17, 403],
        upsample: false,
        channels: [48, 32],
        kernel: [3, 3, 3],
        stride: [1, 1, 1],
        padding: Padding { time: 1, height: [1, 1], width: [1, 1] },
    };
    let case = Convolution::new(&mut random, geometry);
    for kernel in CpuKernel::ALL {
        assert_eq!(winograd::suits(kernel, &geometry), kernel != CpuKernel::Amx);
    }
    on_each_kernel(|kernel| case.check(kernel, convolve, 4.0));
}

fn random_geometry(
    random: &mut Random,
    (kernel, stride, upsample): ([usize; 3], [usize; 3], bool),
) -> Geometry {
    let padding = Padding {
        time: if kernel[0] == 3 { random.size(0, 2) } else { 0 },
        height: [random.size(0, kernel[1] / 2), kernel[1] / 2],
        width: [random.size(0, kernel[2] / 2), kernel[2] / 2],
    };
    Geometry {
        frames: 3,
        size: [random.size(3, 12), random.size(3, 40)],
        upsample,
        channels: [random.size(1, 70), random.size(1, 40)],
        kernel,
        stride,
        padding,
    }
}

/// A convolution and what it comes to in f64.
struct Convolution {
    geometry: Geometry,
    frames: Vec<Vec<bf16>>,
    words: Vec<u32>,
    bias: Vec<f32>,
    expected: Vec<f64>,
}

impl Convolution {
    fn new(random: &mut Random, geometry: Geometry) -> Self {
        let Geometry { frames, size: [height, width], channels: [cin, cout], kernel, .. } =
            geometry;
        let frames: Vec<Vec<bf16>> =
            (0..frames).map(|_| random.values(height * width * cin)).collect();
        let [_, kh, kw] = kernel;
        let taps = kernel.iter().product();
        let w = random.values(taps * cin * cout);
        let bias = random.floats(cout);
        let words =
            pack_right([taps, cin, cout], |tap, c, n| w[(tap * cin + c) * cout + n].to_bits());
        let [t, h, wide] = geometry.output();
        let [st, sh, sw] = geometry.stride;
        let pixel = |f: usize, y: usize, x: usize| {
            let f = f.checked_sub(geometry.padding.time)?;
            let (y, x) = (geometry.source_row(y)?, geometry.source_column(x)?);
            Some(&frames[f][(y * width + x) * cin..][..cin])
        };
        let mut expected = Vec::new();
        for i in 0..t * h * wide {
            let (f, y, x) = (i / (h * wide) * st, i / wide % h * sh, i % wide * sw);
            let mut sums: Vec<f64> = bias.iter().map(|&bias| f64::from(bias)).collect();
            for tap in 0..taps {
                let seen = pixel(f + tap / (kh * kw), y + tap / kw % kh, x + tap % kw);
                for (c, value) in seen.into_iter().flatten().enumerate() {
                    let row = &w[(tap * cin + c) * cout..];
                    let products = row.iter().map(|w| value.to_f64() * w.to_f64());
                    sums.iter_mut().zip(products).for_each(|(sum, product)| *sum += product);
                }
            }
            expected.extend(sums);
        }
        Self { geometry, frames, words, bias, expected }
    }

    /// `tolerances` is how many of those of a sum in f32 the result may be off.
    fn check(
        &self,
        kernel: CpuKernel,
        convolve: impl Fn(CpuKernel, &Input, &Right, &[f32], &mut [f32]),
        tolerances: f64,
    ) {
        let geometry = self.geometry;
        let ([cin, cout], taps) = (geometry.channels, geometry.kernel.iter().product());
        let right = Right { words: &self.words, taps, depth: cin, columns: cout };
        let input = Input { frames: self.frames.iter().map(Vec::as_slice).collect(), geometry };
        let mut out = vec![f32::NAN; self.expected.len()];
        convolve(kernel, &input, &right, &self.bias, &mut out);
        for (i, (&found, &expected)) in out.iter().zip(&self.expected).enumerate() {
            let what = format!("{kernel}: {geometry:?} at {i}");
            assert_near(&what, f64::from(found), expected, tolerances * tolerance(taps * cin));
        }
    }
}

/// Weights of the softmax are rounded to bf16, and so is the result.
#[test]
fn attention() {
    let mut random = Random::new(3);
    for [queries, keys, heads, width] in
        [[1, 1, 1, 20], [5, 3, 2, 33], [77, 513, 3, 64], [200, 600, 2, 128], [50, 577, 2, 40]]
    {
        let row = heads * width;
        let [q, k, v] = [queries, keys, keys].map(|rows| random.values(rows * row));
        // None, one for all queries, or one for each query and head.
        let bias_strides = if random.coin() { [0; 3] } else { [0, queries * keys, keys] };
        let bias = random.coin().then(|| random.floats(heads * queries * keys));
        let of = |data| Heads { data, strides: [0, width, row] };
        let attention = Attention {
            q: of(q.as_slice()),
            k: of(k.as_slice()),
            v: of(v.as_slice()),
            bias: bias.as_deref().map(|data| Heads { data, strides: bias_strides }),
            scale: 0.2,
            batch: 1,
            heads,
            queries,
            keys,
            width,
        };
        let dot = |a: &[bf16], b: &[bf16]| -> f64 {
            a.iter().zip(b).map(|(a, b)| a.to_f64() * b.to_f64()).sum()
        };
        let mut expected = Vec::new();
        for (i, head) in (0..queries).flat_map(|i| (0..heads).map(move |head| (i, head))) {
            let part = |x: &Heads<'_, bf16>, row| x.row([0, head, row], width).to_vec();
            let query = part(&attention.q, i);
            let scores: Vec<f64> = (0..keys)
                .map(|j| {
                    let bias = attention.bias.map_or(0.0, |bias| bias.row([0, head, i], keys)[j]);
                    let bias = f64::from(bias);
                    dot(&query, &part(&attention.k, j)) * 0.2 + bias
                })
                .collect();
            let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
            let sum: f64 = weights.iter().sum();
            let mut row = vec![0.0; width];
            for (j, weight) in weights.iter().enumerate() {
                let value = part(&attention.v, j);
                row.iter_mut().zip(value).for_each(|(y, v)| *y += weight / sum * v.to_f64());
            }
            expected.extend(row);
        }
        on_each_kernel(|kernel| {
            let out = attend_all(kernel, &attention);
            for (i, (found, &expected)) in out.iter().zip(&expected).enumerate() {
                let what =
                    format!("{kernel}: {queries} x {keys}, {heads} heads of {width}, at {i}");
                assert_near(&what, found.to_f64(), expected, 8e-3);
            }
        });
    }
}

/// A key whose score is minus infinity counts for nothing; a value that is not a number reaches those, and only those,
/// that see it.
#[test]
fn attention_of_masked_keys_and_of_no_numbers() {
    let mut random = Random::new(6);
    let [queries, keys, heads, width] = [40, 300, 2, 20];
    let row = heads * width;
    let [mut q, mut k, v] = [queries, keys, keys].map(|rows| random.values(rows * row));
    let mut bias = vec![0.0; keys];
    // A whole block, and one more.
    bias[..289].fill(f32::NEG_INFINITY);
    let attend = |kernel, q: &[bf16], k: &[bf16], from: usize, bias: Option<&[f32]>| {
        let of = |data| Heads { data, strides: [0, width, row] };
        let attention = Attention {
            q: of(q),
            k: of(&k[from * row..]),
            v: of(&v[from * row..]),
            bias: bias.map(|data| Heads { data, strides: [0; 3] }),
            scale: 0.3,
            batch: 1,
            heads,
            queries,
            keys: keys - from,
            width,
        };
        attend_all(kernel, &attention)
    };
    on_each_kernel(|kernel| {
        let masked = attend(kernel, &q, &k, 0, Some(&bias));
        assert_eq!(masked, attend(kernel, &q, &k, 289, None), "{kernel}");
    });
    q[3 * row] = bf16::NAN;
    k[299 * row + width] = bf16::NAN;
    on_each_kernel(|kernel| {
        let out = attend(kernel, &q, &k, 0, None);
        for (i, value) in out.iter().enumerate() {
            let (query, head) = (i / row, i % row / width);
            let sees_none = query != 3 && head == 0;
            assert_eq!(value.is_finite(), sees_none, "{kernel}: query {query}, head {head}");
        }
    });
}

#[test]
fn kernels_by_name() {
    for kernel in CpuKernel::ALL {
        assert_eq!(kernel.to_string().parse(), Ok(kernel));
        if !kernel.is_available() {
            let error = kernel.choose().unwrap_err();
            assert!(error.to_string().contains("portable"), "{error}");
        }
    }
    let error = "avx1024".parse::<CpuKernel>().unwrap_err();
    assert_eq!(
        error.to_string(),
        "there is no CPU kernel \"avx1024\": they are amx, avx512-bf16, avx512, avx2, portable"
    );
}
