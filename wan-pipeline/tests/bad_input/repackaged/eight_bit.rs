//! Weights in 8-bit floats, of all generations.

use super::*;

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
