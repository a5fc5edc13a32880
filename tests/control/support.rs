//! Small requests, and what the tests compare.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use wan_pipeline::backend::Flex;
use wan_pipeline::{Backend, Error, Event, Latents, Observer, Pipeline, Request, Role};

pub fn tiny_wan() -> Pipeline<Flex> {
    Pipeline::from_pretrained("tiny-wan").unwrap()
}

pub fn without_text_encoder() -> Pipeline<Flex> {
    Pipeline::builder("tiny-wan").without_text_encoder().open().unwrap()
}

/// The folder of the miniature model.
pub fn assets() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tiny-wan/model")
}

/// 5 frames of 32x32 in 3 steps.
pub fn small(prompt: &str) -> Request {
    Request::new(prompt).size(32, 32).frames(5).steps(3)
}

pub fn silent() -> Observer<'static> {
    Observer::silent()
}

pub fn bits<B: Backend>(latents: &Latents<B>) -> Vec<u32> {
    latents.to_vec().into_iter().map(f32::to_bits).collect()
}

/// The latents that a request leads to.
pub fn latents_of<B: Backend>(pipeline: &Pipeline<B>, request: &Request) -> Vec<u32> {
    let latents = pipeline.denoise_batch(std::slice::from_ref(request), &mut silent());
    bits(&latents.unwrap()[0])
}

/// The events of some work.
#[derive(Default)]
pub struct Log(RefCell<Vec<Event>>);

impl Log {
    pub fn observer(&self) -> Observer<'_> {
        Observer::new(|event| self.0.borrow_mut().push(event))
    }

    pub fn count(&self, what: impl Fn(&Event) -> bool) -> usize {
        self.0.borrow().iter().filter(|event| what(event)).count()
    }

    pub fn encoded(&self) -> usize {
        self.count(|event| matches!(event, Event::Encoded { .. }))
    }

    pub fn loaded(&self, part: Role) -> usize {
        self.count(|event| matches!(event, Event::Loading { role } if *role == part))
    }
}

/// A small generator (splitmix64), so that a random test is always the same one.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// Fails unless the message has all of these parts in one line.
#[track_caller]
pub fn says(error: &Error, parts: &[&str]) {
    let message = error.to_string();
    assert!(!message.contains('\n'), "{message}");
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
}
