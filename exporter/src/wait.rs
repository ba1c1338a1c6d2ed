//! Blocking queries: waiting for something newer.
//!
//! A GET with `index=N` is answered when the revision is greater than `N`, when the answering node's
//! own viewpoint changes (it loses its quorum, lets go of a group, becomes director), or after `wait`,
//! as Consul does it: the answer is always the latest, and is no promise that anything changed. With
//! `viewpoint=V`, from the header `X-Vedette-Viewpoint` of the answer before, no change between the two
//! requests is missed; without it, only what changes while the request waits counts.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use vedette_core::view::Change;

use crate::query::Value;
use crate::{Problem, Surface};

/// The time that a request with `index` waits if it does not say.
const DEFAULT_WAIT: Duration = Duration::from_secs(300);

/// The longest that may be asked for.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

crate::query! {
    /// The revision or viewpoint that a request waits for, and for how long.
    pub(crate) struct Wait {
        /// Answer when the revision is greater
        index: u64,
        /// At most so long: 500ms, 30s, 5m
        wait: Patience,
        /// Answer, too, when the node's viewpoint is another than this one of X-Vedette-Viewpoint
        viewpoint: u64,
    }
}

impl Wait {
    /// Waits; answers until when the request may go on waiting.
    pub(crate) async fn pass(&self, surface: &Surface) -> Instant {
        let deadline = Instant::now() + self.wait.map_or(DEFAULT_WAIT, |wait| wait.0);
        if let Some(index) = self.index {
            let mut changed = surface.changed.clone();
            let viewpoint = self.viewpoint.unwrap_or(changed.borrow().viewpoint);
            let is_news = |now: &Change| now.revision > index || now.viewpoint != viewpoint;
            // An error is a sender that is gone (the daemon is ending): answer with what there is.
            let newer = async { changed.wait_for(is_news).await.is_ok() };
            let _ = timeout_at(deadline, newer).await;
        }
        deadline
    }
}

/// A time to wait: `500ms`, `30s`, `5m`, or a number of seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Patience(pub(crate) Duration);

impl Value for Patience {
    fn read(name: &str, text: &str) -> Result<Self, Problem> {
        let split = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(split);
        let amount: Option<u64> = digits.parse().ok();
        let millis = match unit {
            "ms" => amount,
            "s" | "" => amount.and_then(|seconds| seconds.checked_mul(1_000)),
            "m" => amount.and_then(|minutes| minutes.checked_mul(60_000)),
            _ => None,
        };
        let wait = millis.map(Duration::from_millis).filter(|wait| *wait <= LONGEST_WAIT);
        wait.map(Self).ok_or_else(|| {
            let wrong = "is not a time to wait of at most 10m";
            Problem::bad_value(name, text, wrong, "Write it as 500ms, 30s or 5m.")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_to_wait() {
        let read = |text| Patience::read("wait", text).map(|wait| wait.0);
        assert_eq!(read("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(read("30"), Ok(Duration::from_secs(30)));
        assert_eq!(read("10m"), Ok(LONGEST_WAIT));
        for bad in ["", "s", "-1", "11m", "1h", "99999999999999999999", "18446744073709551615s"] {
            let problem = read(bad).expect_err(bad);
            let detail = format!("wait={bad:?} is not a time to wait of at most 10m.");
            assert_eq!(*problem.document().detail, *detail);
        }
    }
}
