//! Models as the hub has them.
