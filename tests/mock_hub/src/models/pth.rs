//! Writes what `torch.save` writes of a dictionary of tensors, or of some: a pickle and one entry of numbers for
//! each tensor, in a zip archive without compression.

use safetensors::Dtype;

use super::Tensor;

/// The kind of dictionary that holds the tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Root {
    Dict,
    OrderedDict,
}

/// The file.
pub(crate) fn write(root: Root, tensors: &[Tensor]) -> Vec<u8> {
    archive(&pickle(root, tensors), tensors)
}

/// The file of a dictionary of dictionaries, by their names.
pub(crate) fn write_nested(parts: &[(&str, Vec<Tensor>)]) -> Vec<u8> {
    let mut pickle = Pickle(b"\x80\x02}(".to_vec());
    let mut before = 0;
    for (name, tensors) in parts {
        pickle.text(name);
        pickle.ordered_dict();
        pickle.items(before, tensors);
        before += tensors.len();
    }
    pickle.code(b"u.");
    archive(&pickle.0, parts.iter().flat_map(|(_, tensors)| tensors))
}

fn archive<'a>(pickle: &[u8], tensors: impl IntoIterator<Item = &'a Tensor>) -> Vec<u8> {
    let mut zip = Zip::default();
    zip.add("archive/data.pkl", pickle);
    zip.add("archive/byteorder", b"little");
    for (key, tensor) in tensors.into_iter().enumerate() {
        zip.add(&format!("archive/data/{key}"), &tensor.bytes);
    }
    zip.add("archive/version", b"3\n");
    zip.finish()
}

fn pickle(root: Root, tensors: &[Tensor]) -> Vec<u8> {
    let mut pickle = Pickle(b"\x80\x02".to_vec());
    match root {
        Root::Dict => pickle.code(b"}"),
        Root::OrderedDict => pickle.ordered_dict(),
    }
    pickle.items(0, tensors);
    pickle.code(b".");
    pickle.0
}

/// A program for the pickle machine, protocol 2.
struct Pickle(Vec<u8>);

impl Pickle {
    fn code(&mut self, code: &[u8]) {
        self.0.extend_from_slice(code);
    }

    fn text(&mut self, text: &str) {
        self.code(b"X");
        self.code(&u32::try_from(text.len()).expect("a short name").to_le_bytes());
        self.code(text.as_bytes());
    }

    fn number(&mut self, number: usize) {
        match (u8::try_from(number), u16::try_from(number)) {
            (Ok(byte), _) => self.code(&[b'K', byte]),
            (_, Ok(word)) => {
                self.code(b"M");
                self.code(&word.to_le_bytes());
            }
            _ => {
                self.code(b"J");
                self.code(&i32::try_from(number).expect("a small model").to_le_bytes());
            }
        }
    }

    fn numbers(&mut self, numbers: impl IntoIterator<Item = usize>) {
        self.code(b"(");
        numbers.into_iter().for_each(|number| self.number(number));
        self.code(b"t");
    }

    /// Puts tensors into the dictionary before, with so many storages before theirs.
    fn items(&mut self, before: usize, tensors: &[Tensor]) {
        self.code(b"(");
        for (key, tensor) in tensors.iter().enumerate() {
            self.text(&tensor.name);
            self.tensor(before + key, tensor);
        }
        self.code(b"u");
    }

    fn ordered_dict(&mut self) {
        self.code(b"ccollections\nOrderedDict\n)R");
    }

    /// `_rebuild_tensor_v2(storage, offset, shape, strides, requires_grad, hooks)`, where the
    /// storage is the persistent id `("storage", class, key, device, length)`.
    fn tensor(&mut self, key: usize, tensor: &Tensor) {
        self.code(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        self.text("storage");
        self.code(format!("ctorch\n{}\n", storage(tensor.dtype)).as_bytes());
        self.text(&key.to_string());
        self.text("cpu");
        self.number(tensor.shape.iter().product());
        self.code(b"tQ");
        self.number(0);
        self.numbers(tensor.shape.iter().copied());
        self.numbers((1..=tensor.shape.len()).map(|axis| tensor.shape[axis..].iter().product()));
        self.code(b"\x89");
        self.ordered_dict();
        self.code(b"tR");
    }
}

fn storage(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::F16 => "HalfStorage",
        Dtype::BF16 => "BFloat16Storage",
        Dtype::F32 => "FloatStorage",
        other => panic!("no model has numbers of the type {other:?}"),
    }
}

/// A zip archive of stored entries, whose contents start at multiples of 64 bytes as torch's do.
#[derive(Default)]
struct Zip {
    bytes: Vec<u8>,
    directory: Vec<u8>,
    entries: u16,
}

impl Zip {
    fn add(&mut self, name: &str, content: &[u8]) {
        let offset = self.bytes.len();
        // Both the entry's own head and the directory have these: versions, flags, method, time.
        let mut head = [[10, 0], [0, 0], [0, 0], [0, 0], [0x21, 0]].concat();
        head.extend(crc32(content).to_le_bytes());
        head.extend(number32(content.len()));
        head.extend(number32(content.len()));
        head.extend(number16(name.len()));
        let padding =
            (offset + 30 + name.len() + 4).next_multiple_of(64) - offset - 34 - name.len();
        self.bytes.extend(b"PK\x03\x04");
        self.bytes.extend(&head);
        self.bytes.extend(number16(4 + padding));
        self.bytes.extend(name.as_bytes());
        self.bytes.extend(b"FB");
        self.bytes.extend(number16(padding));
        self.bytes.extend(vec![b'Z'; padding]);
        self.bytes.extend(content);
        self.directory.extend(b"PK\x01\x02\x0a\0");
        self.directory.extend(head);
        // No extra field, comment, disk number, internal or external attributes.
        self.directory.extend([0; 12]);
        self.directory.extend(number32(offset));
        self.directory.extend(name.as_bytes());
        self.entries += 1;
    }

    fn finish(self) -> Vec<u8> {
        let (size, start) = (number32(self.directory.len()), number32(self.bytes.len()));
        let mut bytes = self.bytes;
        bytes.extend(self.directory);
        bytes.extend(b"PK\x05\x06\0\0\0\0");
        bytes.extend([self.entries.to_le_bytes(); 2].concat());
        bytes.extend([size, start].concat());
        bytes.extend([0; 2]);
        bytes
    }
}

fn number16(number: usize) -> [u8; 2] {
    u16::try_from(number).expect("a short name").to_le_bytes()
}

fn number32(number: usize) -> [u8; 4] {
    u32::try_from(number).expect("a small model").to_le_bytes()
}

pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
    let table: Vec<u32> = (0..256).map(|byte| (0..8).fold(byte, step)).collect();
    let add = |crc: u32, byte: &u8| table[((crc ^ u32::from(*byte)) & 0xff) as usize] ^ crc >> 8;
    !bytes.iter().fold(!0, add)
}
