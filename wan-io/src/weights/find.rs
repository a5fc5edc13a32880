//! Which of the files in a folder are the weights of a network.
//!
//! Names are those that diffusers, transformers and the makers' own repositories give:
//! `STEM.safetensors`, `STEM-00001-of-00002.safetensors` with or without
//! `STEM.safetensors.index.json`, a variant such as `fp16` in any of them (`STEM.fp16.safetensors`,
//! `STEM-00001-of-00002.fp16.safetensors`, `STEM.safetensors.index.fp16.json`), and the same for
//! checkpoints of PyTorch (`.bin`, `.pth`, `.pt`, `.ckpt`).

use std::collections::BTreeMap;

use super::index::MAX_SHARDS;

/// Endings of weights, the preferred ones first. Content tells the format, not the ending.
const ENDINGS: [&str; 6] = ["safetensors", "sft", "bin", "pth", "pt", "ckpt"];
/// What transformers calls a checkpoint of PyTorch whose safetensors it calls `model`.
const PYTORCH_STEM: (&str, &str) = ("model", "pytorch_model");

/// The files that weights are in: names inside one folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum WeightFiles {
    Single(String),
    Index(String),
    /// Shards without an index; one that is missing is among them.
    Shards(Vec<String>),
}

impl WeightFiles {
    /// The file that messages name.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Single(name) | Self::Index(name) => name,
            Self::Shards(shards) => &shards[0],
        }
    }
}

/// Two files of which either could be meant.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Several(pub(super) String, pub(super) String);

/// What a name says of a file.
#[derive(Debug, PartialEq, Eq)]
struct Name {
    /// The name without ending, number of the shard and `index`: the stem, and the variant if any.
    base: String,
    /// The place of its ending in [`ENDINGS`].
    ending: usize,
    kind: Kind,
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Single,
    Index,
    Shard { of: usize },
}

/// The files of one base and ending.
#[derive(Debug, Default)]
struct Group {
    single: Option<String>,
    index: Option<String>,
    /// By how many there should be.
    shards: BTreeMap<usize, Vec<String>>,
}

/// The groups of one base by ending.
type Groups = BTreeMap<usize, Group>;

/// The weights called `stem` among the files `names` of a folder. If none is called so and the folder
/// is that of one network `alone`, the only weights in it are taken.
///
/// `is_whole` tells whether files can be opened; it is asked where there are several. `None` if there
/// are none.
///
/// # Errors
/// If several could be meant: variants where none is called `stem` alone, or one file beside shards
/// where both are whole.
pub(super) fn find(
    names: &[String],
    stem: &str,
    alone: bool,
    is_whole: &mut dyn FnMut(&WeightFiles) -> bool,
) -> Result<Option<WeightFiles>, Several> {
    let mut bases = group(names, stem);
    if let Some(plain) = bases.remove(stem) {
        return pick(plain, is_whole).map(Some);
    }
    let is_variant = |base: &str| base.strip_prefix(stem).is_some_and(|rest| rest.starts_with('.'));
    let (variants, others): (Vec<_>, Vec<_>) =
        bases.into_iter().partition(|(base, _)| is_variant(base));
    let candidates = match variants.is_empty() {
        true if alone => others,
        _ => variants,
    };
    let mut candidates = candidates.into_iter().map(|(_, groups)| groups);
    match (candidates.next(), candidates.next()) {
        (None, _) => Ok(None),
        (Some(only), None) => pick(only, is_whole).map(Some),
        (Some(first), Some(second)) => Err(Several(first_name(&first), first_name(&second))),
    }
}

/// All shards of the set that `shard` is one of: their index among the files `names` beside it, or
/// their names. `None` if its name is not that of a shard.
pub(super) fn find_set(names: &[String], shard: &str) -> Option<WeightFiles> {
    let Name { base, ending, kind: Kind::Shard { of } } = parse(shard)? else { return None };
    let mut group = group(names, "").remove(&base)?.remove(&ending)?;
    match group.index {
        Some(index) => Some(WeightFiles::Index(index)),
        None => Some(WeightFiles::Shards(complete(group.shards.remove(&of)?, of))),
    }
}

/// Whether a file is an index of shards, by its name.
pub(super) fn is_index(name: &str) -> bool {
    parse(name).is_some_and(|name| name.kind == Kind::Index)
}

/// Whether a file may hold weights, by its ending.
pub(super) fn is_weights(name: &str) -> bool {
    split_ending(name).is_some()
}

/// One file of weights among `names`, to be named where those that are needed are not there.
pub(super) fn any(names: &[String]) -> Option<&String> {
    names.iter().find(|name| is_weights(name))
}

