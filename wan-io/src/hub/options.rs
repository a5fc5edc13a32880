use std::fmt;
use std::path::{Path, PathBuf};

use super::HubError;
use crate::integrity::Verify;

const DEFAULT_ENDPOINT: &str = "https://huggingface.co";

/// How to reach the hub, and where its cache is.
#[derive(Clone, PartialEq, Eq)]
pub struct HubOptions {
    /// The address of the hub, without a path. A mirror of it will do.
    pub endpoint: String,
    /// The folder of the cache, which other programs may share.
    pub cache: PathBuf,
    /// A token of an account in the hub. It is sent to the endpoint and to no other origin.
    pub token: Option<String>,
    /// Whether only the cache is used: no request is made.
    pub offline: bool,
    /// When files that are in the cache already are compared with their checksums. What is
    /// downloaded always is.
    pub verify: Verify,
}

impl HubOptions {
    /// The options in the environment, by the rules of Python's `huggingface_hub`:
    ///
    /// | variable | what it is for |
    /// |---|---|
    /// | `HF_ENDPOINT` | the address of the hub; default `https://huggingface.co` |
    /// | `HF_HUB_CACHE` | the folder of the cache; default `$HF_HOME/hub` |
    /// | `HF_HOME` | default `$XDG_CACHE_HOME/huggingface`, or `~/.cache/huggingface` |
    /// | `HF_TOKEN` | the token |
    /// | `HF_TOKEN_PATH` | a file with the token; default `$HF_HOME/token` |
    /// | `HF_HUB_DISABLE_IMPLICIT_TOKEN` | `1`: no token is sent |
    /// | `HF_HUB_OFFLINE`, `TRANSFORMERS_OFFLINE` | `1`: no request is made |
    ///
    /// Paths may begin with `~`, and name other variables by `$NAME` or `${NAME}`.
    ///
    /// # Errors
    /// If the endpoint is no address, or no variable tells where the cache is and there is no home.
    pub fn from_env() -> Result<Self, HubError> {
        Self::from_vars(|name| std::env::var(name).ok())
    }

    /// As [`from_env`](Self::from_env), with variables from `var` instead of the environment.
    ///
    /// # Errors
    /// As [`from_env`](Self::from_env).
    pub fn from_vars(var: impl Fn(&str) -> Option<String>) -> Result<Self, HubError> {
        let set = |name: &str| var(name).filter(|value| !value.is_empty());
        let path = |name: &str| Some(expand(&set(name)?, &set));
        let home = path("HF_HOME")
            .or_else(|| Some(path("XDG_CACHE_HOME")?.join("huggingface")))
            .or_else(|| Some(expand("~/.cache/huggingface", &set)).filter(|p| p.is_absolute()));
        let cache = path("HF_HUB_CACHE").or_else(|| path("HUGGINGFACE_HUB_CACHE"));
        let cache = match (cache, &home) {
            (Some(cache), _) => cache,
            (None, Some(home)) => home.join("hub"),
            (None, None) => return Err(HubError::NoCacheFolder),
        };
        let token = ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"].into_iter().find_map(|name| {
            let token = set(name)?;
            Some(token.trim().to_owned()).filter(|token| !token.is_empty())
        });
        let token_file = path("HF_TOKEN_PATH").or_else(|| Some(home?.join("token")));
        let token = token.or_else(|| read_token(&token_file?));
        let is_on = |name: &str| set(name).is_some_and(|value| is_true(&value));
        Ok(Self {
            endpoint: endpoint(&set("HF_ENDPOINT").unwrap_or(DEFAULT_ENDPOINT.to_owned()))?,
            cache,
            token: token.filter(|_| !is_on("HF_HUB_DISABLE_IMPLICIT_TOKEN")),
            offline: is_on("HF_HUB_OFFLINE") || is_on("TRANSFORMERS_OFFLINE"),
            verify: Verify::default(),
        })
    }
}

impl fmt::Debug for HubOptions {
    /// Leaves the token out, so that no log shows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let token = self.token.as_ref().map(|_| "(not shown)");
        f.debug_struct("HubOptions")
            .field("endpoint", &self.endpoint)
            .field("cache", &self.cache)
            .field("token", &token)
            .field("offline", &self.offline)
            .field("verify", &self.verify)
            .finish()
    }
}

/// The address without the slash at its end; refuses what is none.
pub(super) fn endpoint(text: &str) -> Result<String, HubError> {
    let address = text.trim().trim_end_matches('/');
    let host = address.strip_prefix("https://").or_else(|| address.strip_prefix("http://"));
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '@' | '?' | '#' | '\\');
    match host {
        Some(host) if !host.is_empty() && host.chars().all(plain) => Ok(address.to_owned()),
        _ => Err(HubError::Endpoint { endpoint: text.to_owned() }),
    }
}

fn is_true(value: &str) -> bool {
    ["1", "ON", "YES", "TRUE"].contains(&value.to_uppercase().as_str())
}

