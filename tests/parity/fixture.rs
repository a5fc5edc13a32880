//! Reading fixtures and comparing with them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use burn::tensor::{DType, Tensor, TensorData};
use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use wan_core::{Backend, BurnBackend};
use wan_models::Probe;

use crate::tolerance::{OF_REFERENCE_BF16, Stage, TF32, allowed};

/// The root of all fixtures.
pub fn root() -> PathBuf {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    std::env::var_os("WAN_FIXTURES").map_or(ours, PathBuf::from)
}

/// All folders of the root.
pub fn folders() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root()).expect("the fixtures' root can be listed");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let mut folders: Vec<PathBuf> = paths.filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}

/// The folders for which `belongs` says yes; there must be one.
pub fn folders_of(kind: &str, belongs: impl Fn(&Path) -> bool) -> Vec<PathBuf> {
    let found: Vec<_> = folders().into_iter().filter(|folder| belongs(folder)).collect();
    assert!(!found.is_empty(), "no fixture of the kind {kind} in {}", root().display());
    found
}

/// A JSON file, or null if it is not there. Python writes infinity, which JSON has not, as a word.
pub fn json(path: &Path) -> Value {
    match std::fs::read_to_string(path) {
        Ok(text) => {
            let text = text.replace(": -Infinity", ": null");
            serde_json::from_str(&text).expect("a fixture's JSON is valid")
        }
        Err(_) => Value::Null,
    }
}

/// A folder with inputs and outputs.
pub struct Fixture {
    pub folder: PathBuf,
    pub meta: Value,
    pub inputs: Tensors,
    pub outputs: Tensors,
}

impl Fixture {
    pub fn open(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            meta: json(&folder.join("meta.json")),
            inputs: Tensors::open(&folder.join("inputs.safetensors")),
            outputs: Tensors::open(&folder.join("outputs.safetensors")),
        }
    }

    pub fn name(&self) -> String {
        self.folder.file_name().expect("a folder has a name").to_string_lossy().into_owned()
    }

    /// Absolute and relative tolerance of a tensor.
    pub fn tolerance(&self, backend: &str, name: &str) -> (f64, f64) {
        let is_convolved = || {
            let config = json(&self.folder.join("config.json"));
            config["_class_name"] == "AutoencoderKLWan"
                || name.ends_with("video_np")
                || name.ends_with(".condition")
        };
        if backend == "cuda" && is_convolved() {
            return TF32;
        }
        let value = |name: &str| self.meta["tolerance"][name].as_f64().expect("a tolerance");
        (value("atol"), value("rtol"))
    }

    /// Compares with the output `name`, which must exist.
    pub fn check(&self, backend: &str, name: &str, found: &Array) {
        let (expected, tolerance) = (self.outputs.get(name), self.tolerance(backend, name));
        compare(backend, &format!("{}/{name}", self.name()), found, expected, tolerance);
    }
}

/// Tensors by name, all numbers as f64.
pub struct Tensors(BTreeMap<String, Array>);

/// Numbers with their shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    pub shape: Vec<usize>,
    pub values: Vec<f64>,
}

impl Tensors {
    /// The tensors of a file; none if it is not there.
    pub fn open(path: &Path) -> Self {
        let Ok(bytes) = std::fs::read(path) else { return Self(BTreeMap::new()) };
        let tensors = SafeTensors::deserialize(&bytes).expect("a fixture's tensors are valid");
        let read = |(name, view): (String, safetensors::tensor::TensorView)| {
            let values = numbers(view.dtype(), view.data());
            (name, Array { shape: view.shape().to_vec(), values })
        };
        Self(tensors.tensors().into_iter().map(read).collect())
    }

    pub fn get(&self, name: &str) -> &Array {
        self.find(name).unwrap_or_else(|| panic!("the fixture has no tensor {name}"))
    }

    pub fn find(&self, name: &str) -> Option<&Array> {
        self.0.get(name)
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// What stands before `suffix` in the names that end with it: the cases.
    pub fn cases(&self, suffix: &str) -> BTreeSet<String> {
        self.names().filter_map(|name| name.strip_suffix(suffix)).map(str::to_owned).collect()
    }
}

impl Array {
    pub fn tensor<B: Backend, const D: usize>(&self, device: &B::Device) -> Tensor<B, D> {
        let values: Vec<f32> = self.values.iter().map(|&v| v as f32).collect();
        let data = TensorData::new(values, self.shape.as_slice());
        Tensor::from_data(data, (device, DType::F32))
    }

