//! Signals that ask the program to end.

use wan_pipeline::CancelToken;

pub(crate) use system::Stop;

/// What a program that a signal has ended exits with: 128 and the signal's number.
fn exit_code(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(1)
}

/// Ends the program now, but leaves nothing under a temporary name.
fn exit_at_once(signal: i32) -> ! {
    wan_pipeline::io::files::remove_unfinished();
    std::process::exit(exit_code(signal).into())
}

#[cfg(unix)]
mod system {
    use std::io::Result;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXCPU, SIGXFSZ};
    use signal_hook::iterator::Signals;

    use super::*;
    use crate::progress::say;

    /// The signal that has asked the program to end.
    pub(crate) struct Stop(Arc<AtomicI32>);

    impl Stop {
        /// The first signal asks the work to stop and to tidy up, a second one ends the program at once.
        pub(crate) fn listen(cancel: &CancelToken) -> Result<Self> {
            // Without a handler, a limit on file sizes would kill the program: so it is an error.
            signal_hook::flag::register(SIGXFSZ, Arc::<AtomicBool>::default())?;
            let ignored = ignored_signals();
            let taken = [SIGINT, SIGTERM, SIGHUP, SIGXCPU];
            let taken = taken.into_iter().filter(|signal| ignored >> (signal - 1) & 1 == 0);
            let mut signals = Signals::new(taken)?;
            let (cancel, first) = (cancel.clone(), Arc::new(AtomicI32::new(0)));
            let stop = Self(first.clone());
            std::thread::spawn(move || {
                for signal in signals.forever() {
                    if first.swap(signal, Ordering::Relaxed) != 0 {
                        exit_at_once(signal);
                    }
                    cancel.cancel();
                    say(match signal {
                        SIGINT => "stopping; Ctrl-C again ends at once",
                        _ => "stopping, as a signal asks for; a second one ends at once",
                    });
                }
            });
            Ok(stop)
        }

        /// What the program exits with, if it has been asked to stop.
        pub(crate) fn exit_code(&self) -> Option<u8> {
            match self.0.load(Ordering::Relaxed) {
                0 => None,
                signal => Some(exit_code(signal)),
            }
        }
    }

    /// The signals that whoever started this program has turned off, as `nohup` does with SIGHUP: one bit
    /// each. Where the system does not tell, SIGHUP counts as one of them, since taking it would end what
    /// must go on.
    fn ignored_signals() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        mask.unwrap_or(1 << (SIGHUP - 1))
    }
}

#[cfg(not(unix))]
mod system {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::progress::say;

    const SIGINT: i32 = 2;

    /// Whether Ctrl-C has asked the program to end.
    pub(crate) struct Stop(Arc<AtomicBool>);

    impl Stop {
        /// The first Ctrl-C asks the work to stop and to tidy up, a second one ends the program at once.
        pub(crate) fn listen(cancel: &CancelToken) -> Result<Self, ctrlc::Error> {
            let (cancel, first) = (cancel.clone(), Arc::new(AtomicBool::new(false)));
            let stop = Self(first.clone());
            ctrlc::set_handler(move || {
                if first.swap(true, Ordering::Relaxed) {
                    exit_at_once(SIGINT);
                }
                cancel.cancel();
                say("stopping; Ctrl-C again ends at once");
            })?;
            Ok(stop)
        }

        /// What the program exits with, if it has been asked to stop.
        pub(crate) fn exit_code(&self) -> Option<u8> {
            self.0.load(Ordering::Relaxed).then(|| exit_code(SIGINT))
        }
    }
}
