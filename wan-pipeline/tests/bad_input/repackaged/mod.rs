//! Models as people have them: repackaged, renamed, sharded, with more in them than weights. What holds
//! the same numbers gives the same latents; what does not is refused in one sentence.

mod eight_bit;
mod files;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use half::f16;
use safetensors::Dtype;
use serde_json::{Value, json};
use wan_pipeline::backend::Flex;
use wan_pipeline::{Error, HubOptions, ModelError, Observer, Pipeline, PipelineBuilder};

use crate::model::{
    INDEX, Model, SCHEDULER, TEXT_ENCODER, TEXT_ENCODER_WEIGHTS, TOKENIZER, TRANSFORMER,
    TRANSFORMER_WEIGHTS, Tensors, VAE, VAE_WEIGHTS, says, smallest, tiny_wan,
};

const WEIGHTS: [&str; 3] = [TEXT_ENCODER_WEIGHTS, TRANSFORMER_WEIGHTS, VAE_WEIGHTS];
const SHARED: &str = "shared.weight";
const EMBED_TOKENS: &str = "encoder.embed_tokens.weight";

/// The latents and the frames of a small job.
fn results(pipeline: &Pipeline<Flex>) -> (Vec<f32>, Vec<Vec<u8>>) {
    let request = smallest("a red circle growing");
    let latents = pipeline.denoise_batch(std::slice::from_ref(&request), &mut Observer::silent());
    let video = pipeline.generate(&request).unwrap();
    (latents.unwrap()[0].to_vec(), video.frames().map(<[u8]>::to_vec).collect())
}

static TINY_WAN: LazyLock<(Vec<f32>, Vec<Vec<u8>>)> = LazyLock::new(|| results(&tiny_wan()));

#[track_caller]
fn same(pipeline: Result<Pipeline<Flex>, Error>) {
    assert!(results(&pipeline.unwrap()) == *TINY_WAN, "the results differ");
}

/// Fails unless the message is one sentence that has all of `parts`.
#[track_caller]
fn says_in_a_sentence(error: &Error, parts: &[&str]) {
    says(error, parts);
    assert!(!error.to_string().contains('\n'), "{error}");
}

fn builder(model: &Model) -> PipelineBuilder<Flex> {
    Pipeline::builder(model.path())
}

impl Model {
    fn change(&self, file: &str, change: impl FnOnce(&mut Tensors)) {
        let mut tensors = self.tensors(file);
        change(&mut tensors);
        self.write(file, tensors.bytes());
    }

    fn rename(&self, from: &str, to: &str) {
        std::fs::rename(self.file(from), self.file(to)).unwrap();
    }
}

impl Tensors {
    fn add(&mut self, name: &str, dtype: Dtype, shape: &[usize], bytes: &[u8]) {
        self.0.insert(name.into(), (dtype, shape.to_vec(), bytes.to_vec()));
    }

    fn add_zeros(&mut self, name: &str, shape: &[usize]) {
        self.add(name, Dtype::F16, shape, &vec![0; 2 * shape.iter().product::<usize>()]);
    }

    fn add_under(&mut self, prefix: &str, tensors: Self) {
        self.0.extend(
            tensors.0.into_iter().map(|(name, tensor)| (format!("{prefix}{name}"), tensor)),
        );
    }

    fn below(prefix: &str, tensors: Self) -> Self {
        let mut below = Self(BTreeMap::new());
        below.add_under(prefix, tensors);
        below
    }

    /// A transformer's tensors under the makers' names.
    fn original(self) -> Self {
        let names = [
            ("condition_embedder.text_embedder.linear_1", "text_embedding.0"),
            ("condition_embedder.text_embedder.linear_2", "text_embedding.2"),
            ("condition_embedder.time_embedder.linear_1", "time_embedding.0"),
            ("condition_embedder.time_embedder.linear_2", "time_embedding.2"),
            ("condition_embedder.time_proj", "time_projection.1"),
            ("attn1", "self_attn"),
            ("attn2", "cross_attn"),
            ("to_out.0", "o"),
            (".to_", "."),
            ("ffn.net.0.proj", "ffn.0"),
            ("ffn.net.2", "ffn.2"),
            ("norm2", "norm3"),
            ("proj_out", "head.head"),
        ];
        let renamed = |name: String| match name.as_str() {
            "scale_shift_table" => "head.modulation".to_owned(),
            _ => names
                .iter()
                .fold(name, |name, (from, to)| name.replace(from, to))
                .replace("scale_shift_table", "modulation"),
        };
        Self(self.0.into_iter().map(|(name, tensor)| (renamed(name), tensor)).collect())
    }
}

