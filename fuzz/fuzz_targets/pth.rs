//! No bytes make the reader of PyTorch's checkpoints panic, hang or fill memory; what it accepts can
//! be read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wan_io::weights::Weights;

fuzz_target!(|bytes: &[u8]| {
    match Weights::open_path(&wan_fuzz::write("model.pth", bytes)) {
        Ok(weights) => wan_fuzz::read_all(&weights),
        Err(error) => drop(error.to_string()),
    }
});
