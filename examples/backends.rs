//! What can compute here, and what `--backend auto` would take: `cargo run --release --example
//! backends`.

use wan_pipeline::{backends, best_backend};

fn main() {
    let backends = backends();
    for backend in &backends {
        println!("{backend}");
    }
    match best_backend(&backends) {
        Some(best) => println!("best: {}", best.choice),
        None => println!("none of them works"),
    }
}
