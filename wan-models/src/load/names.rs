//! The layouts of a network's checkpoints, as tables of names.

use std::collections::BTreeSet;
use std::sync::Arc;

use wan_io::files::FileError;
use wan_io::weights::StoredTensor;

use super::passed_over::{ALL_IN_ONE, is_passed_over};
use super::quantised::{Quantised, not_read};
use super::renamed::{NameMap, Renamed};
use super::{CheckpointError, TensorSource};

/// The most pieces of two copies of a tensor that are compared: 256 MB at most.
const MAX_COMPARED: usize = 1024;

/// The beginning of a canonical name and of the layout's name, in whole parts between dots. A `*`
/// stands for any one part, which is carried over.
pub(crate) type Row = (&'static str, &'static str);

/// Makes a map of names for the size of a checkpoint's network; `has` tells whether the checkpoint has
/// a tensor, by its name in the layout.
pub(crate) type Renumber = fn(has: &dyn Fn(&str) -> bool) -> NameMap;

/// The layouts of one network's checkpoints.
pub(crate) struct Layouts {
    /// The network, for messages.
    pub(crate) network: &'static str,
    /// The layouts, the canonical one first.
    pub(crate) layouts: &'static [Layout],
}

/// The names of one layout. Before all of them a checkpoint may have the same beginning, whatever it
/// is, up to a dot.
pub(crate) struct Layout {
    /// Tensors, by their names in this layout, that its checkpoints have and no others. Each of them
    /// tells the layout, so that a checkpoint that lacks one is still known.
    pub(crate) marks: &'static [&'static str],
    /// The steps from a canonical name to that of this layout: in each the first fitting row counts.
    pub(crate) tables: &'static [&'static [Row]],
    /// The step before the tables that depends on the size of the network.
    pub(crate) renumber: Option<Renumber>,
    /// Names in this layout of one tensor: a checkpoint has it under either, or a copy under the other.
    pub(crate) copies: Option<(&'static str, &'static str)>,
    /// Beginnings of names in this layout that checkpoints of a larger network have, of which this one
    /// is a part.
    pub(crate) beside: &'static [&'static str],
}

/// A layout that fits a checkpoint, and the beginning that all names have.
struct Fit {
    prefix: String,
    layout: &'static Layout,
    marks: usize,
}

impl Layout {
    /// A layout with these marks whose names are the canonical ones.
    pub(crate) const fn canonical(marks: &'static [&'static str]) -> Self {
        Self { marks, tables: &[], renumber: None, copies: None, beside: &[] }
    }

    fn map(&'static self, prefix: String, has: &dyn Fn(&str) -> bool) -> NameMap {
        let renumber = self.renumber.map(|renumber| renumber(has));
        let copies = self.copies.filter(|(first, second)| !has(first) && has(second));
        Box::new(move |name| {
            let name = renumber.as_ref().map_or_else(|| name.to_owned(), |renumber| renumber(name));
            let name = self.tables.iter().fold(name, |name, table| translate(&name, table));
            match copies {
                Some((first, second)) if name == first => format!("{prefix}{second}"),
                _ => format!("{prefix}{name}"),
            }
        })
    }
}

impl Layouts {
    /// The tensors of a checkpoint in any of the layouts, under their canonical names, without those
    /// that are known to be no weights of this network.
    ///
    /// # Errors
    /// If no layout has these names, or several models have; if weights are stored in a form that
    /// cannot be decoded; if two copies of one tensor differ.
    pub(crate) fn recognise(
        &'static self,
        source: Arc<dyn TensorSource>,
    ) -> Result<Arc<dyn TensorSource>, CheckpointError> {
        let names = source.names();
        let (fit, unused) = self.fit(&names, &*source)?;
        let (hidden, own): (Vec<String>, Vec<String>) =
            names.into_iter().partition(|name| fit.hides(name, &unused));
        let mut hidden: BTreeSet<String> = hidden.into_iter().collect();
        let quantised = Quantised::read(&*source, &own)?;
        hidden.extend(quantised.extras.iter().cloned());
        let Fit { prefix, layout, .. } = fit;
        if let Some((first, second)) = layout.copies {
            hidden.extend(copy(&*source, [first, second].map(|name| format!("{prefix}{name}")))?);
        }
        let has = |name: &str| source.tensor(&format!("{prefix}{name}")).is_some();
        let map = layout.map(prefix.clone(), &has);
        Ok(Arc::new(Renamed { source, map, hidden, quantised }))
    }

