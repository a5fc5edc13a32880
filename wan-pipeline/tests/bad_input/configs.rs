//! Configs with values that no model can have, and configs that contradict each other.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use wan_io::files::FileError;
use wan_pipeline::backend::Flex;
use wan_pipeline::{
    Error, ModelError, Pipeline, RequestError, SchedulerConfig, SchedulerKind, Steps,
};

use crate::model::{
    INDEX, Model, SCHEDULER, TEXT_ENCODER, TOKENIZER, TRANSFORMER, TRANSFORMER_WEIGHTS, VAE, says,
    smallest,
};

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

/// Fields of which the miniature model has the default of the Python class.
const DEFAULTS: [(&str, &[&str]); 3] = [
    (
        TEXT_ENCODER,
        &[
            "model_type",
            "relative_attention_num_buckets",
            "relative_attention_max_distance",
            "layer_norm_epsilon",
            "feed_forward_proj",
        ],
    ),
    (
        TRANSFORMER,
        &[
            "_class_name",
            "patch_size",
            "in_channels",
            "out_channels",
            "freq_dim",
            "cross_attn_norm",
            "qk_norm",
            "eps",
            "image_dim",
            "rope_max_seq_len",
        ],
    ),
    (
        VAE,
        &[
            "_class_name",
            "z_dim",
            "dim_mult",
            "attn_scales",
            "temperal_downsample",
            "latents_mean",
            "latents_std",
            "is_residual",
            "in_channels",
            "decoder_base_dim",
        ],
    ),
];

/// Fields of which it has another value than the default.
const OTHERS: [(&str, &[(&str, &str)]); 3] = [
    (TEXT_ENCODER, &[("d_kv", "64"), ("d_ff", "1024"), ("num_layers", "8"), ("num_heads", "6")]),
    (
        TRANSFORMER,
        &[
            ("num_attention_heads", "40"),
            ("attention_head_dim", "128"),
            ("ffn_dim", "13824"),
            ("num_layers", "40"),
        ],
    ),
    (VAE, &[("base_dim", "96"), ("num_res_blocks", "2")]),
];

