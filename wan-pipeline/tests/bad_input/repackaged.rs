//! Models as people have them: repackaged, renamed, sharded, with more in them than weights. What holds
//! the same numbers gives the same latents; what does not is refused in one sentence.

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

/// E4M3 of a number below 240, cut off.
fn e4m3(number: f16) -> u8 {
    let bits = f16::from_f32(number.to_f32() / 256.0).to_bits();
    (bits >> 8 & 0x80) as u8 | (bits >> 7 & 0x7f) as u8
}

fn from_e4m3(bits: u8) -> f32 {
    let [sign, rest] = [u16::from(bits & 0x80) << 8, u16::from(bits & 0x7f) << 7];
    f16::from_bits(sign | rest).to_f32() * 256.0
}

fn e5m2(number: f16) -> u8 {
    (number.to_bits() >> 8) as u8
}

fn from_e5m2(bits: u8) -> f32 {
    f16::from_bits(u16::from(bits) << 8).to_f32()
}

/// A generation of files with 8-bit weights.
#[derive(Clone, Copy, PartialEq)]
enum Generation {
    Bare,
    Scaled,
    Described,
}

/// The weights in 8 bits (`narrow`) and the same numbers in f32 (`wide`).
fn eight_bit(tensors: &Tensors, generation: Generation) -> [Tensors; 2] {
    let (mut narrow, mut wide) = (tensors.clone(), tensors.clone());
    for (i, (name, (_, shape, bytes))) in tensors.0.iter().enumerate() {
        if shape.len() < 2 || !name.ends_with(".weight") {
            continue;
        }
        let layer = name.strip_suffix(".weight").unwrap();
        let numbers = bytes.as_chunks().0.iter().map(|bytes| f16::from_le_bytes(*bytes));
        type Encode = fn(f16) -> u8;
        type Decode = fn(u8) -> f32;
        let (encode, decode): (Encode, Decode) =
            if i % 2 == 0 { (e4m3, from_e4m3) } else { (e5m2, from_e5m2) };
        let bits: Vec<u8> = numbers.map(encode).collect();
        let mut dtype = if i % 2 == 0 { Dtype::F8_E4M3 } else { Dtype::F8_E5M2 };
        let rows = shape[0];
        let (scales, scale_shape): (Vec<f32>, Vec<usize>) = match generation {
            Generation::Bare => (vec![1.0], vec![]),
            Generation::Scaled => {
                (vec![0.97 + i as f32 * 1e-4], if i % 3 == 0 { vec![1] } else { vec![] })
            }
            Generation::Described => {
                ((0..rows).map(|row| 1.0 + row as f32 * 1e-4).collect(), vec![rows, 1])
            }
        };
        let row = bits.len() / rows;
        let product =
            |(at, &bits): (usize, &u8)| decode(bits) * scales.get(at / row).unwrap_or(&scales[0]);
        let wide_bytes: Vec<u8> =
            bits.iter().enumerate().flat_map(|each| product(each).to_le_bytes()).collect();
        wide.add(name, Dtype::F32, shape, &wide_bytes);
        let scale: Vec<u8> = scales.iter().flat_map(|scale| scale.to_le_bytes()).collect();
        match generation {
            Generation::Bare => {}
            Generation::Scaled => {
                narrow.add(&format!("{layer}.scale_weight"), Dtype::F32, &scale_shape, &scale);
                narrow.add(&format!("{layer}.scale_input"), Dtype::F32, &[], &2f32.to_le_bytes());
                narrow.add("scaled_fp8", Dtype::F8_E4M3, &[2], &[0; 2]);
            }
            Generation::Described => {
                let format = if i % 2 == 0 { "float8_e4m3fn" } else { "float8_e5m2" };
                let about =
                    json!({ "format": format, "full_precision_matrix_mult": true }).to_string();
                narrow.add(&format!("{layer}.weight_scale"), Dtype::F32, &scale_shape, &scale);
                narrow.add(&format!("{layer}.input_scale"), Dtype::F32, &[], &2f32.to_le_bytes());
                narrow.add(
                    &format!("{layer}.comfy_quant"),
                    Dtype::U8,
                    &[about.len()],
                    about.as_bytes(),
                );
                // Some programs store the bits as bytes, which the description tells apart.
                dtype = if i % 3 == 0 { Dtype::U8 } else { dtype };
            }
        }
        narrow.add(name, dtype, shape, &bits);
    }
    [narrow, wide]
}