#[test]
fn tensors_that_are_no_weights_are_passed_over() {
    let model = Model::copy();
    for file in WEIGHTS {
        model.change(file, |tensors| {
            tensors.add("spiece_model", Dtype::U8, &[10], b"0123456789");
            tensors.add("scaled_fp8", Dtype::F8_E4M3, &[0], b"");
            tensors.add("blocks.0.attn1.to_q.comfy_quant", Dtype::U8, &[2], b"{}");
            tensors.add("embeddings.position_ids", Dtype::I64, &[1, 2], &[0; 16]);
            tensors.add("rope.freqs", Dtype::F64, &[1], &[0; 8]);
            tensors.add("norm.num_batches_tracked", Dtype::I64, &[], &[0; 8]);
            tensors.add("blocks.0._extra_state", Dtype::U8, &[0], b"");
        });
    }
    same(model.open());
    for file in WEIGHTS {
        let model = Model::copy();
        model.change(file, |tensors| tensors.add("zzz.weight", Dtype::I64, &[1], &[0; 8]));
        says_in_a_sentence(&model.error(), &[file, "zzz.weight is not part of this model"]);
    }
}

#[test]
fn the_embeddings_of_umt5_have_either_name_and_no_two_contents() {
    let model = Model::copy();
    model.change(TEXT_ENCODER_WEIGHTS, |tensors| {
        let table = tensors.0.remove(SHARED).unwrap();
        tensors.0.insert(EMBED_TOKENS.into(), table);
    });
    same(model.open());
    model.change(TEXT_ENCODER_WEIGHTS, |tensors| {
        tensors.0.insert(SHARED.into(), tensors.0[EMBED_TOKENS].clone());
    });
    model.open().unwrap();
    for at in [0, 20_000, 51_711] {
        let mut tensors = model.tensors(TEXT_ENCODER_WEIGHTS);
        tensors.0.get_mut(EMBED_TOKENS).unwrap().2[at] ^= 1;
        let error = model.error_with(TEXT_ENCODER_WEIGHTS, tensors.bytes());
        assert!(matches!(error, Error::Model(ModelError::Checkpoint(_))), "{error:?}");
        says_in_a_sentence(&error, &[TEXT_ENCODER_WEIGHTS, SHARED, EMBED_TOKENS, "differ"]);
    }
}

#[test]
fn a_whole_umt5_is_read_without_its_decoder() {
    let model = Model::copy();
    model.change(TEXT_ENCODER_WEIGHTS, |tensors| {
        tensors.0.insert("lm_head.weight".into(), tensors.0[SHARED].clone());
        tensors.add_zeros("decoder.embed_tokens.weight", &[202, 128]);
        tensors.add_zeros("decoder.block.0.layer.1.EncDecAttention.q.weight", &[128, 128]);
        tensors.add_zeros("decoder.final_layer_norm.weight", &[128]);
    });
    same(model.open());
    model.change(TEXT_ENCODER_WEIGHTS, |tensors| {
        *tensors = Tensors::below("model.", tensors.clone())
    });
    model.open().unwrap();
}

#[test]
fn any_prefix_is_dropped_in_any_part() {
    for prefix in
        ["model.diffusion_model.", "module.", "_orig_mod.", "generator_ema.model.", "net."]
    {
        let model = Model::copy();
        for file in WEIGHTS {
            model.change(file, |tensors| *tensors = Tensors::below(prefix, tensors.clone()));
        }
        let file = Tensors::below(prefix, Model::copy().tensors(TRANSFORMER_WEIGHTS).original());
        model.write("transformer/single.safetensors", file.bytes());
        let single =
            builder(&model).transformer(model.file("transformer/single.safetensors")).open();
        match prefix {
            "module." => [model.open(), single].map(same),
            _ => [model.open(), single].map(|pipeline| drop(pipeline.unwrap())),
        };
        model.change(TRANSFORMER_WEIGHTS, |tensors| tensors.add_zeros("zzz.weight", &[1]));
        says_in_a_sentence(&model.error(), &["zzz.weight is not part of this model"]);
    }
}

