//! Loads a transformer as the pipeline does and prints how long it took and how much memory of its
//! own the process had, as `load.py` does with safetensors and torch:
//! `cargo run --release -p wan-benches --example load -- FOLDER f32|bf16`.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use burn::backend::Flex;
use burn::tensor::DType;
use wan_io::files::ModelFiles;
use wan_io::weights::Weights;
use wan_models::load::{TensorSource, load};
use wan_models::transformer::{WanTransformer, WanTransformerConfig};

const MIB: usize = 1 << 20;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("FOLDER is missing")?;
    let dtype = match arguments.next().as_deref() {
        Some("f32") => DType::F32,
        Some("bf16") => DType::BF16,
        _ => return Err("the dtype must be f32 or bf16".into()),
    };
    let files = ModelFiles::folder(Path::new(&folder))?;
    let config: WanTransformerConfig = files.json("config.json")?;
    config.validate()?;

    let before = anonymous()?;
    let (peak, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (seconds, largest, model) = std::thread::scope(|scope| -> Result<_, Box<dyn Error>> {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                peak.fetch_max(anonymous().unwrap_or(0), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let start = Instant::now();
        let weights = Weights::open(&files, "", "diffusion_pytorch_model")?;
        let tensors = weights.names().filter_map(|name| weights.tensor(name));
        let sizes: Vec<usize> = tensors.map(|t| t.shape.iter().product()).collect();
        let (largest, all) =
            (sizes.iter().max().copied().unwrap_or(0), sizes.iter().sum::<usize>());
        let source: Arc<dyn TensorSource> = Arc::new(weights);
        let _transformer: WanTransformer<Flex> =
            load(&source, &Default::default(), dtype, &config)?;
        let seconds = start.elapsed().as_secs_f64();
        done.store(true, Ordering::Relaxed);
        Ok((seconds, largest * dtype.size(), all * dtype.size()))
    })?;
    let beyond = peak.load(Ordering::Relaxed).saturating_sub(before + model);
    println!(
        "{seconds:.2} s, {} MiB of tensors, {} MiB beyond them at the peak (the largest tensor has {})",
        model / MIB,
        beyond / MIB,
        largest / MIB,
    );
    Ok(())
}

/// Bytes of memory that are not pages of files.
fn anonymous() -> Result<usize, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.split_whitespace().next()).ok_or("no RssAnon")?;
    Ok(kib.parse::<usize>()? * 1024)
}
