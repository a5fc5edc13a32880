//! Tensors that do not fit the config, and shards that do not fit their index.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use burn::tensor::DType;
use safetensors::Dtype;
use serde_json::json;
use wan_core::{CancelToken, Cancelled};
use wan_io::files::ModelFiles;
use wan_io::weights::{StoredTensor, Weights, WeightsFileError};
use wan_models::load::{LoadError, Mismatch, ReadOptions, TensorSource, WeightsError, check, load};
use wan_models::vae::{WanVae, WanVaeConfig};
use wan_pipeline::backend::Flex;
use wan_pipeline::{Error, ModelError, Pipeline};

use crate::model::{
    Model, TEXT_ENCODER_WEIGHTS, TRANSFORMER, TRANSFORMER_WEIGHTS, Tensors, VAE_WEIGHTS, says,
    smallest, tiny_wan,
};

/// The mismatches in the error of `model` with these tensors.
#[track_caller]
fn mismatches(model: &Model, file: &str, tensors: &Tensors) -> (Error, Vec<Mismatch>) {
    let error = model.error_with(file, tensors.bytes());
    let Error::Model(ModelError::Weights(weights)) = &error else { panic!("{error:?}") };
    let mismatches = weights.mismatches.clone();
    says(&error, &[file]);
    (error, mismatches)
}

#[test]
fn a_missing_tensor() {
    let model = Model::copy();
    for (file, name, shape) in [
        (TEXT_ENCODER_WEIGHTS, "shared.weight", vec![202, 128]),
        (TEXT_ENCODER_WEIGHTS, "encoder.final_layer_norm.weight", vec![128]),
        (TRANSFORMER_WEIGHTS, "blocks.3.attn2.to_out.0.bias", vec![192]),
        (TRANSFORMER_WEIGHTS, "scale_shift_table", vec![1, 2, 192]),
        (VAE_WEIGHTS, "decoder.mid_block.attentions.0.to_qkv.weight", vec![192, 64, 1, 1]),
        (VAE_WEIGHTS, "quant_conv.bias", vec![32]),
    ] {
        let mut tensors = model.tensors(file);
        tensors.0.remove(name).unwrap();
        let (error, found) = mismatches(&model, file, &tensors);
        assert_eq!(found, [Mismatch::Missing { name: name.into(), expected: shape.clone() }]);
        says(&error, &[&format!("{name} {shape:?} is missing")]);
    }
}

#[test]
fn a_tensor_too_many() {
    let model = Model::copy();
    for file in [TEXT_ENCODER_WEIGHTS, TRANSFORMER_WEIGHTS, VAE_WEIGHTS] {
        let mut tensors = model.tensors(file);
        let name = "blocks.4.attn1.to_q.bias";
        tensors.0.insert(name.into(), (Dtype::F16, vec![2], vec![0; 4]));
        let (error, found) = mismatches(&model, file, &tensors);
        assert_eq!(found, [Mismatch::Unexpected { name: name.into() }]);
        says(&error, &[&format!("{name} is not part of this model")]);
    }
}

#[test]
fn a_tensor_of_another_shape() {
    let model = Model::copy();
    let name = "blocks.0.ffn.net.0.proj.weight";
    for shape in [vec![192, 512], vec![98_304], vec![512, 192, 1], vec![512, 96]] {
        let mut tensors = model.tensors(TRANSFORMER_WEIGHTS);
        let (_, found_shape, bytes) = tensors.0.get_mut(name).unwrap();
        bytes.truncate(2 * shape.iter().product::<usize>());
        *found_shape = shape.clone();
        let (error, found) = mismatches(&model, TRANSFORMER_WEIGHTS, &tensors);
        let expected = vec![512, 192];
        assert_eq!(found, [Mismatch::Shape { name: name.into(), found: shape.clone(), expected }]);
        says(&error, &[&format!("{name} has shape {shape:?}, but must have [512, 192]")]);
    }
}

#[test]
fn a_tensor_of_another_dtype() {
    let model = Model::copy();
    let name = "decoder.conv_out.weight";
    for (dtype, shown, bytes) in [
        (Dtype::I64, "I64", 8),
        (Dtype::F64, "F64", 8),
        (Dtype::U8, "U8", 1),
        (Dtype::F8_E8M0, "F8_E8M0", 1),
    ] {
        let mut tensors = model.tensors(VAE_WEIGHTS);
        let (_, shape, _) = tensors.0[name].clone();
        let content = vec![0; bytes * shape.iter().product::<usize>()];
        tensors.0.insert(name.into(), (dtype, shape, content));
        let (error, found) = mismatches(&model, VAE_WEIGHTS, &tensors);
        assert_eq!(found, [Mismatch::DType { name: name.into(), found: shown.into() }]);
        says(&error, &[&format!("{name} has dtype {shown}, but must have F32, F16, BF16 or F8")]);
    }
}

