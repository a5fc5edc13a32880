//! Large pages of memory for weights.

/// Below this many bytes few pages are saved.
const MIN_BYTES: usize = 4 << 20;

/// Asks the system for large pages behind values that are about to be written, where they are many. With small
/// ones, half of the time in which a layer is read and widened goes into taking them from the system and giving
/// them back.
#[cfg(target_os = "linux")]
pub(super) fn prefer_large<T>(values: &mut [T]) {
    use rustix::mm::{Advice, madvise};
    use rustix::param::page_size;

    let (range, page) = (values.as_mut_ptr_range(), page_size());
    let [start, end] = [range.start as usize, range.end as usize];
    let first = start.next_multiple_of(page);
    let Some(bytes) = (end / page * page).checked_sub(first).filter(|&bytes| bytes >= MIN_BYTES)
    else {
        return;
    };
    // Where it is refused, all is slower and nothing else.
    // SAFETY: the pages lie within the values, which are borrowed; the advice changes no byte of them.
    #[allow(unsafe_code)]
    let _ = unsafe {
        madvise(range.start.cast::<u8>().add(first - start).cast(), bytes, Advice::LinuxHugepage)
    };
}

#[cfg(not(target_os = "linux"))]
pub(super) fn prefer_large<T>(_values: &mut [T]) {}