    /// The layout that most marks tell, and the beginnings of other models' names that are not used.
    fn fit(
        &'static self,
        names: &[String],
        source: &dyn TensorSource,
    ) -> Result<(Fit, Vec<String>), CheckpointError> {
        let mut fits: Vec<Fit> = Vec::new();
        for (name, layout) in names.iter().flat_map(|n| self.layouts.iter().map(move |l| (n, l))) {
            let prefix = layout.marks.iter().find_map(|mark| name.strip_suffix(mark));
            let Some(prefix) = prefix.filter(|start| start.is_empty() || start.ends_with('.'))
            else {
                continue;
            };
            match fits.iter_mut().find(|fit| fit.prefix == prefix) {
                Some(fit) => fit.marks += 1,
                None => fits.push(Fit { prefix: prefix.to_owned(), layout, marks: 1 }),
            }
        }
        let most = fits.iter().map(|fit| fit.marks).max();
        fits.retain(|fit| Some(fit.marks) == most);
        // Of weights and their mean over the training, the mean is what their makers sample with; beside both,
        // distillation keeps a critic.
        fits.sort_by_key(|fit| !is_mean(&fit.prefix));
        let means = fits.iter().filter(|fit| is_mean(&fit.prefix)).count();
        let origin = source.origin();
        let mut fits = fits.into_iter();
        match (fits.next(), fits.next()) {
            (Some(only), None) => Ok((only, Vec::new())),
            (Some(mean), Some(raw)) if means == 1 => {
                let unused = std::iter::once(raw).chain(fits).map(|fit| fit.prefix);
                Ok((mean, unused.collect()))
            }
            (Some(first), Some(second)) => Err(CheckpointError::SeveralModels {
                origin,
                model: self.network,
                first: first.prefix,
                second: second.prefix,
            }),
            (None, _) => {
                let marks: Vec<&str> = self.layouts.iter().map(|layout| layout.marks[0]).collect();
                let (model, expected) = (self.network, marks.join(" or "));
                Err(CheckpointError::NotThisModel { origin, model, expected })
            }
        }
    }
}

impl Fit {
    /// Whether a tensor is known to be no weight of this network: a table or a mark, or part of another
    /// network in the same file, such as those whose names begin with one of `unused`.
    fn hides(&self, name: &str, unused: &[String]) -> bool {
        if is_passed_over(name) {
            return true;
        }
        match name.strip_prefix(&self.prefix) {
            Some(name) if !self.prefix.is_empty() => starts_with(name, self.layout.beside),
            _ => {
                let unused = unused.iter().map(String::as_str).filter(|start| !start.is_empty());
                let parts = ALL_IN_ONE.into_iter().chain(unused);
                starts_with(name, &parts.collect::<Vec<_>>())
                    || self.prefix.is_empty() && starts_with(name, self.layout.beside)
            }
        }
    }
}

fn starts_with(name: &str, starts: &[&str]) -> bool {
    starts.iter().any(|start| name.starts_with(start))
}

/// Whether a beginning of names says "exponential moving average".
fn is_mean(prefix: &str) -> bool {
    prefix.split(['.', '_']).any(|part| part == "ema")
}

/// The second of two copies of one tensor, if both are there.
fn copy(
    source: &dyn TensorSource,
    [first, second]: [String; 2],
) -> Result<Option<String>, CheckpointError> {
    let (Some(one), Some(other)) = (source.tensor(&first), source.tensor(&second)) else {
        return Ok(None);
    };
    let is_same = is_same(&one, &other).map_err(|error| not_read(&error))?;
    match is_same {
        true => Ok(Some(second)),
        false => Err(CheckpointError::CopiesDiffer { origin: source.origin(), first, second }),
    }
}

