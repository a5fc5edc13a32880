//! No bytes make the reader of GIF videos panic, hang or fill memory; a video that is read is whole.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wan_io::video::read_video;

/// The longest side of a canvas: few bytes can stand for pictures of a gigabyte, up to a limit that
/// is tested elsewhere.
const MAX_SIDE: u16 = 256;

fuzz_target!(|bytes: &[u8]| {
    let Some([b'G', b'I', b'F', b'8', _, _, w0, w1, h0, h1]) = bytes.first_chunk() else {
        return;
    };
    if u16::from_le_bytes([*w0, *w1]).max(u16::from_le_bytes([*h0, *h1])) > MAX_SIDE {
        return;
    }
    match read_video(wan_fuzz::write("video.gif", bytes)) {
        Ok(video) => {
            assert_eq!(video.frames.len(), video.spec.frames as usize);
            assert!(video.frames.iter().all(|frame| frame.len() == video.spec.frame_bytes()));
        }
        Err(error) => drop(error.to_string()),
    }
});
