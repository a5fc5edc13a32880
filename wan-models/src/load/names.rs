//! Tables of names.

/// `name` with its beginning replaced as the first fitting row of the table says; whole parts
/// between dots only.
pub(crate) fn replace_start(name: &str, table: &[(&str, &str)]) -> String {
    let replaced = table.iter().find_map(|(start, replacement)| {
        let rest = name.strip_prefix(start)?;
        (rest.is_empty() || rest.starts_with('.')).then(|| format!("{replacement}{rest}"))
    });
    replaced.unwrap_or_else(|| name.to_owned())
}

/// Splits `blocks.3.rest` after `blocks.` into 3 and `rest`.
pub(crate) fn split_index<'a>(name: &'a str, list: &str) -> Option<(usize, &'a str)> {
    let (index, rest) = name.strip_prefix(list)?.split_once('.')?;
    Some((index.parse().ok()?, rest))
}