fn group(names: &[String], stem: &str) -> BTreeMap<String, Groups> {
    let mut bases: BTreeMap<String, Groups> = BTreeMap::new();
    for name in names {
        let Some(Name { mut base, ending, kind }) = parse(name) else { continue };
        if stem == PYTORCH_STEM.0
            && let Some(variant) = base.strip_prefix(PYTORCH_STEM.1)
        {
            base = format!("{stem}{variant}");
        }
        let group = bases.entry(base).or_default().entry(ending).or_default();
        match kind {
            Kind::Single => group.single = Some(name.clone()),
            Kind::Index => group.index = Some(name.clone()),
            Kind::Shard { of } => group.shards.entry(of).or_default().push(name.clone()),
        }
    }
    bases
}

/// The weights among those of one base: of the first ending with whole ones.
fn pick(
    groups: Groups,
    is_whole: &mut dyn FnMut(&WeightFiles) -> bool,
) -> Result<WeightFiles, Several> {
    let mut by_ending: Vec<Vec<WeightFiles>> = groups.into_values().map(Group::forms).collect();
    if by_ending.iter().map(Vec::len).sum::<usize>() > 1 {
        for forms in &by_ending {
            let mut whole = forms.iter().filter(|form| is_whole(form));
            match (whole.next(), whole.next()) {
                (None, _) => {}
                (Some(only), None) => return Ok(only.clone()),
                (Some(first), Some(second)) => {
                    return Err(Several(first.name().to_owned(), second.name().to_owned()));
                }
            }
        }
    }
    // None is whole, or there is nothing to choose: whoever opens it finds out.
    Ok(by_ending.swap_remove(0).swap_remove(0))
}

impl Group {
    fn forms(self) -> Vec<WeightFiles> {
        let sets = self.shards.into_iter().map(|(of, shards)| complete(shards, of));
        let sharded: Vec<WeightFiles> = match self.index {
            Some(index) => vec![WeightFiles::Index(index)],
            None => sets.map(WeightFiles::Shards).collect(),
        };
        self.single.map(WeightFiles::Single).into_iter().chain(sharded).collect()
    }
}

/// The names of all shards, by those that are there.
fn complete(shards: Vec<String>, of: usize) -> Vec<String> {
    let Some((before, digits, after)) = split_shard(&shards[0]) else { return shards };
    let name = |number| format!("{before}-{number:0width$}-of-{after}", width = digits.len());
    (1..=of).map(name).collect()
}

fn first_name(groups: &Groups) -> String {
    let group = groups.values().next().expect("a base has files");
    let Group { single, index, shards } = group;
    let shard = shards.values().flatten().next();
    single.as_ref().or(index.as_ref()).or(shard).expect("a group has files").clone()
}

fn parse(name: &str) -> Option<Name> {
    if let Some(name) = name.strip_suffix(".json") {
        let (weights, variant) = name.rsplit_once(".index")?;
        let (base, ending) = split_ending(weights)?;
        let is_variant = variant.is_empty() || variant.starts_with('.');
        let base = format!("{base}{variant}");
        return is_variant.then_some(Name { base, ending, kind: Kind::Index });
    }
    let (stem, ending) = split_ending(name)?;
    let Some((before, digits, after)) = split_shard(stem) else {
        return Some(Name { base: stem.to_owned(), ending, kind: Kind::Single });
    };
    let (of, variant) = split_digits(after);
    let (number, of) = (digits.parse().ok()?, of.parse().ok()?);
    let fits = (1..=of).contains(&number) && of <= MAX_SHARDS;
    fits.then(|| Name { base: format!("{before}{variant}"), ending, kind: Kind::Shard { of } })
}

fn split_ending(name: &str) -> Option<(&str, usize)> {
    let (stem, ending) = name.rsplit_once('.')?;
    let ending = ENDINGS.iter().position(|known| *known == ending)?;
    (!stem.is_empty() && !stem.starts_with('.')).then_some((stem, ending))
}

/// Splits `model-00001-of-00002.fp16` into `model`, `00001` and `00002.fp16`.
fn split_shard(name: &str) -> Option<(&str, &str, &str)> {
    let (before, after) = name.rsplit_once("-of-")?;
    let (before, digits) = before.rsplit_once('-')?;
    let (of, rest) = split_digits(after);
    let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let fits = is_number(digits) && is_number(of) && (rest.is_empty() || rest.starts_with('.'));
    fits.then_some((before, digits, after))
}

