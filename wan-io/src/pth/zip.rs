//! Zip archives as PyTorch writes them: entries are stored as they are, one after the other, and
//! the file ends with their directory, which is always in the zip64 form.
//!
//! Zip leaves much to the reader's goodwill. Whatever could be read in two ways is an error here:
//! bytes after the directory, comments, names given twice, entries that overlap, sizes that do not
//! agree. The checksums are not looked at, as PyTorch does not: that would read the whole file.

use std::collections::HashMap;
use std::ops::Range;

use super::PthError;
use super::cursor::Cursor;
use crate::files::OpenFile;

const END: u32 = 0x0605_4b50;
const END_LEN: usize = 22;
const LOCATOR: u32 = 0x0706_4b50;
const LOCATOR_LEN: usize = 20;
const END64: u32 = 0x0606_4b50;
const END64_LEN: usize = 56;
const CENTRAL: u32 = 0x0201_4b50;
const LOCAL: u32 = 0x0403_4b50;
/// Without name and extra field.
const LOCAL_LEN: usize = 30;
const ZIP64_EXTRA: u16 = 1;
/// The flags an entry may have: its sizes follow the data (3), its name is UTF-8 (11).
const PLAIN_FLAGS: u16 = 1 << 3 | 1 << 11;
const SIZES_FOLLOW: u16 = 1 << 3;
/// The real ones have one entry a tensor and a few more: some 1,500 at most.
const MAX_ENTRIES: u64 = 50_000;
const MAX_NAME: usize = 1024;
/// Room for so many entries with such names.
const MAX_DIRECTORY: usize = 64 << 20;

/// Where the entries of an archive are.
#[derive(Debug)]
pub(super) struct Archive {
    entries: HashMap<String, Range<usize>>,
    first: String,
}

/// An entry of the directory.
struct Central<'a> {
    name: &'a str,
    flags: u16,
    size: u64,
    offset: u64,
}

struct Directory {
    entries: u64,
    bytes: Range<usize>,
}

impl Archive {
    /// Reads the directory at the end of `file` and checks it against the entries.
    pub(super) fn read(file: &OpenFile) -> Result<Self, PthError> {
        let directory = find_directory(file)?;
        let bytes = file.bytes(directory.bytes.clone())?;
        let mut cursor = Cursor::new(&bytes, 0);
        let (mut entries, mut spans, mut first) = (HashMap::new(), Vec::new(), None);
        for _ in 0..directory.entries {
            let entry = read_central(&mut cursor)?;
            let (start, data) = locate(file, directory.bytes.start, &entry)?;
            if entries.insert(entry.name.to_owned(), data.clone()).is_some() {
                return Err(broken(format!("entry {:?} is there twice", entry.name)));
            }
            first.get_or_insert(entry.name);
            spans.push((start..data.end, entry.name));
        }
        if cursor.rest() > 0 {
            return Err(broken("its directory has more entries than it says"));
        }
        no_overlap(spans)?;
        let first = first.ok_or_else(|| broken("it has no entries"))?.to_owned();
        Ok(Self { entries, first })
    }

    /// The name of the first entry.
    pub(super) fn first(&self) -> &str {
        &self.first
    }

    /// Where the bytes of the entry `name` are in the file.
    pub(super) fn entry(&self, name: &str) -> Option<Range<usize>> {
        self.entries.get(name).cloned()
    }
}

fn broken(reason: impl Into<String>) -> PthError {
    PthError::Archive { reason: reason.into() }
}

fn find_directory(file: &OpenFile) -> Result<Directory, PthError> {
    let tail_at = file.size().saturating_sub(END64_LEN + LOCATOR_LEN + END_LEN);
    let tail = file.bytes(tail_at..file.size())?;
    let end_at = tail.len().checked_sub(END_LEN).unwrap_or(tail.len());
    let end = read_end(&mut Cursor::new(&tail, end_at)).ok_or_else(|| {
        broken("it does not end with a zip directory (cut off, or something follows it)")
    })?;
    let (end, directory_end) = match find_end64(&tail, tail_at, end_at)? {
        Some((end64, at)) if end.agrees(&end64) => (end64, tail_at + at),
        Some(_) => return Err(broken("its two ends do not agree")),
        None => (end, tail_at + end_at),
    };
    if end.disks != (0, 0) || end.entries.0 != end.entries.1 {
        return Err(broken("it is one of several parts"));
    }
    if end.entries.0 > MAX_ENTRIES {
        return Err(PthError::TooLarge { what: "zip entries", max: MAX_ENTRIES as usize });
    }
    let start = usize::try_from(end.offset).unwrap_or(usize::MAX);
    let fits = end.offset.checked_add(end.size) == Some(directory_end as u64);
    if !fits {
        let (offset, size) = (end.offset, end.size);
        let reason = format!(
            "its directory would be {size} bytes at {offset}, but must end at {directory_end}"
        );
        return Err(broken(reason));
    }
    if directory_end - start > MAX_DIRECTORY {
        return Err(PthError::TooLarge { what: "bytes of zip directory", max: MAX_DIRECTORY });
    }
    Ok(Directory { entries: end.entries.0, bytes: start..directory_end })
}

