//! A run that is saved and resumed gives the result of the run without interruption; what is not such a
//! file is refused by name.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};
use tempfile::TempDir;
use wan_pipeline::backend::Flex;
use wan_pipeline::{
    Error, FrameRate, Guidance, LatentsWriter, ModelError, Pipeline, Request, SchedulerKind,
    SourceVideo, TensorFileError,
};

use crate::support::without_text_encoder;
use crate::support::{Random, assets, bits, latents_of, says, silent, small, tiny_wan};

/// Saves runs of `requests` after each of these steps, and resumes them in fresh pipelines.
#[track_caller]
fn check(requests: &[Request], stops: impl IntoIterator<Item = usize>) {
    let pipeline = tiny_wan();
    let expected: Vec<_> = requests.iter().map(|request| latents_of(&pipeline, request)).collect();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.safetensors");
    for stop in stops {
        let mut run = pipeline.start(requests, &mut silent()).unwrap();
        (0..stop).for_each(|_| assert!(run.step().unwrap().is_some()));
        run.save(&file).unwrap();
        for fresh in [tiny_wan(), without_text_encoder()] {
            let mut resumed = fresh.resume(&file, &mut silent()).unwrap();
            assert_eq!((resumed.done(), resumed.videos()), (stop, requests.len()));
            assert_eq!(resumed.plan(0).unwrap(), run.plan(0).unwrap());
            resumed.run(&mut silent()).unwrap();
            let found: Vec<_> = resumed.finish().iter().map(bits).collect();
            assert!(found == expected, "after {stop} steps: {requests:?}");
        }
    }
}

#[test]
fn every_scheduler_and_rule() {
    for kind in SchedulerKind::ALL {
        let rules = [
            Guidance::cfg(3.3),
            Guidance::cfg_zero_star(4.0),
            Guidance::apg(5.0).rescale(0.3).interval(0.0, 0.8),
        ];
        let request =
            small("一个红色的圆形").steps(5).scheduler(kind).shift(4.7).negative_prompt("静止");
        let request = |guidance| request.clone().guidance(guidance);
        check(&rules.map(request), [1, 3]);
    }
}

#[test]
fn at_the_ends_of_a_run() {
    let fps: FrameRate = "23.976".parse().unwrap();
    check(&[small("a red circle").fps(fps)], [0, 3]);
}

#[test]
fn with_video_weights_and_guidance_beyond_decimals() {
    let pipeline = tiny_wan();
    let video = pipeline.generate(&small("a red circle moving right")).unwrap();
    let request = small("a (blue:1.3) circle").prompt_weighting(true).steps(6);
    let request = request.video(SourceVideo::from(&video)).strength(0.7).text_length(77);
    let scales = [0.1 + 0.2 + 1.0, 10.0 / 3.0, std::f64::consts::PI];
    let request = |scale| request.clone().guidance(Guidance::cfg(scale).rescale(1.0 / 3.0));
    check(&scales.map(request), [1, 2]);
}

/// What was changed within the run counts.
#[test]
fn changed_guidance_is_saved() {
    let pipeline = tiny_wan();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.safetensors");
    let mut run = pipeline.start(&[small("a red circle").steps(5)], &mut silent()).unwrap();
    run.step().unwrap();
    run.set_guidance(Guidance::apg(6.0)).unwrap();
    run.step().unwrap();
    run.save(&file).unwrap();
    let mut resumed = pipeline.resume(&file, &mut silent()).unwrap();
    run.run(&mut silent()).unwrap();
    resumed.run(&mut silent()).unwrap();
    assert_eq!(bits(&resumed.finish()[0]), bits(&run.finish()[0]));
}

/// A saved run, which can be changed before it is resumed.
struct Saved {
    folder: TempDir,
    bytes: Vec<u8>,
}

