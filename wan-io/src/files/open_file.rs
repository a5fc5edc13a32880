//! A file that is read by position, and watched for changes.

use std::borrow::Cow;
use std::fs::{File, Metadata};
use std::io;
use std::ops::Range;
use std::path::Path;
use std::time::SystemTime;

use super::FileError;

/// A file of a model, open for reading by position, from any thread.
///
/// Nothing is mapped into memory: not every file system can do that, and a mapped file that is cut off
/// ends the process. A file that was changed after it was opened is an error instead. One that was
/// deleted, or replaced by another under its name, is read on as it was.
#[derive(Debug)]
pub struct OpenFile {
    path: String,
    size: usize,
    content: Content,
}

#[derive(Debug)]
enum Content {
    /// On disk, and when it was last changed, where the file system tells.
    Disk(File, Option<SystemTime>),
    /// Part of the program.
    Embedded(&'static [u8]),
}

impl OpenFile {
    /// # Errors
    /// If there is no such file, it is something else than a file, or it cannot be read.
    pub(crate) fn open(path: &Path) -> Result<Self, FileError> {
        let shown = || path.display().to_string();
        let io = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => FileError::NotFound { path: shown() },
            _ => FileError::Io { path: shown(), source },
        };
        // Before it is opened: a pipe would wait for someone who writes to it.
        if !path.metadata().map_err(io)?.is_file() {
            return Err(FileError::NotAFile { path: shown() });
        }
        let file = File::open(path).map_err(io)?;
        let metadata = file.metadata().map_err(io)?;
        let size = size(&metadata);
        Ok(Self { path: shown(), size, content: Content::Disk(file, metadata.modified().ok()) })
    }

    /// A file in the program, which messages call `path`.
    pub(super) fn embedded(path: String, bytes: &'static [u8]) -> Self {
        Self { path, size: bytes.len(), content: Content::Embedded(bytes) }
    }

    /// How messages name it.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Its size in bytes when it was opened.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The bytes in `range`, which must be inside the file: a part of the program, or read into
    /// `buffer`, whose content is replaced.
    ///
    /// # Errors
    /// If they cannot be read, or the file has changed since it was opened.
    pub fn read<'a>(
        &'a self,
        range: Range<usize>,
        buffer: &'a mut Vec<u8>,
    ) -> Result<&'a [u8], FileError> {
        match &self.content {
            Content::Embedded(bytes) => Ok(&bytes[range]),
            Content::Disk(file, modified) => {
                buffer.resize(range.len(), 0);
                let read = fill(file, buffer, range.start as u64);
                // After reading: whatever changed the bytes had changed the file's properties before.
                self.check_unchanged(file, *modified)?;
                match read.map_err(|source| self.io(source))? {
                    true => Ok(buffer),
                    // It was cut off and is whole again.
                    false => Err(FileError::Changed { path: self.path.clone() }),
                }
            }
        }
    }

    /// The bytes in `range`, as [`read`](Self::read) gives them.
    ///
    /// # Errors
    /// As for [`read`](Self::read).
    pub fn bytes(&self, range: Range<usize>) -> Result<Cow<'static, [u8]>, FileError> {
        if let Content::Embedded(bytes) = &self.content {
            return Ok(Cow::Borrowed(&bytes[range]));
        }
        let mut buffer = vec![0; range.len()];
        self.read(range, &mut buffer)?;
        Ok(Cow::Owned(buffer))
    }

    fn check_unchanged(&self, file: &File, modified: Option<SystemTime>) -> Result<(), FileError> {
        let metadata = file.metadata().map_err(|source| self.io(source))?;
        let (path, found) = (self.path.clone(), size(&metadata));
        if found < self.size {
            return Err(FileError::Shrank { path, expected: self.size, found });
        }
        match found == self.size && metadata.modified().ok() == modified {
            true => Ok(()),
            false => Err(FileError::Changed { path }),
        }
    }

    fn io(&self, source: io::Error) -> FileError {
        FileError::Io { path: self.path.clone(), source }
    }
}

fn size(metadata: &Metadata) -> usize {
    usize::try_from(metadata.len()).unwrap_or(usize::MAX)
}

/// Fills `buffer` with the bytes from `start` on; `false` if the file ends before.
fn fill(file: &File, mut buffer: &mut [u8], mut start: u64) -> io::Result<bool> {
    while !buffer.is_empty() {
        match read_at(file, buffer, start) {
            Ok(0) => return Ok(false),
            Ok(read) => {
                buffer = &mut buffer[read..];
                start += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

#[cfg(unix)]
fn read_at(file: &File, buffer: &mut [u8], start: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buffer, start)
}

#[cfg(windows)]
fn read_at(file: &File, buffer: &mut [u8], start: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, buffer, start)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::*;

    fn file(folder: &tempfile::TempDir) -> (std::path::PathBuf, OpenFile) {
        let path = folder.path().join("weights");
        fs::write(&path, (0..=99).collect::<Vec<u8>>()).unwrap();
        let file = OpenFile::open(&path).unwrap();
        assert_eq!((file.size(), &*file.bytes(10..12).unwrap()), (100, &[10, 11][..]));
        (path, file)
    }

    fn error(file: &OpenFile, range: Range<usize>) -> String {
        let error = file.bytes(range).unwrap_err().to_string();
        error.strip_prefix(file.path()).expect("the file is named").to_owned()
    }

    /// The clock of a file system may be coarse: the time of change is set to one that differs.
    fn change_time(path: &Path) {
        let later = SystemTime::now() + Duration::from_secs(60);
        File::options().write(true).open(path).unwrap().set_modified(later).unwrap();
    }

    #[test]
    fn a_file_that_shrinks_is_an_error_also_where_the_bytes_are_left() {
        let folder = tempfile::tempdir().unwrap();
        for (length, range) in [(0, 0..1), (50, 40..60), (50, 90..100), (99, 0..10)] {
            let (path, file) = file(&folder);
            File::options().write(true).open(path).unwrap().set_len(length).unwrap();
            let expected = format!(": shrank from 100 to {length} bytes while it was in use; ");
            assert!(error(&file, range.clone()).starts_with(&expected), "{length}: {range:?}");
        }
    }

    #[test]
    fn a_file_that_is_overwritten_or_grows_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let changes: [fn(&Path); 2] = [
            |path| {
                fs::write(path, [7u8; 100]).unwrap();
                change_time(path);
            },
            |path| fs::write(path, [7u8; 101]).unwrap(),
        ];
        for change in changes {
            let (path, file) = file(&folder);
            change(&path);
            let error = error(&file, 10..12);
            assert!(error.starts_with(": was changed while it was in use; "), "{error}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_is_deleted_or_replaced_is_read_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let (path, deleted) = file(&folder);
        fs::remove_file(&path).unwrap();
        let (path, replaced) = file(&folder);
        fs::write(path.with_extension("new"), [7u8; 20]).unwrap();
        fs::rename(path.with_extension("new"), &path).unwrap();
        for file in [deleted, replaced] {
            assert_eq!(*file.bytes(97..100).unwrap(), [97, 98, 99]);
        }
    }

    #[test]
    fn files_in_the_program_are_not_copied() {
        static BYTES: [u8; 3] = [1, 2, 3];
        let file = OpenFile::embedded("model:file".into(), &BYTES);
        assert!(matches!(file.bytes(1..3).unwrap(), Cow::Borrowed([2, 3])));
        let mut buffer = Vec::new();
        assert_eq!(file.read(0..1, &mut buffer).unwrap(), [1]);
        assert!(buffer.is_empty());
    }
}
