use std::fmt;
use std::path::{Path, PathBuf};

use super::{HubError, Network};
use crate::integrity::Verify;

const DEFAULT_ENDPOINT: &str = "https://huggingface.co";

/// How to reach the hub, and where its cache is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubOptions {
    /// The address of the hub, without a path. A mirror of it will do.
    pub endpoint: String,
    /// The folder of the cache, which other programs may share.
    pub cache: PathBuf,
    /// A token of an account in the hub. It is sent to the endpoint and to no other origin.
    pub token: Option<Token>,
    /// Whether only the cache is used: no request is made.
    pub offline: bool,
    /// When files that are in the cache already are compared with their checksums. What is
    /// downloaded always is.
    pub verify: Verify,
    /// Proxies and certificate authorities.
    pub network: Network,
}

/// A token of an account in the hub, and where it came from. Messages name only the latter.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    value: String,
    source: String,
}

impl Token {
    /// Blanks and quotes around the token do not count. `None` if nothing else is there.
    fn read(text: &str, source: &str) -> Option<Self> {
        let ignored = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '\u{feff}');
        let value = text.trim_matches(ignored).to_owned();
        (!value.is_empty()).then(|| Self { value, source: source.to_owned() })
    }

    /// Where it came from: a variable, a file, or the options of the program.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The value of the header that carries it. `None` if none can.
    pub(super) fn authorization(&self) -> Option<String> {
        let is_plain = self.value.chars().all(|c| c.is_ascii_graphic()) && !self.value.is_empty();
        is_plain.then(|| format!("Bearer {}", self.value))
    }
}

impl From<&str> for Token {
    fn from(text: &str) -> Self {
        let source = "the options of the program";
        let empty = || Self { value: String::new(), source: source.to_owned() };
        Self::read(text, source).unwrap_or_else(empty)
    }
}

impl From<String> for Token {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

impl fmt::Debug for Token {
    /// Leaves the token out, so that no log shows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token(from {})", self.source)
    }
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
    /// Paths may begin with `~`, and name other variables by `$NAME` or `${NAME}`. A variable of blanks is
    /// one that is not set. Those of proxies and certificates: [`Network::from_vars`].
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
        let set = |name: &str| var(name).filter(|value| !value.trim().is_empty());
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
        let token = ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"]
            .into_iter()
            .find_map(|name| Token::read(&set(name)?, name));
        let token_file = path("HF_TOKEN_PATH").or_else(|| Some(home?.join("token")));
        let token = token.or_else(|| read_token(&token_file?));
        let is_on = |name: &str| set(name).is_some_and(|value| is_true(&value));
        Ok(Self {
            endpoint: endpoint(&set("HF_ENDPOINT").unwrap_or(DEFAULT_ENDPOINT.to_owned()))?,
            cache,
            token: token.filter(|_| !is_on("HF_HUB_DISABLE_IMPLICIT_TOKEN")),
            offline: is_on("HF_HUB_OFFLINE") || is_on("TRANSFORMERS_OFFLINE"),
            verify: Verify::default(),
            network: Network::from_vars(&var),
        })
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
    ["1", "ON", "YES", "TRUE"].contains(&value.trim().to_uppercase().as_str())
}

fn read_token(file: &Path) -> Option<Token> {
    let bytes = std::fs::read(file).ok()?;
    Token::read(&String::from_utf8_lossy(&bytes), &file.display().to_string())
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
        let token = |vars: &[(&str, &str)]| {
            from(vars).unwrap().token.map(|token| (token.value, token.source))
        };
        let of = |value: &str, source: &str| Some((value.to_owned(), source.to_owned()));
        assert_eq!(token(&[home, file, ("HF_TOKEN", " mine\n")]), of("mine", "HF_TOKEN"));
        let old = ("HUGGING_FACE_HUB_TOKEN", "old");
        assert_eq!(token(&[home, old, ("HF_TOKEN", "''")]), of("old", "HUGGING_FACE_HUB_TOKEN"));
        assert_eq!(token(&[home, file, ("HF_TOKEN", " ")]), of("of-file", file.1));
        assert_eq!(token(&[home]), of("of-home", &format!("{}/token", home.1)));
        assert_eq!(token(&[home, ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]), None);
        assert_eq!(token(&[("HF_HOME", "/nowhere")]), None);
    }

    #[test]
    fn quotes_and_blanks_are_no_part_of_a_token() {
        for text in ["hf_x", "\"hf_x\"", "'hf_x'\r\n", " \"hf_x\" ", "\u{feff}hf_x\n", "\thf_x"] {
            assert_eq!(
                Token::from(text).authorization().as_deref(),
                Some("Bearer hf_x"),
                "{text:?}"
            );
        }
        for text in ["hf_ä", "hf_x\nhf_y", "hf x", "h\0f", "“hf_x”", "hf_\u{fffd}"] {
            assert_eq!(Token::from(text).authorization(), None, "{text:?}");
        }
    }

    #[test]
    fn variable_of_blanks_is_one_that_is_not_set() {
        let plain = from(&[("HOME", "/u")]).unwrap();
        let names = [
            "HF_ENDPOINT",
            "HF_HUB_CACHE",
            "HUGGINGFACE_HUB_CACHE",
            "HF_HOME",
            "XDG_CACHE_HOME",
            "HF_TOKEN",
            "HUGGING_FACE_HUB_TOKEN",
            "HF_TOKEN_PATH",
            "HF_HUB_DISABLE_IMPLICIT_TOKEN",
            "HF_HUB_OFFLINE",
            "TRANSFORMERS_OFFLINE",
            "HTTPS_PROXY",
            "http_proxy",
            "ALL_PROXY",
            "NO_PROXY",
            "SSL_CERT_FILE",
            "SSL_CERT_DIR",
            "REQUESTS_CA_BUNDLE",
            "CURL_CA_BUNDLE",
        ];
        for name in names {
            for blank in ["", "   ", "\t\r\n"] {
                assert_eq!(from(&[("HOME", "/u"), (name, blank)]).unwrap(), plain, "{name}");
            }
        }
        assert!(matches!(from(&[("HOME", " ")]), Err(HubError::NoCacheFolder)));
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
