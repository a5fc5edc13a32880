//! Names of models as people have them at hand: addresses, folders of the cache, typing mistakes.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use wan_mock_hub::{MockHub, models};
use wan_pipeline::backend::Flex;
use wan_pipeline::{
    Error, HubError, HubOptions, ModelError, Network, Pipeline, PipelineBuilder, Verify,
};

use crate::model::{FILES, Model, TRANSFORMER_WEIGHTS, says, smallest};

const REPO: &str = "Wan-AI/Tiny";

/// A hub with the miniature model, and a cache.
struct Hub {
    hub: MockHub,
    cache: TempDir,
}

impl Hub {
    fn start() -> Self {
        let hub = MockHub::start();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tiny-wan/model");
        hub.add(models::diffusers(&folder, REPO));
        Self { hub, cache: tempfile::tempdir().unwrap() }
    }

    fn builder(&self, name: impl AsRef<Path>) -> PipelineBuilder<Flex> {
        Pipeline::builder(name).hub(HubOptions {
            endpoint: self.hub.endpoint(),
            cache: self.cache.path().to_owned(),
            token: None,
            offline: false,
            verify: Verify::default(),
            network: Network::default(),
        })
    }

    #[track_caller]
    fn error(&self, name: impl AsRef<Path>) -> Error {
        self.builder(name).open().err().expect("this is no model")
    }

    /// The repository's folder in the cache, once it has been opened.
    fn cached(&self) -> PathBuf {
        self.cache.path().join("models--Wan-AI--Tiny")
    }
}

#[track_caller]
fn error_of(name: impl AsRef<Path>) -> Error {
    Pipeline::<Flex>::from_pretrained(name).err().expect("this is no model")
}

/// The model's name, as it is stored in files.
fn stored_name(pipeline: &Pipeline<Flex>) -> Option<String> {
    pipeline.plan(&smallest("a")).unwrap().metadata().model
}

/// A folder with whole models in folders of these names.
fn models_in_a_folder(names: &[&str]) -> TempDir {
    let (model, outer) = (Model::copy(), tempfile::tempdir().unwrap());
    for name in names {
        for file in FILES {
            let target = outer.path().join(name).join(file);
            fs::create_dir_all(target.parent().unwrap()).unwrap();
            fs::copy(model.file(file), target).unwrap();
        }
    }
    outer
}

#[test]
fn a_repository_has_many_names() {
    let hub = Hub::start();
    let own = hub.hub.endpoint();
    for name in [
        REPO.to_owned(),
        format!("{REPO}/"),
        format!(" {REPO} "),
        format!("{REPO}@main"),
        format!("{REPO}/tree/main"),
        format!("https://huggingface.co/{REPO}"),
        format!("http://www.huggingface.co/{REPO}/"),
        format!("https://HuggingFace.co/{REPO}.git"),
        format!("huggingface.co/{REPO}"),
        format!("hf.co/{REPO}"),
        format!("https://hf-mirror.com/{REPO}/tree/main"),
        format!("https://huggingface.co/{REPO}/tree/main/transformer?not-for-all=true"),
        format!("https://huggingface.co/{REPO}/blob/main/model_index.json#L3"),
        format!("https://huggingface.co/{REPO}/resolve/main/vae/config.json?download=true"),
        format!("https://huggingface.co/{REPO}/discussions/1"),
        format!("https://huggingface.co/api/models/{REPO}"),
        format!("hf://{REPO}@main"),
        format!("hf://models/{REPO}"),
        format!("{own}/{REPO}"),
    ] {
        let opened = hub.builder(&name).open();
        let pipeline = opened.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(stored_name(&pipeline).as_deref(), Some("Tiny"), "{name}");
    }
}

#[test]
fn a_name_can_hold_the_revision() {
    let hub = Hub::start();
    for (name, revision) in [
        (format!("{REPO}@v9"), "v9"),
        (format!("{REPO}/@v9"), "v9"),
        (format!("https://huggingface.co/{REPO}/tree/v9"), "v9"),
        (format!("https://huggingface.co/{REPO}/blob/v9/README.md"), "v9"),
        (format!("https://huggingface.co/{REPO}/tree/refs%2Fpr%2F1"), "refs/pr/1"),
    ] {
        let error = hub.error(&name);
        let ok = matches!(error, Error::Download(HubError::RevisionNotFound { .. }));
        assert!(ok, "{name}: {error:?}");
        says(&error, &[REPO, &format!("{revision:?}")]);
    }
    hub.builder(format!("{REPO}@main")).revision("main").open().unwrap();
    let error = hub.builder(format!("{REPO}@v9")).revision("main").open().err().unwrap();
    assert!(matches!(error, Error::Model(ModelError::TwoRevisions { .. })), "{error:?}");
    says(&error, &[REPO, "\"v9\"", "\"main\"", "leave one"]);
}

#[test]
fn addresses_of_no_model() {
    for name in [
        "https://github.com/Wan-Video/Wan2.1",
        "https://modelscope.cn/models/Wan-AI/Wan2.1-T2V-14B",
        "https://huggingface.co",
        "https://huggingface.co/Wan-AI",
        "hf.co/Wan-AI",
        "https://huggingface.co/datasets/Wan-AI/videos",
        "https://huggingface.co/spaces/Wan-AI/Wan2.1",
    ] {
        let error = error_of(name);
        assert!(matches!(error, Error::Model(ModelError::Address { .. })), "{name}: {error:?}");
        says(&error, &[name, "https://huggingface.co/owner/name"]);
    }
}

