//! Configs of models and schedulers: one error, and the checks that make it.

/// A config field with a value that no model can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {found}, but must be {expected}")]
pub struct ConfigError {
    /// Name of the field as the JSON spells it.
    pub field: &'static str,
    /// The value found.
    pub found: String,
    /// The values that are allowed.
    pub expected: String,
}

/// Fails with a [`ConfigError`] unless `ok`.
#[doc(hidden)]
pub fn require(
    ok: bool,
    field: &'static str,
    found: impl std::fmt::Debug,
    expected: impl Into<String>,
) -> Result<(), ConfigError> {
    if ok {
        return Ok(());
    }
    Err(ConfigError { field, found: format!("{found:?}"), expected: expected.into() })
}

/// Fails unless a field is null.
#[doc(hidden)]
pub fn require_null(
    field: &'static str,
    value: Option<usize>,
    why: &str,
) -> Result<(), ConfigError> {
    value.map_or(Ok(()), |value| require(false, field, value, format!("null: {why}")))
}

/// Fails unless `value` is at least 1 and at most `max`: larger values are not models but accidents,
/// and products of them would overflow.
#[doc(hidden)]
pub fn require_size(field: &'static str, value: usize, max: usize) -> Result<(), ConfigError> {
    require((1..=max).contains(&value), field, value, format!("1 to {max}"))
}

/// Fails unless `eps` is a small positive number.
#[doc(hidden)]
pub fn require_eps(field: &'static str, eps: f64) -> Result<(), ConfigError> {
    require(eps > 0.0 && eps < 1.0, field, eps, "more than 0 and less than 1")
}
