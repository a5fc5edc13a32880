//! No bytes make the reader of metadata panic, hang or fill memory: MP4, GIF or PNG, as the first
//! bytes tell.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Err(error) = wan_io::video::read_metadata(&wan_fuzz::write("video", bytes)) {
        drop(error.to_string());
    }
});