#[test]
fn a_folder_of_the_cache() {
    let hub = Hub::start();
    hub.builder(REPO).open().unwrap();
    let cached = hub.cached();
    let commit = fs::read_to_string(cached.join("refs/main")).unwrap();
    let snapshot = cached.join("snapshots").join(commit.trim());
    let open = |path: &Path| Pipeline::<Flex>::from_pretrained(path);
    for path in [&cached, &cached.join("snapshots"), &snapshot] {
        let pipeline = open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(stored_name(&pipeline).as_deref(), Some("Tiny"), "{}", path.display());
    }
    // Of several snapshots the branch tells which is meant.
    fs::create_dir(cached.join("snapshots/0123")).unwrap();
    open(&cached).unwrap();
    fs::remove_dir(cached.join("snapshots/0123")).unwrap();
    // Without a branch it is the only one, unless another one is asked for.
    fs::write(cached.join("refs/main"), "").unwrap();
    open(&cached).unwrap();
    fs::remove_dir_all(cached.join("refs")).unwrap();
    open(&cached).unwrap();
    hub.builder(&cached).revision(commit.trim()).open().unwrap();
    let error = hub.builder(&cached).revision("v9").open().err().unwrap();
    says(&error, &[&cached.display().to_string(), "\"v9\"", "1 snapshot:"]);
    fs::create_dir(cached.join("snapshots/0123")).unwrap();
    let error = error_of(&cached);
    assert!(matches!(error, Error::Model(ModelError::Snapshot { count: 2, .. })), "{error:?}");
    says(&error, &["\"main\"", "2 snapshots", "`snapshots`"]);
    fs::remove_dir_all(cached.join("snapshots")).unwrap();
    fs::create_dir(cached.join("snapshots")).unwrap();
    says(&error_of(&cached), &["nothing of it", "owner/name"]);
}

#[test]
fn a_folder_one_level_too_high_or_too_low() {
    let one = models_in_a_folder(&["wan"]);
    fs::create_dir(one.path().join("a-lora")).unwrap();
    let error = error_of(one.path());
    assert!(matches!(error, Error::Model(ModelError::ModelsInside { .. })), "{error:?}");
    says(&error, &[&one.path().join("wan").display().to_string(), "name that folder"]);

    let two = models_in_a_folder(&["wan-b", "wan-a"]);
    says(&error_of(two.path()), &["2 folders", &two.path().join("wan-a").display().to_string()]);

    let hub = Hub::start();
    hub.builder(REPO).open().unwrap();
    says(&error_of(hub.cache.path()), &[&hub.cached().display().to_string(), "name that folder"]);

    let model = Model::copy();
    for part in ["transformer", "tokenizer", "vae/"] {
        let error = error_of(model.file(part));
        assert!(matches!(error, Error::Model(ModelError::PartOfModel { .. })), "{error:?}");
        says(&error, &[part, "name that folder", &model.path().display().to_string()]);
    }
}

#[test]
fn a_single_file() {
    let model = Model::copy();
    for file in FILES {
        let error = error_of(model.file(file));
        assert!(matches!(error, Error::Model(ModelError::SingleFile { .. })), "{error:?}");
        let whole = format!("name {},", model.path().display());
        says(&error, &[file, &whole, "--transformer"]);
    }
    let folder = tempfile::tempdir().unwrap();
    let alone = folder.path().join("wan.safetensors");
    fs::copy(model.file(TRANSFORMER_WEIGHTS), &alone).unwrap();
    says(&error_of(&alone), &["wan.safetensors", "--transformer", "--vae"]);
}

#[test]
fn typing_mistakes() {
    let outer = models_in_a_folder(&["models/tiny-wan", "models/other"]);
    let at = |name: &str| outer.path().join(name);
    for name in ["models/tiny-wam", "models/Tiny_Wan", "modles/tiny-wan", "models/tinywan/"] {
        let error = error_of(at(name));
        assert!(matches!(error, Error::Model(ModelError::Unknown { .. })), "{error:?}");
        let meant = format!("did you mean {}?", at("models/tiny-wan").display());
        says(&error, &[&format!("{:?}", at(name)), &meant]);
    }
    for name in ["tiny-wam", "TinyWan", "/no/such/folder/tiny-wan"] {
        says(&error_of(name), &["did you mean tiny-wan?"]);
    }
    assert!(!error_of(at("models/something-else")).to_string().contains("did you mean"));
}

#[test]
fn a_slash_at_the_end_and_file_addresses() {
    let outer = models_in_a_folder(&["wan"]);
    let folder = outer.path().join("wan").display().to_string();
    for name in [format!("{folder}/"), format!("{folder}/."), format!("file://{folder}")] {
        let pipeline = Pipeline::<Flex>::from_pretrained(&name).unwrap();
        assert_eq!(stored_name(&pipeline).as_deref(), Some("wan"), "{name}");
    }
    for name in ["tiny-wan", "tiny-wan/"] {
        let pipeline = Pipeline::<Flex>::from_pretrained(name).unwrap();
        assert_eq!(stored_name(&pipeline).as_deref(), Some("tiny-wan"));
    }
}
