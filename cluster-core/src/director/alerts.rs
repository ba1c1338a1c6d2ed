//! Who runs the alert script, for which alert, and when another must take over (spec A14).
//!
//! Alerts are handled one at a time, oldest first, so that their order at the pager is the order in
//! which things happened. A claim holds for one run of one agent: where that run is over, or its
//! node is not there, the alert is claimed again. The script then runs a second time, because an
//! alert that is never heard is worse than one that is heard twice.

use crate::command::Command;
use crate::id::{NodeNumber, Session};
use crate::model::{AgentStatus, HostStatus};
use crate::time::Instant;

use super::{Director, Office, Output};

impl Director {
    pub(super) fn hand_out_alerts(&mut self, now: Instant, office: Office, out: &mut Vec<Output>) {
        if self.claiming.is_some() {
            return;
        }
        let Some((&seq, alert)) = self.state.alerts.first_key_value() else { return };
        if alert.claim.is_some_and(|claim| self.claim_holds(office, claim)) {
            return;
        }
        let (runner, session) = (office.me, office.session);
        let command = Command::ClaimAlert { seq, runner, session };
        self.claiming = Some(self.propose(now, office, command, out));
    }

    /// Whether whoever claimed an alert still works on it.
    fn claim_holds(&self, office: Office, (runner, session): (NodeNumber, Session)) -> bool {
        if runner == office.me {
            return session == office.session;
        }
        let there =
            self.state.nodes.get(&runner).is_some_and(|node| {
                node.host == HostStatus::Up && node.agent == AgentStatus::Running
            });
        there && self.sessions.get(&runner).is_none_or(|current| *current == session)
    }
}
