//! Models that are compiled into the program.

use wan_io::files::ModelFiles;

/// Paths and contents of the files of a model.
type Files = &'static [(&'static str, &'static [u8])];

/// The built-in models by their names, each under the feature of its name.
pub(crate) const MODELS: &[(&str, Files)] = &[
    #[cfg(feature = "tiny-wan")]
    ("tiny-wan", tiny_wan::FILES),
    #[cfg(feature = "tiny-wan-ti2v")]
    ("tiny-wan-ti2v", tiny_wan_ti2v::FILES),
    #[cfg(feature = "tiny-clip")]
    ("tiny-clip", tiny_clip::FILES),
];

/// The built-in model of this name.
pub(crate) fn find(name: &str) -> Option<ModelFiles> {
    let &(name, files) = MODELS.iter().find(|(known, _)| *known == name)?;
    Some(ModelFiles::Embedded { name, files })
}

/// The names of all built-in models, for messages.
pub(crate) fn names() -> String {
    let names: Vec<&str> = MODELS.iter().map(|(name, _)| *name).collect();
    if names.is_empty() { "none are compiled in".into() } else { names.join(", ") }
}
