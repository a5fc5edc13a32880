//! A CLIP by its name: compiled in, in a folder, in the hub.

use std::path::Path;

use wan_mock_hub::{MockHub, Repo};
use wan_pipeline::backend::NdArray;
use wan_pipeline::{Clip, HubOptions};

use crate::{Flex, tiny_clip};

pub(crate) fn write_files(folder: &Path) {
    for (name, content) in tiny_clip::FILES {
        std::fs::write(folder.join(name), content).unwrap();
    }
}

#[test]
fn a_folder_and_a_repository_give_what_the_built_in_model_gives() {
    let expected = tiny_clip().embed_text(&["一个红色的圆形"]).unwrap();
    let (folder, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write_files(folder.path());
    let from_folder = Clip::<Flex>::from_pretrained(folder.path()).unwrap();
    assert_eq!(from_folder.embed_text(&["一个红色的圆形"]).unwrap(), expected);

    let hub = MockHub::start();
    hub.add(Repo::from_folder("someone/tiny-clip", folder.path()).file("README.md", "# A model"));
    let options = HubOptions::from_vars(|name| match name {
        "HF_ENDPOINT" => Some(hub.endpoint()),
        "HF_HUB_CACHE" => Some(cache.path().display().to_string()),
        _ => None,
    })
    .unwrap();
    let from_hub = Clip::<Flex>::builder("someone/tiny-clip").hub(options).open().unwrap();
    assert_eq!(from_hub.embed_text(&["一个红色的圆形"]).unwrap(), expected);
    let asked = hub.requests();
    assert!(asked.iter().all(|request| !request.path.contains("README.md")), "{asked:?}");
}

#[test]
fn backends_agree() {
    let text = "A white square is growing. The background is orange.";
    let one = tiny_clip().embed_text(&[text]).unwrap();
    let other = Clip::<NdArray>::from_pretrained("tiny-clip").unwrap().embed_text(&[text]).unwrap();
    assert!(one[0].cosine(&other[0]) > 0.999_99);
}