impl Saved {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let pipeline = tiny_wan();
        let request = small("a red circle").guidance(Guidance::apg(3.0)).steps(4);
        let mut run = pipeline.start(&request.with_seeds(1..3), &mut silent()).unwrap();
        run.step().unwrap();
        run.step().unwrap();
        let file = folder.path().join("run.safetensors");
        run.save(&file).unwrap();
        Self { bytes: fs::read(file).unwrap(), folder }
    }

    fn header(&self) -> Map<String, Value> {
        serde_json::from_slice(&self.bytes[8..self.start()]).unwrap()
    }

    /// Where the tensors begin.
    fn start(&self) -> usize {
        8 + u64::from_le_bytes(self.bytes[..8].try_into().unwrap()) as usize
    }

    /// The file with its header changed.
    fn with_header(&self, change: impl FnOnce(&mut Map<String, Value>)) -> Vec<u8> {
        let mut header = self.header();
        change(&mut header);
        let mut header = serde_json::to_vec(&header).unwrap();
        header.resize(header.len().next_multiple_of(8), b' ');
        let length = (header.len() as u64).to_le_bytes();
        [&length[..], &header, &self.bytes[self.start()..]].concat()
    }

    /// The file with what the metadata says of the run changed.
    fn with_run(&self, change: impl FnOnce(&mut Value)) -> Vec<u8> {
        self.with_header(|header| {
            let metadata = &mut header["__metadata__"];
            let mut run = serde_json::from_str(metadata["run"].as_str().unwrap()).unwrap();
            change(&mut run);
            metadata["run"] = Value::String(run.to_string());
        })
    }

    fn with_plans(&self, change: impl Fn(&mut Value)) -> Vec<u8> {
        self.with_run(|run| run["plans"].as_array_mut().unwrap().iter_mut().for_each(change))
    }

    /// Resumes from these bytes and goes on; panics are what must not be.
    fn resume(&self, pipeline: &Pipeline<Flex>, bytes: &[u8]) -> Result<(), Error> {
        let file = self.folder.path().join("changed.safetensors");
        fs::write(&file, bytes).unwrap();
        let mut run = pipeline.resume(&file, &mut silent())?;
        run.step()?;
        Ok(())
    }

    #[track_caller]
    fn refused(&self, bytes: &[u8], parts: &[&str]) -> Error {
        let error = self.resume(&tiny_wan(), bytes).expect_err("it was resumed");
        println!("{error}");
        says(&error, parts);
        error
    }
}

#[test]
fn the_unchanged_file_is_resumed() {
    let saved = Saved::new();
    saved.resume(&tiny_wan(), &saved.bytes).unwrap();
    saved.resume(&tiny_wan(), &saved.with_run(|_| {})).unwrap();
}

fn copy_of_the_model(to: &Path) {
    for part in ["", "scheduler", "text_encoder", "tokenizer", "transformer", "vae"] {
        fs::create_dir_all(to.join(part)).unwrap();
        for entry in fs::read_dir(assets().join(part)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                fs::copy(&path, to.join(part).join(path.file_name().unwrap())).unwrap();
            }
        }
    }
}

