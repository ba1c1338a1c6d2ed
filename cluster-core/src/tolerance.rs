//! Tolerance of monitors: how many failures in a row make a resource failed, and how many successes well
//! again ([`ResourceDef::fall`] and [`ResourceDef::rise`], in the sense of HAProxy and keepalived).
//!
//! A failure is of one of two kinds. A *hard answer* is the monitor's own word: a status, a process that is
//! gone. A *time-out* says nothing of the resource; a busy machine or a hanging disk of the monitor does the
//! same. So each kind has a limit of its own. A run of failures, whatever their kinds, is tolerated until it is
//! as long as the limit of its latest one.
//!
//! What always holds: a success ends every run of failures that were only tolerated, and a limit of 1 tolerates
//! nothing.

use crate::group::ResourceDef;

/// One look at a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// It works.
    Well,
    /// The monitor says that it does not.
    Failed,
    /// The monitor did not answer in time.
    Late,
}

/// What a look means, in the light of those before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assessment {
    /// It works, as before.
    Well,
    /// It works again, after failures.
    Recovered,
    /// It works, but not for as many looks as count as well again.
    Rising,
    /// It is tolerated.
    Tolerated {
        /// Failures in a row, with this one.
        count: u32,
        /// As many as make it failed.
        limit: u32,
    },
    /// It has failed.
    Failed,
}

/// The latest looks at one resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Looks {
    /// Failures in a row.
    failures: u32,
    /// Successes in a row since it failed.
    successes: u32,
    failed: bool,
}

impl Looks {
    /// Takes the next look.
    pub fn take(&mut self, def: &ResourceDef, look: Look) -> Assessment {
        let limit = match look {
            Look::Well => return self.well(def.rise),
            Look::Failed => def.fall,
            Look::Late => def.timeout_fall,
        };
        self.failures = self.failures.saturating_add(1);
        self.successes = 0;
        self.failed |= self.failures >= limit;
        match self.failed {
            true => Assessment::Failed,
            false => Assessment::Tolerated { count: self.failures, limit },
        }
    }

    fn well(&mut self, rise: u32) -> Assessment {
        self.successes = self.successes.saturating_add(1);
        if self.failed && self.successes < rise {
            return Assessment::Rising;
        }
        let before = std::mem::take(self);
        if before.failures > 0 { Assessment::Recovered } else { Assessment::Well }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::ResourceKind;

    use Look::{Failed as F, Late as L, Well as W};

    fn resource(fall: u32, timeout_fall: u32, rise: u32) -> ResourceDef {
        let kind = ResourceKind::VolumeGroup { name: "vg".into() };
        ResourceDef { fall, timeout_fall, rise, ..ResourceDef::new("it", kind) }
    }

    /// `.` well, `+` recovered, `r` rising, `t` tolerated, `!` failed.
    fn seen(def: &ResourceDef, looks: &[Look]) -> String {
        let mut all = Looks::default();
        let word = |look: &Look| match all.take(def, *look) {
            Assessment::Well => '.',
            Assessment::Recovered => '+',
            Assessment::Rising => 'r',
            Assessment::Tolerated { .. } => 't',
            Assessment::Failed => '!',
        };
        looks.iter().map(word).collect()
    }

    /// R11: one slow look is no restart, two are; the monitor's own word is one at once.
    #[test]
    fn by_default_one_time_out_is_tolerated_and_no_answer() {
        let kind = ResourceKind::VolumeGroup { name: "vg".into() };
        let usual = ResourceDef::new("it", kind);
        assert_eq!(seen(&usual, &[W, L, W, L, W]), ".t+t+");
        assert_eq!(seen(&usual, &[W, L, L, W]), ".t!+");
        assert_eq!(seen(&usual, &[W, F, W]), ".!+");
        assert_eq!(seen(&usual, &[W, L, F]), ".t!");
    }

    #[test]
    fn a_success_ends_a_run() {
        let def = resource(3, 3, 1);
        assert_eq!(seen(&def, &[F, F, W, F, F, W, F, F, F]), "tt+tt+tt!");
    }

    #[test]
    fn a_run_is_as_long_as_the_limit_of_its_latest_failure() {
        assert_eq!(seen(&resource(3, 2, 1), &[F, L]), "t!");
        assert_eq!(seen(&resource(3, 2, 1), &[L, F, F]), "tt!");
        assert_eq!(seen(&resource(2, 5, 1), &[L, L, L, F]), "ttt!");
    }

    /// What failed is well again after so many successes in a row.
    #[test]
    fn it_rises_by_successes_in_a_row() {
        let def = resource(1, 1, 3);
        assert_eq!(seen(&def, &[F, W, W, F, W, W, W, W]), "!rr!rr+.");
    }

    #[test]
    fn how_far_it_is_from_failed_is_said() {
        let (mut looks, def) = (Looks::default(), resource(3, 5, 1));
        assert_eq!(looks.take(&def, L), Assessment::Tolerated { count: 1, limit: 5 });
        assert_eq!(looks.take(&def, F), Assessment::Tolerated { count: 2, limit: 3 });
    }
}
