/// The ending of a noun after its count, for messages: `{n} step{}`.
pub(crate) fn plural(count: &usize) -> &'static str {
    if *count == 1 { "" } else { "s" }
}
