//! How far the wall clock of a peer is ahead of the own one, measured with the beats themselves.
//!
//! A beat says what the peer's clock was when it was sent. How long it was on its way is not known,
//! but the round trip is, and the way back is some part of it: taking half of it is wrong by half
//! of it at most. So the best measurement is the one with the shortest round trip, and of several
//! networks the fastest decides by itself.
//!
//! Invariants:
//! - The result is wrong by less than the round trip of the best beat of the last moment, however
//!   much was lost or late.
//! - A step of the own clock shows at once: what is kept is the peer's clock by the monotonic one. A step of
//!   the peer's shows after [`SPAN`] twice; a single slow beat never does, nor the first one after a silence,
//!   which may have waited somewhere: nothing is said before a whole span was measured.
//! - Nothing is said once nothing was measured for [`LASTS`].

use std::time::Duration;

use crate::time::Instant;
use crate::wire::Beat;

/// The best of each span of that length is kept, and that of the span before.
pub(super) const SPAN: Duration = Duration::from_millis(600);
/// What was measured longer ago is no measurement of the present.
const LASTS: Duration = Duration::from_secs(5);
/// An echo that was held for longer tells too little: the two clocks may differ in rate.
const HELD_MOST_US: u64 = 5_000_000;

#[derive(Clone, Copy, Debug)]
struct Sample {
    /// The peer's wall clock when the own monotonic one was 0.
    epoch_us: i64,
    /// It is wrong by half of it at most.
    doubt_us: u64,
    at: Instant,
}

/// What was measured of one peer, over all networks.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Offset {
    /// When the present span began.
    began: Instant,
    best: Option<Sample>,
    /// The best of the span before.
    before: Option<Sample>,
}

impl Offset {
    /// Takes a fresh beat.
    pub(super) fn measure(&mut self, now: Instant, beat: &Beat) {
        let held = beat.echo.held_us;
        if beat.wall_us == 0 || held > HELD_MOST_US {
            return;
        }
        let trip = now.as_micros().saturating_sub(beat.echo.sent_us).saturating_sub(held);
        let epoch = i128::from(beat.wall_us) + i128::from(trip / 2) - i128::from(now.as_micros());
        let Ok(epoch_us) = i64::try_from(epoch) else { return };
        // One part in a thousand is more than clocks differ in rate.
        self.take(Sample { epoch_us, doubt_us: trip + held / 1_000, at: now });
    }

    fn take(&mut self, sample: Sample) {
        if self.best.is_none() || sample.at.since(self.began) >= SPAN {
            (self.before, self.best, self.began) = (self.best, Some(sample), sample.at);
        } else if self.best.is_none_or(|best| sample.doubt_us <= best.doubt_us) {
            self.best = Some(sample);
        }
    }

    /// The peer's clock minus the own one, which shows `own_wall_us` now, 0 if that is not known.
    pub(super) fn get(&self, now: Instant, own_wall_us: u64) -> Option<i64> {
        let own_epoch = i128::from(own_wall_us) - i128::from(now.as_micros());
        let fresh = |sample: &Sample| now.since(sample.at) < LASTS;
        // Of two that are equally good the later one counts.
        let whole = self.before.as_ref().is_some_and(fresh) || now.since(self.began) >= SPAN;
        let both = [self.best, self.before].into_iter().flatten().filter(fresh);
        let best =
            both.filter(|_| whole && own_wall_us > 0).min_by_key(|sample| sample.doubt_us)?;
        i64::try_from(i128::from(best.epoch_us) - own_epoch).ok()
    }
}
