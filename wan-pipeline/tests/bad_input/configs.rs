//! Configs with values that no model can have, and configs that contradict each other.

use serde_json::{Value, json};
use wan_io::files::FileError;
use wan_pipeline::{Error, ModelError};

use crate::model::{INDEX, Model, SCHEDULER, TEXT_ENCODER, TRANSFORMER, VAE, says};

/// Fields that are sizes.
const SIZES: [(&str, &[&str]); 3] = [
    (
        TEXT_ENCODER,
        &[
            "vocab_size",
            "d_model",
            "d_kv",
            "d_ff",
            "num_layers",
            "num_heads",
            "relative_attention_num_buckets",
            "relative_attention_max_distance",
        ],
    ),
    (
        TRANSFORMER,
        &[
            "num_attention_heads",
            "attention_head_dim",
            "in_channels",
            "out_channels",
            "text_dim",
            "freq_dim",
            "ffn_dim",
            "num_layers",
            "rope_max_seq_len",
        ],
    ),
    (
        VAE,
        &["base_dim", "decoder_base_dim", "z_dim", "num_res_blocks", "in_channels", "out_channels"],
    ),
];

/// Fields without which there is no model.
const REQUIRED: [(&str, &[&str]); 4] = [
    (
        TEXT_ENCODER,
        &[
            "model_type",
            "vocab_size",
            "d_model",
            "d_kv",
            "d_ff",
            "num_layers",
            "num_heads",
            "relative_attention_num_buckets",
            "layer_norm_epsilon",
            "feed_forward_proj",
        ],
    ),
    (
        TRANSFORMER,
        &[
            "_class_name",
            "patch_size",
            "num_attention_heads",
            "attention_head_dim",
            "in_channels",
            "out_channels",
            "text_dim",
            "freq_dim",
            "ffn_dim",
            "num_layers",
            "cross_attn_norm",
            "eps",
        ],
    ),
    (
        VAE,
        &[
            "_class_name",
            "base_dim",
            "z_dim",
            "dim_mult",
            "num_res_blocks",
            "temperal_downsample",
            "latents_mean",
            "latents_std",
        ],
    ),
    (SCHEDULER, &["_class_name"]),
];

impl Model {
    /// The error with another value in a field of a JSON file, which is restored afterwards.
    #[track_caller]
    fn error_with_field(&self, file: &str, field: &str, value: &Value) -> Error {
        let mut json = self.json(file);
        json[field] = value.clone();
        self.error_with(file, json.to_string())
    }
}

/// A value that is not of its field's type is an error of the file, one out of range of the config.
#[track_caller]
fn is_of_config(error: &Error) {
    let ok = matches!(
        error,
        Error::Model(ModelError::Config { .. })
            | Error::Model(ModelError::File(FileError::Json { .. }))
    );
    assert!(ok, "{error:?}");
}

#[test]
fn absurd_sizes() {
    let model = Model::copy();
    for (file, fields) in SIZES {
        for field in fields {
            for value in [
                json!(0),
                json!(-1),
                json!(1.5),
                json!(1u64 << 40),
                json!(u64::MAX),
                json!(1e300),
                json!("many"),
                json!([4]),
                json!(true),
            ] {
                let error = model.error_with_field(file, field, &value);
                is_of_config(&error);
                says(&error, &[file, field]);
                if let Some(number) = value.as_u64() {
                    says(&error, &[&format!("{field} is {number}, but must be ")]);
                }
            }
        }
    }
}

#[test]
fn missing_fields() {
    let model = Model::copy();
    for (file, fields) in REQUIRED {
        for &field in fields {
            let mut json = model.json(file);
            json.as_object_mut().unwrap().remove(field);
            let error = model.error_with(file, json.to_string());
            assert!(
                matches!(error, Error::Model(ModelError::File(FileError::Json { .. }))),
                "{error:?}"
            );
            says(&error, &[file, &format!("missing field `{field}`")]);
        }
    }
}

