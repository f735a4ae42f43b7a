//! What a response of the metadata server means: whether it is a poke, what to log, when to request again. Pure.

use std::time::Duration;

/// The times of the watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// How long the server holds a request while nothing changes (`timeout_sec`); whole seconds.
    pub hang: Duration,
    /// How much longer a response may take, body included, before the connection counts as dead.
    pub slack: Duration,
    /// The least time from one request to the next, whatever the server does.
    pub least_apart: Duration,
    /// The pause after the first failure, before jitter; it doubles with each further one.
    pub first_retry: Duration,
    /// The longest pause that failures grow to.
    pub longest_retry: Duration,
    /// The longest `Retry-After` that is respected.
    pub longest_retry_after: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            hang: Duration::from_mins(1),
            slack: Duration::from_secs(10),
            least_apart: Duration::from_secs(1),
            first_retry: Duration::from_secs(1),
            longest_retry: Duration::from_mins(1),
            longest_retry_after: Duration::from_mins(5),
        }
    }
}

/// What came back from the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The instance's attributes as they are.
    Attributes {
        /// What to state as `last_etag` in the next request; `None` when the server sent none.
        etag: Option<String>,
        /// The value of `pushrev`; `None` when it is not set.
        pushrev: Option<String>,
    },
    /// There are no attributes (404).
    NoAttributes,
    /// Anything else, including no response at all.
    Failure {
        /// The reason, as a sentence without a full stop.
        reason: String,
        /// How long to wait before the next request, if the server said so.
        retry_after: Option<Duration>,
    },
}

/// What is known of the server: replaces the previous knowledge only after the judgement was acted on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Known {
    /// The etag of the last answer.
    pub(crate) etag: Option<String>,
    /// The `pushrev` of the last answer. An agent that just started knows none, so the first one it sees is a poke:
    /// it may have been set after the first pull read its document.
    pub(crate) pushrev: Option<String>,
    /// Failures in a row.
    pub(crate) failures: u32,
}

/// Something to log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum News {
    /// The first failure after a success, and why.
    Failing(String),
    /// The first success after so many failures.
    Recovered(u32),
}

/// What to do about a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Judgement {
    /// Whether the machine was poked.
    pub(crate) poked: bool,
    /// What to log; a run of failures is logged once.
    pub(crate) news: Option<News>,
    /// How long to wait before the next request.
    pub(crate) pause: Duration,
    /// What is known from now on, once the poke has been noted.
    pub(crate) known: Known,
}

/// Judges an answer that arrived `took` after its request. `random` is a random number from 0 to 1.
pub(crate) fn judge(known: &Known, answer: Answer, took: Duration, timing: &Timing, random: f64) -> Judgement {
    let (etag, pushrev, failure) = match answer {
        Answer::Attributes { etag: None, pushrev } => {
            (None, pushrev, Some(("the response has no `ETag`, which watching needs".to_owned(), None)))
        }
        Answer::Attributes { etag, pushrev } => {
            let idle = etag == known.etag && took < timing.hang / 2;
            let failure = idle.then(|| ("it responds at once instead of waiting for a change".to_owned(), None));
            (etag, pushrev, failure)
        }
        // The next request must not wait for a change of something that isn't there.
        Answer::NoAttributes => {
            (None, known.pushrev.clone(), Some(("there is no `instance/attributes/`".to_owned(), None)))
        }
        Answer::Failure { reason, retry_after } => {
            (known.etag.clone(), known.pushrev.clone(), Some((reason, retry_after)))
        }
    };
    // Not the etag but the value decides: other attributes change it too, and so does a live migration.
    // A value that went away counts: another may have come and gone in between.
    let poked = pushrev != known.pushrev;
    let apart = timing.least_apart.saturating_sub(took);
    let Some((reason, retry_after)) = failure else {
        let news = (known.failures > 0).then_some(News::Recovered(known.failures));
        return Judgement { poked, news, pause: apart, known: Known { etag, pushrev, failures: 0 } };
    };
    let news = (known.failures == 0).then_some(News::Failing(reason));
    let asked_for = retry_after.unwrap_or_default().min(timing.longest_retry_after);
    let pause = backoff(known.failures, timing, random).max(asked_for).max(apart);
    Judgement { poked, news, pause, known: Known { etag, pushrev, failures: known.failures.saturating_add(1) } }
}

