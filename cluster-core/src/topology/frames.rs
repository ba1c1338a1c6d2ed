//! Long beats: whether the ways to the peers carry frames of the size that the log needs (finding F9).
//!
//! Invariant: a long beat says nothing but that it arrived. The beat that it repeats came before it, and lives without it.

use super::link::Link;
use super::{Output, Reject, Topology};
use crate::id::NetworkNumber;
use crate::time::Instant;
use crate::wire::Beat;

impl Topology {
    /// Takes a long beat: its way carries such frames.
    pub(super) fn hear_long(
        &mut self,
        now: Instant,
        network: NetworkNumber,
        beat: &Beat,
    ) -> Result<(), Reject> {
        if beat.destination != self.config.me || beat.network != network {
            return Err(Reject::Misdirected);
        }
        let key = (beat.source, network);
        let at = self.links.binary_search_by_key(&key, Link::key).map_err(|_| Reject::Stranger)?;
        self.news |= self.links[at].accept_long(now, beat).ok_or(Reject::Replayed)?;
        Ok(())
    }

    /// Repeats the beat that was just sent, long, if that is due.
    pub(super) fn send_long(&mut self, now: Instant, at: usize, out: &mut Vec<Output>) {
        let Some(Output::Send(beat)) = out.last().cloned() else { return };
        if self.links[at].sends_long(now) {
            out.push(Output::SendLong(beat));
        }
    }
}
