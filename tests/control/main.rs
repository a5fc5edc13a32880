//! What a caller can do with a run beside waiting for it: batches, single steps, guidance of one's own,
//! saving and resuming, stopping, sharing a pipeline between threads, embeddings and previews. All with
//! the miniature model on Flex, where equal means equal bits.

mod batch;
mod cancel;
mod constants;
mod counting;
mod embeddings;
mod family;
mod out_of_memory;
mod preview;
mod resume;
mod run;
mod support;
mod threads;
