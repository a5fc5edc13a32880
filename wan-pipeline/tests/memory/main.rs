//! What a memory plan says, beside what a process takes.

mod measured;
mod weights;
