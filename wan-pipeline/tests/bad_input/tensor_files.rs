//! Files of latents, embeddings and runs that are damaged, of another kind or of another model.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};
use tempfile::TempDir;
use wan_pipeline::backend::Flex;
use wan_pipeline::{
    Embeddings, Error, LatentsWriter, Observer, Pipeline, Request, RequestError, TensorFileError,
};

use crate::model::{Model, TRANSFORMER_WEIGHTS, Tensors, says, smallest, tiny_wan};
use crate::requests::{is_one_sentence, not_yet};

const KIND: &str = "wan_pipeline.kind";
const FORMAT: &str = "wan_pipeline.format";

/// A file of each kind, as the library writes them.
struct Files {
    folder: TempDir,
    pipeline: Pipeline<Flex>,
}

impl Files {
    fn new() -> Self {
        let files = Self { folder: tempfile::tempdir().unwrap(), pipeline: tiny_wan() };
        let request = smallest("a red circle").steps(3);
        let observer = &mut Observer::silent();
        let mut run = files.pipeline.start(std::slice::from_ref(&request), observer).unwrap();
        run.step().unwrap();
        run.save(files.path("run")).unwrap();
        let plan = run.plan(0).unwrap().clone();
        let writer = LatentsWriter::create(files.path("latents")).unwrap();
        writer.write(&run.finish(), &[plan.metadata()]).unwrap();
        let embeddings = files.pipeline.embed(&request, observer).unwrap();
        embeddings.save(files.path("embeddings")).unwrap();
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A copy of a file, changed.
    fn changed(&self, kind: &str, change: impl FnOnce(&mut File)) -> PathBuf {
        let mut file = File::read(&self.path(kind));
        change(&mut file);
        let path = self.path(&format!("changed {kind}"));
        fs::write(&path, file.bytes()).unwrap();
        path
    }

    /// Reads a file as one of this kind: the error, one sentence that names the file, before anything
    /// is computed.
    #[track_caller]
    fn error_of(&self, kind: &str, path: &Path) -> Error {
        let error = match kind {
            "latents" => self.pipeline.load_latents(path).err(),
            "embeddings" => Embeddings::load(path).err(),
            _ => self.pipeline.resume(path, &mut not_yet()).err(),
        };
        let error =
            error.unwrap_or_else(|| panic!("{} must not be read as {kind}", path.display()));
        is_one_sentence(&error);
        error
    }

    /// The error of a changed file, which must name it.
    #[track_caller]
    fn error_with(&self, kind: &str, change: impl FnOnce(&mut File)) -> TensorFileError {
        let path = self.changed(kind, change);
        let error = self.error_of(kind, &path);
        says(&error, &[&path.display().to_string()]);
        let Error::TensorFile(error) = error else { panic!("{error:?}") };
        error
    }
}

/// Fails unless the error is of this variant and its message has all of `parts`.
macro_rules! assert_is {
    ($error:expr, $variant:ident, $parts:expr) => {{
        let error = $error;
        assert!(matches!(error, TensorFileError::$variant { .. }), "{error:?}");
        says(&error.into(), &$parts);
    }};
}

/// The content of a safetensors file.
struct File {
    tensors: Tensors,
    metadata: HashMap<String, String>,
}

impl File {
    fn read(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap();
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let metadata = header.metadata().clone().unwrap_or_default();
        Self { tensors: Tensors::read(&bytes), metadata }
    }

    fn bytes(&self) -> Vec<u8> {
        self.tensors.bytes_with(Some(self.metadata.clone()))
    }

    fn set(&mut self, field: &str, value: &str) {
        self.metadata.insert(field.into(), value.into());
    }

    /// A field of the metadata that is JSON.
    fn change_json(&mut self, field: &str, change: impl FnOnce(&mut Value)) {
        let mut json = serde_json::from_str(&self.metadata[field]).unwrap();
        change(&mut json);
        self.set(field, &json.to_string());
    }

    fn shape(&mut self, tensor: &str, shape: &[usize]) {
        self.tensors.0.get_mut(tensor).unwrap().1 = shape.to_vec();
    }

