//! The error and the checks that model configs share, from `wan-core`.

pub use wan_core::config::ConfigError;
pub(crate) use wan_core::config::{require, require_eps, require_null, require_size};