impl Model {
    /// The error with another value in a field of a JSON file, which is restored afterwards.
    #[track_caller]
    pub(crate) fn error_with_field(&self, file: &str, field: &str, value: &Value) -> Error {
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

/// Opens the model with a field left out, and with one that is null.
fn without_field<T>(model: &Model, file: &str, field: &str, open: impl Fn() -> T) -> [T; 2] {
    let before = model.read(file);
    let mut json = model.json(file);
    json[field] = Value::Null;
    model.write(file, json.to_string());
    let null = open();
    json.as_object_mut().unwrap().remove(field);
    model.write(file, json.to_string());
    let absent = open();
    model.write(file, before);
    [null, absent]
}

#[test]
fn fields_that_are_left_out_have_the_defaults_of_python() {
    let model = Model::copy();
    for (file, fields) in DEFAULTS {
        for field in fields {
            for opened in without_field(&model, file, field, || model.open()) {
                assert!(opened.is_ok(), "{file} {field}: {:?}", opened.err());
            }
        }
    }
}

#[test]
fn a_default_that_does_not_fit_the_tensors_is_named() {
    let model = Model::copy();
    for (file, fields) in OTHERS {
        for (field, default) in fields {
            let weights = model.file(file.split('/').next().unwrap()).display().to_string();
            let right = model.json(file)[field].to_string();
            for error in without_field(&model, file, field, || model.error()) {
                let ok = matches!(error, Error::Model(ModelError::ConfigDoesNotFit { .. }));
                assert!(ok, "{error:?}");
                let says_what =
                    format!("{field} is {default} (its default), but the tensors of {weights}");
                says(&error, &[file, &says_what, &format!("make it {right}")]);
                assert_eq!(error.to_string().lines().count(), 1);
            }
        }
    }
    // These must agree with another part.
    let d_model = without_field(&model, TEXT_ENCODER, "d_model", || model.error());
    let text_dim = without_field(&model, TRANSFORMER, "text_dim", || model.error());
    let expected = [["text_dim", "d_model", "512"], ["text_dim", "4096", "d_model"]];
    for (errors, parts) in [d_model, text_dim].iter().zip(expected) {
        errors.iter().for_each(|error| says(error, &parts));
    }
}

/// A byte order mark, and numbers that Python writes and JSON has not.
#[test]
fn json_as_people_and_python_write_it() {
    let model = Model::copy();
    let tokenizer = [&b"\xef\xbb\xbf"[..], &model.read(TOKENIZER)[..]].concat();
    model.write(TOKENIZER, tokenizer);
    for file in [INDEX, SCHEDULER, TEXT_ENCODER, TRANSFORMER, VAE] {
        let text = String::from_utf8(model.read(file)).unwrap();
        let start = text.find('{').unwrap() + 1;
        let more = r#""a": -Infinity, "b": [NaN, Infinity], "c": "NaN \" -Infinity","#;
        let text = format!("\u{feff}{}{more}{}", &text[..start], &text[start..]);
        model.write(file, text);
    }
    model.open().unwrap();
    let error = model.error_with(VAE, r#"{"latents_mean": [NaN]}"#);
    says(&error, &[VAE, "latents_mean[0]", "string \"NaN\""]);
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
            json!("WanAnimateTransformer3DModel"),
            "\"CausalWanTransformer3DModel\": this is a character animation model",
        ),
        (TRANSFORMER, "_class_name", json!("UNet3DModel"), "\"WanTransformer3DModel\""),
        (TRANSFORMER, "patch_size", json!([1, 2]), "array of length 3"),
        (TRANSFORMER, "patch_size", json!([1, 0, 2]), "1 to 16"),
        (TRANSFORMER, "patch_size", json!([1, 2, 1u64 << 40]), "1 to 16"),
        (TRANSFORMER, "patch_size", json!([1, 2, -2]), "patch_size[2]"),
        (TRANSFORMER, "patch_size", json!(2), "patch_size"),
        (TRANSFORMER, "attention_head_dim", json!(47), "even"),
        (TRANSFORMER, "attention_head_dim", json!(4), "6 to 1024"),
        (TRANSFORMER, "freq_dim", json!(255), "even"),
        (TRANSFORMER, "qk_norm", json!("layer_norm"), "\"rms_norm_across_heads\""),
        (TRANSFORMER, "eps", json!(1), "less than 1"),
        (TRANSFORMER, "cross_attn_norm", json!("yes"), "boolean"),
        (TRANSFORMER, "image_dim", json!(0), "1 to 32768"),
        (TRANSFORMER, "added_kv_proj_dim", json!(5120), "null: there is no image_dim"),
        (TRANSFORMER, "pos_embed_seq_len", json!(514), "null: there is no image_dim"),
        (VAE, "_class_name", json!("AutoencoderKL"), "\"AutoencoderKLWan\""),
        (VAE, "is_residual", json!("yes"), "boolean"),
        (VAE, "patch_size", json!(0), "1 to 16"),
        (VAE, "patch_size", json!(17), "1 to 16"),
        (VAE, "in_channels", json!(12), "3 (three colours"),
        (VAE, "out_channels", json!(4), "3 (three colours"),
        (VAE, "scale_factor_spatial", json!(16), "8, by the other fields"),
        (VAE, "scale_factor_temporal", json!(8), "4, by the other fields"),
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

/// A VAE of Wan 2.2, for which each shortcut needs channels that it can pass on.
#[test]
fn fields_of_the_residual_layout() {
    let model = Model::copy();
    let with = |values: Value| {
        let mut json = model.json(VAE);
        for (field, value) in values.as_object().unwrap() {
            json[field] = value.clone();
        }
        model.error_with(VAE, json.to_string())
    };
    for multiples in [[1, 3, 4, 4], [1, 2, 4, 8], [1, 2, 1, 1], [3, 3, 3, 3], [1, 8, 8, 8]] {
        let error = with(json!({ "is_residual": true, "dim_mult": multiples }));
        is_of_config(&error);
        says(&error, &[VAE, "dim_mult", "1, 2 or 4 times the one before it"]);
    }
    for (channels, expected) in [(3, "12 (three colours"), (48, "12 (three colours")] {
        let error = with(json!({ "patch_size": 2, "in_channels": channels }));
        is_of_config(&error);
        says(&error, &[VAE, "in_channels", expected]);
    }
    let packed = json!({
        "patch_size": 2, "in_channels": 12, "out_channels": 12, "scale_factor_spatial": 8,
    });
    let error = with(packed);
    is_of_config(&error);
    says(&error, &[VAE, "scale_factor_spatial is 8", "16, by the other fields"]);
    // Both are right by themselves, but not for these tensors.
    let error = with(json!({ "is_residual": true }));
    assert!(matches!(error, Error::Model(ModelError::ConfigDoesNotFit { .. })), "{error:?}");
    says(&error, &[VAE, "is_residual is true", "make it false"]);
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
        says(&error, &[file.split('/').next().unwrap(), "the tensors"]);
        match error {
            Error::Model(ModelError::ConfigDoesNotFit { .. }) => assert!(file != TRANSFORMER),
            // Nothing tells how its width would be split into heads.
            Error::Model(ModelError::Weights(_)) => assert_eq!(file, TRANSFORMER),
            other => panic!("{other:?}"),
        }
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
    // 20 channels are none of a task: those of the latents, or with a mask and the latents of frames.
    for (field, value) in [("out_channels", 8), ("in_channels", 8), ("in_channels", 20)] {
        let error = model.error_with_field(TRANSFORMER, field, &json!(value));
        assert!(matches!(error, Error::Model(ModelError::ConfigsDisagree { .. })), "{error:?}");
        let found = format!("{field} is {value}");
        says(&error, &[TRANSFORMER, &found, "z_dim", VAE, "says 16"]);
    }
}

#[test]
fn another_pipeline() {
    let model = Model::copy();
    let part = |class: &str| json!(["diffusers", class]);
    for (field, value, expected) in [
        ("_class_name", json!("WanAnimatePipeline"), "\"WanPipeline\": character animation models"),
        ("_class_name", json!("SkyReelsV2DiffusionForcingPipeline"), "SkyReels V2"),
        ("_class_name", json!("StableDiffusionPipeline"), "\"WanPipeline\""),
        ("_class_name", json!(null), "\"WanPipeline\""),
        ("_class_name", json!(7), "\"WanPipeline\""),
        ("text_encoder", json!(["transformers", "T5EncoderModel"]), "\"UMT5EncoderModel\""),
        ("transformer", part("WanAnimateTransformer3DModel"), "this is a character animation"),
        ("transformer", json!([null, null]), "\"WanTransformer3DModel\""),
        ("vae", part("AutoencoderKL"), "\"AutoencoderKLWan\""),
        ("transformer_2", part("UNet3DConditionModel"), "\"WanTransformer3DModel\""),
        ("expand_timesteps", json!("yes"), "true or false"),
    ] {
        let error = model.error_with_field(INDEX, field, &value);
        assert!(matches!(error, Error::Model(ModelError::Index { .. })), "{error:?}");
        let shown = value.get(1).unwrap_or(&value).to_string();
        says(&error, &[INDEX, field, &shown, expected]);
    }
}

/// Two experts and the noise level where the second takes over belong together.
#[test]
fn experts_without_a_boundary_and_a_boundary_without_experts() {
    let model = Model::copy();
    let error = model.error_with_field(INDEX, "boundary_ratio", &json!(0.875));
    says(&error, &[INDEX, "transformer_2 is null", "since boundary_ratio is 0.875"]);
    model.set(INDEX, "transformer_2", json!(["diffusers", "WanTransformer3DModel"]));
    for boundary in [json!(null), json!(0), json!(1), json!(-0.5), json!("high")] {
        let error = model.error_with_field(INDEX, "boundary_ratio", &boundary);
        let found = format!("boundary_ratio is {boundary}");
        says(&error, &[INDEX, &found, "between 0 and 1", "two transformers"]);
    }
    model.set(INDEX, "boundary_ratio", json!(0.5));
    says(&model.error(), &["transformer_2/config.json"]);
}

/// Experts that are given the same latents and conditions must take the same.
#[test]
fn experts_that_differ() {
    let model = Model::copy();
    model.set(INDEX, "transformer_2", json!(["diffusers", "WanTransformer3DModel"]));
    model.set(INDEX, "boundary_ratio", json!(0.5));
    let second = |file: &str| file.replace("transformer/", "transformer_2/");
    std::fs::create_dir(model.file("transformer_2")).unwrap();
    for file in [TRANSFORMER, TRANSFORMER_WEIGHTS] {
        model.write(&second(file), model.read(file));
    }
    model.open().unwrap();
    for (field, value) in [
        ("text_dim", json!(64)),
        ("patch_size", json!([2, 2, 2])),
        ("in_channels", json!(36)),
        ("out_channels", json!(8)),
        ("rope_max_seq_len", json!(512)),
    ] {
        let error = model.error_with_field(&second(TRANSFORMER), field, &value);
        assert!(matches!(error, Error::Model(ModelError::ConfigsDisagree { .. })), "{error:?}");
        says(&error, &[&second(TRANSFORMER), field, TRANSFORMER]);
    }
}

/// In the original layout the class and the type in `config.json` tell.
#[test]
fn another_model_in_the_original_layout() {
    let folder = tempfile::tempdir().unwrap();
    for (class, model_type, field, kind) in [
        ("WanModel_S2V", "s2v", "_class_name", "(Wan 2.2 S2V)"),
        ("SkyReelsV2Transformer3DModel", "t2v", "_class_name", "SkyReels"),
        ("WanModel", "s2v", "model_type", "(Wan 2.2 S2V), which is not supported yet"),
        ("WanModel", "x2v", "model_type", "one of \"t2v\", \"i2v\""),
    ] {
        let config = json!({ "_class_name": class, "model_type": model_type });
        fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
        let parity =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/original_layout");
        for (from, to) in [
            ("dit/diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.safetensors"),
            ("t5/models_t5_umt5-enc-bf16.pth", "models_t5_umt5-xxl-enc-bf16.pth"),
            ("vae/Wan2.1_VAE.pth", "Wan2.1_VAE.pth"),
        ] {
            fs::copy(parity.join(from), folder.path().join(to)).unwrap();
        }
        let error = Pipeline::<Flex>::from_pretrained(folder.path()).err().unwrap();
        assert!(matches!(error, Error::Model(ModelError::Config { .. })), "{error:?}");
        says(&error, &["config.json", field, kind]);
    }
}

/// The pipeline for video to video has the parts of that for text.
#[test]
fn the_pipeline_for_video_to_video_is_one_for_text() {
    let model = Model::copy();
    model.set(INDEX, "_class_name", json!("WanVideoToVideoPipeline"));
    model.open().unwrap();
}

/// A request that names the sampler replaces all that the folder says of it; the error without one.
#[track_caller]
fn needs_a_scheduler(model: &Model) -> Error {
    let pipeline = model.open().unwrap();
    let named = smallest("a red circle").scheduler(SchedulerKind::Lcm).shift(5.0);
    let plan = pipeline.plan(&named.steps(Steps::Timesteps(vec![1000.0, 757.0, 522.0]))).unwrap();
    assert_eq!(plan.scheduler(), &SchedulerConfig::new(SchedulerKind::Lcm).with_flow_shift(5.0));
    let own = SchedulerConfig::new(SchedulerKind::Euler).with_flow_shift(2.0);
    let plan = pipeline.plan(&smallest("a red circle").scheduler_config(own.clone())).unwrap();
    assert_eq!(plan.scheduler(), &own);
    let error = pipeline.plan(&smallest("a red circle")).unwrap_err();
    assert!(matches!(error, Error::Request(RequestError::NoScheduler { .. })), "{error:?}");
    says(&error, &["the request must name a scheduler"]);
    error
}

#[test]
fn models_that_do_not_describe_their_sampler() {
    let model = Model::copy();
    model.set(INDEX, "_class_name", json!("WanDMDPipeline"));
    says(&needs_a_scheduler(&model), &[INDEX, "WanDMDPipeline"]);

    let model = Model::copy();
    fs::remove_dir_all(model.file("scheduler")).unwrap();
    says(&needs_a_scheduler(&model), &[SCHEDULER, "there is no such file"]);
    model.set(INDEX, "scheduler", json!(null));
    says(&needs_a_scheduler(&model), &[INDEX, "scheduler is null"]);

    let model = Model::copy();
    model.set(INDEX, "scheduler", json!(["diffusers", "DDIMScheduler"]));
    says(&needs_a_scheduler(&model), &[INDEX, "DDIMScheduler", "\"UniPCMultistepScheduler\" or "]);

    // The scheduler of models that were distilled with consistency is one that we have.
    let model = Model::copy();
    let lcm = json!({ "_class_name": "FlowMatchLCMScheduler", "shift": null });
    model.write(SCHEDULER, lcm.to_string());
    model.set(INDEX, "scheduler", json!(["diffusers", "FlowMatchLCMScheduler"]));
    let plan = model.open().unwrap().plan(&smallest("a red circle")).unwrap();
    assert_eq!(plan.scheduler().kind, SchedulerKind::Lcm);
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
        ("shift_terminal", json!(1.0), "less than 1"),
        ("shift_terminal", json!(-0.1), "from 0"),
        ("disable_corrector", json!([-1]), "disable_corrector[0]"),
    ] {
        let before = model.read(SCHEDULER);
        model.set(SCHEDULER, field, value);
        says(&needs_a_scheduler(&model), &[SCHEDULER, field, expected]);
        model.write(SCHEDULER, before);
    }
    let text =
        model.json(SCHEDULER).to_string().replace("\"flow_shift\":3.0", "\"flow_shift\":1e999");
    says(&model.error_with(SCHEDULER, text), &[SCHEDULER, "number out of range"]);
}

#[test]
fn the_index_names_another_scheduler_than_the_config() {
    let model = Model::copy();
    model.set(INDEX, "scheduler", json!(["diffusers", "FlowMatchEulerDiscreteScheduler"]));
    let error = needs_a_scheduler(&model);
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
