//! Models that are compiled into the program.

use wan_io::files::ModelFiles;

/// The names of all built-in models.
pub(crate) const NAMES: &[&str] = match (cfg!(feature = "tiny-wan"), cfg!(feature = "tiny-clip")) {
    (true, true) => &["tiny-wan", "tiny-clip"],
    (true, false) => &["tiny-wan"],
    (false, true) => &["tiny-clip"],
    (false, false) => &[],
};

/// The built-in model of this name.
pub(crate) fn find(name: &str) -> Option<ModelFiles> {
    #[cfg(feature = "tiny-wan")]
    if name == "tiny-wan" {
        return Some(ModelFiles::Embedded { name: "tiny-wan", files: tiny_wan::FILES });
    }
    #[cfg(feature = "tiny-clip")]
    if name == "tiny-clip" {
        return Some(ModelFiles::Embedded { name: "tiny-clip", files: tiny_clip::FILES });
    }
    let _ = name;
    None
}

/// The names of all built-in models, for messages.
pub(crate) fn names() -> String {
    if NAMES.is_empty() { "none are compiled in".into() } else { NAMES.join(", ") }
}