    /// Zeros in place of a tensor.
    fn zeros(&mut self, tensor: &str, dtype: Dtype, shape: &[usize]) {
        let bytes = vec![0; shape.iter().product::<usize>() * dtype.bitsize() / 8];
        self.tensors.0.insert(tensor.into(), (dtype, shape.to_vec(), bytes));
    }

    /// The first element of a tensor of F32.
    fn first(&mut self, tensor: &str, value: f32) {
        let (_, _, bytes) = self.tensors.0.get_mut(tensor).unwrap();
        bytes[..4].copy_from_slice(&value.to_le_bytes());
    }

    fn remove(&mut self, tensor: &str) {
        self.tensors.0.remove(tensor).unwrap();
    }
}

const KINDS: [(&str, &str); 3] =
    [("latents", "latents"), ("embeddings", "prompt_embeds"), ("run", "0.latents")];

#[test]
fn files_that_are_not_there_or_not_whole() {
    let files = Files::new();
    for (kind, _) in KINDS {
        let whole = fs::read(files.path(kind)).unwrap();
        let path = files.path("damaged");
        for (content, expected) in [
            (&b""[..], "is empty"),
            (&whole[..whole.len() / 2], "is not a whole safetensors file"),
            (&whole[..whole.len() - 1], "is not a whole safetensors file"),
            (b"<!doctype html><title>404</title>", "is a web page"),
            (b"GIF89a\x10\0\x10\0", "is a picture"),
        ] {
            fs::write(&path, content).unwrap();
            let error = files.error_of(kind, &path);
            let ok = matches!(error, Error::TensorFile(TensorFileError::File(_)));
            assert!(ok, "{kind}: {error:?}");
            says(&error, &["damaged", expected]);
        }
        for (path, said) in [(files.path("none"), "no such file"), (files.path(""), "not a file")] {
            let error = files.error_of(kind, &path);
            assert!(matches!(error, Error::TensorFile(TensorFileError::File(_))), "{error:?}");
            says(&error, &[said]);
        }
    }
}

#[test]
fn files_of_another_kind() {
    let files = Files::new();
    for (kind, _) in KINDS {
        for (other, _) in KINDS.iter().filter(|(other, _)| *other != kind) {
            let error = files.error_of(kind, &files.path(other));
            let ok = matches!(error, Error::TensorFile(TensorFileError::Kind { .. }));
            assert!(ok, "{kind}: {error:?}");
            let expected = format!("is a file of {other}, but must be a file of {kind}");
            says(&error, &[other, &expected]);
        }
        let error = files.error_with(kind, |file| file.set(KIND, "recipes"));
        assert_is!(error, Kind, ["is a file of recipes", &format!("a file of {kind}")]);
    }
    // Latents of other programs say nothing about themselves; all else must.
    let anonymous = |kind| files.changed(kind, |file| file.metadata.clear());
    files.pipeline.load_latents(anonymous("latents")).unwrap();
    for kind in ["embeddings", "run"] {
        let error = files.error_of(kind, &anonymous(kind));
        says(&error, &["no file that wan-pipeline wrote", kind]);
    }
    let weights = Model::copy();
    for kind in ["embeddings", "run"] {
        let error = files.error_of(kind, &weights.file(TRANSFORMER_WEIGHTS));
        assert!(matches!(error, Error::TensorFile(TensorFileError::Kind { .. })), "{error:?}");
    }
    let error = files.error_of("latents", &weights.file(TRANSFORMER_WEIGHTS));
    let ok = matches!(error, Error::TensorFile(TensorFileError::MissingTensor { .. }));
    assert!(ok, "{error:?}");
    says(&error, &["no tensor latents"]);
}

#[test]
fn files_of_a_later_version() {
    let files = Files::new();
    for (kind, _) in KINDS {
        for format in ["2", "4000000000"] {
            let error = files.error_with(kind, |file| file.set(FORMAT, format));
            let parts = [&format!("has format {format},"), "up to 1", "use a newer one"];
            assert_is!(error, NewerFormat, parts);
        }
        for format in ["0", "-1", "1.5", "one", ""] {
            let error = files.error_with(kind, |file| file.set(FORMAT, format));
            assert_is!(error, Metadata, [&format!("it is {format:?},"), "from 1 on"]);
        }
        let error = files.error_with(kind, |file| drop(file.metadata.remove(FORMAT)));
        assert_is!(error, Metadata, ["it is \"\",", "from 1 on"]);
    }
}

#[test]
fn tensors_that_are_not_what_they_should_be() {
    let files = Files::new();
    for (kind, tensor) in KINDS {
        let error = files.error_with(kind, |file| file.remove(tensor));
        assert_is!(error, MissingTensor, [&format!("no tensor {tensor}")]);
        for dtype in [Dtype::F16, Dtype::BF16, Dtype::F64, Dtype::I32] {
            let shape = File::read(&files.path(kind)).tensors.0[tensor].1.clone();
            let error = files.error_with(kind, |file| file.zeros(tensor, dtype, &shape));
            assert_is!(error, Dtype, [&format!("{tensor} has dtype {dtype},"), "must have F32"]);
        }
        for value in [f32::NAN, f32::INFINITY] {
            let error = files.error_with(kind, |file| file.first(tensor, value));
            assert_is!(error, NotFinite, [&format!("{tensor} has values that are not finite")]);
        }
        let error = files.error_with(kind, |file| file.zeros(tensor, Dtype::F32, &[64]));
        assert_is!(error, Shape, [tensor, "[64]", "axes"]);
    }
}

#[test]
fn latents_of_another_shape() {
    let files = Files::new();
    for shape in [&[16, 1, 2, 2][..], &[1, 1, 16, 1, 2, 2]] {
        let error = files.error_with("latents", |file| file.shape("latents", shape));
        assert_is!(error, Shape, [&format!("{shape:?}"), "5 axes"]);
    }
    // Channels of another model, or nothing at all.
    for shape in [[1, 48, 1, 2, 2], [1, 8, 1, 2, 2], [0, 16, 1, 2, 2], [1, 16, 0, 2, 2]] {
        let error = files.error_with("latents", |file| file.zeros("latents", Dtype::F32, &shape));
        assert_is!(error, Shape, [&format!("{shape:?}"), "[N, 16, T, H, W]"]);
    }
    for videos in ["", "{}", "[7]", "[{\"seed\": -1}]"] {
        let error = files.error_with("latents", |file| file.set("videos", videos));
        assert_is!(error, Metadata, ["the metadata videos is damaged"]);
    }
}

#[test]
fn embeddings_of_another_shape() {
    let files = Files::new();
    let width = 128;
    for tensor in ["prompt_embeds", "negative_prompt_embeds"] {
        for shape in [[0, width], [3, 0]] {
            let path = files.changed("embeddings", |file| file.zeros(tensor, Dtype::F32, &shape));
            let error = files.error_of("embeddings", &path);
            let ok = matches!(error, Error::TensorFile(TensorFileError::Shape { .. }));
            assert!(ok, "{error:?}");
        }
        let error =
            files.error_with("embeddings", |file| file.zeros(tensor, Dtype::F32, &[1, 3, width]));
        assert_is!(error, Shape, [tensor, "[1, 3, 128]", "2 axes"]);
    }
    // Those of another model are whole: the request that brings them is refused.
    let path =
        files.changed("embeddings", |file| file.zeros("prompt_embeds", Dtype::F32, &[3, 4096]));
    let embeddings = Embeddings::load(path).unwrap();
    let request = Request::new("").prompt_embeds(embeddings.prompt);
    let error = files.pipeline.generate_with(&request, &mut not_yet()).unwrap_err();
    assert!(matches!(error, Error::Request(RequestError::EmbedsWidth { .. })), "{error:?}");
}

/// A run that was changed by hand, or is one of another model.
#[test]
fn runs_that_cannot_go_on() {
    let files = Files::new();
    let error_with = |change: &dyn Fn(&mut Value)| {
        let path = files.changed("run", |file| file.change_json("run", change));
        let error = files.error_of("run", &path);
        assert!(matches!(error, Error::TensorFile(_) | Error::Request(_)), "{error:?}");
        error
    };
    for (change, parts) in [
        (
            &(|run: &mut Value| run["plans"] = json!([])) as &dyn Fn(&mut Value),
            ["run", "no videos"],
        ),
        (&|run| run["done"] = json!(4), ["run", "more steps are done"]),
        (&|run| run["done"] = json!(-1), ["run", "damaged"]),
        (&|run| run["fingerprints"] = json!([]), ["transformer", "missing"]),
        (
            &|run| run["plans"][0]["width"] = json!(32),
            ["shape [1, 16, 1, 2, 2]", "[1, 16, 1, 2, 4]"],
        ),
        (&|run| run["plans"][0]["width"] = json!(24), ["width is 24,", "16 or 32"]),
        (&|run| run["plans"][0]["num_frames"] = json!(2), ["frames is 2,", "1 or 5"]),
        (&|run| run["plans"][0]["fps"] = json!(0), ["fps is 0,", "1 to 240"]),
        (&|run| run["plans"][0]["text_length"] = json!(1), ["text length is 1,", "2 to 4096"]),
        (&|run| run["plans"][0]["guidance"]["scale"] = json!(-3), ["guidance is -3,", "1000"]),
        (&|run| run["plans"][0]["guidance"]["rescale"] = json!(2), ["rescale is 2,", "0 to 1"]),
        (&|run| run["plans"][0]["schedule"]["start"] = json!(3), ["run", "more steps are done"]),
        (
            &|run| run["plans"][0]["schedule"]["sigmas"] = json!([1, 0.5]),
            ["2 sigmas", "3 timesteps"],
        ),
        (&|run| run["plans"][0]["schedule"]["sigmas"][1] = json!(2), ["sigma is 2,", "0 to 1"]),
        (&|run| run["plans"][0]["scheduler"]["solver_order"] = json!(9), ["solver_order", "9"]),
        (&|run| run["plans"][0]["latent_shape"][3] = json!(4), ["latents", "[1, 16, 1, 4, 2]"]),
    ] {
        says(&error_with(change), &parts);
    }
    for field in ["", "[]", "{\"plans\": 7}"] {
        let error = files.error_with("run", |file| file.set("run", field));
        assert_is!(error, Metadata, ["the metadata run is damaged"]);
    }
    let error = files.error_with("run", |file| drop(file.metadata.remove("run")));
    assert_is!(error, Metadata, ["it is missing"]);
}

#[test]
fn tensors_of_a_run_that_do_not_fit_its_plan() {
    let files = Files::new();
    let error_with = |change: &dyn Fn(&mut File)| {
        files.error_of("run", &files.changed("run", |file| change(file)))
    };
    let larger = [1, 16, 1, 4, 4];
    for (change, parts) in [
        (
            &(|file: &mut File| file.zeros("0.latents", Dtype::F32, &larger)) as &dyn Fn(&mut File),
            ["0.latents", "[1, 16, 1, 2, 2]"],
        ),
        (&|file| file.remove("0.prompt_embeds"), ["no tensor", "0.prompt_embeds"]),
        (
            &|file| file.zeros("0.prompt_embeds", Dtype::F32, &[3, 64]),
            ["width of 64", "reads text of width 128"],
        ),
        (
            &|file| file.zeros("0.negative_prompt_embeds", Dtype::F32, &[513, 128]),
            ["513 tokens", "the text length is 512"],
        ),
        (&|file| remove_of(file, "0.scheduler."), ["no tensor", "0.scheduler."]),
    ] {
        says(&error_with(change), &parts);
    }
}

/// Removes all tensors whose names begin with `prefix`, of which there must be one.
fn remove_of(file: &mut File, prefix: &str) {
    let before = file.tensors.0.len();
    file.tensors.0.retain(|name, _| !name.starts_with(prefix));
    assert!(file.tensors.0.len() < before, "{prefix}");
}

#[test]
fn a_run_of_other_weights() {
    let files = Files::new();
    let model = Model::copy();
    let mut tensors = model.tensors(TRANSFORMER_WEIGHTS);
    tensors.fill("proj_out.bias", half::f16::ONE);
    model.write(TRANSFORMER_WEIGHTS, tensors.bytes());
    let other = model.open().unwrap();
    let error = other.resume(files.path("run"), &mut not_yet()).err().unwrap();
    assert!(matches!(error, Error::TensorFile(TensorFileError::OtherModel { .. })), "{error:?}");
    is_one_sentence(&error);
    says(&error, &["run", "another transformer", "fingerprint"]);
}