#[test]
fn everything_that_is_wrong_is_listed_at_once() {
    let model = Model::copy();
    let mut tensors = model.tensors(TRANSFORMER_WEIGHTS);
    tensors.0.remove("blocks.0.norm2.weight").unwrap();
    tensors.0.remove("proj_out.bias").unwrap();
    tensors.0.insert("other.up".into(), (Dtype::F32, vec![], vec![0; 4]));
    tensors.0.get_mut("blocks.1.scale_shift_table").unwrap().1 = vec![6, 192];
    let (dtype, _, bytes) = tensors.0.get_mut("blocks.2.attn1.norm_k.weight").unwrap();
    (*dtype, *bytes) = (Dtype::I64, vec![0; 192 * 8]);
    let (error, found) = mismatches(&model, TRANSFORMER_WEIGHTS, &tensors);
    assert_eq!(found.len(), 5, "{found:?}");
    says(
        &error,
        &[
            "blocks.0.norm2.weight [192] is missing",
            "proj_out.bias [64] is missing",
            "other.up is not part of this model",
            "blocks.1.scale_shift_table has shape [6, 192], but must have [1, 6, 192]",
            "blocks.2.attn1.norm_k.weight has dtype I64",
        ],
    );
}

/// A file of a kind that nobody knows.
#[test]
fn weights_of_an_unknown_model() {
    let model = Model::copy();
    let tensors = model.tensors(VAE_WEIGHTS).0.into_iter();
    let unknown = tensors.map(|(name, tensor)| (name.replace(['.', '_'], "-"), tensor));
    let error = model.error_with(TRANSFORMER_WEIGHTS, Tensors(unknown.collect()).bytes());
    assert!(matches!(error, Error::Model(ModelError::Checkpoint(_))), "{error:?}");
    says(&error, &[TRANSFORMER_WEIGHTS, "these are not the weights of a Wan transformer"]);
    assert_eq!(error.to_string().lines().count(), 1);
}

/// A config that asks for one block more or less than there are.
#[test]
fn more_or_fewer_blocks_than_the_config_says() {
    let model = Model::copy();
    for layers in [3, 5] {
        model.set(TRANSFORMER, "num_layers", json!(layers));
        let error = model.error();
        assert!(matches!(error, Error::Model(ModelError::ConfigDoesNotFit { .. })), "{error:?}");
        says(&error, &[TRANSFORMER, &format!("num_layers is {layers}"), "make it 4"]);
    }
    // Where the tensors fit no config at all, they are listed.
    let mut tensors = model.tensors(TRANSFORMER_WEIGHTS);
    tensors.0.remove("proj_out.bias").unwrap();
    let (error, found) = mismatches(&model, TRANSFORMER_WEIGHTS, &tensors);
    let bias = Mismatch::Missing { name: "proj_out.bias".into(), expected: vec![64] };
    assert!(found.len() > 20 && found.contains(&bias), "{found:?}");
    says(&error, &["blocks.4.attn1.to_q.weight [192, 192] is missing", "; and "]);
}

/// The transformer in two shards.
struct Sharded {
    model: Model,
    shards: [Tensors; 2],
    index: BTreeMap<String, String>,
}

const SHARDS: [&str; 2] = [
    "diffusion_pytorch_model-00001-of-00002.safetensors",
    "diffusion_pytorch_model-00002-of-00002.safetensors",
];

impl Sharded {
    fn new() -> Self {
        let model = Model::copy();
        let all = model.tensors(TRANSFORMER_WEIGHTS);
        fs::remove_file(model.file(TRANSFORMER_WEIGHTS)).unwrap();
        let half = all.0.len() / 2;
        let mut index = BTreeMap::new();
        let mut shards = [Tensors(BTreeMap::new()), Tensors(BTreeMap::new())];
        for (i, (name, tensor)) in all.0.into_iter().enumerate() {
            let shard = i / half % 2;
            index.insert(name.clone(), SHARDS[shard].to_owned());
            shards[shard].0.insert(name, tensor);
        }
        Self { model, shards, index }
    }

    fn index_file() -> String {
        format!("{TRANSFORMER_WEIGHTS}.index.json")
    }

    fn write(&self) -> &Model {
        for (name, shard) in SHARDS.iter().zip(&self.shards) {
            self.model.write(&format!("transformer/{name}"), shard.bytes());
        }
        let tensors = self.shards.iter().flat_map(|shard| shard.0.values());
        let size: usize = tensors.map(|(_, _, bytes)| bytes.len()).sum();
        let index = json!({ "metadata": { "total_size": size }, "weight_map": self.index });
        self.model.write(&Self::index_file(), index.to_string());
        &self.model
    }

    #[track_caller]
    fn error(&self) -> Error {
        let error = self.write().error();
        says(&error, &["transformer/"]);
        error
    }
}

#[test]
fn shards_make_the_same_video_as_one_file() {
    let sharded = Sharded::new();
    let request = smallest("a red circle growing").frames(5);
    let expected = tiny_wan().generate(&request).unwrap();
    let video = sharded.write().open().unwrap().generate(&request).unwrap();
    assert!(video.frames().eq(expected.frames()));
}

