//! A pipeline that threads share, and a worker with a queue.

use std::sync::mpsc::{channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;

use wan_pipeline::{Error, Event, Observer, RequestError, Role, Worker};

use crate::support::{small, tiny_wan};

#[test]
fn threads_that_share_a_pipeline_load_nothing_twice() {
    let (pipeline, events) = (tiny_wan(), Mutex::new(Vec::new()));
    let requests = small("一个红色的圆形").with_seeds(1..5);
    let videos: Vec<_> = thread::scope(|scope| {
        let make = |request| {
            let (pipeline, events) = (&pipeline, &events);
            scope.spawn(move || {
                let mut observer = Observer::new(|event| events.lock().unwrap().push(event));
                pipeline.generate_with(request, &mut observer).unwrap()
            })
        };
        let threads: Vec<_> = requests.iter().map(make).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let events = events.into_inner().unwrap();
    for part in [Role::TextEncoder, Role::Transformer, Role::Vae] {
        let loading = |event: &&Event| matches!(event, Event::Loading { role } if *role == part);
        assert_eq!(events.iter().filter(loading).count(), 1, "{part}");
    }
    let encoded = events.iter().filter(|event| matches!(event, Event::Encoded { .. }));
    assert_eq!(encoded.count(), 2);
    for (video, request) in videos.iter().zip(&requests) {
        assert!(*video == tiny_wan().generate(request).unwrap());
    }
}

fn worker() -> Worker {
    Worker::new(Arc::new(tiny_wan()))
}

#[test]
fn jobs_are_done_in_the_order_of_the_queue() {
    let (worker, (sender, order)) = (worker(), channel());
    let jobs: Vec<_> = (0..3)
        .map(|job| {
            let sender = sender.clone();
            let note = move |event| {
                if let Event::Step { done, .. } = event {
                    sender.send((job, done)).unwrap();
                }
            };
            worker.submit_with(small("a red circle").seed(job).with_seeds([job]), note)
        })
        .collect();
    drop(sender);
    let found: Vec<_> = order.into_iter().collect();
    assert_eq!(
        found,
        (0..3).flat_map(|job| (1..=3).map(move |step| (job, step))).collect::<Vec<_>>()
    );
    for (seed, job) in (0..).zip(jobs) {
        let expected = tiny_wan().generate(&small("a red circle").seed(seed)).unwrap();
        assert!(job.wait().unwrap() == [expected]);
    }
}

#[test]
fn the_events_of_a_job_end_with_it() {
    let worker = worker();
    let job = worker.submit(small("a red circle").with_seeds(0..2));
    let events: Vec<Event> = job.events().iter().collect();
    let count = |what: fn(&Event) -> bool| events.iter().filter(|event| what(event)).count();
    assert_eq!(count(|event| matches!(event, Event::Step { .. })), 3);
    assert_eq!(count(|event| matches!(event, Event::Frame { video: 1, frames: 5, .. })), 5);
    assert_eq!(job.wait().unwrap().len(), 2);
}

/// The first job is stopped while it runs, the second while it waits for it.
#[test]
fn jobs_can_be_cancelled() {
    let worker = worker();
    let ((running, is_running), (go_on, may_go_on)) = (channel(), sync_channel::<()>(0));
    let first = worker.submit_with(vec![small("a red circle")], move |event| {
        if let Event::Step { done: 1, .. } = event {
            running.send(()).unwrap();
            may_go_on.recv().unwrap();
        } else if let Event::Step { .. } = event {
            panic!("it goes on");
        }
    });
    let second = worker.submit(vec![small("a blue square")]);
    let third = worker.submit(vec![small("a green triangle")]);
    is_running.recv().unwrap();
    first.cancel();
    second.cancel();
    go_on.send(()).unwrap();
    assert!(matches!(first.wait(), Err(Error::Cancelled)));
    assert_eq!(second.events().iter().count(), 0);
    assert!(matches!(second.wait(), Err(Error::Cancelled)));
    assert_eq!(third.wait().unwrap().len(), 1);
}

#[test]
fn a_job_that_is_refused_does_not_stop_the_worker() {
    let worker = worker();
    let refused = worker.submit(vec![small("a red circle").frames(3)]);
    let empty = worker.submit(Vec::new());
    let good = worker.submit(vec![small("a red circle")]);
    let error = refused.wait().unwrap_err();
    assert!(matches!(error, Error::Request(RequestError::Frames { found: 3, .. })), "{error:?}");
    assert!(matches!(empty.wait(), Err(Error::Request(RequestError::EmptyBatch))));
    assert_eq!(good.wait().unwrap().len(), 1);
}

#[test]
fn a_worker_that_is_dropped_finishes_its_queue() {
    let worker = worker();
    let jobs = [1, 2].map(|seed| worker.submit(vec![small("a red circle").seed(seed)]));
    drop(worker);
    for job in jobs {
        assert_eq!(job.wait().unwrap().len(), 1);
    }
    // And nobody has to wait for a job.
    let worker = self::worker();
    drop(worker.submit(vec![small("a red circle")]));
}
