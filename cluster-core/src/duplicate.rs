//! Duplicate address detection: whether a machine outside the cluster has a service address (RFC 5227 for
//! IPv4, RFC 4862 for IPv6).
//!
//! An address is asked for in short rounds, each a probe and the time in which it is answered. The
//! standards' seconds would be an outage, so the rounds begin as soon as the node knows that it may be
//! given the address, while the rest is waited for: the old owner's lease, its release, a script. Three
//! silent rounds in a row are enough, so a takeover from a node that is off finds its answer ready.
//!
//! Who may answer, and when:
//!
//! - Before the cluster's *leave* the old owner may, rightly. So an answer before it proves nothing: it only
//!   takes back the silence before it.
//! - After the leave nobody may. Two rounds that began after it and were answered are a conflict; one may
//!   be an answer that was on its way, or another machine that asks once.
//! - The hardware address of a member's own interface is no conflict at any time. A member's right is settled
//!   by lease and evidence ([`crate::takeover`]); a frozen member may answer for as long as it likes where its
//!   kernel has no gate, and must not hold up the takeover from itself. What a member has and should not is
//!   found by its own look ([`crate::group::Group::also`]).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Silent rounds in a row after which nobody has an address.
pub const SILENT: u32 = 3;

/// Answered rounds after the leave that are a conflict.
pub const ANSWERED: u32 = 2;

/// A hardware address of Ethernet, written as `02:00:00:00:00:01`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hardware(pub [u8; 6]);

impl fmt::Display for Hardware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl From<Hardware> for String {
    fn from(hardware: Hardware) -> Self {
        hardware.to_string()
    }
}

impl TryFrom<String> for Hardware {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for Hardware {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<u8> = text
            .split(':')
            .filter(|part| part.len() == 2)
            .filter_map(|part| u8::from_str_radix(part, 16).ok())
            .collect();
        let whole = text.len() == 17;
        let bytes = parts.try_into().ok().filter(|_| whole);
        bytes.map(Self).ok_or_else(|| format!("{text:?} is no hardware address"))
    }
}

/// What the rounds have shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occupancy {
    /// Nobody has it.
    Free,
    /// That machine has it.
    Taken(Hardware),
}

/// The rounds of one address, before and after the leave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rounds {
    /// A round is under way.
    begun: bool,
    /// The round under way began after the leave.
    counts: bool,
    /// Who answered in it.
    answered: Option<Hardware>,
    /// Silent rounds in a row.
    silent: u32,
    /// The leave was given.
    leave: bool,
    /// Answered rounds that began after the leave, and who answered in the last.
    against: (u32, Option<Hardware>),
}

impl Rounds {
    /// A probe is sent: the round before it is over.
    pub fn next(&mut self) {
        if self.begun {
            self.end();
        }
        (self.begun, self.counts, self.answered) = (true, self.leave, None);
    }

    fn end(&mut self) {
        match self.answered {
            None => self.silent = self.silent.saturating_add(1),
            Some(who) if self.counts => {
                self.against = (self.against.0.saturating_add(1), Some(who))
            }
            Some(_) => {}
        }
    }

    /// Nothing is sent for a while: the round is over, and silence before it is too old to be relied on.
    pub fn pause(&mut self) {
        if self.begun {
            self.end();
        }
        (self.begun, self.silent) = (false, 0);
    }

    /// Somebody has the address, or asks for it as if to take it.
    pub fn heard(&mut self, who: Hardware, is_member: bool) {
        if !is_member {
            (self.answered, self.silent) = (Some(who), 0);
        }
    }

    /// The cluster gave the address to this node: from now on nobody else may have it.
    pub fn leave(&mut self) {
        self.leave = true;
    }

    /// Whether it did.
    pub fn has_leave(&self) -> bool {
        self.leave
    }