/// The weights of all networks in 8 bits, in each generation, give what the same numbers in f32 give.
#[test]
fn weights_in_8_bits_are_decoded_with_their_scales() {
    for generation in [Generation::Bare, Generation::Scaled, Generation::Described] {
        let (narrow, wide) = (Model::copy(), Model::copy());
        for file in WEIGHTS {
            let [bits, numbers] = eight_bit(&wide.tensors(file), generation);
            narrow.write(file, bits.bytes());
            wide.write(file, numbers.bytes());
        }
        let [found, expected] = [&narrow, &wide].map(|model| results(&model.open().unwrap()));
        assert!(found.0.iter().all(|value| value.is_finite()));
        assert!(found == expected, "the results differ");
        // Below ComfyUI's prefix and under the makers' names as well.
        let file = narrow.tensors(TRANSFORMER_WEIGHTS).original();
        let single = "transformer/single.safetensors";
        narrow.write(single, Tensors::below("model.diffusion_model.", file).bytes());
        let pipeline = builder(&narrow).transformer(narrow.file(single)).open().unwrap();
        assert!(results(&pipeline) == expected, "the results of the single file differ");
    }
}

#[test]
fn weights_that_cannot_be_decoded_exactly_are_refused() {
    let model = Model::copy();
    let layer = "blocks.1.attn1.to_k";
    let [scaled, _] = eight_bit(&model.tensors(TRANSFORMER_WEIGHTS), Generation::Scaled);
    let [described, _] = eight_bit(&model.tensors(TRANSFORMER_WEIGHTS), Generation::Described);
    let weight = format!("{layer}.weight");
    let changed = |tensors: &Tensors, change: &dyn Fn(&mut Tensors)| {
        let mut tensors = tensors.clone();
        change(&mut tensors);
        tensors.bytes()
    };
    let describe = |format: &'static str| {
        move |tensors: &mut Tensors| {
            let about = json!({ "format": format }).to_string();
            let name = format!("{layer}.comfy_quant");
            tensors.add(&name, Dtype::U8, &[about.len()], about.as_bytes());
        }
    };
    let rows = [
        (
            changed(&scaled, &|t| drop(t.0.remove(&format!("{layer}.scale_weight")))),
            "without the scale",
        ),
        (
            changed(&scaled, &|t| {
                t.0.retain(|name, _| !name.ends_with(".scale_weight"));
            }),
            "without the scale",
        ),
        (
            changed(&scaled, &|t| {
                t.add(&format!("{layer}.scale_weight"), Dtype::F32, &[2, 2], &[0; 16]);
            }),
            "scales in blocks (F32 [2, 2])",
        ),
        (changed(&described, &describe("mxfp8")), "stored as mxfp8"),
        (changed(&described, &describe("nvfp4")), "stored as nvfp4"),
        (changed(&described, &describe("int8_tensorwise")), "stored as int8_tensorwise"),
        (
            changed(&scaled, &|t| {
                let (_, shape, bytes) = t.0[&weight].clone();
                t.add(&weight, Dtype::I8, &shape, &bytes);
            }),
            "scaled numbers (I8)",
        ),
        (
            changed(&described, &|t| {
                t.add(&format!("{layer}.weight_scale_2"), Dtype::F32, &[], &[0; 4]);
            }),
            "nvfp4",
        ),
    ];
    for (bytes, expected) in rows {
        let error = model.error_with(TRANSFORMER_WEIGHTS, bytes);
        assert!(matches!(error, Error::Model(ModelError::Checkpoint(_))), "{error:?}");
        says_in_a_sentence(&error, &[TRANSFORMER_WEIGHTS, expected, "16-bit weights"]);
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

/// The transformer in two shards with an index, beside its single file.
fn shard(model: &Model, total_size: serde_json::Value) -> [String; 2] {
    let names =
        [1, 2].map(|i| format!("transformer/diffusion_pytorch_model-0000{i}-of-00002.safetensors"));
    let mut first = model.tensors(TRANSFORMER_WEIGHTS);
    let last = first.0.keys().nth(60).unwrap().clone();
    let second = Tensors(first.0.split_off(&last));
    let mut map = BTreeMap::new();
    for (name, tensors) in names.iter().zip([first, second]) {
        let shard = name.strip_prefix("transformer/").unwrap();
        map.extend(tensors.0.keys().map(|tensor| (tensor.clone(), shard.to_owned())));
        model.write(name, tensors.bytes());
    }
    let index = json!({ "metadata": { "total_size": total_size }, "weight_map": map });
    model.write(&format!("{TRANSFORMER_WEIGHTS}.index.json"), index.to_string());
    names
}

fn remove(model: &Model, file: &str) {
    std::fs::remove_file(model.file(file)).unwrap();
}

#[test]
fn nobody_reads_the_total_size_of_an_index() {
    let model = Model::copy();
    let bytes = model.read(TRANSFORMER_WEIGHTS);
    for size in [json!(0), json!(1e30), json!("2838276"), json!(-1), json!(null), json!([])] {
        model.write(TRANSFORMER_WEIGHTS, &bytes);
        shard(&model, size);
        remove(&model, TRANSFORMER_WEIGHTS);
        model.open().unwrap();
    }
    same(model.open());
}

#[test]
fn shards_need_no_index_but_each_other() {
    let model = Model::copy();
    let shards = shard(&model, json!(0));
    remove(&model, TRANSFORMER_WEIGHTS);
    remove(&model, &format!("{TRANSFORMER_WEIGHTS}.index.json"));
    same(model.open());
    // One of them stands for all.
    for shard in &shards {
        same(builder(&model).transformer(model.file(shard)).open());
    }
    remove(&model, &shards[1]);
    says_in_a_sentence(&model.error(), &[&shards[1], "there is no such file", &shards[0]]);
}

#[test]
fn of_a_file_and_shards_the_whole_one_is_taken() {
    let model = Model::copy();
    let shards = shard(&model, json!(0));
    let index = format!("{TRANSFORMER_WEIGHTS}.index.json");
    says_in_a_sentence(&model.error(), &[TRANSFORMER_WEIGHTS, &index, "--transformer"]);
    let whole = model.read(TRANSFORMER_WEIGHTS);
    for broken in [&vec![0; 5000], &whole[..5000], b"version https://git-lfs.github.com/spec/v1\n"]
    {
        model.write(TRANSFORMER_WEIGHTS, broken);
        model.open().unwrap();
    }
    same(model.open());
    model.write(TRANSFORMER_WEIGHTS, whole);
    remove(&model, &shards[0]);
    same(model.open());
}

#[test]
fn weights_under_other_names_are_taken_if_they_are_the_only_ones() {
    let model = Model::copy();
    model.rename(TEXT_ENCODER_WEIGHTS, "text_encoder/model.fp16.safetensors");
    model.rename(TRANSFORMER_WEIGHTS, "transformer/diffusion_pytorch_model.bin");
    model.rename(VAE_WEIGHTS, "vae/wan_2.1_vae.safetensors");
    same(model.open());
    let copy = model.read("vae/wan_2.1_vae.safetensors");
    model.write("vae/other.pt", &copy);
    says_in_a_sentence(&model.error(), &["vae/other.pt", "vae/wan_2.1_vae.safetensors", "--vae"]);
    model.write(VAE_WEIGHTS, &copy);
    model.open().unwrap();
    let second = model.read("text_encoder/model.fp16.safetensors");
    model.write("text_encoder/model.bf16.safetensors", second);
    let files = ["model.bf16.safetensors", "model.fp16.safetensors", "--text-encoder"];
    says_in_a_sentence(&model.error(), &files);
    let named = builder(&model).text_encoder(model.file("text_encoder/model.fp16.safetensors"));
    same(named.open());
}

/// A checkpoint of PyTorch, under the name that transformers gives it.
#[test]
fn a_checkpoint_of_pytorch_can_be_a_part_of_a_folder() {
    let model = Model::copy();
    let original = wan_mock_hub::models::original(model.path(), "a/b");
    let files = &original.commits[original.commit()];
    remove(&model, TEXT_ENCODER_WEIGHTS);
    let pickled = files["models_t5_umt5-xxl-enc-bf16.pth"].as_slice();
    model.write("text_encoder/pytorch_model.bin", pickled);
    same(model.open());
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

/// In every place where a file is read: what it is and the way out, not what a reader makes of it.
#[test]
fn files_that_are_something_else_are_called_what_they_are() {
    let model = Model::copy();
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 2838276\n";
    let gguf = [&b"GGUF\x03\0\0\0"[..], &[1; 4000]].concat();
    let kinds: [(&[u8], &[&str]); 6] = [
        (pointer.as_bytes(), &["Git LFS pointer to a file of 2838276 bytes", "git lfs pull"]),
        (&gguf, &["GGUF", "take the safetensors file"]),
        (b"<!DOCTYPE html><html>", &["web page", "download the file itself"]),
        (b"{\"error\": \"Entry not found\"}", &["answer of a server", "Entry not found"]),
        (b"\x1f\x8b\x08\0\0\0\0\0\0\0", &["gzip", "unpacked"]),
        (b"", &["empty", "get the file again"]),
    ];
    let files =
        [&WEIGHTS[..], &[INDEX, SCHEDULER, TEXT_ENCODER, TRANSFORMER, VAE, TOKENIZER]].concat();
    for (content, expected) in kinds {
        for file in &files {
            let error = model.error_with(file, content);
            says_in_a_sentence(&error, &[&[*file], expected].concat());
        }
        model.write("single", content);
        let named = [
            builder(&model).transformer(model.file("single")),
            builder(&model).text_encoder(model.file("single")),
            builder(&model).vae(model.file("single")),
            builder(&model).tokenizer(model.file("single")),
        ];
        for builder in named {
            says_in_a_sentence(&builder.open().err().unwrap(), &[&["single"], expected].concat());
        }
    }
    shard(&model, json!(0));
    remove(&model, TRANSFORMER_WEIGHTS);
    let index = format!("{TRANSFORMER_WEIGHTS}.index.json");
    says_in_a_sentence(&model.error_with(&index, pointer), &[&index, "git lfs pull"]);
}

/// A hub with `model`, and options for it with a cache of its own.
fn hub(model: &Model) -> (wan_mock_hub::MockHub, tempfile::TempDir, HubOptions) {
    let (hub, cache) = (wan_mock_hub::MockHub::start(), tempfile::tempdir().unwrap());
    hub.add(wan_mock_hub::Repo::from_folder("owner/model", model.path()));
    let options = HubOptions::from_vars(|name| match name {
        "HF_ENDPOINT" => Some(hub.endpoint()),
        "HF_HUB_CACHE" => Some(cache.path().display().to_string()),
        _ => None,
    });
    let options = options.unwrap();
    (hub, cache, options)
}

#[test]
fn other_forms_are_found_in_the_hub_too() {
    let model = Model::copy();
    let shards = shard(&model, json!(0));
    remove(&model, TRANSFORMER_WEIGHTS);
    remove(&model, &format!("{TRANSFORMER_WEIGHTS}.index.json"));
    model.rename(TEXT_ENCODER_WEIGHTS, "text_encoder/model.fp16.safetensors");
    model.rename(VAE_WEIGHTS, "vae/diffusion_pytorch_model.bin");
    let (mock, _cache, options) = hub(&model);
    same(Pipeline::<Flex>::builder("owner/model").hub(options).open());
    let asked: Vec<String> = mock.requests().into_iter().map(|request| request.file).collect();
    for file in [&shards[0], &shards[1], "vae/diffusion_pytorch_model.bin"] {
        assert!(asked.iter().any(|asked| asked == file), "{file} is not among {asked:?}");
    }
    // Two variants are not chosen from, and not downloaded.
    model.write(
        "text_encoder/model.bf16.safetensors",
        model.read("text_encoder/model.fp16.safetensors"),
    );
    let (mock, _cache, options) = hub(&model);
    let error = Pipeline::<Flex>::builder("owner/model").hub(options).open().err().unwrap();
    let files = ["model.bf16.safetensors", "model.fp16.safetensors", "--text-encoder"];
    says_in_a_sentence(&error, &files);
    assert!(mock.requests().iter().all(|request| !request.file.ends_with(".safetensors")));
}

/// The tokenizer as a SentencePiece model: its pieces with their scores.
fn sentencepiece(model: &Model) -> Vec<u8> {
    fn field(id: u8, bytes: &[u8]) -> Vec<u8> {
        [&[id, u8::try_from(bytes.len()).unwrap()], bytes].concat()
    }
    let json: Value = serde_json::from_slice(&model.read(TOKENIZER)).unwrap();
    let pieces = json["model"]["vocab"].as_array().unwrap();
    let piece = |piece: &Value| {
        let text = field(0x0a, piece[0].as_str().unwrap().as_bytes());
        let score = (piece[1].as_f64().unwrap() as f32).to_le_bytes();
        field(0x0a, &[&text[..], &[0x15], &score].concat())
    };
    pieces.iter().flat_map(piece).collect()
}

#[test]
fn a_sentencepiece_model_serves_where_there_is_no_other_tokenizer() {
    let model = Model::copy();
    model.write("tokenizer/spiece.model", sentencepiece(&model));
    remove(&model, TOKENIZER);
    same(model.open());
    let (_mock, _cache, options) = hub(&model);
    same(Pipeline::<Flex>::builder("owner/model").hub(options).open());
}

/// The folders of single parts, as diffusers has them.
#[test]
fn a_folder_can_be_a_part() {
    let model = Model::copy();
    let part = |name| model.path().join(name);
    let builder = Pipeline::<Flex>::builder("tiny-wan");
    same(builder.transformer(part("transformer")).vae(part("vae")).open());
    let error = Pipeline::<Flex>::builder("tiny-wan").transformer(part("vae")).open().err();
    says_in_a_sentence(&error.unwrap(), &["vae", "is a Wan 2.1 VAE, not a transformer"]);
    let error = Pipeline::<Flex>::builder("tiny-wan").transformer(part("scheduler")).open().err();
    says_in_a_sentence(&error.unwrap(), &["scheduler", "there is neither this file"]);
}
