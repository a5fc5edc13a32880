//! The two hashes that model files are known by.

use std::fmt;

use sha1::Sha1;
use sha2::{Digest as _, Sha256};

/// The hash that a file must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Digest {
    /// SHA-256 of the content. The Hub knows large files by it, and `SHA256SUMS` all files.
    Sha256([u8; 32]),
    /// SHA-1 of `blob {size}\0` and the content, as git names a file. The Hub knows small files by
    /// it.
    GitBlob([u8; 20]),
}

impl Digest {
    /// The digest that is written as exactly 64 (SHA-256) or 40 (git) lower-case hex digits.
    pub fn from_hex(hex: &str) -> Option<Self> {
        match hex.len() {
            64 => bytes(hex).map(Self::Sha256),
            40 => bytes(hex).map(Self::GitBlob),
            _ => None,
        }
    }

    fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Sha256(bytes) => bytes,
            Self::GitBlob(bytes) => bytes,
        }
    }

    /// The name of the hash in messages.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Sha256(_) => "SHA-256",
            Self::GitBlob(_) => "git SHA-1",
        }
    }
}

/// The hex digits, lower-case.
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// `hex` must have two digits for each of the `N` bytes.
fn bytes<const N: usize>(hex: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(bytes)
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// Computes a [`Digest`] piece by piece.
#[derive(Debug, Clone)]
pub struct Hasher(State);

#[derive(Debug, Clone)]
enum State {
    Sha256(Sha256),
    GitBlob(Sha1),
}

impl Hasher {
    /// A hasher of the kind of `like`, for content of `size` bytes. The size is part of git's
    /// hash; SHA-256 does not look at it.
    pub fn new(like: &Digest, size: u64) -> Self {
        Self(match like {
            Digest::Sha256(_) => State::Sha256(Sha256::new()),
            Digest::GitBlob(_) => {
                State::GitBlob(Sha1::new().chain_update(format!("blob {size}\0")))
            }
        })
    }

    /// Adds the next bytes of the content.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Sha256(sha256) => sha256.update(bytes),
            State::GitBlob(sha1) => sha1.update(bytes),
        }
    }

    /// The digest of all that was added.
    pub fn finish(self) -> Digest {
        match self.0 {
            State::Sha256(sha256) => Digest::Sha256(sha256.finalize().into()),
            State::GitBlob(sha1) => Digest::GitBlob(sha1.finalize().into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    const EMPTY_BLOB: &str = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391";
    /// Of `hello\n`, as `git hash-object` says.
    const HELLO_BLOB: &str = "ce013625030ba8dba906f756967f9e9ca394464a";

    fn hash(like: &str, pieces: &[&str]) -> String {
        let size = pieces.iter().map(|piece| piece.len() as u64).sum();
        let mut hasher = Hasher::new(&Digest::from_hex(like).unwrap(), size);
        pieces.iter().for_each(|piece| hasher.update(piece.as_bytes()));
        hasher.finish().to_string()
    }

    #[test]
    fn known_hashes() {
        assert_eq!(hash(EMPTY, &[]), EMPTY);
        assert_eq!(hash(EMPTY, &["a", "", "bc"]), ABC);
        assert_eq!(hash(EMPTY_BLOB, &[]), EMPTY_BLOB);
        assert_eq!(hash(EMPTY_BLOB, &["hel", "lo\n"]), HELLO_BLOB);
    }

    #[test]
    fn only_whole_lower_case_hex_is_a_digest() {
        for hex in [EMPTY, HELLO_BLOB] {
            assert_eq!(Digest::from_hex(hex).unwrap().to_string(), hex);
            assert_eq!(Digest::from_hex(&hex.to_uppercase()), None);
            assert_eq!(Digest::from_hex(&hex[1..]), None);
            assert_eq!(Digest::from_hex(&format!("{hex}0")), None);
            assert_eq!(Digest::from_hex(&format!(" {}", &hex[1..])), None);
            assert_eq!(Digest::from_hex(&format!("+{}", &hex[1..])), None);
            assert_eq!(Digest::from_hex(&format!("é{}", &hex[2..])), None);
        }
        assert_eq!(Digest::from_hex(""), None);
    }
}
