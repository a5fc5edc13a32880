//! Videos as streams of blocks: causal passes beside an oracle that keeps nothing, decoding piece by piece, and what a
//! caller sees of a stream.

mod decoder;
mod memory;
mod network;
mod oracle;
mod stream;
