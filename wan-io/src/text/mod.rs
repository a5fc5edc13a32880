//! From a prompt to token ids: [`clean_prompt`] and the umT5 [`Tokenizer`]; [`ClipTokenizer`] for CLIP.
//!
//! ```no_run
//! # fn main() -> Result<(), wan_io::text::TextError> {
//! use wan_io::text::{Tokenizer, clean_prompt};
//!
//! let tokenizer = Tokenizer::open("model/tokenizer".as_ref())?;
//! let tokens = tokenizer.encode(&clean_prompt("一只猫走过安静的河流，电影感光线。"), 512)?;
//! assert_eq!(tokens.dropped, 0);
//! # Ok(())
//! # }
//! ```

mod charset;
mod clean;
mod clip;
mod encoding;
mod entities;
mod error;
mod glyphs;
mod mojibake;
mod spiece;
mod tokenizer;
mod unigram;

pub use clean::clean_prompt;
pub use clip::{ClipTokenizer, ClipTokens};
pub use error::TextError;
pub use tokenizer::{Tokenizer, Tokens};

/// The negative prompt that the original Wan code uses where the caller gives none
/// (`wan/configs/shared_config.py`).
pub const WAN_NEGATIVE_PROMPT: &str = "色调艳丽，过曝，静态，细节模糊不清，字幕，风格，作品，画作，\
    画面，静止，整体发灰，最差质量，低质量，JPEG压缩残留，丑陋的，残缺的，多余的手指，画得不好的手部，\
    画得不好的脸部，畸形的，毁容的，形态畸形的肢体，手指融合，静止不动的画面，杂乱的背景，三条腿，\
    背景人很多，倒着走";
