//! The hub, its faults, and a client that is not ours.

mod client;
mod faults;
mod hf_hub;
mod server;
