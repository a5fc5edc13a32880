//! Memory: what a run needs is compared with what there is before it begins; and where an allocation
//! fails all the same, the program ends in a sentence and not in the middle of nowhere.

#![allow(unsafe_code)] // an allocator is unsafe by its trait; all of it is in this file

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::ptr::null_mut;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use wan_pipeline::{MemoryPlan, Stage};

use crate::Result;
use crate::options::Options;
use crate::progress::Progress;

/// What the program exits with when memory runs out: the number of `ENOMEM`.
const OUT_OF_MEMORY: i32 = 12;

/// The plan of this run, with what the options leave out.
pub(crate) fn plan_of(mut plan: MemoryPlan, options: &Options) -> MemoryPlan {
    if options.resume.is_some() {
        plan = plan.resumed();
    }
    if options.embeddings.is_some() {
        plan = plan.without(Stage::EncodingPrompts);
    }
    if options.grid.is_some() {
        plan = plan.keeping_frames();
    }
    plan
}

/// Compares what a run needs with what there is.
///
/// # Errors
/// If it is more.
pub(crate) fn foresee(plan: &MemoryPlan, progress: &Progress) -> Result<()> {
    let remedies: Vec<String> = plan.remedies().iter().map(ToString::to_string).collect();
    drop(REMEDIES.set(remedies.join(" or ")));
    if let Some(excess) = plan.excess() {
        progress.say(&format!("warning: {excess}"));
    }
    Ok(plan.check()?)
}

/// What would lower the peak, for [`end`], which must not allocate much.
static REMEDIES: OnceLock<String> = OnceLock::new();

/// Where the state of the run is saved, and when the program began: an older file is not of this run.
static STATE: OnceLock<(PathBuf, SystemTime)> = OnceLock::new();

/// Enough for the little that [`end`] allocates.
const RESERVE: Layout = Layout::new::<[u64; 1 << 19]>();

/// The memory that is given back when there is no other.
static KEPT: AtomicPtr<u8> = AtomicPtr::new(null_mut());

/// Keeps some memory for the end of the program, and remembers where the state is saved.
pub(crate) fn keep_reserve(state: Option<&Path>) {
    // The clock of files may be some milliseconds behind.
    let start = SystemTime::now() - Duration::from_millis(20);
    drop(state.map(|file| STATE.set((file.to_owned(), start))));
    // SAFETY: the layout is not of size 0.
    KEPT.store(unsafe { System.alloc(RESERVE) }, Ordering::Release);
}

/// The system's allocator, which ends the program where it has no memory left.
struct OrEnd;

#[global_allocator]
static ALLOCATOR: OrEnd = OrEnd;

// SAFETY: every call goes to the system's allocator with what the caller has vouched for, and its result
// comes back unchanged unless it is null. Then `end` is called, which neither returns nor unwinds.
unsafe impl GlobalAlloc for OrEnd {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's, as above.
        or_end(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's, as above.
        or_end(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's, as above.
        or_end(unsafe { System.realloc(memory, layout, size) }, size)
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's, as above.
        unsafe { System.dealloc(memory, layout) }
    }
}

fn or_end(memory: *mut u8, bytes: usize) -> *mut u8 {
    if memory.is_null() { end(bytes) } else { memory }
}

/// Ends the program: says how much could not be had, what would help, and where the state is.
///
/// It may be called anywhere, with any lock held. So it takes no lock before it has spoken, not even that
/// of stderr, and runs nobody's destructors.
#[cold]
fn end(bytes: usize) -> ! {
    static ENDING: AtomicBool = AtomicBool::new(false);
    if ENDING.swap(true, Ordering::AcqRel) {
        // Another thread is at it; or this one, if the reserve was too small, in which case no words come.
        let patience = Duration::from_secs(5);
        thread::sleep(patience);
        exit();
    }
    let kept = KEPT.swap(null_mut(), Ordering::AcqRel);
    if !kept.is_null() {
        // SAFETY: it was allocated with this allocator and layout, and the swap has made it ours alone.
        unsafe { System.dealloc(kept, RESERVE) }
    }
    let mut text = [0; 2048];
    let mut rest = &mut text[..];
    let remedies = REMEDIES.get().map_or("", String::as_str);
    // Below the bar, if there is one. What does not fit is cut off.
    let bar = if std::io::stderr().is_terminal() { "\n" } else { "" };
    let _ = write!(rest, "{bar}error: memory has run out: {bytes} bytes more could not be had");
    if !remedies.is_empty() {
        let _ = write!(rest, "; {remedies} would help");
    }
    if let Some((file, start)) = STATE.get()
        && fs::metadata(file).and_then(|data| data.modified()).is_ok_and(|time| time >= *start)
    {
        let file = file.display();
        let _ = write!(rest, "\nthe last steps saved are in {file}: --resume {file} goes on");
    }
    let _ = rest.write(b"\n");
    let left = rest.len();
    say(&text[..text.len() - left]);
    tidy_up();
    exit()
}

/// Removes what has a temporary name, which few systems need. Where this thread held the list of these
/// names when its allocation failed, it would wait for itself: then the alarm ends the program.
fn tidy_up() {
    #[cfg(unix)]
    // SAFETY: it has no preconditions.
    unsafe {
        libc::alarm(5);
    }
    wan_pipeline::io::files::remove_unfinished();
}

#[cfg(unix)]
fn say(text: &[u8]) {
    // SAFETY: the pointer and the length are those of a slice.
    unsafe { libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len()) };
}

#[cfg(not(unix))]
fn say(text: &[u8]) {
    let _ = std::io::stderr().write(text);
}

#[cfg(unix)]
fn exit() -> ! {
    // SAFETY: it has no preconditions.
    unsafe { libc::_exit(OUT_OF_MEMORY) }
}

#[cfg(not(unix))]
fn exit() -> ! {
    std::process::exit(OUT_OF_MEMORY)
}