fn read_token(file: &Path) -> Option<String> {
    let token = std::fs::read_to_string(file).ok()?;
    Some(token.trim().to_owned()).filter(|token| !token.is_empty())
}

/// A leading `~`, `$NAME` and `${NAME}` by their values; what has none stays as it is written.
fn expand(text: &str, var: &impl Fn(&str) -> Option<String>) -> PathBuf {
    let mut rest = text;
    let mut path = String::new();
    if let Some(below) = rest.strip_prefix('~')
        && (below.is_empty() || below.starts_with('/'))
        && let Some(home) = var("HOME").or_else(|| var("USERPROFILE"))
    {
        path.push_str(&home);
        rest = below;
    }
    while let Some((before, after)) = rest.split_once('$') {
        path.push_str(before);
        let (name, length) = variable(after);
        match var(name) {
            Some(value) => path.push_str(&value),
            None => path.push_str(&rest[before.len()..before.len() + 1 + length]),
        }
        rest = &after[length..];
    }
    path.push_str(rest);
    path.into()
}

/// The name at the beginning of `text`, which follows a `$`, and how much of the text it is.
fn variable(text: &str) -> (&str, usize) {
    if let Some((name, _)) = text.strip_prefix('{').and_then(|text| text.split_once('}')) {
        return (name, name.len() + 2);
    }
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    (&text[..end], end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(vars: &[(&str, &str)]) -> Result<HubOptions, HubError> {
        HubOptions::from_vars(|name| {
            let found = vars.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn cache_is_found_as_python_finds_it() {
        let cases: [(&[(&str, &str)], &str); 9] = [
            (&[("HOME", "/u")], "/u/.cache/huggingface/hub"),
            (&[("HOME", "/u"), ("XDG_CACHE_HOME", "/x")], "/x/huggingface/hub"),
            (&[("HOME", "/u"), ("XDG_CACHE_HOME", "/x"), ("HF_HOME", "/h")], "/h/hub"),
            (&[("HOME", "/u"), ("HF_HOME", "~/h")], "/u/h/hub"),
            (&[("HF_HOME", "/h"), ("HF_HUB_CACHE", "/c")], "/c"),
            (&[("HF_HOME", "/h"), ("HUGGINGFACE_HUB_CACHE", "/old")], "/old"),
            (&[("HF_HOME", "/h"), ("HF_HUB_CACHE", "")], "/h/hub"),
            (&[("D", "/data"), ("HF_HUB_CACHE", "$D/${D}x/$NONE/a~")], "/data//datax/$NONE/a~"),
            (&[("HOME", "/u"), ("HF_HUB_CACHE", "~user/c")], "~user/c"),
        ];
        for (vars, expected) in cases {
            assert_eq!(from(vars).unwrap().cache, PathBuf::from(expected), "{vars:?}");
        }
        assert!(matches!(from(&[]), Err(HubError::NoCacheFolder)));
    }

    #[test]
    fn token_comes_from_a_variable_then_from_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().to_str().unwrap();
        let elsewhere = folder.path().join("elsewhere");
        std::fs::write(folder.path().join("token"), "of-home\n").unwrap();
        std::fs::write(&elsewhere, "  of-file \r\n").unwrap();
        let (home, file) = (("HF_HOME", home), ("HF_TOKEN_PATH", elsewhere.to_str().unwrap()));
        let token = |vars: &[(&str, &str)]| from(vars).unwrap().token;
        assert_eq!(token(&[home, file, ("HF_TOKEN", " mine\n")]).as_deref(), Some("mine"));
        assert_eq!(token(&[home, file, ("HF_TOKEN", " ")]).as_deref(), Some("of-file"));
        assert_eq!(token(&[home]).as_deref(), Some("of-home"));
        assert_eq!(token(&[home, ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]), None);
        assert_eq!(token(&[("HF_HOME", "/nowhere")]), None);
    }

    #[test]
    fn token_is_not_in_the_debug_text() {
        let options = from(&[("HOME", "/u"), ("HF_TOKEN", "hf_secret")]).unwrap();
        assert!(!format!("{options:?}").contains("hf_secret"));
    }

    #[test]
    fn offline_is_what_python_takes_for_true() {
        for (value, expected) in
            [("1", true), ("on", true), ("Yes", true), ("TRUE", true), ("0", false), ("2", false)]
        {
            for name in ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"] {
                assert_eq!(from(&[("HOME", "/u"), (name, value)]).unwrap().offline, expected);
            }
        }
    }

    #[test]
    fn endpoint_is_an_address() {
        let of = |text| from(&[("HOME", "/u"), ("HF_ENDPOINT", text)]);
        assert_eq!(from(&[("HOME", "/u")]).unwrap().endpoint, "https://huggingface.co");
        assert_eq!(of("http://127.0.0.1:80/").unwrap().endpoint, "http://127.0.0.1:80");
        for bad in
            ["hub", "ftp://hub", "https://", "https://me@hub", "https://hub?x", "https://a b"]
        {
            assert!(matches!(of(bad), Err(HubError::Endpoint { .. })), "{bad}");
        }
    }
}