fn split_digits(text: &str) -> (&str, &str) {
    let end = text.bytes().take_while(u8::is_ascii_digit).count();
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found for `model` in the folder of one network, if the files in `broken` are not whole.
    fn find_model(names: &[&str], broken: &[&str]) -> Result<Option<WeightFiles>, Several> {
        let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
        let mut is_whole = |form: &WeightFiles| match form {
            WeightFiles::Shards(shards) => shards.iter().all(|shard| names.contains(shard)),
            one => !broken.contains(&one.name()),
        };
        find(&names, "model", true, &mut is_whole)
    }

    fn single(name: &str) -> Result<Option<WeightFiles>, Several> {
        Ok(Some(WeightFiles::Single(name.into())))
    }

    fn index(name: &str) -> Result<Option<WeightFiles>, Several> {
        Ok(Some(WeightFiles::Index(name.into())))
    }

    fn several(first: &str, second: &str) -> Result<Option<WeightFiles>, Several> {
        Err(Several(first.into(), second.into()))
    }

    #[test]
    fn the_only_form_is_taken_whatever_it_is_called() {
        for name in [
            "model.safetensors",
            "model.fp16.safetensors",
            "model.bin",
            "pytorch_model.bin",
            "pytorch_model.bf16.bin",
            "model.sft",
            "umt5_xxl_fp8_e4m3fn_scaled.safetensors",
            "anything at all.pth",
            "x.pt",
            "x.ckpt",
        ] {
            assert_eq!(find_model(&["config.json", "README.md", name], &[]), single(name));
            assert_eq!(find_model(&[name], &[name]), single(name), "its reader says what it is");
        }
        for name in [
            "model.safetensors.index.json",
            "model.safetensors.index.fp16.json",
            "model.fp16.safetensors.index.json",
            "pytorch_model.bin.index.json",
        ] {
            let shard = if name.contains(".bin") { "1.bin" } else { "1.safetensors" };
            assert_eq!(find_model(&[name, shard], &[]), index(name));
        }
        for none in [&["config.json", "x.gguf", ".model.bin", "generation.index.json"][..], &[]] {
            assert_eq!(find_model(none, &[]), Ok(None));
        }
    }

    #[test]
    fn shards_need_no_index() {
        for (shards, all) in [
            (&["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"][..], true),
            (
                &["model.fp16-00001-of-00002.safetensors", "model.fp16-00002-of-00002.safetensors"],
                true,
            ),
            (
                &["model-00001-of-00002.fp16.safetensors", "model-00002-of-00002.fp16.safetensors"],
                true,
            ),
            (&["pytorch_model-1-of-2.bin", "pytorch_model-2-of-2.bin"], true),
            (&["model-00002-of-00002.safetensors"], false),
        ] {
            let Ok(Some(WeightFiles::Shards(found))) = find_model(shards, &[]) else {
                panic!("{shards:?}")
            };
            assert_eq!(found.len(), 2);
            assert_eq!(found == shards, all, "{found:?}");
            assert_eq!(found[1], shards[shards.len() - 1]);
        }
        let odd = ["model-00003-of-00002.safetensors", "model-00000-of-00002.safetensors"];
        for name in odd {
            assert_eq!(find_model(&[name], &[]), Ok(None), "a number that no shard has");
        }
    }

    #[test]
    fn of_several_forms_the_plain_and_whole_one_is_taken_or_both_are_named() {
        let (plain, fp16, bf16) =
            ("model.safetensors", "model.fp16.safetensors", "model.bf16.safetensors");
        let (bin, list) = ("pytorch_model.bin", "model.safetensors.index.json");
        let rows: [(&[&str], &[&str], _); 9] = [
            (&[plain, fp16, bf16, bin, "other.safetensors"], &[], single(plain)),
            (&[fp16, bin], &[], single(bin)),
            (&[plain, bin], &[plain], single(bin)),
            (&[fp16, bf16], &[], several(bf16, fp16)),
            (&["a.safetensors", "b.pth"], &[], several("a.safetensors", "b.pth")),
            (&[plain, list], &[], several(plain, list)),
            (&[plain, list], &[plain], index(list)),
            (&[plain, list], &[list], single(plain)),
            (&[plain, list], &[plain, list], single(plain)),
        ];
        for (names, broken, expected) in rows {
            assert_eq!(find_model(names, broken), expected, "{names:?}, broken: {broken:?}");
        }
        // Where the folder is that of several networks, nothing is taken under another name.
        let names = ["other.safetensors".to_owned()];
        assert_eq!(find(&names, "model", false, &mut |_| true), Ok(None));
    }

    #[test]
    fn a_shard_leads_to_its_set() {
        let names =
            ["a-00001-of-00002.safetensors", "a-00002-of-00002.safetensors", "b.safetensors"];
        let mut names: Vec<String> = names.map(str::to_owned).to_vec();
        let shards = WeightFiles::Shards(names[..2].to_vec());
        assert_eq!(find_set(&names, "a-00002-of-00002.safetensors"), Some(shards));
        assert_eq!(find_set(&names, "b.safetensors"), None);
        names.push("a.safetensors.index.json".into());
        let index = WeightFiles::Index("a.safetensors.index.json".into());
        assert_eq!(find_set(&names, "a-00002-of-00002.safetensors"), Some(index));
    }
}
