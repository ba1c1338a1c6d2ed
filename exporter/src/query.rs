//! Query parameters, and waiting for something newer.
//!
//! A GET with `index=N` is answered when the revision is greater than `N`, when the answering node's
//! own viewpoint changes (it loses its quorum, lets go of a group, becomes director), or after `wait`,
//! as Consul does it: the answer is always the latest, and is no promise that anything changed. With
//! `viewpoint=V`, from the header `X-Vedette-Viewpoint` of the answer before, no change between the two
//! requests is missed; without it, only what changes while the request waits counts.

use std::time::Duration;

use axum::extract::Query;
use axum::http::Uri;
use tokio::time::{Instant, timeout_at};

use vedette_core::view::Change;

use crate::{Problem, Surface};

/// How long a request with `index` waits if it does not say.
const DEFAULT_WAIT: Duration = Duration::from_secs(300);

/// The longest that may be asked for.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// The parameters of one request: known names only, each at most once.
#[derive(Debug)]
pub(crate) struct Params(Vec<(String, String)>);

impl Params {
    /// Reads the query of `uri`; `known` beside `index` and `wait`.
    pub(crate) fn of(uri: &Uri, known: &[&str]) -> Result<Self, Problem> {
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri).map_err(|error| {
            Problem::bad_parameter(
                format!("The query cannot be read: {}.", error.body_text()),
                "Write it as name=value&name=value.",
            )
        })?;
        let is_known =
            |name: &str| known.contains(&name) || matches!(name, "index" | "wait" | "viewpoint");
        for (place, (name, _)) in pairs.iter().enumerate() {
            if !is_known(name) {
                let list: Vec<&str> =
                    known.iter().copied().chain(["index", "wait", "viewpoint"]).collect();
                return Err(Problem::bad_parameter(
                    format!("There is no parameter {name:?} here."),
                    format!("Use one of {}.", list.join(", ")),
                ));
            }
            if pairs[..place].iter().any(|(earlier, _)| earlier == name) {
                return Err(Problem::bad_parameter(
                    format!("The parameter {name:?} was given twice."),
                    "Give it once.",
                ));
            }
        }
        Ok(Self(pairs))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn number(&self, name: &str) -> Result<Option<u64>, Problem> {
        let Some(text) = self.get(name) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| {
            Problem::bad_parameter(
                format!("{name}={text:?} is not a whole number."),
                format!("Write it as {name}=42."),
            )
        })
    }

    /// Waits as `index` and `wait` say; answers until when it may go on waiting.
    pub(crate) async fn wait(&self, surface: &Surface) -> Result<Instant, Problem> {
        let index = self.number("index")?;
        let wait = self.get("wait").map(parse_wait).transpose()?.unwrap_or(DEFAULT_WAIT);
        let deadline = Instant::now() + wait;
        if let Some(index) = index {
            let mut changed = surface.changed.clone();
            let viewpoint = self.number("viewpoint")?.unwrap_or(changed.borrow().viewpoint);
            let is_news = |now: &Change| now.revision > index || now.viewpoint != viewpoint;
            // An error is a sender that is gone (the daemon is ending): answer with what there is.
            let newer = async { changed.wait_for(is_news).await.is_ok() };
            let _ = timeout_at(deadline, newer).await;
        }
        Ok(deadline)
    }
}

/// `500ms`, `30s`, `5m`, or a number of seconds.
fn parse_wait(text: &str) -> Result<Duration, Problem> {
    let bad = || {
        Problem::bad_parameter(
            format!("wait={text:?} is not a time to wait of at most 10m."),
            "Write it as 500ms, 30s or 5m.",
        )
    };
    let split = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let amount: u64 = digits.parse().map_err(|_| bad())?;
    let millis = match unit {
        "ms" => Some(amount),
        "s" | "" => amount.checked_mul(1_000),
        "m" => amount.checked_mul(60_000),
        _ => None,
    };
    let wait = Duration::from_millis(millis.ok_or_else(bad)?);
    if wait > LONGEST_WAIT { Err(bad()) } else { Ok(wait) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_to_wait() {
        assert_eq!(parse_wait("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_wait("30"), Ok(Duration::from_secs(30)));
        assert_eq!(parse_wait("10m"), Ok(LONGEST_WAIT));
        for bad in ["", "s", "-1", "11m", "1h", "99999999999999999999", "18446744073709551615s"] {
            assert!(parse_wait(bad).is_err(), "{bad}");
        }
    }
}