/// Whether two tensors are the same. Of large ones, pieces at equal distances are compared: a vocabulary
/// has 2 GB, and one that was trained apart differs everywhere.
fn is_same(one: &StoredTensor, other: &StoredTensor) -> Result<bool, FileError> {
    if one.dtype != other.dtype || one.shape != other.shape {
        return Ok(false);
    }
    let (mut first, mut second) = Default::default();
    let (count, piece) = (one.count(), one.piece().max(other.piece()));
    let pieces = count.div_ceil(piece);
    for i in (0..pieces).step_by(pieces.div_ceil(MAX_COMPARED).max(1)) {
        let range = i * piece..count.min((i + 1) * piece);
        if one.read(range.clone(), &mut first)? != other.read(range, &mut second)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The name by the first row that fits, or unchanged.
fn translate(name: &str, table: &[Row]) -> String {
    let replaced = table.iter().find_map(|row| replace_start(name, row));
    replaced.unwrap_or_else(|| name.to_owned())
}

fn replace_start(name: &str, (start, replacement): &Row) -> Option<String> {
    let mut parts = name.split('.');
    let mut carried = Vec::new();
    for expected in start.split('.') {
        match parts.next()? {
            part if expected == "*" => carried.push(part),
            part if expected == part => {}
            _ => return None,
        }
    }
    let mut carried = carried.into_iter();
    let fill = |part| if part == "*" { carried.next().unwrap_or(part) } else { part };
    let replaced: Vec<&str> = replacement.split('.').map(fill).chain(parts).collect();
    Some(replaced.join("."))
}

/// Splits `blocks.3.rest` after `blocks.` into 3 and `rest`.
pub(crate) fn split_index<'a>(name: &'a str, list: &str) -> Option<(usize, &'a str)> {
    let (index, rest) = name.strip_prefix(list)?.split_once('.')?;
    Some((index.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    use wan_io::weights::Dtype;

    /// One network: `in`, `table` or `encoder.table`, and what is known to be beside it.
    static LAYOUTS: Layouts = Layouts {
        network: "a network",
        layouts: &[
            Layout {
                copies: Some(("table", "encoder.table")),
                beside: &["decoder."],
                ..Layout::canonical(&["blocks.0.in.weight", "blocks.0.out.weight"])
            },
            Layout {
                tables: &[&[("blocks.*.in", "layers.*.x"), ("blocks.*.out", "layers.*.y")]],
                ..Layout::canonical(&["layers.0.x.weight", "layers.0.y.weight"])
            },
        ],
    };

    /// Tensors of one byte each, which is the length of the name unless it is said.
    struct Names(Vec<(String, u8)>);

    impl TensorSource for Names {
        fn names(&self) -> Vec<String> {
            self.0.iter().map(|(name, _)| name.clone()).collect()
        }

        fn tensor(&self, name: &str) -> Option<StoredTensor<'_>> {
            let (_, value) = self.0.iter().find(|(known, _)| known == name)?;
            Some(StoredTensor::in_memory(Dtype::U8, &[1], std::slice::from_ref(value)))
        }

        fn origin(&self) -> String {
            "a file".into()
        }
    }

    /// The value of `canonical` among these tensors, and the names that are left to be asked for.
    #[track_caller]
    fn recognise(
        names: &[(&str, u8)],
        canonical: &str,
    ) -> Result<(u8, Vec<String>), CheckpointError> {
        let names = names.iter().map(|(name, value)| (name.to_string(), *value)).collect();
        let source = LAYOUTS.recognise(Arc::new(Names(names)))?;
        let value = source.tensor(canonical).expect("the tensor is there").bytes().unwrap()[0];
        Ok((value, source.names()))
    }

    #[test]
    fn any_prefix_is_dropped_in_any_layout() {
        for prefix in
            ["", "model.diffusion_model.", "module.", "_orig_mod.", "x.y.z.", "ema.model."]
        {
            for layout in [
                ["blocks.0.in.weight", "blocks.0.out.weight"],
                ["layers.0.x.weight", "layers.0.y.weight"],
            ] {
                let [first, second] = layout.map(|name| format!("{prefix}{name}"));
                let found = recognise(&[(&first, 1), (&second, 2)], "blocks.0.out.weight").unwrap();
                assert_eq!(found, (2, vec![first.clone(), second.clone()]));
                let one_mark = recognise(&[(&second, 2)], "blocks.0.out.weight").unwrap();
                assert_eq!(one_mark, (2, vec![second]));
            }
        }
        for name in ["my_blocks.0.in.weight", "blocks.1.in.weight", "blocks.0.in.weight.lora"] {
            let error = recognise(&[(name, 1)], "").unwrap_err();
            assert!(matches!(error, CheckpointError::NotThisModel { .. }), "{error:?}");
        }
    }

    #[test]
    fn what_is_known_to_be_no_weight_is_passed_over_and_nothing_else() {
        for prefix in ["", "model.diffusion_model.", "a."] {
            let own = format!("{prefix}blocks.0.in.weight");
            for (beside, is_left) in [
                ("spiece_model", false),
                ("scaled_fp8", false),
                ("rope.freqs", false),
                ("blocks.0.to_gate_compress.weight", false),
                ("vae.encoder.conv1.weight", false),
                ("text_encoders.umt5xxl.transformer.shared.weight", false),
                ("other.weight", true),
                ("vae_like.weight", true),
                ("freqs.weight", true),
            ] {
                let (_, left) = recognise(&[(&own, 1), (beside, 2)], "blocks.0.in.weight").unwrap();
                assert_eq!(left.len() == 2, is_left, "{beside} beside {own}");
            }
            for (name, is_left) in [("decoder.x", false), ("position_ids", false), ("lm", true)] {
                let inside = format!("{prefix}{name}");
                let (_, left) =
                    recognise(&[(&own, 1), (&inside, 2)], "blocks.0.in.weight").unwrap();
                assert_eq!(left.len() == 2, is_left, "{name} inside of {own}");
            }
        }
    }

    #[test]
    fn of_several_models_the_mean_is_taken_or_two_are_named() {
        let name = "blocks.0.in.weight";
        let two = |first: &str, second: &str| {
            recognise(&[(&format!("{first}{name}"), 1), (&format!("{second}{name}"), 2)], name)
        };
        let expected = (2, vec![format!("generator_ema.{name}")]);
        assert_eq!(two("generator.", "generator_ema.").unwrap(), expected);
        assert_eq!(two("critic.", "model.ema.").unwrap().0, 2);
        let three =
            ["critic.", "generator.", "generator_ema."].map(|start| format!("{start}{name}"));
        let three = [(&*three[0], 0), (&*three[1], 1), (&*three[2], 2)];
        assert_eq!(recognise(&three, name).unwrap(), expected);
        for (first, second) in [("generator.", "critic."), ("", "x."), ("a_ema.", "b_ema.")] {
            let message = two(first, second).unwrap_err().to_string();
            assert!(message.contains(&format!("below {first:?} and {second:?}")), "{message}");
        }
        // A model with more marks is not one of two.
        let more = [
            ("a.blocks.0.in.weight", 1),
            ("b.blocks.0.in.weight", 2),
            ("b.blocks.0.out.weight", 3),
        ];
        assert_eq!(recognise(&more, name).unwrap().0, 2);
    }

    #[test]
    fn a_tensor_with_two_names_has_one_of_them_or_a_copy_under_the_other() {
        for prefix in ["", "a."] {
            let [mark, first, second] =
                ["blocks.0.in.weight", "table", "encoder.table"].map(|n| format!("{prefix}{n}"));
            let alone = |name: &str| recognise(&[(&mark, 1), (name, 7)], "table").unwrap();
            assert_eq!(alone(&first), (7, vec![mark.clone(), first.clone()]));
            assert_eq!(alone(&second), (7, vec![mark.clone(), second.clone()]));
            let both = |value| recognise(&[(&mark, 1), (&first, 7), (&second, value)], "table");
            assert_eq!(both(7).unwrap(), (7, vec![mark.clone(), first.clone()]));
            let message = both(8).unwrap_err().to_string();
            assert!(message.contains(&format!("{first} and {second} ")), "{message}");
        }
    }

    #[test]
    fn large_copies_are_compared_at_many_places() {
        fn tensor<'a>(shape: &'a [usize], bytes: &'a [u8]) -> StoredTensor<'a> {
            StoredTensor::in_memory(Dtype::U8, shape, bytes)
        }
        let shape = [257 << 20];
        let one = vec![1; shape[0]];
        let mut other = one.clone();
        assert!(is_same(&tensor(&shape, &one), &tensor(&shape, &other)).unwrap());
        other.iter_mut().step_by(500_000).for_each(|byte| *byte = 2);
        assert!(!is_same(&tensor(&shape, &one), &tensor(&shape, &other)).unwrap());
        assert!(!is_same(&tensor(&shape, &one), &tensor(&[1], &[1])).unwrap());
    }

    #[test]
    fn names_are_replaced_by_whole_parts() {
        const TABLE: &[Row] = &[("a.*.q", "b.*.x.q2"), ("a.*", "c.*"), ("one", "two")];
        for (name, expected) in [
            ("a.3.q.weight", "b.3.x.q2.weight"),
            ("a.12.q", "b.12.x.q2"),
            ("a.3.qq.weight", "c.3.qq.weight"),
            ("a", "a"),
            ("one", "two"),
            ("one.bias", "two.bias"),
            ("ones.bias", "ones.bias"),
            ("", ""),
        ] {
            assert_eq!(translate(name, TABLE), expected);
        }
    }
}
