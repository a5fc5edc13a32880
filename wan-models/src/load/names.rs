//! The layouts of a network's checkpoints, as tables of names.

use std::sync::Arc;

use super::renamed::{NameMap, Renamed};
use super::{CheckpointError, TensorSource};

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
    /// The beginnings that all names of a file may share, in any layout.
    pub(crate) prefixes: &'static [&'static str],
    /// The layouts, the canonical one first.
    pub(crate) layouts: &'static [Layout],
}

/// The names of one layout.
pub(crate) struct Layout {
    /// A tensor, by its name in this layout, that all its checkpoints have and no others.
    pub(crate) mark: &'static str,
    /// The steps from a canonical name to that of this layout: in each the first fitting row counts.
    pub(crate) tables: &'static [&'static [Row]],
    /// The step before the tables that depends on the size of the network.
    pub(crate) renumber: Option<Renumber>,
}

impl Layout {
    /// The layout whose names are the canonical ones.
    pub(crate) const fn canonical(mark: &'static str) -> Self {
        Self { mark, tables: &[], renumber: None }
    }

    fn map(&'static self, prefix: &'static str, has: &dyn Fn(&str) -> bool) -> NameMap {
        let renumber = self.renumber.map(|renumber| renumber(has));
        Box::new(move |name| {
            let name = renumber.as_ref().map_or_else(|| name.to_owned(), |renumber| renumber(name));
            let name = self.tables.iter().fold(name, |name, table| translate(&name, table));
            format!("{prefix}{name}")
        })
    }
}

impl Layouts {
    /// The tensors of a checkpoint in any of the layouts, under their canonical names.
    ///
    /// # Errors
    /// If no layout has these names.
    pub(crate) fn recognise(
        &'static self,
        source: Arc<dyn TensorSource>,
    ) -> Result<Arc<dyn TensorSource>, CheckpointError> {
        for prefix in self.prefixes {
            let has = |name: &str| source.tensor(&format!("{prefix}{name}")).is_some();
            if let Some(layout) = self.layouts.iter().find(|layout| has(layout.mark)) {
                let map = layout.map(prefix, &has);
                return Ok(Arc::new(Renamed { source, map }));
            }
        }
        let marks: Vec<&str> = self.layouts.iter().map(|layout| layout.mark).collect();
        Err(CheckpointError::NotThisModel {
            origin: source.origin(),
            model: self.network,
            expected: marks.join(" or "),
        })
    }
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
