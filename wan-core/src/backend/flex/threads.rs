//! How many threads the CPU backend computes with.

use std::thread::available_parallelism;

use rayon::ThreadPoolBuilder;

/// Why the number of threads cannot be set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CpuThreadsError {
    /// There are no computations without a thread.
    #[error("0 threads cannot compute: 1 is the least, {cores} what this machine has cores for")]
    None {
        /// Cores that this process may use.
        cores: usize,
    },
    /// They would wait for each other.
    #[error("{threads} threads are more than the {cores} cores that this process may use")]
    MoreThanCores {
        /// The number asked for.
        threads: usize,
        /// Cores that this process may use.
        cores: usize,
    },
    /// It can be set once in a process, before anything is computed.
    #[error("this process already computes with {current} threads, and cannot change to {threads}")]
    AlreadyStarted {
        /// The number in use.
        current: usize,
        /// The number asked for.
        threads: usize,
    },
}

/// Sets with how many threads the CPU backend computes. It has to be said before anything is computed. Default: one
/// for each core that the process may use. Results do not depend on it.
///
/// # Errors
/// If there are none, more than cores, or threads already.
pub fn set_cpu_threads(threads: usize) -> Result<(), CpuThreadsError> {
    let cores = available_parallelism().map_or(1, |cores| cores.get());
    if threads == 0 {
        return Err(CpuThreadsError::None { cores });
    }
    if threads > cores {
        return Err(CpuThreadsError::MoreThanCores { threads, cores });
    }
    let started = |_| match rayon::current_num_threads() {
        current if current == threads => Ok(()),
        current => Err(CpuThreadsError::AlreadyStarted { current, threads }),
    };
    ThreadPoolBuilder::new().num_threads(threads).build_global().or_else(started)
}

/// With how many threads the CPU backend computes.
pub fn cpu_threads() -> usize {
    rayon::current_num_threads()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_numbers_are_refused_in_a_sentence() {
        let error = set_cpu_threads(0).unwrap_err().to_string();
        assert!(error.starts_with("0 threads cannot compute: 1 is the least"), "{error}");
        let error = set_cpu_threads(1_000_000).unwrap_err().to_string();
        assert!(error.starts_with("1000000 threads are more than the "), "{error}");
        // What is in use already may be asked for again; the environment can ask for more than there are cores.
        let cores = available_parallelism().map_or(1, |cores| cores.get());
        if cpu_threads() <= cores {
            assert_eq!(set_cpu_threads(cpu_threads()), Ok(()));
        }
    }
}
