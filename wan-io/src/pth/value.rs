//! The values that the pickle of a checkpoint is made of. All containers lie in one list and refer to each
//! other by number: sharing costs nothing, and neither cycles nor depth matter when they are
//! dropped.

use safetensors::Dtype;

/// The most dimensions a tensor may have, as in PyTorch.
const MAX_DIMS: usize = 64;

/// A value: small ones themselves, others by number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value<'a> {
    None,
    Bool(bool),
    Int(i64),
    /// A whole number of more than 8 bytes, as stored.
    Long(&'a [u8]),
    Text(&'a str),
    /// A float, or bytes: nothing that tensors or their names need.
    Other,
    Global(Global),
    /// One of [`Pickle::containers`].
    Container(u32),
    /// One of [`Pickle::storages`].
    Storage(u32),
    /// One of [`Pickle::tensors`].
    Tensor(u32),
}

#[derive(Debug)]
pub(super) enum Container<'a> {
    List(Vec<Value<'a>>),
    Tuple(Vec<Value<'a>>),
    Dict(Vec<(Value<'a>, Value<'a>)>),
}

/// A storage, as the pickle describes it: its name, and how many numbers of which kind it has.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Storage<'a> {
    pub(super) key: &'a str,
    pub(super) dtype: Dtype,
    pub(super) count: usize,
}

/// A tensor, as the pickle describes it: a part of a storage. Nothing of this is checked yet.
#[derive(Debug)]
pub(super) struct Rebuild<'a> {
    pub(super) storage: u32,
    pub(super) offset: Value<'a>,
    pub(super) shape: Value<'a>,
    pub(super) strides: Value<'a>,
}

/// The functions and classes a checkpoint may name.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildTensorV2,
    RebuildParameter,
    RebuildFromType,
    Size,
    /// A class of tensors.
    Class,
    Storage(Dtype),
}

impl Global {
    pub(super) fn find(module: &str, name: &str) -> Option<Self> {
        let found = match (module, name) {
            ("collections", "OrderedDict") => Self::OrderedDict,
            ("torch._utils", "_rebuild_tensor") => Self::RebuildTensor,
            ("torch._utils", "_rebuild_tensor_v2") => Self::RebuildTensorV2,
            ("torch._utils", "_rebuild_parameter") => Self::RebuildParameter,
            ("torch._tensor", "_rebuild_from_type_v2") => Self::RebuildFromType,
            ("torch", "Size") => Self::Size,
            ("torch", "Tensor") | ("torch.nn.parameter", "Parameter") => Self::Class,
            ("torch.storage", "UntypedStorage") => Self::Storage(Dtype::U8),
            ("torch", name) => Self::Storage(storage_dtype(name)?),
            _ => return None,
        };
        Some(found)
    }
}

fn storage_dtype(class: &str) -> Option<Dtype> {
    let dtype = match class {
        "DoubleStorage" => Dtype::F64,
        "FloatStorage" => Dtype::F32,
        "HalfStorage" => Dtype::F16,
        "BFloat16Storage" => Dtype::BF16,
        "LongStorage" => Dtype::I64,
        "IntStorage" => Dtype::I32,
        "ShortStorage" => Dtype::I16,
        "CharStorage" => Dtype::I8,
        "ByteStorage" => Dtype::U8,
        "BoolStorage" => Dtype::BOOL,
        _ => return None,
    };
    Some(dtype)
}

/// A value in a pickle.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    pub(super) root: Value<'a>,
    pub(super) containers: Vec<Container<'a>>,
    pub(super) storages: Vec<Storage<'a>>,
    pub(super) tensors: Vec<Rebuild<'a>>,
    /// Its length in bytes, up to and with its last instruction.
    pub(super) length: usize,
}

impl<'a> Pickle<'a> {
    pub(super) fn container(&self, value: Value<'a>) -> Option<&Container<'a>> {
        match value {
            Value::Container(index) => self.containers.get(index as usize),
            _ => None,
        }
    }

    /// The numbers in a tuple or list, one for each of a tensor's dimensions.
    pub(super) fn sizes(&self, value: Value<'a>) -> Option<Vec<usize>> {
        match self.container(value)? {
            Container::List(items) | Container::Tuple(items) if items.len() <= MAX_DIMS => {
                items.iter().map(|&item| size(item)).collect()
            }
            _ => None,
        }
    }
}

/// A number that is neither negative nor too large.
pub(super) fn size(value: Value) -> Option<usize> {
    match value {
        Value::Int(value) => value.try_into().ok(),
        _ => None,
    }
}
