//! Names that are no models, and files that are missing or broken.

use std::fs;
use std::path::Path;

use wan_io::files::FileError;
use wan_io::weights::WeightsFileError;
use wan_pipeline::backend::Flex;
use wan_pipeline::{
    Error, IntegrityError, ModelError, Pipeline, PipelineBuilder, Role, Tiling, Verify,
};

use crate::model::{
    FILES, INDEX, Model, SCHEDULER, TEXT_ENCODER, TEXT_ENCODER_WEIGHTS, TOKENIZER, TRANSFORMER,
    TRANSFORMER_WEIGHTS, VAE, VAE_WEIGHTS, says,
};

#[track_caller]
fn error_of(name: impl AsRef<Path>) -> Error {
    Pipeline::<Flex>::from_pretrained(name).err().expect("this is no model")
}

#[test]
fn an_unknown_name() {
    for name in ["tiny-wam", "", "/no/such/folder", "猫\0"] {
        let error = error_of(name);
        assert!(matches!(error, Error::Model(ModelError::Unknown { .. })), "{error:?}");
        says(&error, &[&format!("{name:?}"), "tiny-wan", "folder"]);
    }
}

#[test]
fn a_folder_that_is_no_model() {
    let folder = tempfile::tempdir().unwrap();
    let error = error_of(folder.path());
    assert!(matches!(error, Error::Model(ModelError::NotAModel { .. })), "{error:?}");
    says(&error, &[&folder.path().display().to_string(), INDEX, "layout of diffusers"]);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn each_file_is_needed() {
    // Without a scheduler's config, a request can name the scheduler.
    for file in FILES.into_iter().filter(|file| *file != SCHEDULER) {
        let model = Model::copy();
        fs::remove_file(model.file(file)).unwrap();
        let error = model.error();
        says(&error, &[&model.file(file).display().to_string(), "there is"]);
        match file {
            INDEX => {
                assert!(matches!(error, Error::Model(ModelError::NotAModel { .. })), "{error:?}")
            }
            TEXT_ENCODER_WEIGHTS | TRANSFORMER_WEIGHTS | VAE_WEIGHTS => {
                let ok = matches!(
                    error,
                    Error::Model(ModelError::WeightsFile(WeightsFileError::NotFound { .. }))
                );
                assert!(ok, "{error:?}");
                says(&error, &[".safetensors.index.json"]);
            }
            _ => assert!(
                matches!(error, Error::Model(ModelError::File(FileError::NotFound { .. }))),
                "{error:?}"
            ),
        }
    }
}

#[test]
fn a_folder_instead_of_a_file() {
    for file in [TEXT_ENCODER, TOKENIZER] {
        let model = Model::copy();
        fs::remove_file(model.file(file)).unwrap();
        fs::create_dir(model.file(file)).unwrap();
        let error = model.error();
        assert!(
            matches!(error, Error::Model(ModelError::File(FileError::NotAFile { .. }))),
            "{error:?}"
        );
        says(&error, &[file, "is not a file"]);
    }
}

/// What happens to files on their way; the tests of wan-io have every other damage.
#[test]
fn weights_that_are_not_whole() {
    let model = Model::copy();
    for file in [TEXT_ENCODER_WEIGHTS, TRANSFORMER_WEIGHTS, VAE_WEIGHTS] {
        let whole = model.read(file);
        let damages = [
            (whole[..whole.len() / 2].to_vec(), "is not a whole safetensors file"),
            (whole[..whole.len() - 1].to_vec(), "the download or copy did not end"),
            (b"\x80\x02}q\x00(X\x06\x00\x00\x00weightq\x01".to_vec(), "pickle is cut off"),
        ];
        for (bytes, expected) in damages {
            let error = model.error_with(file, bytes);
            let ok = matches!(error, Error::Model(ModelError::WeightsFile(_)));
            assert!(ok, "{error:?}");
            says(&error, &[file, expected]);
        }
    }
}

#[test]
fn json_that_is_none() {
    let model = Model::copy();
    for file in [INDEX, SCHEDULER, TEXT_ENCODER, TRANSFORMER, VAE] {
        let whole = model.read(file);
        let deep = "[".repeat(100_000);
        let damages: [(&str, &[u8]); 7] = [
            ("cut off", &whole[..whole.len() / 2]),
            ("with more behind it", &[&whole[..], b"}"].concat()),
            ("a list", b"[]"),
            ("a text", b"\"UMT5EncoderModel\""),
            ("null", b"null"),
            ("not UTF-8", b"{\"\xff\xfe\": 1}"),
            ("deep", deep.as_bytes()),
        ];
        for (damage, bytes) in damages {
            let error = model.error_with(file, bytes);
            assert!(
                matches!(error, Error::Model(ModelError::File(FileError::Json { .. }))),
                "{damage}: {error:?}"
            );
            says(&error, &[file, "line "]);
        }
        let giant = [&whole[..], &vec![b' '; 1 << 20]].concat();
        let error = model.error_with(file, &giant);
        assert!(
            matches!(error, Error::Model(ModelError::File(FileError::TooLarge { .. }))),
            "{error:?}"
        );
        says(&error, &[file, &giant.len().to_string(), "at most 1048576"]);
    }
}

#[test]
fn a_broken_tokenizer() {
    let model = Model::copy();
    let whole = model.read(TOKENIZER);
    let wordpiece = br#"{"model": {"type": "WordPiece", "vocab": {"a": 0}}}"#;
    for (damage, bytes, reason) in [
        ("cut off", &whole[..whole.len() / 2], "EOF"),
        ("a list", b"[]", "line 1"),
        ("another kind", wordpiece, "WordPiece"),
        ("a pointer", b"version https://git-lfs.github.com/spec/v1\nsize 2\n", "git lfs pull"),
    ] {
        let error = model.error_with(TOKENIZER, bytes);
        assert!(matches!(error, Error::Model(ModelError::Tokenizer(_))), "{damage}: {error:?}");
        says(&error, &[TOKENIZER, reason]);
        assert!(!error.to_string().contains("in memory"), "{error}");
    }
}

#[test]
fn a_device_that_is_not_there() {
    let error = Pipeline::<Flex>::builder("tiny-wan").device(7).open().err().unwrap();
    assert!(matches!(error, Error::Device(_)), "{error:?}");
    says(&error, &["7", "flex"]);
}

#[test]
fn tiles_that_do_not_overlap() {
    for (size, stride) in [([64, 64], [64, 64]), ([60, 64], [32, 32]), ([64, 64], [0, 32])] {
        let builder = Pipeline::<Flex>::builder("tiny-wan").vae_tiling(Tiling::new(size, stride));
        let error = builder.open().err().unwrap();
        assert!(matches!(error, Error::Model(ModelError::Config { .. })), "{error:?}");
        says(&error, &["tiling", "tiny-wan", "multiples of 8"]);
    }
}

/// `sha256sum` of these files of a model, as it writes it.
fn sums(model: &Model, files: &[&str]) -> String {
    let line = |file: &&str| format!("{}  {file}\n", wan_mock_hub::sha256(&model.read(file)));
    files.iter().map(line).collect()
}

#[test]
fn a_folder_with_checksums() {
    let model = Model::copy();
    let listed = [TRANSFORMER_WEIGHTS, VAE_WEIGHTS, TOKENIZER];
    model.write("SHA256SUMS", sums(&model, &listed));
    model.open().unwrap();
    let verify = |verify| Pipeline::<Flex>::builder(model.path()).verify(verify).open();
    for file in listed {
        let whole = model.read(file);
        let mut damaged = whole.clone();
        *damaged.last_mut().unwrap() ^= 1;
        model.write(file, &damaged);
        let error = model.error();
        assert!(
            matches!(error, Error::Model(ModelError::Integrity(IntegrityError::Digest { .. }))),
            "{error:?}"
        );
        let (found, expected) = (wan_mock_hub::sha256(&damaged), wan_mock_hub::sha256(&whole));
        says(&error, &[file, &found, &expected]);
        if file != TOKENIZER {
            verify(Verify::Never).unwrap(); // one bit of a weight goes unnoticed
        }
        model.write(file, whole);
        verify(Verify::Always).unwrap();
    }
    let error = model.error_with("SHA256SUMS", "no checksum");
    says(&error, &["SHA256SUMS, line 1"]);
    // A file that is not needed may be wrong.
    model.write("SHA256SUMS", sums(&model, &listed) + &format!("{}  logo.png\n", "0".repeat(64)));
    model.open().unwrap();
}

#[test]
fn a_model_of_parts_that_lacks_one() {
    let tiny = Model::copy();
    let builder =
        || PipelineBuilder::<Flex>::from_parts().transformer(tiny.file(TRANSFORMER_WEIGHTS));
    let error = builder().open().err().unwrap();
    assert!(
        matches!(error, Error::Model(ModelError::MissingPart { part: Role::TextEncoder })),
        "{error:?}"
    );
    let all = |vae: &str| {
        let builder = builder().text_encoder(tiny.file(TEXT_ENCODER_WEIGHTS)).vae(tiny.file(vae));
        builder.tokenizer(tiny.file(TOKENIZER)).open()
    };
    all(VAE_WEIGHTS).unwrap();
    let error = all(TRANSFORMER_WEIGHTS).err().unwrap();
    says(&error, &[TRANSFORMER_WEIGHTS]);
    let error = all("vae/none.safetensors").err().unwrap();
    assert!(
        matches!(error, Error::Model(ModelError::WeightsFile(WeightsFileError::File(_)))),
        "{error:?}"
    );
}
