//! Decoded tiles that wait for their neighbours.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

use burn::tensor::{DType, Tensor, TensorData};
use wan_core::Backend;

/// Tensors in an unnamed temporary file, which is gone when this is; in memory where there can be no
/// such file.
#[derive(Debug)]
pub(super) struct Spool {
    /// Opened when the first tensor comes.
    store: Option<Store>,
    bytes: u64,
}

#[derive(Debug)]
enum Store {
    File(File),
    Memory(Vec<u8>),
}

/// A tensor in a [`Spool`].
#[derive(Debug)]
pub(super) struct Spooled {
    start: u64,
    shape: [usize; 5],
}

impl Spool {
    pub(super) fn new() -> Self {
        Self { store: None, bytes: 0 }
    }

    /// Adds a tensor.
    pub(super) fn push<B: Backend>(&mut self, x: Tensor<B, 5>) -> io::Result<Spooled> {
        let spooled = Spooled { start: self.bytes, shape: x.dims() };
        let data = x.into_data().convert::<f32>();
        self.store.get_or_insert_with(Store::open).append(data.as_bytes())?;
        self.bytes += data.as_bytes().len() as u64;
        Ok(spooled)
    }

    /// A tensor again, in f32. None can be added after it.
    pub(super) fn read<B: Backend>(
        &mut self,
        spooled: &Spooled,
        device: &B::Device,
    ) -> io::Result<Tensor<B, 5>> {
        let mut bytes = vec![0; 4 * spooled.shape.iter().product::<usize>()];
        self.store.get_or_insert_with(Store::open).read(spooled.start, &mut bytes)?;
        let values = bytes.as_chunks::<4>().0.iter().copied().map(f32::from_ne_bytes);
        let data = TensorData::new(values.collect::<Vec<f32>>(), spooled.shape);
        Ok(Tensor::from_data(data, (device, DType::F32)))
    }
}

impl Store {
    fn open() -> Self {
        tempfile::tempfile().map_or_else(|_| Self::Memory(Vec::new()), Self::File)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::File(file) => file.write_all(bytes)?,
            Self::Memory(all) => all.extend_from_slice(bytes),
        }
        Ok(())
    }

    fn read(&mut self, start: u64, bytes: &mut [u8]) -> io::Result<()> {
        match self {
            Self::File(file) => {
                file.seek(SeekFrom::Start(start))?;
                file.read_exact(bytes)
            }
            Self::Memory(all) => all.get(start as usize..).unwrap_or_default().read_exact(bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_from_anywhere() {
        for mut store in [Store::open(), Store::Memory(Vec::new())] {
            store.append(&[1, 2, 3]).unwrap();
            store.append(&[4, 5, 6, 7]).unwrap();
            for start in [3, 0, 5] {
                let mut found = [0; 2];
                store.read(start, &mut found).unwrap();
                assert_eq!(found, [start as u8 + 1, start as u8 + 2]);
            }
            let short = store.read(6, &mut [0; 2]).unwrap_err();
            assert_eq!(short.kind(), io::ErrorKind::UnexpectedEof);
        }
    }
}