#[test]
fn values_that_no_model_has() {
    let ones = |n: usize| json!(vec![1.0; n]);
    let cases = [
        (TEXT_ENCODER, "model_type", json!("t5"), "\"umt5\""),
        (TEXT_ENCODER, "feed_forward_proj", json!("relu"), "\"gated-gelu\""),
        (TEXT_ENCODER, "layer_norm_epsilon", json!(0), "more than 0"),
        (TEXT_ENCODER, "layer_norm_epsilon", json!(-1e-6), "more than 0"),
        (TEXT_ENCODER, "layer_norm_epsilon", json!("1e-6"), "f64"),
        (TEXT_ENCODER, "relative_attention_num_buckets", json!(30), "a multiple of 4"),
        (
            TEXT_ENCODER,
            "relative_attention_max_distance",
            json!(8),
            "9 (more than relative_attention_num_buckets / 4) to 1048576",
        ),
        (
            TRANSFORMER,
            "_class_name",
            json!("WanVACETransformer3DModel"),
            "\"WanTransformer3DModel\"",
        ),
        (TRANSFORMER, "patch_size", json!([1, 2]), "array of length 3"),
        (TRANSFORMER, "patch_size", json!([1, 0, 2]), "1 to 16"),
        (TRANSFORMER, "patch_size", json!([1, 2, 1u64 << 40]), "1 to 16"),
        (TRANSFORMER, "patch_size", json!([1, 2, -2]), "patch_size[2]"),
        (TRANSFORMER, "patch_size", json!(2), "patch_size"),
        (TRANSFORMER, "attention_head_dim", json!(47), "even"),
        (TRANSFORMER, "attention_head_dim", json!(4), "6 to 1024"),
        (TRANSFORMER, "freq_dim", json!(255), "even"),
        (TRANSFORMER, "qk_norm", json!("layer_norm"), "\"rms_norm_across_heads\""),
        (TRANSFORMER, "qk_norm", json!(null), "\"rms_norm_across_heads\""),
        (TRANSFORMER, "eps", json!(1), "less than 1"),
        (TRANSFORMER, "cross_attn_norm", json!("yes"), "boolean"),
        (TRANSFORMER, "image_dim", json!(1280), "image-to-video"),
        (TRANSFORMER, "added_kv_proj_dim", json!(5120), "image-to-video"),
        (TRANSFORMER, "pos_embed_seq_len", json!(514), "image-to-video"),
        (TRANSFORMER, "in_channels", json!(36), "image-to-video"),
        (VAE, "_class_name", json!("AutoencoderKL"), "\"AutoencoderKLWan\""),
        (VAE, "is_residual", json!(true), "Wan 2.2"),
        (VAE, "patch_size", json!(2), "Wan 2.2"),
        (VAE, "dim_mult", json!([]), "1 to 8 factors"),
        (VAE, "dim_mult", json!([1, 2, 4, 0]), "1 to 64"),
        (VAE, "dim_mult", json!([1, 2, 4, 4_000_000_000u64]), "1 to 64"),
        (VAE, "dim_mult", json!(vec![1; 40]), "1 to 8 factors"),
        (VAE, "dim_mult", json!([1, 2, -4, 4]), "dim_mult[2]"),
        (VAE, "dim_mult", json!([1, 2, 4]), "one less than dim_mult"),
        (VAE, "temperal_downsample", json!([true]), "3 values"),
        (VAE, "temperal_downsample", json!([true, true, true]), "two times true"),
        (VAE, "temperal_downsample", json!([1, 0, 0]), "temperal_downsample[0]"),
        (VAE, "attn_scales", json!([0.5]), "empty"),
        (VAE, "latents_mean", ones(3), "16 finite numbers"),
        (VAE, "latents_mean", ones(0), "16 finite numbers"),
        (VAE, "latents_mean", json!("0.1"), "latents_mean"),
        (VAE, "latents_mean", json!([null]), "latents_mean[0]"),
        (VAE, "latents_std", ones(48), "16 finite numbers"),
        (VAE, "latents_std", json!(vec![0.0; 16]), "16 finite numbers"),
        (VAE, "latents_std", json!(vec![-1.0; 16]), "16 finite numbers"),
        (VAE, "z_dim", json!(8), "8 finite numbers"),
    ];
    let model = Model::copy();
    for (file, field, value, expected) in cases {
        let error = model.error_with_field(file, field, &value);
        is_of_config(&error);
        let named = if value.is_number() && expected == "8 finite numbers" {
            "latents_mean"
        } else {
            field
        };
        says(&error, &[file, named, expected]);
    }
}

/// Each size within its range, but their products beyond any memory: the tensors do not fit, and
/// nothing is allocated to find that out.
#[test]
fn sizes_that_are_huge_together() {
    let model = Model::copy();
    for (file, values) in [
        (
            TEXT_ENCODER,
            json!({ "d_kv": 4096, "d_ff": 131_072, "num_heads": 256, "num_layers": 256 }),
        ),
        (
            TRANSFORMER,
            json!({
                "num_attention_heads": 256, "attention_head_dim": 1024, "ffn_dim": 131_072,
                "freq_dim": 16_384, "num_layers": 256, "patch_size": [16, 16, 16],
                "rope_max_seq_len": 1_048_576,
            }),
        ),
        (VAE, json!({ "base_dim": 4096, "dim_mult": [64, 64, 64, 64], "num_res_blocks": 16 })),
    ] {
        let mut json = model.json(file);
        for (field, value) in values.as_object().unwrap() {
            json[field] = value.clone();
        }
        let error = model.error_with(file, json.to_string());
        assert!(matches!(error, Error::Model(ModelError::Weights(_))), "{error:?}");
        says(&error, &[file.split('/').next().unwrap(), "has shape", "and ", "more"]);
    }
}