    pub fn of<B: BurnBackend, const D: usize>(tensor: Tensor<B, D>) -> Self {
        let shape = tensor.dims().to_vec();
        let data = tensor.cast(DType::F32).into_data();
        let values = data.as_slice::<f32>().expect("f32 data").iter().map(|&v| f64::from(v));
        Self { shape, values: values.collect() }
    }
}

impl Array {
    /// Fails unless both have the same shape and as many values as it says, at least one.
    fn assert_comparable(&self, name: &str, other: &Self) {
        assert_eq!(self.shape, other.shape, "{name}: shape");
        let count = self.shape.iter().product::<usize>();
        assert!(count > 0, "{name}: nothing is compared");
        assert_eq!(self.values.len(), count, "{name}: values of {:?}", self.shape);
        assert_eq!(other.values.len(), count, "{name}: values of {:?}", other.shape);
    }

    /// The first `rows` rows of sample `sample` of `[B, S, D]`, as `[1, rows, D]`.
    pub fn rows_of(&self, sample: usize, rows: usize) -> Self {
        let [_, length, width] = self.shape[..] else {
            panic!("{:?} has not three axes", self.shape)
        };
        let start = sample * length * width;
        let values = self.values[start..start + rows * width].to_vec();
        Self { shape: vec![1, rows, width], values }
    }

    /// The root of the mean square of the difference to `exact`, divided by that of `exact`.
    pub fn relative_rms(&self, exact: &Self) -> f64 {
        self.assert_comparable("relative rms", exact);
        let squares = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>();
        let pairs = self.values.iter().zip(&exact.values);
        let error = squares(&mut pairs.map(|(a, b)| a - b));
        (error / squares(&mut exact.values.iter().copied())).sqrt()
    }
}

/// The 16-bit dtypes that a backend computes in on its first device.
pub fn half_dtypes<B: Backend>(backend: &str) -> Vec<DType> {
    let device = B::open_device(0).unwrap();
    let (has, has_not): (Vec<_>, Vec<_>) =
        [DType::BF16, DType::F16].into_iter().partition(|dtype| B::supports_dtype(&device, *dtype));
    has_not.iter().for_each(|dtype| println!("{backend:8} has no {dtype:?}"));
    has
}

/// Fails unless a result in 16 bits is as close to the reference as the table says; prints both.
pub fn compare_half(
    backend: &str,
    name: &str,
    (stage, dtype): (Stage, DType),
    found: &Array,
    exact: &Array,
) {
    let (error, allowed) = (found.relative_rms(exact), allowed(stage, dtype));
    println!("{backend:8} {name:60} {dtype:?} rms {error:.2e}, allowed {allowed:.2e}");
    // Not the other way round: a comparison with what is not a number is false.
    assert!(error <= allowed, "{backend} {name} in {dtype:?}: {error:e} is more than {allowed:e}");
    if dtype == DType::BF16
        && let Some(&theirs) = REFERENCE_BF16.get(name)
    {
        compare_with_reference(backend, name, error, theirs);
    }
}

/// The errors of the reference in bf16, from `reference_bf16.py`.
static REFERENCE_BF16: LazyLock<BTreeMap<String, f64>> = LazyLock::new(|| {
    serde_json::from_str(include_str!("reference_bf16.json")).expect("a table of errors")
});

/// Fails if our error in bf16 is much larger than that of the reference; prints both.
pub fn compare_with_reference(backend: &str, name: &str, ours: f64, theirs: f64) {
    println!("{backend:8} {name:60} bf16 rms {ours:.2e}, the reference's {theirs:.2e}");
    assert!(ours <= OF_REFERENCE_BF16 * theirs, "{backend} {name}: {ours:e}, {theirs:e}");
}

/// Fails unless two ways to compute the same agree: bit for bit on the CPU; within rounding on a GPU, where
/// kernels are chosen by timing them.
pub fn assert_same(backend: &str, name: &str, found: &Array, expected: &Array) {
    let is_cpu = ["flex", "ndarray"].contains(&backend);
    let (error, allowed) = (found.relative_rms(expected), if is_cpu { 0.0 } else { 1e-6 });
    println!("{backend:8} {name:60} rms {error:.2e}, allowed {allowed:.2e}");
    assert!(error <= allowed, "{backend} {name}: {error:e} is more than {allowed:e}");
}

fn numbers(dtype: Dtype, bytes: &[u8]) -> Vec<f64> {
    match dtype {
        Dtype::F64 => bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect(),
        Dtype::F32 => {
            bytes.as_chunks().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect()
        }
        Dtype::I64 => bytes.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b) as f64).collect(),
        Dtype::I32 => bytes.as_chunks().0.iter().map(|b| i32::from_le_bytes(*b).into()).collect(),
        Dtype::U8 | Dtype::BOOL => bytes.iter().map(|&b| b.into()).collect(),
        Dtype::F16 => bytes.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).into()).collect(),
        Dtype::BF16 => bytes.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b).into()).collect(),
        other => panic!("a fixture's tensor is of {other:?}, which this suite cannot read"),
    }
}

