//! No bytes make the reader of pictures panic, hang or fill memory: PNG, JPEG or WebP, as the first bytes
//! tell. A picture that is read is whole, and can be fitted to a model.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wan_io::image::{ClipPreprocess, Fit, FitRule, Image, Mask};

/// The most pixels: few bytes can stand for very many, up to a limit that is tested elsewhere.
const MAX_PIXELS: u64 = 1 << 16;

fuzz_target!(|bytes: &[u8]| {
    match Image::decode_up_to(bytes, MAX_PIXELS) {
        Ok(image) => fit(&image),
        Err(error) => drop(error.to_string()),
    }
});

fn fit(image: &Image) {
    let pixels = image.width() as usize * image.height() as usize;
    assert!(pixels > 0 && image.rgb8().len() == 3 * pixels);
    assert_eq!(Mask::from(image).values().len(), pixels);
    for rule in [FitRule::Diffusers, FitRule::WanImageToVideo, FitRule::WanTi2v] {
        match (Fit { rule, max_area: 64 * 64, factor: 16 }).pixels(image) {
            Ok(frame) => assert!(frame.values.iter().all(|value| value.abs() < 4.0)),
            Err(error) => drop(error.to_string()),
        }
    }
    if let Ok(pixels) = ClipPreprocess::original(8).pixels(image) {
        assert_eq!(pixels.values.len(), 3 * 8 * 8);
    }
}