#[test]
fn a_shard_that_is_missing() {
    let sharded = Sharded::new();
    fs::remove_file(sharded.write().file(&format!("transformer/{}", SHARDS[1]))).unwrap();
    let error = sharded.model.error();
    let ok = matches!(
        error,
        Error::Model(ModelError::WeightsFile(WeightsFileError::MissingShard { .. }))
    );
    assert!(ok, "{error:?}");
    says(&error, &[SHARDS[1], "there is no such file", &Sharded::index_file()]);
}

#[test]
fn a_shard_that_is_cut_off() {
    let sharded = Sharded::new();
    let name = format!("transformer/{}", SHARDS[0]);
    let whole = sharded.write().read(&name);
    let error = sharded.model.error_with(&name, &whole[..whole.len() - 1]);
    let ok = matches!(
        error,
        Error::Model(ModelError::WeightsFile(WeightsFileError::Safetensors { .. }))
    );
    assert!(ok, "{error:?}");
    says(&error, &[&name]);
}

#[test]
fn tensors_in_shards_are_checked_too() {
    let mut sharded = Sharded::new();
    let name = "proj_out.bias";
    sharded.shards[1].0.remove(name).unwrap();
    sharded.index.remove(name).unwrap();
    let error = sharded.error();
    assert!(matches!(error, Error::Model(ModelError::Weights(_))), "{error:?}");
    says(&error, &["proj_out.bias [64] is missing"]);
}

#[test]
fn numbers_that_are_none_are_named_if_that_is_asked_for() {
    for (file, tensor) in [
        (TEXT_ENCODER_WEIGHTS, "shared.weight"),
        (TEXT_ENCODER_WEIGHTS, "encoder.final_layer_norm.weight"),
        (TRANSFORMER_WEIGHTS, "blocks.1.attn1.to_q.weight"),
    ] {
        let model = Model::copy();
        let mut tensors = model.tensors(file);
        let (_, _, bytes) = tensors.0.get_mut(tensor).unwrap();
        bytes[10..12].copy_from_slice(&0x7c00u16.to_le_bytes()); // infinite
        model.write(file, tensors.bytes());
        let pipeline = Pipeline::<Flex>::builder(model.path()).require_finite(true).open().unwrap();
        let error = pipeline.generate(&smallest("a red circle growing")).err().unwrap();
        says(&error, &[file, tensor, "has at 5 a number that is infinite or not a number"]);
        let Error::Model(ModelError::Weights(WeightsError { mismatches, .. })) = error else {
            panic!("{error:?}")
        };
        assert_eq!(mismatches, [Mismatch::NotFinite { name: tensor.into(), index: 5 }]);
    }
    let whole = Pipeline::<Flex>::builder("tiny-wan").require_finite(true).open().unwrap();
    whole.generate(&smallest("a red circle growing")).unwrap();
}

/// Weights that count how often a tensor was asked for, and cancel a token at a certain time.
struct Cancelling {
    weights: Weights,
    token: CancelToken,
    asked: AtomicUsize,
    at: AtomicUsize,
}

impl TensorSource for Cancelling {
    fn names(&self) -> Vec<String> {
        self.weights.names().map(str::to_owned).collect()
    }

    fn tensor(&self, canonical: &str) -> Option<StoredTensor<'_>> {
        if self.asked.fetch_add(1, Ordering::Relaxed) + 1 == self.at.load(Ordering::Relaxed) {
            self.token.cancel();
        }
        self.weights.tensor(canonical)
    }

    fn origin(&self) -> String {
        self.weights.origin().to_owned()
    }
}

#[test]
fn a_cancelled_load_reads_no_further_tensor() {
    let model = Model::copy();
    let files = ModelFiles::folder(model.path()).unwrap();
    let config: WanVaeConfig = files.json("vae/config.json").unwrap();
    let weights = Weights::open(&files, "vae", "diffusion_pytorch_model").unwrap();
    let token = CancelToken::default();
    let options = ReadOptions::new(DType::F32).cancel(token.clone());
    let (asked, at) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let source = Arc::new(Cancelling { weights, token, asked, at });
    let tensors: Arc<dyn TensorSource> = source.clone();
    check::<Flex, WanVae<Flex>>(&tensors, &Default::default(), DType::F32, &config).unwrap();
    // They are all asked for again to be compared, and then one by one to be read.
    let all = source.asked.load(Ordering::Relaxed);
    source.at.store(2 * all + 3, Ordering::Relaxed);
    let result = load::<Flex, WanVae<Flex>>(&tensors, &Default::default(), options, &config);
    assert!(matches!(result, Err(LoadError::Cancelled(Cancelled))));
    assert_eq!(source.asked.load(Ordering::Relaxed), 2 * all + 3);
    let loaded = load::<Flex, WanVae<Flex>>(&tensors, &Default::default(), DType::F32, &config);
    assert!(loaded.is_ok());
}
