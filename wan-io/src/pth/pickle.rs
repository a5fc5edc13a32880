//! A machine for the pickles of checkpoints. It knows the instructions and names that these need
//! and refuses all others; it builds plain values and never runs anything.
//!
//! The instructions are those of Python's `pickletools`.

use std::collections::HashMap;

use super::PthError;
use super::cursor::Cursor;
use super::value::{Container, Global, Pickle, Value};

/// The largest pickle that is read. The real ones are below 1 MB.
pub(super) const MAX_PICKLE: usize = 64 << 20;
/// The most instructions that are followed: a tensor needs about 40. This bounds all memory.
pub(super) const MAX_STEPS: usize = 2_000_000;
/// The most values on the stack. The real ones write dicts in pieces of 1,000 keys.
const MAX_STACK: usize = 100_000;
/// The most values that are kept for later: a tensor needs about 10.
const MAX_MEMO: usize = 500_000;
/// The longest name of a function or class with its module.
const MAX_GLOBAL: usize = 256;

/// Reads the pickle at the start of `bytes`.
pub(super) fn read(bytes: &[u8]) -> Result<Pickle<'_>, PthError> {
    let looked_at = &bytes[..bytes.len().min(MAX_PICKLE)];
    match Machine::new(looked_at).run() {
        Err(PthError::Truncated { .. }) if bytes.len() > MAX_PICKLE => {
            Err(PthError::TooLarge { what: "bytes of pickle", max: MAX_PICKLE })
        }
        result => result,
    }
}

pub(super) struct Machine<'a> {
    length: usize,
    code: Cursor<'a>,
    /// Where the current instruction starts.
    at: usize,
    stack: Vec<Value<'a>>,
    /// The stack's heights at the marks.
    marks: Vec<usize>,
    memo: HashMap<u32, Value<'a>>,
    pub(super) storage_indices: HashMap<&'a str, u32>,
    pub(super) pickle: Pickle<'a>,
}