/// Doubles with each failure up to the maximum, less a random share of up to one half.
fn backoff(failures: u32, timing: &Timing, random: f64) -> Duration {
    let doubled = timing.first_retry.saturating_mul(1 << failures.min(20));
    doubled.min(timing.longest_retry).mul_f64(1.0 - random.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_mins(1);
    const SOON: Duration = Duration::from_millis(2);

    fn known(etag: &str, pushrev: Option<&str>, failures: u32) -> Known {
        Known { etag: Some(etag.to_owned()), pushrev: pushrev.map(str::to_owned), failures }
    }

    fn attributes(etag: &str, pushrev: Option<&str>) -> Answer {
        Answer::Attributes { etag: Some(etag.to_owned()), pushrev: pushrev.map(str::to_owned) }
    }

    fn failure(seconds: Option<u64>) -> Answer {
        Answer::Failure { reason: "status 503".to_owned(), retry_after: seconds.map(Duration::from_secs) }
    }

    fn judged(known: &Known, answer: Answer, took: Duration) -> Judgement {
        judge(known, answer, took, &Timing::default(), 0.0)
    }

    #[test]
    fn only_a_changed_value_is_a_poke() {
        for (before, answer, poked, what) in [
            (Known::default(), attributes("e1", None), false, "start, never poked"),
            (Known::default(), attributes("e1", Some("a")), true, "start, poked before"),
            (known("e1", None, 0), attributes("e2", Some("a")), true, "created"),
            (known("e1", Some("a"), 0), attributes("e2", Some("b")), true, "changed"),
            (known("e1", Some("a"), 0), attributes("e2", None), true, "removed, perhaps after a change"),
            (known("e1", Some("a"), 0), attributes("e1", Some("a")), false, "time limit of the server"),
            (known("e1", Some("a"), 0), attributes("e2", Some("a")), false, "another attribute, or live migration"),
            (known("e1", Some("a"), 0), attributes("e1", Some("b")), true, "changed under the same etag"),
            (known("e1", Some("a"), 3), attributes("e2", Some("b")), true, "changed while the server was away"),
            (known("e1", Some("a"), 0), failure(None), false, "failure"),
            (known("e1", Some("a"), 0), Answer::NoAttributes, false, "404"),
            (known("e1", Some("a"), 0), Answer::Attributes { etag: None, pushrev: Some("b".into()) }, true, "no etag"),
        ] {
            assert_eq!(judged(&before, answer, LONG).poked, poked, "{what}");
        }
    }

    #[test]
    fn a_good_answer_is_followed_at_once_but_never_within_a_second_of_its_request() {
        let before = known("e1", Some("a"), 0);
        assert_eq!(judged(&before, attributes("e2", Some("b")), LONG).pause, Duration::ZERO);
        assert_eq!(judged(&before, attributes("e2", Some("b")), SOON).pause, Duration::from_millis(998));
    }

    #[test]
    fn failures_double_the_pause_up_to_a_minute_with_jitter() {
        for (failures, random, seconds) in
            [(0, 0.0, 1.0), (1, 0.0, 2.0), (2, 0.0, 4.0), (2, 1.0, 2.0), (6, 0.0, 60.0), (u32::MAX, 1.0, 30.0)]
        {
            let judged = judge(&known("e1", None, failures), failure(None), LONG, &Timing::default(), random);
            assert_eq!(judged.pause, Duration::from_secs_f64(seconds), "{failures} {random}");
        }
    }

    #[test]
    fn retry_after_is_obeyed_within_reason() {
        for (header, seconds) in [(Some(17), 17), (Some(0), 1), (Some(u64::MAX), 300), (None, 1)] {
            assert_eq!(judged(&known("e1", None, 0), failure(header), SOON).pause.as_secs(), seconds, "{header:?}");
        }
    }

    #[test]
    fn the_first_failure_and_the_recovery_are_news_and_nothing_between() {
        let first = judged(&known("e1", Some("a"), 0), failure(None), LONG);
        assert_eq!(first.news, Some(News::Failing("status 503".to_owned())));
        let second = judged(&first.known, failure(None), LONG);
        assert_eq!(second.news, None);
        let back = judged(&second.known, attributes("e1", Some("a")), LONG);
        assert_eq!(back.news, Some(News::Recovered(2)));
        assert_eq!(back.known, known("e1", Some("a"), 0));
    }

    #[test]
    fn trouble_keeps_the_etag_and_a_404_forgets_it() {
        let before = known("e1", Some("a"), 0);
        assert_eq!(judged(&before, failure(None), LONG).known.etag.as_deref(), Some("e1"));
        assert_eq!(judged(&before, Answer::NoAttributes, LONG).known.etag, None);
    }

    #[test]
    fn a_server_that_does_not_wait_is_asked_ever_more_seldom() {
        let mut now = known("e1", Some("a"), 0);
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            let judged = judged(&now, attributes("e1", Some("a")), SOON);
            assert_eq!((judged.poked, judged.pause.as_secs()), (false, seconds));
            now = judged.known;
        }
    }
}
