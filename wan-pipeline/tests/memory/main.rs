//! What a memory plan says, beside what a process takes.

mod ghosts;
mod limits;
mod measured;
mod residency;
mod wan22;
mod weights;