/// Fails unless `max |a - b| <= atol + rtol max |b|`; prints both sides.
pub fn compare(
    backend: &str,
    name: &str,
    found: &Array,
    expected: &Array,
    (atol, rtol): (f64, f64),
) {
    found.assert_comparable(name, expected);
    let pairs = found.values.iter().zip(&expected.values);
    let error = pairs
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, |max: f64, e| if e.is_nan() { f64::INFINITY } else { max.max(e) });
    let largest = expected.values.iter().fold(0.0, |max: f64, b| max.max(b.abs()));
    let allowed = atol + rtol * largest;
    println!("{backend:8} {name:60} error {error:.2e}, allowed {allowed:.2e}");
    assert!(error <= allowed, "{backend} {name}: error {error:e} is more than {allowed:e}");
}

/// Keeps all intermediate tensors. Those of a network that runs in chunks are joined on the time
/// axis (2).
#[derive(Default)]
pub struct Recorder(BTreeMap<String, Array>);

impl<B: BurnBackend> Probe<B> for Recorder {
    fn see<const D: usize>(&mut self, name: &str, tensor: impl FnOnce() -> Tensor<B, D>) {
        let seen = Array::of(tensor());
        match self.0.get_mut(name) {
            Some(before) => join(before, &seen),
            None => {
                self.0.insert(name.to_owned(), seen);
            }
        }
    }
}

fn join(before: &mut Array, next: &Array) {
    if before.shape[3..] != next.shape[3..] {
        return; // tiles of several sizes, of which no fixture has intermediate tensors
    }
    let inner: usize = next.shape[3..].iter().product();
    let (old, new) = (before.shape[2] * inner, next.shape[2] * inner);
    let outer = before.values.len() / old;
    let mut values = Vec::new();
    for i in 0..outer {
        values.extend(&before.values[i * old..(i + 1) * old]);
        values.extend(&next.values[i * new..(i + 1) * new]);
    }
    before.shape[2] += next.shape[2];
    before.values = values;
}

/// What the names of intermediate tensors begin with. All other outputs are results of a network,
/// which the tests ask for by name.
const INTERMEDIATE: [&str; 9] = [
    "block.",
    "cond.",
    "decoder.",
    "embed_tokens",
    "encoder.",
    "norm_out",
    "patch_embedding",
    "rope.",
    "vace_block.",
];

impl Recorder {
    /// What was shown under a name.
    pub fn get(&self, name: &str) -> &Array {
        self.0.get(name).unwrap_or_else(|| panic!("{name} is not shown by the network"))
    }

    /// Compares every intermediate tensor that the fixture has of a case, and says how many those
    /// were. One that the network has not shown is a failure.
    #[must_use = "a fixture without intermediate tensors checks nothing"]
    pub fn check(&self, fixture: &Fixture, backend: &str, case: &str) -> usize {
        self.check_part(fixture, backend, case, Array::clone)
    }

    /// The same for a network that has seen a part of the fixture's inputs: `part` takes what it has
    /// seen from an output.
    #[must_use = "a fixture without intermediate tensors checks nothing"]
    pub fn check_part(
        &self,
        fixture: &Fixture,
        backend: &str,
        case: &str,
        part: impl Fn(&Array) -> Array,
    ) -> usize {
        let of_case = |name: &&str| {
            let name = name.strip_prefix(case).and_then(|name| name.strip_prefix('.'));
            name.is_some_and(|name| INTERMEDIATE.iter().any(|start| name.starts_with(start)))
        };
        let names: Vec<&str> = fixture.outputs.names().filter(of_case).collect();
        for name in &names {
            let found = self.0.get(&name[case.len() + 1..]);
            let found = found.unwrap_or_else(|| panic!("{name} is not shown by the network"));
            // The rotary tables are stored with each frequency twice and axes of 1.
            let expected = part(fixture.outputs.get(name));
            let found = match name.contains(".rope.") {
                true => doubled(found, &expected),
                false => found.clone(),
            };
            let shown = format!("{}/{name}", fixture.name());
            compare(backend, &shown, &found, &expected, fixture.tolerance(backend, name));
        }
        names.len()
    }
}

fn doubled(table: &Array, like: &Array) -> Array {
    let values = table.values.iter().flat_map(|&v| [v, v]).collect();
    Array { shape: like.shape.clone(), values }
}
