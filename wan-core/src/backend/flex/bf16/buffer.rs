//! Memory that is used again and again.

/// Values that begin with a cache line, so that no vector of them lies in two.
pub(super) struct Buffer<T>(Vec<T>);

impl<T: Copy + Default> Buffer<T> {
    const LINE: usize = 64;

    pub(super) fn new() -> Self {
        Self(Vec::new())
    }

    /// So many values: those of the last time, if there were at least as many, else any.
    pub(super) fn take(&mut self, count: usize) -> &mut [T] {
        let spare = Self::LINE / size_of::<T>();
        if self.0.len() < count + spare {
            self.0 = vec![T::default(); count + spare];
        }
        let start = self.0.as_ptr().align_offset(Self::LINE).min(spare);
        &mut self.0[start..start + count]
    }
}
