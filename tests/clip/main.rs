//! CLIP as a user has it: the miniature by its name, with texts, pictures and videos.

mod damaged;
mod encoder;
mod fixture;
mod found;
mod layouts;
mod space;

use wan_pipeline::Clip;
use wan_pipeline::backend::Flex;

fn tiny_clip() -> Clip<Flex> {
    Clip::from_pretrained("tiny-clip").unwrap()
}