impl<'a> Machine<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        let pickle = Pickle {
            root: Value::None,
            containers: Vec::new(),
            storages: Vec::new(),
            tensors: Vec::new(),
            length: 0,
        };
        Self {
            length: bytes.len(),
            code: Cursor::new(bytes, 0),
            at: 0,
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            storage_indices: HashMap::new(),
            pickle,
        }
    }

    fn run(mut self) -> Result<Pickle<'a>, PthError> {
        for _ in 0..MAX_STEPS {
            self.at = self.code.at();
            let opcode = self.u8()?;
            if opcode == b'.' {
                return self.stop();
            }
            self.step(opcode)?;
            if self.stack.len() > MAX_STACK || self.marks.len() > MAX_STACK {
                return Err(PthError::TooLarge { what: "values on its stack", max: MAX_STACK });
            }
        }
        Err(PthError::TooLarge { what: "instructions in its pickle", max: MAX_STEPS })
    }

    fn stop(mut self) -> Result<Pickle<'a>, PthError> {
        let root = self.pop()?;
        if !self.stack.is_empty() || !self.marks.is_empty() {
            return Err(self.bad("values are left when it stops"));
        }
        self.pickle.root = root;
        self.pickle.length = self.code.at();
        Ok(self.pickle)
    }

    fn step(&mut self, opcode: u8) -> Result<(), PthError> {
        match opcode {
            0x80 => self.protocol(),
            0x95 => self.skip(8), // the length of a frame
            b'(' | b'0' | b'1' | b'2' => self.arrange(opcode),
            b'N' | 0x88 | 0x89 | b'J' | b'K' | b'M' | 0x8a | 0x8b | b'G' => self.number(opcode),
            b'X' | 0x8c | 0x8d | b'T' | b'U' | b'B' | b'C' | 0x8e => self.text(opcode),
            b')' | b't' | 0x85..=0x87 => self.tuple(opcode),
            b']' | b'l' | b'a' | b'e' => self.list(opcode),
            b'}' | b'd' | b's' | b'u' => self.dict(opcode),
            b'q' | b'r' | 0x94 | b'h' | b'j' => self.memo(opcode),
            b'c' | 0x93 | b'i' => self.global(opcode),
            b'R' => self.reduce(),
            b'b' => self.build(),
            b'Q' => self.persistent(),
            _ => Err(PthError::Opcode { at: self.at, opcode }),
        }
    }

    fn protocol(&mut self) -> Result<(), PthError> {
        match self.u8()? {
            2..=5 => Ok(()),
            other => Err(self.bad(format!("its protocol is {other}, but must be 2 to 5"))),
        }
    }

    fn arrange(&mut self, opcode: u8) -> Result<(), PthError> {
        match opcode {
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_marked()?),
            _ => {
                let top = self.top()?;
                self.stack.push(top);
            }
        }
        Ok(())
    }

    fn number(&mut self, opcode: u8) -> Result<(), PthError> {
        let value = match opcode {
            b'N' => Value::None,
            0x88 => Value::Bool(true),
            0x89 => Value::Bool(false),
            b'J' => Value::Int(i32::from_le_bytes(self.array()?).into()),
            b'K' => Value::Int(self.u8()?.into()),
            b'M' => Value::Int(u16::from_le_bytes(self.array()?).into()),
            b'G' => {
                self.skip(8)?;
                Value::Other
            }
            0x8a => {
                let length = self.u8()?;
                long(self.take(length.into())?)
            }
            _ => {
                let length = u32::from_le_bytes(self.array()?);
                long(self.take(length as usize)?)
            }
        };
        self.stack.push(value);
        Ok(())
    }

    fn text(&mut self, opcode: u8) -> Result<(), PthError> {
        let length = match opcode {
            0x8c | b'U' | b'C' => self.u8()?.into(),
            0x8d | 0x8e => u64::from_le_bytes(self.array()?),
            _ => u32::from_le_bytes(self.array()?).into(),
        };
        let bytes = self.take(usize::try_from(length).unwrap_or(usize::MAX))?;
        let value = match (opcode, std::str::from_utf8(bytes)) {
            (b'B' | b'C' | 0x8e, _) => Value::Other,
            (_, Ok(text)) => Value::Text(text),
            // Python 2 has only one type for bytes and text.
            (b'T' | b'U', Err(_)) => Value::Other,
            (_, Err(_)) => return Err(self.bad("a text is not UTF-8")),
        };
        self.stack.push(value);
        Ok(())
    }

    fn tuple(&mut self, opcode: u8) -> Result<(), PthError> {
        let items = match opcode {
            b')' => Vec::new(),
            b't' => self.pop_marked()?,
            _ => {
                let mut items = vec![Value::None; usize::from(opcode - 0x84)];
                for item in items.iter_mut().rev() {
                    *item = self.pop()?;
                }
                items
            }
        };
        self.push_container(Container::Tuple(items));
        Ok(())
    }

    fn list(&mut self, opcode: u8) -> Result<(), PthError> {
        let mut items = match opcode {
            b']' => Vec::new(),
            b'a' => vec![self.pop()?],
            _ => self.pop_marked()?,
        };
        if matches!(opcode, b']' | b'l') {
            self.push_container(Container::List(items));
            return Ok(());
        }
        match self.top_container()? {
            Some(Container::List(list)) => list.append(&mut items),
            _ => return Err(self.bad("appends to what is not a list")),
        }
        Ok(())
    }

    fn dict(&mut self, opcode: u8) -> Result<(), PthError> {
        let items = match opcode {
            b'}' => Vec::new(),
            b's' => {
                let value = self.pop()?;
                vec![self.pop()?, value]
            }
            _ => self.pop_marked()?,
        };
        let (pairs, []) = items.as_chunks() else {
            return Err(self.bad("a key has no value"));
        };
        let pairs = pairs.iter().map(|&[key, value]| (key, value));
        if matches!(opcode, b'}' | b'd') {
            self.push_container(Container::Dict(pairs.collect()));
            return Ok(());
        }
        match self.top_container()? {
            Some(Container::Dict(dict)) => dict.extend(pairs),
            _ => return Err(self.bad("sets a key of what is not a dict")),
        }
        Ok(())
    }

    fn memo(&mut self, opcode: u8) -> Result<(), PthError> {
        let index = match opcode {
            b'q' | b'h' => self.u8()?.into(),
            b'r' | b'j' => u32::from_le_bytes(self.array()?),
            _ => self.memo.len() as u32,
        };
        if matches!(opcode, b'h' | b'j') {
            let found = self.memo.get(&index).copied();
            let value = found.ok_or_else(|| self.bad(format!("nothing was kept as {index}")))?;
            self.stack.push(value);
            return Ok(());
        }
        let top = self.top()?;
        self.memo.insert(index, top);
        if self.memo.len() > MAX_MEMO {
            return Err(PthError::TooLarge { what: "values kept by its pickle", max: MAX_MEMO });
        }
        Ok(())
    }

    fn global(&mut self, opcode: u8) -> Result<(), PthError> {
        let (module, name) = match opcode {
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Value::Text(module), Value::Text(name)) = (module, name) else {
                    return Err(self.bad("a name is not text"));
                };
                (module, name)
            }
            _ => (self.line()?, self.line()?),
        };
        let found = Global::find(module, name).ok_or_else(|| forbidden(module, name))?;
        if opcode == b'i' {
            return Err(PthError::Opcode { at: self.at, opcode }); // calls what it names
        }
        self.stack.push(Value::Global(found));
        Ok(())
    }

    /// A line of text.
    fn line(&mut self) -> Result<&'a str, PthError> {
        let line = match self.code.line(MAX_GLOBAL) {
            Some(line) => line,
            None if self.code.rest() > MAX_GLOBAL => return Err(self.bad("a name is too long")),
            None => return Err(self.cut_off()),
        };
        std::str::from_utf8(line).map_err(|_| self.bad("a name is not UTF-8"))
    }

    fn push_container(&mut self, container: Container<'a>) {
        let value = self.add_container(container);
        self.stack.push(value);
    }

    pub(super) fn add_container(&mut self, container: Container<'a>) -> Value<'a> {
        self.pickle.containers.push(container);
        Value::Container(self.pickle.containers.len() as u32 - 1)
    }

    pub(super) fn push(&mut self, value: Value<'a>) {
        self.stack.push(value);
    }

    pub(super) fn pop(&mut self) -> Result<Value<'a>, PthError> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.pop() {
            Some(value) if self.stack.len() >= floor => Ok(value),
            _ => Err(self.bad("takes more values than there are")),
        }
    }

    /// The values above the last mark.
    fn pop_marked(&mut self) -> Result<Vec<Value<'a>>, PthError> {
        match self.marks.pop() {
            Some(floor) => Ok(self.stack.split_off(floor)),
            None => Err(self.bad("takes values up to a mark, but there is none")),
        }
    }

    fn top(&self) -> Result<Value<'a>, PthError> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.get(floor..) {
            Some([.., top]) => Ok(*top),
            _ => Err(self.bad("takes more values than there are")),
        }
    }

    pub(super) fn top_container(&mut self) -> Result<Option<&mut Container<'a>>, PthError> {
        match self.top()? {
            Value::Container(index) => Ok(self.pickle.containers.get_mut(index as usize)),
            _ => Ok(None),
        }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], PthError> {
        let taken = self.code.take(count);
        self.whole(taken)
    }

    fn u8(&mut self) -> Result<u8, PthError> {
        let taken = self.code.u8();
        self.whole(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], PthError> {
        let taken = self.code.array();
        self.whole(taken)
    }

    fn skip(&mut self, count: usize) -> Result<(), PthError> {
        self.take(count).map(drop)
    }

    fn whole<T>(&self, read: Option<T>) -> Result<T, PthError> {
        read.ok_or_else(|| self.cut_off())
    }

    fn cut_off(&self) -> PthError {
        PthError::Truncated { at: self.length }
    }

    pub(super) fn bad(&self, reason: impl Into<String>) -> PthError {
        PthError::Pickle { at: self.at, reason: reason.into() }
    }
}

/// A whole number of any length, little-endian, in two's complement.
fn long(bytes: &[u8]) -> Value<'_> {
    if bytes.len() > 8 {
        return Value::Long(bytes);
    }
    let negative = bytes.last().is_some_and(|&last| last >= 0x80);
    let mut wide = [if negative { 0xff } else { 0 }; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    Value::Int(i64::from_le_bytes(wide))
}

fn forbidden(module: &str, name: &str) -> PthError {
    let shown: String = module.chars().chain(['.']).chain(name.chars()).take(MAX_GLOBAL).collect();
    PthError::Forbidden { global: shown.escape_debug().to_string() }
}
