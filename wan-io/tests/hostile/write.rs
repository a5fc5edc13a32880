//! Writing checkpoints as PyTorch does, and as it does not.

use crate::table::Content;

pub(crate) fn text(text: &str) -> Vec<u8> {
    [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
}

/// A whole number in 8 bytes.
pub(crate) fn int(value: i64) -> Vec<u8> {
    [&b"\x8a\x08"[..], &value.to_le_bytes()].concat()
}

pub(crate) fn tuple(items: &[Vec<u8>]) -> Vec<u8> {
    [b"(", &items.concat()[..], b"t"].concat()
}

pub(crate) fn ints(values: &[i64]) -> Vec<u8> {
    tuple(&values.iter().map(|&value| int(value)).collect::<Vec<_>>())
}

pub(crate) fn dict(items: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let items: Vec<u8> =
        items.iter().flat_map(|(key, value)| [text(key), value.clone()].concat()).collect();
    [b"}(", &items[..], b"u"].concat()
}

pub(crate) fn global(module: &str, name: &str) -> Vec<u8> {
    format!("c{module}\n{name}\n").into_bytes()
}

pub(crate) fn call(module: &str, name: &str, arguments: &[Vec<u8>]) -> Vec<u8> {
    [global(module, name), tuple(arguments), b"R".to_vec()].concat()
}

/// A storage on the CPU.
pub(crate) fn storage(class: &str, key: &str, count: i64) -> Vec<u8> {
    let class = global("torch", class);
    let id = [text("storage"), class, text(key), text("cpu"), int(count)];
    [&tuple(&id)[..], b"Q"].concat()
}

pub(crate) fn rebuild(storage: Vec<u8>, offset: i64, shape: &[i64], strides: &[i64]) -> Vec<u8> {
    let hooks = call("collections", "OrderedDict", &[]);
    let rest = [int(offset), ints(shape), ints(strides), b"\x89".to_vec(), hooks];
    call("torch._utils", "_rebuild_tensor_v2", &[&[storage][..], &rest].concat())
}

/// A tensor of two numbers, the whole of a storage.
pub(crate) fn pair(key: &str) -> Vec<u8> {
    rebuild(storage("FloatStorage", key, 2), 0, &[2], &[1])
}

pub(crate) fn pickle(body: &[u8]) -> Vec<u8> {
    [b"\x80\x02", body, b"."].concat()
}

/// A checkpoint with this pickle and the storage `0`, which has 2 numbers of F32.
pub(crate) fn checkpoint(pickle: &[u8]) -> Vec<u8> {
    zip(&[
        Entry::new("x/data.pkl", pickle),
        Entry::new("x/byteorder", b"little"),
        Entry::new("x/data/0", &[0; 8]),
    ])
}

/// A checkpoint of this value.
pub(crate) fn value(body: &[u8]) -> Vec<u8> {
    checkpoint(&pickle(body))
}

/// An entry of a zip archive; what is set to `Some` is a lie.
#[derive(Clone, Default)]
pub(crate) struct Entry {
    pub(crate) name: Vec<u8>,
    pub(crate) data: Vec<u8>,
    /// Zeros after the data.
    pub(crate) hole: u64,
    pub(crate) flags: u16,
    pub(crate) method: u16,
    pub(crate) disk: u16,
    pub(crate) size: Option<u64>,
    pub(crate) packed: Option<u64>,
    pub(crate) offset: Option<u64>,
    pub(crate) local_name: Option<Vec<u8>>,
    pub(crate) local_size: u32,
    pub(crate) extra: Option<Vec<u8>>,
}

impl Entry {
    pub(crate) fn new(name: &str, data: &[u8]) -> Self {
        let (name, data) = (name.as_bytes().to_vec(), data.to_vec());
        Self { name, data, flags: 0x0808, ..Self::default() }
    }

    fn local(&self) -> Vec<u8> {
        let name = self.local_name.as_ref().unwrap_or(&self.name);
        let sizes = [self.local_size.to_le_bytes(); 2].concat();
        let lengths = [(name.len() as u16).to_le_bytes(), [0; 2]].concat();
        let start = [b"PK\x03\x04\0\0", &self.flags.to_le_bytes()[..], &self.method.to_le_bytes()];
        [&start.concat()[..], &[0; 8], &sizes, &lengths, name, &self.data].concat()
    }

    fn central(&self, at: u64) -> Vec<u8> {
        let size = self.size.unwrap_or(self.data.len() as u64 + self.hole);
        let fields = [size, self.packed.unwrap_or(size), self.offset.unwrap_or(at)];
        let wide: Vec<u64> = fields.into_iter().filter(|&field| field >= 0xffff_ffff).collect();
        let bytes = wide.iter().flat_map(|field| field.to_le_bytes());
        let length = (wide.len() * 8) as u16;
        let mut extra = [&[1, 0][..], &length.to_le_bytes(), &bytes.collect::<Vec<u8>>()].concat();
        if wide.is_empty() {
            extra.clear();
        }
        let extra = self.extra.as_ref().unwrap_or(&extra);
        let [size, packed, offset] = fields.map(|f| (f.min(0xffff_ffff) as u32).to_le_bytes());
        let [name, more, disk] =
            [self.name.len() as u16, extra.len() as u16, self.disk].map(u16::to_le_bytes);
        let start =
            [b"PK\x01\x02\0\0\0\0", &self.flags.to_le_bytes()[..], &self.method.to_le_bytes()];
        let sizes = [packed, size].concat();
        let lengths = [name, more, [0; 2], disk].concat();
        [&start.concat()[..], &[0; 8], &sizes, &lengths, &[0; 6], &offset, &self.name, extra]
            .concat()
    }
}

/// The bytes of an archive at their places, and its length.
pub(crate) fn pieces(entries: &[Entry]) -> (Vec<(u64, Vec<u8>)>, u64) {
    let (mut pieces, mut directory, mut at) = (Vec::new(), Vec::new(), 0);
    for entry in entries {
        let local = entry.local();
        directory.extend(entry.central(at));
        let next = at + local.len() as u64 + entry.hole;
        pieces.push((at, local));
        at = next;
    }
    let (count, size) = (entries.len() as u64, directory.len() as u64);
    let end64_at = at + size;
    let [wide_count, wide_size, offset] = [count, size, at].map(u64::to_le_bytes);
    directory.extend(b"PK\x06\x06\x2c\0\0\0\0\0\0\0\x1e\x03\x2d\0\0\0\0\0\0\0\0\0");
    directory.extend([wide_count, wide_count, wide_size, offset].concat());
    directory.extend(b"PK\x06\x07\0\0\0\0");
    directory.extend([&end64_at.to_le_bytes()[..], b"\x01\0\0\0"].concat());
    let count = (count.min(0xffff) as u16).to_le_bytes();
    let (size, offset) = (size as u32, at.min(0xffff_ffff) as u32);
    directory.extend([b"PK\x05\x06\0\0\0\0", &count[..], &count].concat());
    directory.extend([&size.to_le_bytes()[..], &offset.to_le_bytes(), b"\0\0"].concat());
    let length = at + directory.len() as u64;
    pieces.push((at, directory));
    (pieces, length)
}

/// An archive without holes.
pub(crate) fn zip(entries: &[Entry]) -> Vec<u8> {
    pieces(entries).0.into_iter().flat_map(|(_, piece)| piece).collect()
}

/// An archive with holes.
pub(crate) fn sparse(entries: &[Entry]) -> Content {
    let (pieces, length) = pieces(entries);
    Content::Sparse(pieces, length)
}

/// Changes bytes at a distance from the end.
pub(crate) fn patch(mut bytes: Vec<u8>, from_end: usize, new: &[u8]) -> Vec<u8> {
    let at = bytes.len() - from_end;
    bytes[at..at + new.len()].copy_from_slice(new);
    bytes
}