/// The content of the last record of an archive, in either form.
struct End {
    disks: (u32, u32),
    entries: (u64, u64),
    size: u64,
    offset: u64,
}

impl End {
    /// Whether the short form says the same as the long one, or leaves it to that.
    fn agrees(&self, long: &Self) -> bool {
        let same = |short: u64, long: u64, all: u64| short == long || short == all;
        same(self.entries.0, long.entries.0, u16::MAX.into())
            && same(self.entries.1, long.entries.1, u16::MAX.into())
            && same(self.size, long.size, u32::MAX.into())
            && same(self.offset, long.offset, u32::MAX.into())
            && same(self.disks.0.into(), long.disks.0.into(), u16::MAX.into())
            && same(self.disks.1.into(), long.disks.1.into(), u16::MAX.into())
    }
}

/// The record at the very end; a comment in it would have to be empty.
fn read_end(cursor: &mut Cursor) -> Option<End> {
    let signature = cursor.u32()?;
    let disks = (cursor.u16()?.into(), cursor.u16()?.into());
    let entries = (cursor.u16()?.into(), cursor.u16()?.into());
    let (size, offset) = (cursor.u32()?.into(), cursor.u32()?.into());
    let comment = cursor.u16()?;
    (signature == END && comment == 0).then_some(End { disks, entries, size, offset })
}

/// The zip64 form of the end and where it starts in `tail`, which starts at `tail_at` of the file. It
/// stands right before the short form.
fn find_end64(
    tail: &[u8],
    tail_at: usize,
    end_at: usize,
) -> Result<Option<(End, usize)>, PthError> {
    let Some(locator_at) = end_at.checked_sub(LOCATOR_LEN) else { return Ok(None) };
    let mut locator = Cursor::new(tail, locator_at);
    if locator.u32() != Some(LOCATOR) {
        return Ok(None);
    }
    let wrong = || broken("its zip64 end is not where it should be");
    let at = locator_at.checked_sub(END64_LEN).ok_or_else(wrong)?;
    let (disk, offset, disks) = (locator.u32(), locator.u64(), locator.u32());
    if (disk, offset, disks) != (Some(0), Some((tail_at + at) as u64), Some(1)) {
        return Err(wrong());
    }
    let end = read_end64(&mut Cursor::new(tail, at)).ok_or_else(wrong)?;
    Ok(Some((end, at)))
}

fn read_end64(cursor: &mut Cursor) -> Option<End> {
    let (signature, size_of_record) = (cursor.u32()?, cursor.u64()?);
    let _versions = cursor.u32()?;
    let disks = (cursor.u32()?, cursor.u32()?);
    let entries = (cursor.u64()?, cursor.u64()?);
    let (size, offset) = (cursor.u64()?, cursor.u64()?);
    let plain = signature == END64 && size_of_record == END64_LEN as u64 - 12;
    plain.then_some(End { disks, entries, size, offset })
}

fn read_central<'a>(cursor: &mut Cursor<'a>) -> Result<Central<'a>, PthError> {
    let cut_off = || broken("its directory has fewer entries than it says");
    let (signature, _versions) = (cursor.u32(), cursor.u32());
    if signature != Some(CENTRAL) {
        return Err(cut_off());
    }
    let (flags, method) = (cursor.u16().ok_or_else(cut_off)?, cursor.u16().ok_or_else(cut_off)?);
    let _time_and_checksum = cursor.u64();
    let (packed, size) = (cursor.u32().ok_or_else(cut_off)?, cursor.u32().ok_or_else(cut_off)?);
    let lengths: [u8; 6] = cursor.array().ok_or_else(cut_off)?;
    let disk = cursor.u16().ok_or_else(cut_off)?;
    let _attributes = cursor.take(6);
    let offset = cursor.u32().ok_or_else(cut_off)?;
    let [name, extra, comment] =
        [0, 2, 4].map(|i| usize::from(u16::from_le_bytes([lengths[i], lengths[i + 1]])));
    let name = read_name(cursor.take(name).ok_or_else(cut_off)?)?;
    let extra = cursor.take(extra).ok_or_else(cut_off)?;
    cursor.take(comment).ok_or_else(cut_off)?;
    check_plain(name, flags, method, disk)?;
    let sizes = [size, packed, offset];
    let [size, packed, offset] = widen(extra, sizes)
        .ok_or_else(|| broken(format!("entry {name:?} has no zip64 sizes, but needs them")))?;
    if packed != size {
        return Err(broken(format!("entry {name:?} has {packed} bytes, but says {size}")));
    }
    Ok(Central { name, flags, size, offset })
}

