//! The few calls that a checkpoint makes, turned into plain values.

use super::PthError;
use super::pickle::Machine;
use super::value::{Container, Global, Rebuild, Storage, Value, size};

/// More arguments than any of the functions has.
const MAX_ARGUMENTS: usize = 8;
/// The longest name of a storage in bytes. The real ones are numbers.
const MAX_KEY: usize = 256;

impl<'a> Machine<'a> {
    /// A call: of a function, with a tuple of arguments.
    pub(super) fn reduce(&mut self) -> Result<(), PthError> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let Value::Global(function) = function else {
            return Err(self.bad("calls what is not a function"));
        };
        let result = self.call(function, arguments)?;
        self.push(result);
        Ok(())
    }

    fn call(&mut self, function: Global, arguments: Value<'a>) -> Result<Value<'a>, PthError> {
        use Global::{Class, OrderedDict, RebuildFromType, RebuildParameter, RebuildTensor};
        use Global::{RebuildTensorV2, Size};
        let arguments = self.arguments(arguments)?;
        match (function, arguments.as_slice()) {
            (OrderedDict, []) => Ok(self.add_container(Container::Dict(Vec::new()))),
            (Size, [sizes @ Value::Container(_)]) => Ok(*sizes),
            (RebuildTensor, [storage, rest @ ..]) if rest.len() == 3 => {
                self.rebuild(*storage, [rest[0], rest[1], rest[2]])
            }
            (RebuildTensorV2, [storage, rest @ ..]) if matches!(rest.len(), 5 | 6) => {
                self.rebuild(*storage, [rest[0], rest[1], rest[2]])
            }
            (RebuildParameter, [tensor @ Value::Tensor(_), _, _]) => Ok(*tensor),
            // A tensor with Python attributes, which are left aside. The function inside is not
            // this one again, so that it goes no deeper.
            (
                RebuildFromType,
                &[Value::Global(inner), Value::Global(Class), inner_arguments, _state],
            ) if inner != RebuildFromType => self.call(inner, inner_arguments),
            (_, arguments) => {
                let count = arguments.len();
                Err(self.bad(format!("calls {function:?} with {count} arguments that do not fit")))
            }
        }
    }

    fn arguments(&self, tuple: Value<'a>) -> Result<Vec<Value<'a>>, PthError> {
        match self.pickle.container(tuple) {
            Some(Container::Tuple(items)) if items.len() <= MAX_ARGUMENTS => Ok(items.clone()),
            _ => Err(self.bad("the arguments of a call are not a short tuple")),
        }
    }

    fn rebuild(
        &mut self,
        storage: Value<'a>,
        [offset, shape, strides]: [Value<'a>; 3],
    ) -> Result<Value<'a>, PthError> {
        let Value::Storage(storage) = storage else {
            return Err(self.bad("makes a tensor of what is not a storage"));
        };
        self.pickle.tensors.push(Rebuild { storage, offset, shape, strides });
        Ok(Value::Tensor(self.pickle.tensors.len() as u32 - 1))
    }

    /// Gives attributes to an object. A dict may have some (`_metadata`), which are left aside.
    pub(super) fn build(&mut self) -> Result<(), PthError> {
        let _state = self.pop()?;
        match self.top_container()? {
            Some(Container::Dict(_)) => Ok(()),
            _ => Err(self.bad("gives attributes to what is not a dict")),
        }
    }

    /// A storage, which is not in the pickle but beside it.
    pub(super) fn persistent(&mut self) -> Result<(), PthError> {
        let id = self.pop()?;
        let Some(storage) = self.storage(id) else {
            return Err(self.bad("refers to what is not a storage"));
        };
        let next = self.pickle.storages.len() as u32;
        let index = *self.storage_indices.entry(storage.key).or_insert(next);
        match self.pickle.storages.get(index as usize) {
            None => self.pickle.storages.push(storage),
            Some(known) if *known == storage => {}
            Some(_) => return Err(self.bad("describes one storage in two ways")),
        }
        self.push(Value::Storage(index));
        Ok(())
    }

    /// Its description: a tuple of the word, its class, its name, its device and its length.
    fn storage(&self, id: Value<'a>) -> Option<Storage<'a>> {
        let Container::Tuple(id) = self.pickle.container(id)? else { return None };
        // The old format has a sixth: nothing, or (before PyTorch 0.4) a view of another storage.
        let id = id.strip_suffix(&[Value::None]).unwrap_or(id);
        match *id {
            [
                Value::Text("storage"),
                Value::Global(Global::Storage(dtype)),
                Value::Text(key),
                Value::Text(_device),
                count,
            ] if key.len() <= MAX_KEY => Some(Storage { key, dtype, count: size(count)? }),
            _ => None,
        }
    }
}
