//! From texts and frames to embeddings, beside what `AltCLIPProcessor` and `AltCLIPModel` make of them.

use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use serde_json::Value;
use wan_pipeline::ClipEmbedding;
use wan_pipeline::io::image::Image;

use crate::tiny_clip;

const TOLERANCE: f32 = 2e-4;

fn read(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tiny_clip");
    std::fs::read(folder.join(name)).unwrap()
}

fn numbers(view: &TensorView) -> Vec<f32> {
    view.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

fn ids(view: &TensorView) -> Vec<Vec<i64>> {
    let ids: Vec<i64> =
        view.data().as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b)).collect();
    ids.chunks(view.shape()[1]).map(<[i64]>::to_vec).collect()
}

fn close(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let error = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    println!("{what}: error {error:.2e}, allowed {TOLERANCE:.0e}");
    assert!(error <= TOLERANCE, "{what}: {error}");
}

#[test]
fn texts() {
    let (clip, meta) = (tiny_clip(), read("meta.json"));
    let meta: Value = serde_json::from_slice(&meta).unwrap();
    let (inputs, outputs) = (read("inputs.safetensors"), read("outputs.safetensors"));
    let (inputs, outputs) =
        (SafeTensors::deserialize(&inputs).unwrap(), SafeTensors::deserialize(&outputs).unwrap());
    let mut cut = 0;
    for case in ["text_en", "text_zh", "text_odd"] {
        let texts = meta["texts"][case].as_array().unwrap();
        let texts: Vec<&str> = texts.iter().map(|text| text.as_str().unwrap()).collect();
        let expected = ids(&inputs.tensor(&format!("{case}.input_ids")).unwrap());
        let masks = ids(&inputs.tensor(&format!("{case}.attention_mask")).unwrap());
        for ((text, expected), mask) in texts.iter().zip(&expected).zip(&masks) {
            let tokens = clip.tokens(text).unwrap();
            let found: Vec<i64> = tokens.ids.iter().map(|&id| id.into()).collect();
            let kept = mask.iter().filter(|&&keep| keep == 1).count();
            assert_eq!(found, expected[..kept], "{text:?}");
            cut += usize::from(tokens.dropped > 0);
        }
        let embedded = clip.embed_text(&texts).unwrap();
        let expected = outputs.tensor(&format!("{case}.text_embeds")).unwrap();
        let embedded: Vec<f32> =
            embedded.iter().flat_map(ClipEmbedding::as_slice).copied().collect();
        close(&embedded, &numbers(&expected), case);
    }
    assert_eq!(cut, 1, "one text is too long");
}

#[test]
fn frames() {
    let clip = tiny_clip();
    let (inputs, outputs) = (read("inputs.safetensors"), read("outputs.safetensors"));
    let (inputs, outputs) =
        (SafeTensors::deserialize(&inputs).unwrap(), SafeTensors::deserialize(&outputs).unwrap());
    let frame = |i: usize| {
        let view = inputs.tensor(&format!("image_{i}.frame")).unwrap();
        let (height, width) = (view.shape()[0] as u32, view.shape()[1] as u32);
        Image::from_rgb8(width, height, view.data().to_vec()).unwrap()
    };
    let frames: Vec<Image> = (0..10).map(frame).collect();
    let embedded = clip.embed_image(&frames).unwrap();
    for (i, embedded) in embedded.iter().enumerate() {
        let expected = outputs.tensor(&format!("image_{i}.image_embeds")).unwrap();
        close(embedded.as_slice(), &numbers(&expected), &format!("frame {i}"));
    }

    let meta: Value = serde_json::from_slice(&read("meta.json")).unwrap();
    let of = |case: &str| meta["texts"][case].as_array().unwrap().clone();
    let texts: Vec<Value> = [of("text_en"), of("text_zh")].concat();
    let texts: Vec<&str> = texts.iter().map(|text| text.as_str().unwrap()).collect();
    let logits = clip.logits(&embedded, &clip.embed_text(&texts).unwrap()).concat();
    let expected = numbers(&outputs.tensor("all.logits_per_image").unwrap());
    let largest = expected.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
    for (found, expected) in logits.iter().zip(&expected) {
        assert!((found - expected).abs() <= 1e-4 + 1e-4 * largest, "{found} {expected}");
    }
}