fn read_name(bytes: &[u8]) -> Result<&str, PthError> {
    match std::str::from_utf8(bytes) {
        Ok(name) if bytes.len() <= MAX_NAME => Ok(name),
        Ok(_) => Err(broken(format!("an entry's name has more than {MAX_NAME} bytes"))),
        Err(_) => Err(broken("an entry's name is not UTF-8")),
    }
}

fn check_plain(name: &str, flags: u16, method: u16, disk: u16) -> Result<(), PthError> {
    let is = |what: &str| Err(broken(format!("entry {name:?} {what}")));
    if flags & 1 != 0 {
        return is("is encrypted");
    }
    if method != 0 {
        return is("is compressed, which PyTorch never does");
    }
    if flags & !PLAIN_FLAGS != 0 {
        return is(&format!("has the flags {flags:#06x}"));
    }
    if disk != 0 {
        return is("is in another part");
    }
    Ok(())
}

/// Size, packed size and offset; those that do not fit into 32 bits are in the zip64 extra field,
/// in this order.
fn widen(extra: &[u8], short: [u32; 3]) -> Option<[u64; 3]> {
    let mut wide = short.map(u64::from);
    if short.iter().all(|&value| value != u32::MAX) {
        return Some(wide);
    }
    let field = find_extra(extra)?;
    let mut cursor = Cursor::new(field, 0);
    for value in wide.iter_mut().filter(|value| **value == u64::from(u32::MAX)) {
        *value = cursor.u64()?;
    }
    Some(wide)
}

fn find_extra(extra: &[u8]) -> Option<&[u8]> {
    let mut cursor = Cursor::new(extra, 0);
    loop {
        let (id, length) = (cursor.u16()?, cursor.u16()?);
        let field = cursor.take(length.into())?;
        if id == ZIP64_EXTRA {
            return Some(field);
        }
    }
}

/// Where the entry's own header starts, and where its data is: before the directory at `limit`.
fn locate(
    file: &OpenFile,
    limit: usize,
    entry: &Central,
) -> Result<(usize, Range<usize>), PthError> {
    let name = entry.name;
    let start = usize::try_from(entry.offset).unwrap_or(usize::MAX);
    let end = start.saturating_add(LOCAL_LEN + name.len()).min(limit);
    let header = file.bytes(start.min(end)..end)?;
    let local = read_local(&mut Cursor::new(&header, 0), entry)
        .filter(|local| start + local.length <= limit)
        .ok_or_else(|| broken(format!("entry {name:?} has no whole header at {start}")))?;
    if !local.agrees {
        return Err(broken(format!("entry {name:?} is described differently in its own header")));
    }
    let data = start + local.length;
    match usize::try_from(entry.size) {
        Ok(size) if size <= limit - data => Ok((start, data..data + size)),
        _ => {
            let (size, left) = (entry.size, limit - data);
            Err(broken(format!("entry {name:?} would have {size} bytes, but only {left} are left")))
        }
    }
}

/// An entry's own header.
struct Local {
    /// Whether it agrees with the directory.
    agrees: bool,
    /// Its length in bytes, with name and extra field.
    length: usize,
}

/// Reads an entry's own header, up to its name.
fn read_local(cursor: &mut Cursor, entry: &Central) -> Option<Local> {
    let (signature, _version) = (cursor.u32()?, cursor.u16()?);
    let (flags, method) = (cursor.u16()?, cursor.u16()?);
    let _time_and_checksum = cursor.u64()?;
    let sizes = [cursor.u32()?, cursor.u32()?];
    let (name, extra) = (cursor.u16()?, cursor.u16()?);
    let length = LOCAL_LEN + usize::from(name) + usize::from(extra);
    let same_size = |size: u32| {
        let follows = size == 0 && flags & SIZES_FOLLOW != 0;
        follows || size == u32::MAX || u64::from(size) == entry.size
    };
    let agrees = signature == LOCAL
        && flags == entry.flags
        && method == 0
        && usize::from(name) == entry.name.len()
        && cursor.take(name.into()) == Some(entry.name.as_bytes())
        && sizes.into_iter().all(same_size);
    Some(Local { agrees, length })
}

fn no_overlap(mut spans: Vec<(Range<usize>, &str)>) -> Result<(), PthError> {
    spans.sort_by_key(|(span, _)| span.start);
    for pair in spans.windows(2) {
        let [(before, first), (after, second)] = pair else { continue };
        if after.start < before.end {
            return Err(broken(format!("entries {first:?} and {second:?} overlap")));
        }
    }
    Ok(())
}
