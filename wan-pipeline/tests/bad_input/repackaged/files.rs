//! Files under other names, in other forms, or that are something else.

use super::*;

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
