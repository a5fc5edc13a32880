//! Damaged and wrong models: a clear error that names the file and the field or tensor, and never a panic.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};
use wan_pipeline::{Clip, Error};

use crate::Flex;
use crate::found::write_files;

const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";

/// What a model that is damaged by `damage` is refused with.
fn refusal(damage: impl FnOnce(&Path)) -> Error {
    let folder = tempfile::tempdir().unwrap();
    write_files(folder.path());
    damage(folder.path());
    Clip::<Flex>::from_pretrained(folder.path()).map(drop).expect_err("a damaged model is refused")
}

fn edit(file: &'static str, change: impl FnOnce(&mut Value)) -> impl FnOnce(&Path) {
    move |folder| {
        let path = folder.join(file);
        let mut json = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        change(&mut json);
        fs::write(path, json.to_string()).unwrap();
    }
}

type Tensors = BTreeMap<String, (Vec<usize>, Vec<u8>)>;

fn edit_tensors(change: impl FnOnce(&mut Tensors)) -> impl FnOnce(&Path) {
    move |folder| {
        let path = folder.join(WEIGHTS);
        let bytes = fs::read(&path).unwrap();
        let stored = SafeTensors::deserialize(&bytes).unwrap();
        let read = |(name, view): (String, TensorView)| {
            (name, (view.shape().to_vec(), view.data().to_vec()))
        };
        let mut tensors: Tensors = stored.tensors().into_iter().map(read).collect();
        change(&mut tensors);
        let views = tensors.iter().map(|(name, (shape, bytes))| {
            (name, TensorView::new(Dtype::F16, shape.clone(), bytes).unwrap())
        });
        fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
    }
}

#[track_caller]
fn check(damage: impl FnOnce(&Path), said: &[&str]) {
    let message = refusal(damage).to_string();
    for part in said {
        assert!(message.contains(part), "{message:?} does not say {part:?}");
    }
}

#[test]
fn configs() {
    for (field, value, said) in [
        ("/model_type", json!("umt5"), &["config.json: model_type", "\"umt5\"", "altclip"][..]),
        ("/model_type", json!("clip_vision_model"), &["model_type"]),
        ("/projection_dim", json!(0), &["projection_dim is 0"]),
        ("/projection_dim", json!(63), &["projection_dim is 63", "64"]),
        ("/text_config/hidden_size", json!("wide"), &["text_config", "wide"]),
        (
            "/text_config/num_attention_heads",
            json!(7),
            &["num_attention_heads is 7", "hidden_size"],
        ),
        ("/text_config/hidden_act", json!("relu"), &["hidden_act is \"relu\"", "gelu"]),
        ("/text_config/vocab_size", json!(235), &["vocab_size is 235", "tokenizer.json says 236"]),
        ("/text_config/pad_token_id", json!(0), &["pad_token_id is 0", "tokenizer.json says 1"]),
        ("/text_config/max_position_embeddings", json!(2), &["max_position_embeddings is 2"]),
        ("/text_config/layer_norm_eps", json!(0.0), &["layer_norm_eps"]),
        ("/vision_config/patch_size", json!(7), &["patch_size is 7", "image_size, which is 64"]),
        ("/vision_config/patch_size", json!(0), &["patch_size is 0"]),
        ("/vision_config/image_size", json!(32), &["crop_size is 64", "says 32"]),
        (
            "/vision_config/num_hidden_layers",
            json!(3),
            &["vision_config.num_hidden_layers is 3", "make it 4"],
        ),
        ("/vision_config", json!([1]), &["vision_config"]),
    ] {
        check(
            edit(CONFIG, |config| *config.pointer_mut(field).expect("the field") = value.clone()),
            said,
        );
    }
    check(|folder| fs::write(folder.join(CONFIG), "{").unwrap(), &["config.json"]);
    check(
        edit("preprocessor_config.json", |config| config["crop_size"] = json!(32)),
        &["crop_size is 32"],
    );
    check(
        edit("preprocessor_config.json", |config| config["image_std"] = json!([0.0, 1.0, 1.0])),
        &["preprocessor_config.json", "image_std"],
    );
}