#[test]
fn configs_that_contradict_each_other() {
    let model = Model::copy();
    for (file, field, value, parts) in [
        (TRANSFORMER, "text_dim", 64, ["text_dim is 64", "d_model", TEXT_ENCODER, "says 128"]),
        (TEXT_ENCODER, "d_model", 64, ["text_dim is 128", "d_model", TEXT_ENCODER, "says 64"]),
        (
            TEXT_ENCODER,
            "vocab_size",
            201,
            ["vocab_size is 201", "tokens", "tokenizer.json", "says 202"],
        ),
    ] {
        let error = model.error_with_field(file, field, &json!(value));
        assert!(matches!(error, Error::Model(ModelError::ConfigsDisagree { .. })), "{error:?}");
        says(&error, &parts);
    }
    model.set(TRANSFORMER, "in_channels", json!(8));
    model.set(TRANSFORMER, "out_channels", json!(8));
    let error = model.error();
    assert!(matches!(error, Error::Model(ModelError::ConfigsDisagree { .. })), "{error:?}");
    says(&error, &[TRANSFORMER, "in_channels is 8", "z_dim", VAE, "says 16"]);
}

#[test]
fn another_pipeline() {
    let model = Model::copy();
    let part = |class: &str| json!(["diffusers", class]);
    for (field, value, expected) in [
        ("_class_name", json!("WanImageToVideoPipeline"), "\"WanPipeline\""),
        ("_class_name", json!("StableDiffusionPipeline"), "\"WanPipeline\""),
        ("_class_name", json!(null), "\"WanPipeline\""),
        ("_class_name", json!(7), "\"WanPipeline\""),
        ("text_encoder", json!(["transformers", "T5EncoderModel"]), "\"UMT5EncoderModel\""),
        ("transformer", part("WanVACETransformer3DModel"), "\"WanTransformer3DModel\""),
        ("transformer", json!([null, null]), "\"WanTransformer3DModel\""),
        ("vae", part("AutoencoderKL"), "\"AutoencoderKLWan\""),
        ("scheduler", part("DDIMScheduler"), "\"UniPCMultistepScheduler\" or "),
        ("transformer_2", part("WanTransformer3DModel"), "null"),
        ("boundary_ratio", json!(0.875), "null"),
        ("expand_timesteps", json!(true), "a timestep for each token"),
    ] {
        let error = model.error_with_field(INDEX, field, &value);
        assert!(matches!(error, Error::Model(ModelError::Index { .. })), "{error:?}");
        let shown = value.get(1).unwrap_or(&value).to_string();
        says(&error, &[INDEX, field, &shown, expected]);
    }
}

#[test]
fn schedulers_that_are_not_supported() {
    let model = Model::copy();
    for (field, value, expected) in [
        ("_class_name", json!("DDIMScheduler"), "\"UniPCMultistepScheduler\" or "),
        ("_class_name", json!(3), "string"),
        ("prediction_type", json!("epsilon"), "\"flow_prediction\""),
        ("prediction_type", json!(null), "\"flow_prediction\""),
        ("use_flow_sigmas", json!(false), "true"),
        ("predict_x0", json!(false), "true"),
        ("use_karras_sigmas", json!(true), "false"),
        ("use_exponential_sigmas", json!(true), "false"),
        ("use_beta_sigmas", json!(true), "false"),
        ("use_dynamic_shifting", json!(true), "false"),
        ("thresholding", json!(true), "false"),
        ("solver_order", json!(0), "1, 2 or 3"),
        ("solver_order", json!(4), "1, 2 or 3"),
        ("solver_order", json!(-2), "usize"),
        ("solver_type", json!("heun"), "\"bh1\" or \"bh2\""),
        ("final_sigmas_type", json!("denoise_to_zero"), "\"zero\" or \"sigma_min\""),
        ("num_train_timesteps", json!(0), "1000"),
        ("num_train_timesteps", json!(1.5), "usize"),
        ("flow_shift", json!(0), "more than 0"),
        ("flow_shift", json!(-3.0), "more than 0"),
        ("flow_shift", json!("NaN"), "f64"),
        ("flow_shift", json!(null), "f64"),
        ("shift_terminal", json!(1.0), "less than 1"),
        ("shift_terminal", json!(-0.1), "from 0"),
        ("disable_corrector", json!([-1]), "disable_corrector[0]"),
    ] {
        let error = model.error_with_field(SCHEDULER, field, &value);
        is_of_config(&error);
        says(&error, &[SCHEDULER, field, expected]);
    }
    let text =
        model.json(SCHEDULER).to_string().replace("\"flow_shift\":3.0", "\"flow_shift\":1e999");
    says(&model.error_with(SCHEDULER, text), &[SCHEDULER, "number out of range"]);
}

#[test]
fn the_index_names_another_scheduler_than_the_config() {
    let model = Model::copy();
    let error = model.error_with_field(
        INDEX,
        "scheduler",
        &json!(["diffusers", "FlowMatchEulerDiscreteScheduler"]),
    );
    assert!(matches!(error, Error::Model(ModelError::Index { .. })), "{error:?}");
    let parts = [INDEX, "scheduler", "FlowMatchEuler", "UniPCMultistepScheduler", SCHEDULER];
    says(&error, &parts);
}

/// Fields that no part of this library reads, in each file.
#[test]
fn unknown_fields_do_no_harm() {
    let model = Model::copy();
    for file in [INDEX, SCHEDULER, TEXT_ENCODER, TRANSFORMER, VAE] {
        model.set(file, "_note", json!({ "of": ["a later version", null, 1e9] }));
    }
    assert!(model.open().is_ok());
}
