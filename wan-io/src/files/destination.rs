//! What the path of an output stands for: links are followed, and what is no regular file is written
//! in place.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use super::WriteError;

/// How many links are followed, as on Linux; a loop has no end.
const MAX_LINKS: usize = 40;

/// What the path of an output stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// A file or folder, there or not, that is replaced as a whole; where the path is a link, what it
    /// leads to.
    Entry(PathBuf),
    /// A pipe, a device, a socket, or what this process has open already, such as `/dev/stdout`: it is
    /// written in place, as the bytes come.
    Stream(PathBuf),
}

impl Destination {
    /// Follows the links at the end of `path`, whether or not they lead to something that is there.
    /// `/dev/stdout` is standard output on every system.
    pub fn of(path: &Path) -> Self {
        // A slash at the end would hide a link.
        let mut place = path.components().as_path().to_path_buf();
        for _ in 0..MAX_LINKS {
            if is_descriptor(&place) {
                return Self::Stream(place);
            }
            let Ok(target) = fs::read_link(&place) else { break };
            place = place.parent().unwrap_or(Path::new("")).join(target);
        }
        match fs::metadata(&place) {
            Ok(found) if !found.is_file() && !found.is_dir() => Self::Stream(place),
            _ => Self::Entry(place),
        }
    }

    /// Where it is, by the one name that a file, folder or stream has without links.
    pub fn place(&self) -> PathBuf {
        let (Self::Entry(path) | Self::Stream(path)) = self;
        let parent = path.parent().filter(|parent| *parent != Path::new(""));
        match (fs::canonicalize(parent.unwrap_or(Path::new("."))), path.file_name()) {
            (Ok(parent), Some(name)) => parent.join(name),
            _ => path.clone(),
        }
    }

    /// Whether this is [`Stream`](Self::Stream).
    pub fn is_stream(&self) -> bool {
        matches!(self, Self::Stream(_))
    }

    /// Whether this is the standard output of this process, under any of its names.
    pub fn is_stdout(&self) -> bool {
        matches!(self, Self::Stream(path) if is_stdout(path))
    }
}

/// Names of files that are open already. They are links whose text does not say where they lead.
fn is_descriptor(path: &Path) -> bool {
    let Some(parent) = path.parent() else { return false };
    is_stdout(path)
        || path == Path::new("/dev/stderr")
        || parent == Path::new("/dev/fd")
        || parent.starts_with("/proc") && parent.ends_with("fd")
}

fn is_stdout(path: &Path) -> bool {
    ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"].iter().any(|name| path == Path::new(name))
}

/// Opens a stream to write to; `given` is for messages. A named pipe that nobody reads is an error,
/// where opening it would wait.
pub(super) fn open_stream(given: &Path, stream: &Path) -> Result<File, WriteError> {
    let file = match is_stdout(stream) {
        true => standard_output(),
        false => open(stream),
    };
    file.map_err(|error| match is_pipe(stream) && is_no_reader(&error) {
        true => WriteError::NoReader { path: given.to_path_buf() },
        false => WriteError::io("write", given)(error),
    })
}

/// The handle itself: opened by name, a file would be written from its start once more, and a socket
/// could not be opened.
fn standard_output() -> io::Result<File> {
    #[cfg(unix)]
    let handle = std::os::fd::AsFd::as_fd(&io::stdout()).try_clone_to_owned();
    #[cfg(windows)]
    let handle = std::os::windows::io::AsHandle::as_handle(&io::stdout()).try_clone_to_owned();
    #[cfg(not(any(unix, windows)))]
    let handle: io::Result<File> = Err(io::ErrorKind::Unsupported.into());
    handle.map(File::from)
}

#[cfg(unix)]
fn open(stream: &Path) -> io::Result<File> {
    use std::os::unix::{
        fs::{FileTypeExt, OpenOptionsExt},
        net::UnixStream,
    };

    use rustix::fs::OFlags;

    if fs::metadata(stream)?.file_type().is_socket() {
        let socket = UnixStream::connect(stream)?;
        return Ok(File::from(std::os::fd::OwnedFd::from(socket)));
    }
    let wait_not = OFlags::NONBLOCK.bits().cast_signed();
    let file = File::options().write(true).custom_flags(wait_not).open(stream)?;
    // Only opening must not wait.
    let flags = rustix::fs::fcntl_getfl(&file)?;
    rustix::fs::fcntl_setfl(&file, flags - OFlags::NONBLOCK)?;
    Ok(file)
}

#[cfg(not(unix))]
fn open(stream: &Path) -> io::Result<File> {
    File::options().write(true).open(stream)
}

#[cfg(unix)]
fn is_pipe(path: &Path) -> bool {
    let kind = |found: fs::Metadata| std::os::unix::fs::FileTypeExt::is_fifo(&found.file_type());
    fs::metadata(path).is_ok_and(kind)
}

#[cfg(not(unix))]
fn is_pipe(_: &Path) -> bool {
    false
}

#[cfg(unix)]
fn is_no_reader(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error())
}

#[cfg(not(unix))]
fn is_no_reader(_: &io::Error) -> bool {
    false
}