/// The layouts of the makers' files, below a prefix.
#[test]
fn a_prefix_is_dropped_from_the_makers_names() {
    let model = Model::copy();
    let original = wan_mock_hub::models::original(model.path(), "a/b");
    for (path, bytes) in &original.commits[original.commit()] {
        model.write(&path.replace('/', "-"), bytes.as_slice());
    }
    let parts = || {
        let index = "diffusion_pytorch_model.safetensors.index.json";
        builder(&model)
            .transformer(model.file(index))
            .text_encoder(model.file("models_t5_umt5-xxl-enc-bf16.pth"))
            .vae(model.file("Wan2.1_VAE.pth"))
    };
    let expected = results(&parts().open().unwrap());
    assert!(expected.0 == TINY_WAN.0);
    let files = wan_io::files::ModelFiles::folder(model.path()).unwrap();
    let below = |file: &str| {
        let weights = wan_io::weights::Weights::open_file(&files, file).unwrap();
        let mut tensors = Tensors(BTreeMap::new());
        for name in weights.names() {
            let tensor = weights.tensor(name).unwrap();
            let bytes = tensor.bytes().unwrap();
            tensors.add(&format!("a.b.{name}"), tensor.dtype, tensor.shape, &bytes);
        }
        model.write(&format!("{file}.safetensors"), tensors.bytes());
        model.file(&format!("{file}.safetensors"))
    };
    let text_encoder = below("models_t5_umt5-xxl-enc-bf16.pth");
    let prefixed = parts().text_encoder(text_encoder).vae(below("Wan2.1_VAE.pth"));
    assert!(results(&prefixed.open().unwrap()) == expected, "the results differ");
}

#[test]
fn an_all_in_one_file_serves_each_part() {
    let model = Model::copy();
    let mut all =
        Tensors::below("model.diffusion_model.", model.tensors(TRANSFORMER_WEIGHTS).original());
    all.add_under("vae.", model.tensors(VAE_WEIGHTS));
    all.add_under("text_encoders.umt5xxl.transformer.", model.tensors(TEXT_ENCODER_WEIGHTS));
    all.add("text_encoders.umt5xxl.spiece_model", Dtype::U8, &[1], b"0");
    all.add("text_encoders.umt5xxl.logit_scale", Dtype::F32, &[], &[0; 4]);
    for part in ["transformer", "text_encoder", "vae"] {
        model.write(&format!("{part}/all.safetensors"), all.bytes());
    }
    let all = |part: &str| model.file(&format!("{part}/all.safetensors"));
    same(builder(&model).transformer(all("transformer")).open());
    let each = builder(&model).transformer(all("transformer")).vae(all("vae"));
    same(each.text_encoder(all("text_encoder")).open());
}

#[test]
fn of_weights_and_their_mean_the_mean_is_taken() {
    let model = Model::copy();
    model.change(TRANSFORMER_WEIGHTS, |tensors| {
        let mut zeros = tensors.clone();
        zeros.0.values_mut().for_each(|(_, _, bytes)| bytes.fill(0));
        *tensors = Tensors::below("generator_ema.model.", tensors.clone());
        tensors.add_under("generator.model.", zeros);
    });
    same(model.open());
    model.change(TRANSFORMER_WEIGHTS, |tensors| {
        let below = |start: &str| tensors.0.keys().any(|name| name.starts_with(start));
        assert!(below("generator.model."));
        let names =
            tensors.0.iter().map(|(name, tensor)| (name.replace("_ema", "_2"), tensor.clone()));
        *tensors = Tensors(names.collect());
    });
    let error = model.error();
    says_in_a_sentence(&error, &["twice", "\"generator.model.\"", "\"generator_2.model.\""]);
}

/// As Self-Forcing and its kin are published: the transformer alone.
#[test]
fn of_a_checkpoint_of_a_training_the_mean_is_taken() {
    let model = Model::copy();
    let checkpoint = wan_mock_hub::models::self_forcing(model.path());
    model.write("transformer/self_forcing_dmd.pt", checkpoint);
    same(builder(&model).transformer(model.file("transformer/self_forcing_dmd.pt")).open());
}

#[test]
fn odd_safetensors_that_are_whole_load() {
    let model = Model::copy();
    for file in WEIGHTS {
        let tensors = model.tensors(file).bytes();
        let length = u64::from_le_bytes(tensors[..8].try_into().unwrap()) as usize;
        let (header, data) = tensors[8..].split_at(length);
        for metadata in ["null", "{}", r#"{"a":1,"b":null,"c":["x"],"format":"pt"}"#] {
            let header =
                [format!("{{\"__metadata__\":{metadata},").as_bytes(), &header[1..]].concat();
            let length = (header.len() as u64).to_le_bytes();
            model.write(file, [&length[..], &header, data, b"\r\n"].concat());
            model.open().unwrap();
        }
    }
    same(model.open());
}
