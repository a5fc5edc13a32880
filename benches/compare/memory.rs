//! Parts of a run, with their time and memory, for `benches/compare/memory`:
//!
//! ```text
//! memory read FOLDER                  reads the matrices of a network and brings them to f32
//! memory encode MODEL TOKENS          encodes one prompt, weights streamed, in the default precision
//! memory twice MODEL WIDTH HEIGHT FRAMES   two jobs one after the other
//! ```

use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::Instant;

use burn::backend::Flex;
use burn::tensor::DType;
use wan_core::backend::NetworkKind;
use wan_core::{Backend, CancelToken, TextEncoder};
use wan_io::files::ModelFiles;
use wan_io::weights::Weights;
use wan_models::load::{ReadOptions, Residency, TensorSource, decode, load};
use wan_models::umt5::{Umt5Config, Umt5Encoder};
use wan_pipeline::{Observer, Pipeline, Request};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match &words[..] {
        ["read", folder] => read(folder),
        ["encode", model, tokens] => encode(model, tokens.parse()?),
        ["twice", model, width, height, frames] => {
            twice(model, [width.parse()?, height.parse()?], frames.parse()?)
        }
        _ => Err("read FOLDER, encode MODEL TOKENS, or twice MODEL WIDTH HEIGHT FRAMES".into()),
    }
}

/// The most memory that the process has had, in bytes; from now on it is counted anew.
fn peak() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    fs::write("/proc/self/clear_refs", "5")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? << 10)
}

fn open(folder: &str) -> Result<Weights> {
    let files = ModelFiles::folder(Path::new(folder))?;
    let stem = if files.has("diffusion_pytorch_model.safetensors.index.json") {
        "diffusion_pytorch_model"
    } else {
        "model"
    };
    Ok(Weights::open(&files, "", stem)?)
}

fn read(folder: &str) -> Result<()> {
    let weights = open(folder)?;
    let (start, mut bytes) = (Instant::now(), 0);
    // The embeddings of the vocabulary stay in their file.
    for name in weights.names().filter(|name| *name != "shared.weight") {
        let tensor = weights.tensor(name).ok_or("no such tensor")?;
        bytes += tensor.count() * tensor.dtype.bitsize() / 8;
        drop(decode(&tensor, DType::F32)?);
    }
    println!("seconds={:.3} peak={} bytes={bytes}", start.elapsed().as_secs_f64(), peak()?);
    Ok(())
}

fn encode(model: &str, tokens: u32) -> Result<()> {
    let folder = format!("{model}/text_encoder");
    let config: Umt5Config = ModelFiles::folder(Path::new(&folder))?.json("config.json")?;
    let source: std::sync::Arc<dyn TensorSource> = std::sync::Arc::new(open(&folder)?);
    let dtype = Flex::auto_dtype(&Default::default(), NetworkKind::TextEncoder);
    let options = ReadOptions::new(dtype).residency(Residency::Streamed);
    let start = Instant::now();
    let encoder: Umt5Encoder<Flex> = load(&source, &Default::default(), options, &config)?;
    let ids: Vec<u32> = (1..=tokens).collect();
    encoder.encode(&[&ids], &CancelToken::default())?;
    let seconds = start.elapsed().as_secs_f64();
    println!("seconds={seconds:.3} peak={} {dtype:?} {:?}", peak()?, encoder.reading());
    Ok(())
}

fn twice(model: &str, [width, height]: [usize; 2], frames: usize) -> Result<()> {
    let pipeline = Pipeline::<Flex>::from_pretrained(model)?;
    let observer = &mut Observer::silent();
    for (job, prompt) in ["a cat", "a dog"].into_iter().enumerate() {
        let request = Request::new(prompt).size(width, height).frames(frames).steps(1);
        let start = Instant::now();
        let video = pipeline.generate_with(&request, observer)?;
        let seconds = start.elapsed().as_secs_f64();
        println!("job={job} seconds={seconds:.3} peak={} frames={}", peak()?, video.frames().len());
    }
    Ok(())
}
