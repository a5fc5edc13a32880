//! When a request is made again, and after how long.

use std::time::{Duration, SystemTime};

use ureq::http::HeaderMap;

use super::HubError;
use super::http::header;

/// The longest that a hub may ask to wait between two tries: its limits are for five minutes.
const MAX_WAIT: u64 = 330;
/// So often it may ask without a byte coming through.
const MAX_WAITS: u32 = 6;
/// How often someone is asked whether to wait on.
const STEP: Duration = Duration::from_millis(100);

/// Something failed that may pass.
pub(super) enum Setback {
    /// It is tried again after so long.
    Retrying(String, Duration),
    /// So much of the wait is left.
    Pausing(Duration),
}

/// Counts the tries of a request.
pub(super) struct Tries {
    failed: u32,
    limited: u32,
    max: u32,
}

impl Tries {
    /// At most so many, beside those that the hub only puts off.
    pub(super) fn new(max: u32) -> Self {
        Self { failed: 0, limited: 0, max }
    }

    /// Something came through, so the next failure is the first.
    pub(super) fn restart(&mut self) {
        (self.failed, self.limited) = (0, 0);
    }

    /// How long to wait before the next try. The first comes at once: most often a connection was
    /// dropped that was kept too long. `None` if it is no use, or longer than anyone would wait.
    pub(super) fn wait(&mut self, error: &HubError) -> Option<Duration> {
        let HubError::RateLimited { seconds, .. } = error else {
            self.failed += 1;
            let backoff = (1 << self.failed) / 4; // 0, 1, 2, 4, ..
            let again = error.is_passing() && self.failed < self.max;
            return again.then_some(Duration::from_secs(backoff));
        };
        self.limited += 1;
        let seconds = seconds.unwrap_or(1 << self.limited);
        let again = self.limited <= MAX_WAITS && seconds <= MAX_WAIT;
        again.then_some(Duration::from_secs(seconds))
    }
}

/// Waits; `go_on` is told what is left, and may end it.
pub(super) fn pause(
    wait: Duration,
    mut go_on: impl FnMut(Duration) -> Result<(), HubError>,
) -> Result<(), HubError> {
    let mut left = wait;
    while !left.is_zero() {
        go_on(left)?;
        let step = left.min(STEP);
        std::thread::sleep(step);
        left -= step;
    }
    Ok(())
}

/// The seconds that a hub asks to wait: by `RateLimit: "api";r=0;t=55`, or by `Retry-After` with seconds
/// or a date.
pub(super) fn asked_wait(headers: &HeaderMap) -> Option<u64> {
    let date = |text| httpdate::parse_http_date(text).ok();
    let limits = headers.get_all("ratelimit").iter().filter_map(|value| value.to_str().ok());
    let limits = limits.flat_map(|value| value.split(',')).filter_map(used_up);
    limits.max().or_else(|| {
        let after = header(headers, "retry-after")?.trim();
        // By the server's own clock, where it tells the time.
        let now = header(headers, "date").and_then(date).unwrap_or_else(SystemTime::now);
        let until = |end: SystemTime| end.duration_since(now).unwrap_or_default().as_secs();
        after.parse().ok().or_else(|| date(after).map(until))
    })
}

/// When a limit that is used up begins anew: the `t` of `"api";r=0;t=55`.
fn used_up(limit: &str) -> Option<u64> {
    let parameter = |name: &str| {
        let mut pairs = limit.split(';').filter_map(|pair| pair.split_once('='));
        let (_, value) = pairs.find(|(key, _)| key.trim() == name)?;
        value.trim().parse::<u64>().ok()
    };
    parameter("t").filter(|_| parameter("r").is_none_or(|left| left == 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_longer_each_time_and_never_for_hours() {
        let failed = HubError::Unreachable { url: String::new(), reason: String::new() };
        let mut tries = Tries::new(5);
        let waits: Vec<_> =
            (0..5).map(|_| tries.wait(&failed).map(|wait| wait.as_secs())).collect();
        assert_eq!(waits, [Some(0), Some(1), Some(2), Some(4), None]);
        tries.restart();
        assert_eq!(tries.wait(&failed), Some(Duration::ZERO));

        let limited = |seconds| HubError::RateLimited { url: "u".into(), seconds };
        let waits = |seconds| Tries::new(1).wait(&limited(seconds)).map(|wait| wait.as_secs());
        assert_eq!((waits(Some(55)), waits(Some(300))), (Some(55), Some(300)));
        assert_eq!((waits(Some(3600)), waits(None)), (None, Some(2)));
        let mut tries = Tries::new(1);
        assert_eq!((0..99).take_while(|_| tries.wait(&limited(Some(0))).is_some()).count(), 6);
        let refused = HubError::RepoNotFound { repo: String::new() };
        assert_eq!(Tries::new(9).wait(&refused), None);
    }

    #[test]
    fn wait_is_read_as_hubs_and_proxies_send_it() {
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        type Headers = [(&'static str, &'static str)];
        let rows: [(&Headers, Option<u64>); 11] = [
            (&[("ratelimit", "\"api\";r=0;t=55")], Some(55)),
            (&[("ratelimit", " \"api\" ; r=0 ; t=7 ")], Some(7)),
            (&[("ratelimit", "\"api\";r=9;t=300, \"resolvers\";r=0;t=12")], Some(12)),
            (&[("ratelimit", "\"api\";t=12"), ("retry-after", "3")], Some(12)),
            (&[("ratelimit", "\"api\";r=5;t=12"), ("retry-after", "3")], Some(3)),
            (&[("ratelimit", "t=later"), ("retry-after", " 3 ")], Some(3)),
            (&[("retry-after", date), ("date", "Sun, 06 Nov 1994 08:49:07 GMT")], Some(30)),
            (&[("retry-after", date), ("date", "Sun, 06 Nov 1994 08:50:00 GMT")], Some(0)),
            (&[("retry-after", date)], Some(0)), // long ago
            (&[("retry-after", "soon")], None),
            (&[], None),
        ];
        for (pairs, expected) in rows {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(*name, value.parse().unwrap());
            }
            assert_eq!(asked_wait(&headers), expected, "{pairs:?}");
        }
    }
}