#[test]
fn another_model_is_refused() {
    let saved = Saved::new();
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("other");
    copy_of_the_model(&other);
    let open = || Pipeline::<Flex>::from_pretrained(&other).unwrap();
    saved.resume(&open(), &saved.bytes).unwrap();
    let weights = other.join("transformer/diffusion_pytorch_model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&weights, bytes).unwrap();
    let error = saved.resume(&open(), &saved.bytes).unwrap_err();
    assert!(matches!(error, Error::TensorFile(TensorFileError::OtherModel { .. })), "{error:?}");
    says(&error, &["changed.safetensors", "transformer", "fingerprint", "other"]);
}

#[test]
fn other_files_are_refused() {
    let saved = Saved::new();
    let pipeline = tiny_wan();
    let file = saved.folder.path().join("latents.safetensors");
    let run = pipeline.start(&[small("a red circle")], &mut silent()).unwrap();
    LatentsWriter::create(&file).unwrap().write(&run.finish(), &[]).unwrap();
    saved.refused(&fs::read(&file).unwrap(), &["a file of latents", "must be a file of run"]);
    let weights = assets().join("vae/diffusion_pytorch_model.safetensors");
    saved.refused(&fs::read(weights).unwrap(), &["no file that wan-pipeline wrote"]);
    saved.refused(b"", &["changed.safetensors"]);
    let error = pipeline.resume("no/such/file", &mut silent()).err().unwrap();
    says(&error, &["no/such/file"]);

    let newer =
        saved.with_header(|header| header["__metadata__"]["wan_pipeline.format"] = json!("2"));
    let error = saved.refused(&newer, &["format 2", "use a newer one"]);
    assert!(matches!(error, Error::TensorFile(TensorFileError::NewerFormat { .. })));
}

#[test]
fn changed_metadata_is_refused() {
    let saved = Saved::new();
    let refused = |bytes: Vec<u8>, parts: &[&str]| saved.refused(&bytes, parts);
    refused(saved.with_run(|run| run["plans"] = json!([])), &["it has no videos"]);
    refused(saved.with_run(|run| run["done"] = json!(5)), &["more steps are done than there are"]);
    refused(saved.with_run(|run| run["done"] = json!(-1)), &["run is damaged"]);
    refused(saved.with_run(|run| run["fingerprints"] = json!([])), &["fingerprint is missing"]);
    refused(saved.with_plans(|plan| plan["width"] = json!(64)), &["[1, 16, 2, 4, 4]", "8]"]);
    refused(saved.with_plans(|plan| plan["width"] = json!(33)), &["width is 33"]);
    refused(saved.with_plans(|plan| plan["height"] = json!(0)), &["height is 0"]);
    refused(saved.with_plans(|plan| plan["num_frames"] = json!(0)), &["frames is 0"]);
    refused(saved.with_plans(|plan| plan["num_frames"] = json!(u32::MAX)), &["frames is"]);
    refused(saved.with_plans(|plan| plan["fps"] = json!(0)), &["fps is 0"]);
    refused(
        saved.with_plans(|plan| plan["text_length"] = json!(2)),
        &["tokens", "text length is 2"],
    );
    refused(saved.with_plans(|plan| plan["text_length"] = json!(1)), &["text length is 1"]);
    refused(saved.with_plans(|plan| plan["guidance"]["scale"] = Value::Null), &["run is damaged"]);
    refused(saved.with_plans(|plan| plan["guidance"]["scale"] = json!(0.5)), &["guidance is 0.5"]);
    refused(saved.with_plans(|plan| plan["guidance"]["rescale"] = json!(2)), &["rescale is 2"]);
    refused(saved.with_plans(|plan| plan["latent_shape"][4] = json!(8)), &["shape"]);
    refused(saved.with_plans(|plan| plan["schedule"]["start"] = json!(9)), &["steps"]);
    refused(saved.with_plans(|plan| plan["schedule"]["sigmas"] = json!([1, 0])), &["sigmas"]);
    refused(
        saved.with_plans(|plan| plan["scheduler"]["solver_order"] = json!(0)),
        &["solver_order"],
    );
    let third_order = |run: &mut Value| {
        run["done"] = json!(3);
        for plan in run["plans"].as_array_mut().unwrap() {
            plan["scheduler"]["solver_order"] = json!(3);
        }
    };
    refused(saved.with_run(third_order), &["prediction.2"]);
    let first = |run: &mut Value| run["plans"][0]["width"] = json!(64);
    refused(saved.with_run(first), &["shape [1, 16, 2, 4, 4]", "[1, 16, 2, 4, 8]"]);
    let more = |run: &mut Value| {
        let plan = run["plans"][0].clone();
        run["plans"].as_array_mut().unwrap().push(plan);
    };
    refused(saved.with_run(more), &["there is no tensor 2."]);
    let fewer = |run: &mut Value| drop(run["plans"].as_array_mut().unwrap().pop());
    refused(saved.with_run(fewer), &["1.", "does not belong to the run"]);
}

#[test]
fn changed_tensors_are_refused() {
    let saved = Saved::new();
    let names: Vec<String> =
        saved.header().keys().filter(|n| !n.starts_with('_')).cloned().collect();
    assert!(names.len() >= 10 && names.iter().any(|name| name == "0.guide.momentum"), "{names:?}");
    for name in &names {
        // Missing, with and without being named; of another shape; of another name.
        let missing = saved.with_header(|header| drop(header.remove(name)));
        saved.refused(&missing, &["changed.safetensors"]);
        let renamed = saved.with_header(|header| {
            let tensor = header.remove(name).unwrap();
            header.insert(format!("{name}x"), tensor);
        });
        saved.refused(&renamed, &["there is no tensor", name]);
        let swapped = saved.with_header(|header| {
            let shape = header[name]["shape"].as_array_mut().unwrap();
            let last = shape.len() - 1;
            shape.swap(1, last);
        });
        if saved.header()[name]["shape"] != json!([1, 16, 2, 4, 4]) {
            continue; // of embeddings, another test has the widths
        }
        saved.refused(&swapped, &[name, "[1, 4, 2, 4, 16]", "[1, 16, 2, 4, 4]"]);
        let start =
            saved.start() + saved.header()[name]["data_offsets"][0].as_u64().unwrap() as usize;
        let mut bytes = saved.bytes.clone();
        bytes[start..start + 4].copy_from_slice(&f32::NAN.to_le_bytes());
        saved.refused(&bytes, &[name, "not finite"]);
    }
    let end = saved.bytes.len() - saved.start();
    let empty = json!({"dtype": "F32", "shape": [0], "data_offsets": [end, end]});
    let extra =
        saved.with_header(|header| drop(header.insert("0.scheduler.more".into(), empty.clone())));
    saved.refused(&extra, &["0.scheduler.more", "does not belong"]);
    // Conditions that a model for text has no use for, named and there.
    for name in ["control", "known", "channels", "image"].map(|name| format!("0.condition.{name}"))
    {
        let named = saved.with_run(|run| run["tensors"].as_array_mut().unwrap().push(json!(name)));
        let saved = Saved { folder: tempfile::tempdir().unwrap(), bytes: named };
        let extra = saved.with_header(|header| drop(header.insert(name.clone(), empty.clone())));
        saved.refused(&extra, &[&name, "does not belong"]);
    }
    // Neither named nor there: the guidance cannot do without it.
    let unnamed = saved.with_run(|run| {
        run["tensors"].as_array_mut().unwrap().retain(|name| name != "0.negative_prompt_embeds");
    });
    saved.refused(&unnamed, &["0.negative_prompt_embeds"]);
}

/// What is cut off anywhere, or has any byte of its header changed, is refused or is another run: there
/// is no panic.
#[test]
fn damaged_files_do_not_panic() {
    let (saved, pipeline) = (Saved::new(), tiny_wan());
    let (start, length) = (saved.start(), saved.bytes.len());
    let mut random = Random(3);
    for end in (0..start).step_by(61).chain((start..length).step_by(509)) {
        let error = saved.resume(&pipeline, &saved.bytes[..end]).expect_err("a part was resumed");
        says(&error, &["changed.safetensors"]);
    }
    let mut refused = 0;
    for at in (0..start).step_by(5) {
        let mut bytes = saved.bytes.clone();
        bytes[at] = match random.below(2) {
            0 => b"0123456789-\"{}[],:e. "[random.below(21)],
            _ => random.next() as u8,
        };
        refused += usize::from(saved.resume(&pipeline, &bytes).is_err());
    }
    println!("{refused} of {} were refused", start / 5);
    assert!(refused > start / 10);
}

#[test]
fn a_prompt_without_embeddings_needs_the_text_encoder() {
    let error = without_text_encoder().generate(&small("a red circle")).unwrap_err();
    assert!(matches!(error, Error::Model(ModelError::LeftOut { .. })), "{error:?}");
}