#[test]
fn files() {
    for file in [CONFIG, WEIGHTS, "tokenizer.json", "preprocessor_config.json"] {
        check(|folder| fs::remove_file(folder.join(file)).unwrap(), &[file]);
        check(|folder| fs::write(folder.join(file), "").unwrap(), &[file]);
        check(|folder| fs::write(folder.join(file), "<html>no</html>").unwrap(), &[file]);
    }
    check(
        |folder| {
            let path = folder.join(WEIGHTS);
            let bytes = fs::read(&path).unwrap();
            fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
        },
        &[WEIGHTS],
    );
}

#[test]
fn tensors() {
    let name = "text_model.roberta.encoder.layer.1.attention.self.key.weight";
    check(edit_tensors(|tensors| drop(tensors.remove(name))), &[name, "is missing"]);
    check(
        edit_tensors(|tensors| drop(tensors.remove("logit_scale"))),
        &["logit_scale [] is missing"],
    );
    check(
        edit_tensors(|tensors| drop(tensors.insert("other".into(), (vec![1], vec![0; 2])))),
        &["other is not part of this model"],
    );
    check(
        edit_tensors(|tensors| tensors.get_mut(name).unwrap().0 = vec![48, 192]),
        &[name, "[48, 192]", "[96, 96]"],
    );
    check(
        edit_tensors(|tensors| tensors.retain(|name, _| !name.starts_with("vision_model."))),
        &["vision_model"],
    );
    check(edit_tensors(|tensors| tensors.retain(|name, _| name == "logit_scale")), &["CLIP"]);
}

/// The tokenizer of another model is refused, where its size or its special tokens tell.
#[test]
fn tokenizers() {
    let (_, umt5) =
        tiny_wan::FILES.iter().find(|(name, _)| name.ends_with("tokenizer.json")).unwrap();
    check(
        |folder| fs::write(folder.join("tokenizer.json"), umt5).unwrap(),
        &["tokenizer.json", "one token before"],
    );
    check(
        edit("tokenizer.json", |tokenizer| {
            tokenizer["model"]["vocab"].as_array_mut().unwrap().push(json!(["more", -9.0]));
        }),
        &["vocab_size is 236", "tokenizer.json says 237"],
    );
    check(
        edit("tokenizer.json", |tokenizer| tokenizer["model"]["type"] = json!("WordPiece")),
        &["tokenizer.json", "WordPiece"],
    );
}

#[test]
fn other_models_are_none() {
    let error = Clip::<Flex>::from_pretrained("tiny-wan").map(drop).unwrap_err();
    assert!(error.to_string().contains("tiny-wan:config.json"), "{error}");
    let error = Clip::<Flex>::from_pretrained("tiny-clop").map(drop).unwrap_err();
    assert!(error.to_string().contains("tiny-clip"), "{error}");
    let error = wan_pipeline::Pipeline::<Flex>::from_pretrained("tiny-clip").map(drop).unwrap_err();
    assert!(error.to_string().contains("model_index.json"), "{error}");
}

/// Weights that are not numbers give no ranking that looks like one.
#[test]
fn what_is_not_a_number_is_said() {
    let folder = tempfile::tempdir().unwrap();
    write_files(folder.path());
    let not_a_number = edit_tensors(|tensors| {
        let (_, bytes) = tensors.get_mut("text_projection.weight").unwrap();
        bytes[..2].copy_from_slice(&[0, 0x7e]);
    });
    not_a_number(folder.path());
    let clip = Clip::<Flex>::from_pretrained(folder.path()).unwrap();
    let error = clip.embed_text(&["a red circle"]).unwrap_err();
    assert!(matches!(error, Error::NotFinite { .. }), "{error:?}");
}
