//! What a run says where there is no terminal, and when it is saved: on a clock that the tests turn.

#[allow(dead_code)] // The program uses all of it.
#[path = "../../text_to_video/pace.rs"]
mod pace;

use std::time::Duration;

use pace::{Log, Saves, Stage};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn stage(name: &str, unit: &'static str, done: usize, all: usize) -> Stage {
    Stage { name: name.into(), unit, done, all, detail: String::new() }
}

/// Tells the log of a step each so many seconds; gives the lines with their times.
fn steps(log: &mut Log, start: u64, each: u64, all: usize) -> Vec<(u64, String)> {
    let mut lines = Vec::new();
    for done in 0..=all {
        let begin = start + each * done as u64;
        log.set(seconds(begin), stage("denoising", "steps", done, all));
        // As the program does, it is also asked between two steps.
        for now in begin..begin + each.max(1) {
            lines.extend(log.line(seconds(now)).map(|line| (now, line)));
        }
    }
    lines
}

#[test]
fn a_line_says_stage_step_and_times() {
    let mut log = Log::default();
    log.set(seconds(3), stage("denoising", "steps", 10, 50)); // a run that was resumed
    assert_eq!(log.line(seconds(3)), None, "not in the first seconds");
    log.set(seconds(3723), stage("denoising", "steps", 20, 50));
    let line = log.line(seconds(3723)).unwrap();
    assert_eq!(line, "denoising: 20 of 50 steps, 1:02:03 elapsed, about 3:06:00 left");
    log.set(seconds(3724), stage("loading vae", "", 0, 0));
    assert_eq!(log.line(seconds(3724)).unwrap(), "loading vae, 1:02:04 elapsed");
    log.set(seconds(3725), Stage { detail: "9 MB/s".into(), ..stage("downloading", "MB", 1, 9) });
    let line = log.line(seconds(3725)).unwrap();
    assert_eq!(line, "downloading: 1 of 9 MB, 9 MB/s, 1:02:05 elapsed");
    assert!(!line.chars().any(char::is_control));
}

#[test]
fn short_runs_say_nothing() {
    assert_eq!(steps(&mut Log::default(), 0, 1, 9), []);
    assert_eq!(Log::default().line(seconds(1000)), None, "there is no stage");
}

#[test]
fn each_tenth_has_a_line_and_not_every_step() {
    let lines = steps(&mut Log::default(), 0, 1, 200);
    let times: Vec<u64> = lines.iter().map(|(time, _)| *time).collect();
    assert_eq!(times, [10, 20, 40, 60, 80, 100, 120, 140, 160, 180, 200]);
    // However fast the tenths come.
    let lines = steps(&mut Log::default(), 10, 1, 10);
    assert!(lines.len() <= 3, "{lines:?}");
}

#[test]
fn slow_steps_are_no_silence() {
    let lines = steps(&mut Log::default(), 0, 3600, 2);
    assert!(lines.windows(2).all(|pair| pair[1].0 - pair[0].0 <= 30));
    assert!(lines.len() <= 3 * 3600 / 30 + 3, "{}", lines.len());
}

#[test]
fn every_change_of_stage_has_a_line() {
    let mut log = Log::default();
    log.set(seconds(20), stage("decoding video 1 of 2", "frames", 80, 81));
    assert!(log.line(seconds(20)).is_some());
    log.set(seconds(21), stage("decoding video 2 of 2", "frames", 0, 81));
    assert!(log.line(seconds(21)).is_some());
    assert_eq!(log.line(seconds(22)), None);
    // A stage that began in the quiet seconds is told when they are over.
    let mut log = Log::default();
    log.set(seconds(1), stage("denoising", "steps", 0, 50));
    assert_eq!(log.line(seconds(1)), None);
    assert!(log.line(seconds(10)).unwrap().starts_with("denoising: 0 of 50 steps"));
}

#[test]
fn saving_takes_one_part_in_a_hundred() {
    let mut saves = Saves::default();
    assert!(saves.is_due(seconds(5)), "after the first step");
    saves.done(seconds(5), seconds(7));
    assert!(!saves.is_due(seconds(206)));
    assert!(saves.is_due(seconds(207)));
    saves.done(seconds(207), seconds(207)); // at once, as far as the clock tells
    assert!(saves.is_due(seconds(207)));
}
