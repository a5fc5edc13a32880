//! Reads what `torch.save` writes: as much of zip and pickle as fixtures and our own files need.

use std::collections::BTreeMap;

use super::Named;

/// The global that makes the outermost dictionary, if any, and the tensors.
pub(crate) fn read(file: &[u8]) -> (Option<String>, Named) {
    let entries = entries(file);
    let find = |end: &str| entries.iter().find(|(name, _)| name.ends_with(end)).expect(end).1;
    let Value::Dict(root, items) = run(find("/data.pkl")) else { panic!("no dictionary") };
    let tensor = |value| {
        let Value::Tensor { key, length, shape, strides } = value else { panic!("no tensor") };
        let bytes = find(&format!("/data/{key}"));
        let expected: Vec<usize> =
            (1..=shape.len()).map(|axis| shape[axis..].iter().product()).collect();
        assert_eq!(strides, expected);
        assert_eq!(length, shape.iter().product::<usize>());
        (shape, bytes.to_vec())
    };
    (root, items.into_iter().map(|(name, value)| (name, tensor(value))).collect())
}

fn number(bytes: &[u8]) -> usize {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The entries that the directory at the end lists.
fn entries(file: &[u8]) -> BTreeMap<String, &[u8]> {
    let end = file.windows(4).rposition(|four| four == b"PK\x05\x06").unwrap();
    let end = &file[end..];
    let mut at = number(&end[16..20]);
    let mut entries = BTreeMap::new();
    for _ in 0..number(&end[10..12]) {
        let head = &file[at..];
        assert!(head.starts_with(b"PK\x01\x02"));
        let (size, name) = (number(&head[24..28]), number(&head[28..30]));
        let local = &file[number(&head[42..46])..];
        let start = 30 + number(&local[26..28]) + number(&local[28..30]);
        let content = &local[start..start + size];
        assert_eq!(number(&head[16..20]), super::super::pth::crc32(content) as usize);
        entries.insert(text(&head[46..46 + name]), content);
        at += 46 + name + number(&head[30..32]) + number(&head[32..34]);
    }
    entries
}

#[derive(Debug, Clone)]
enum Value {
    Mark,
    Global(String),
    Text(String),
    Number(usize),
    Tuple(Vec<Value>),
    Dict(Option<String>, Vec<(String, Value)>),
    Storage { key: String, length: usize },
    Tensor { key: String, length: usize, shape: Vec<usize>, strides: Vec<usize> },
}

/// The pickle machine.
struct Machine<'a> {
    code: &'a [u8],
    stack: Vec<Value>,
    memo: BTreeMap<usize, Value>,
}

fn run(code: &[u8]) -> Value {
    let mut machine = Machine { code, stack: Vec::new(), memo: BTreeMap::new() };
    while machine.step() {}
    machine.pop()
}

impl Machine<'_> {
    fn take(&mut self, bytes: usize) -> &[u8] {
        let (taken, rest) = self.code.split_at(bytes);
        self.code = rest;
        taken
    }

    fn number(&mut self, bytes: usize) -> usize {
        number(self.take(bytes))
    }

    fn line(&mut self) -> String {
        let end = self.code.iter().position(|byte| *byte == b'\n').unwrap();
        text(&self.take(end + 1)[..end])
    }

    fn pop(&mut self) -> Value {
        self.stack.pop().unwrap()
    }

    fn since_mark(&mut self) -> Vec<Value> {
        let mark = self.stack.iter().rposition(|value| matches!(value, Value::Mark)).unwrap();
        self.stack.split_off(mark).split_off(1)
    }

    fn tuple(&mut self, length: usize) -> Value {
        Value::Tuple(self.stack.split_off(self.stack.len() - length))
    }

    fn put(&mut self, key_bytes: usize) -> bool {
        let key = self.number(key_bytes);
        self.memo.insert(key, self.stack.last().unwrap().clone());
        true
    }

    fn get(&mut self, key_bytes: usize) -> Value {
        let key = self.number(key_bytes);
        self.memo[&key].clone()
    }

    /// Runs one instruction; false at the last one.
    fn step(&mut self) -> bool {
        let value = match self.take(1)[0] {
            b'.' => return false,
            0x80 => {
                assert_eq!(self.take(1), [2]);
                return true;
            }
            b'q' => return self.put(1),
            b'r' => return self.put(4),
            b'u' => return self.set_items(),
            b'h' => self.get(1),
            b'j' => self.get(4),
            b'(' => Value::Mark,
            b'}' => Value::Dict(None, Vec::new()),
            b')' => Value::Tuple(Vec::new()),
            b't' => Value::Tuple(self.since_mark()),
            0x85 => self.tuple(1),
            0x86 => self.tuple(2),
            0x87 => self.tuple(3),
            0x89 => Value::Number(0),
            b'K' => Value::Number(self.number(1)),
            b'M' => Value::Number(self.number(2)),
            b'J' => Value::Number(self.number(4)),
            b'c' => Value::Global(format!("{}.{}", self.line(), self.line())),
            b'X' => {
                let length = self.number(4);
                Value::Text(text(self.take(length)))
            }
            b'Q' => storage(self.pop()),
            b'R' => {
                let arguments = self.pop();
                call(self.pop(), arguments)
            }
            other => panic!("instruction {other:#x}"),
        };
        self.stack.push(value);
        true
    }

    fn set_items(&mut self) -> bool {
        let added = self.since_mark();
        let Some(Value::Dict(_, items)) = self.stack.last_mut() else { panic!("no dictionary") };
        for pair in added.chunks(2) {
            let [Value::Text(name), value] = pair else { panic!("a name is no text") };
            items.push((name.clone(), value.clone()));
        }
        true
    }
}

fn storage(id: Value) -> Value {
    let Value::Tuple(id) = id else { panic!("the id is no tuple") };
    match id.as_slice() {
        [Value::Text(_), Value::Global(_), Value::Text(key), Value::Text(_), Value::Number(n)] => {
            Value::Storage { key: key.clone(), length: *n }
        }
        _ => panic!("{id:?}"),
    }
}

fn call(function: Value, arguments: Value) -> Value {
    let (Value::Global(name), Value::Tuple(arguments)) = (function, arguments) else { panic!() };
    match (name.as_str(), arguments.as_slice()) {
        ("collections.OrderedDict", []) => Value::Dict(Some(name), Vec::new()),
        (
            "torch._utils._rebuild_tensor_v2",
            [Value::Storage { key, length }, Value::Number(0), shape, strides, _, _],
        ) => Value::Tensor {
            key: key.clone(),
            length: *length,
            shape: numbers(shape),
            strides: numbers(strides),
        },
        (name, arguments) => panic!("{name} of {arguments:?}"),
    }
}

fn numbers(tuple: &Value) -> Vec<usize> {
    let Value::Tuple(values) = tuple else { panic!("no tuple") };
    let number = |value: &Value| match value {
        Value::Number(number) => *number,
        other => panic!("{other:?} is no number"),
    };
    values.iter().map(number).collect()
}