    /// What is certain, if anything is.
    pub fn occupancy(&self) -> Option<Occupancy> {
        match self.against {
            (count, Some(who)) if count >= ANSWERED => Some(Occupancy::Taken(who)),
            _ if self.leave && self.silent >= SILENT && self.answered.is_none() => {
                Some(Occupancy::Free)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FOREIGN: Hardware = Hardware([2, 0, 0, 0, 0, 9]);

    /// Goes through rounds: `.` silent, `x` answered by a foreign machine, `m` by a member, `p` with a pause
    /// after it, `L` the leave in the middle of a silent round. Answers the round after which something was certain.
    fn after(rounds: &str) -> Option<(usize, Occupancy)> {
        let mut state = Rounds::default();
        for (at, round) in rounds.chars().enumerate() {
            state.next();
            match round {
                'x' => state.heard(FOREIGN, false),
                'm' => state.heard(FOREIGN, true),
                'L' => state.leave(),
                'p' => state.pause(),
                _ => {}
            }
            let mut ended = state;
            ended.next();
            if let Some(occupancy) = ended.occupancy() {
                return Some((at + 1, occupancy));
            }
        }
        None
    }

    #[test]
    fn silence_before_the_leave_costs_no_time_after_it() {
        assert_eq!(after("..."), None, "nothing is decided before the leave");
        assert_eq!(after("...L"), Some((4, Occupancy::Free)));
        assert_eq!(after("......L"), Some((7, Occupancy::Free)));
        assert_eq!(after("L.."), Some((3, Occupancy::Free)), "without a time before");
    }

    #[test]
    fn silence_before_a_pause_is_too_old() {
        assert_eq!(after("....pL"), None);
        assert_eq!(after("....pL.."), Some((8, Occupancy::Free)));
        assert_eq!(after("....pLxx"), Some((8, Occupancy::Taken(FOREIGN))));
    }

    #[test]
    fn an_old_owner_that_no_longer_answers_is_no_conflict() {
        assert_eq!(after("xxxxL.."), Some((7, Occupancy::Free)));
        assert_eq!(after("xxxxLx..."), Some((9, Occupancy::Free)), "an answer that was on its way");
        assert_eq!(after("..xL"), None, "an answer takes back the silence before it");
    }

    #[test]
    fn who_answers_after_the_leave_has_it() {
        assert_eq!(after("Lxx"), Some((3, Occupancy::Taken(FOREIGN))));
        assert_eq!(after("xxxLxx"), Some((6, Occupancy::Taken(FOREIGN))));
        assert_eq!(
            after("Lx.x"),
            Some((4, Occupancy::Taken(FOREIGN))),
            "a lost probe hides nobody"
        );
    }

    #[test]
    fn a_member_holds_up_nobody() {
        assert_eq!(after("mmmL"), Some((4, Occupancy::Free)));
        assert_eq!(after("Lmm"), Some((3, Occupancy::Free)));
    }

    #[test]
    fn hardware_addresses_read_as_they_are_written() {
        assert_eq!(FOREIGN.to_string(), "02:00:00:00:00:09");
        assert_eq!("02:00:00:00:00:09".parse(), Ok(FOREIGN));
        for wrong in ["", "02:00", "02:00:00:00:00:zz", "2:0:0:0:0:9", "02:00:00:00:00:09:00"] {
            assert!(wrong.parse::<Hardware>().is_err(), "{wrong}");
        }
    }

    proptest! {
        /// Nobody is accused who answered before the leave only, and whoever answers every round after it is.
        #[test]
        fn only_answers_after_the_leave_accuse(before in "[.xm]{0,12}", silent in "[.m]{3,6}") {
            prop_assert_eq!(after(&format!("{before}L{silent}")).map(|it| it.1), Some(Occupancy::Free));
            let accused = after(&format!("{before}xLxx")).map(|it| it.1);
            prop_assert_eq!(accused, Some(Occupancy::Taken(FOREIGN)));
        }
    }
}
