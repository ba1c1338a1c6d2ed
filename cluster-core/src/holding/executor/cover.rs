//! Cover by this node's lease: all that it has ends with it, but for what maintenance or a forced stop
//! leaves running (spec H21).
//!
//! What is left alone is not in the guard's orders, so neither guard nor agent takes it away when the lease
//! ends, when they end themselves or when they start, and the kernel's gate lets its addresses through. The
//! cluster counts the end of a lease as no evidence for it from the entry that begins the maintenance on, and
//! until this node says that its guard has it in its orders again ([`GroupCommand::Covered`]).
//!
//! Invariant: what the cluster holds for covered is in an order that the guard accepted.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::desk::Desk;
use super::sequence::Port;
use super::values::{Output, Started};
use crate::command::GroupCommand;

/// The pause before a guard that refused, or did not answer, is told again.
const AGAIN: Duration = Duration::from_millis(500);

/// How long the guard may take to answer. It does so at once, unless it is stopped.
const GUARD_ANSWERS: Duration = Duration::from_secs(3);

/// Groups in the guard's orders.
#[derive(Debug, Default)]
pub(super) struct Cover {
    /// In one that it may have followed: with the lease they may be gone.
    told: BTreeSet<String>,
    /// In the last one, which it accepted.
    pub(super) sure: BTreeSet<String>,
}

impl Cover {
    /// An order is about to be given.
    fn tell(&mut self, groups: &BTreeSet<String>) {
        self.sure = self.sure.intersection(groups).cloned().collect();
        self.told.extend(groups.iter().cloned());
    }

    /// It was accepted.
    fn accepted(&mut self, groups: BTreeSet<String>) {
        self.told.clone_from(&groups);
        self.sure = groups;
    }

    /// The guard is in a new epoch, and holds nothing.
    pub(super) fn over(&mut self) {
        self.sure.clear();
    }

    pub(super) fn may_end(&self, group: &str) -> bool {
        self.told.contains(group)
    }
}

/// The right to give an order, while it is kept.
struct Turn<'a>(&'a Port);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.desk().telling.busy = false;
    }
}

impl Port {
    /// Tells the guard that it holds something no more. One that is silent is not waited for by each group anew: it
    /// holds too much, which harms nobody, until [`follow`] has told it.
    pub(super) async fn tell_less(&self) -> Result<(), String> {
        let turn = self.wait(|desk| {
            let silent = desk.telling.is_silent().then_some(false);
            silent.or_else(|| (!desk.telling.busy).then_some(true))
        });
        if turn.await { self.tell(None).await } else { Err("its guard does not answer".into()) }
    }

    /// Tells the guard what it is to hold: before anything is started, and after the last of it was stopped. Nothing
    /// may be started unless the guard agrees. What is to be held `newly` is held in its epoch or not at all: a guard
    /// that has let go of everything since that leave was given would take it for something else.
    pub(super) async fn tell(&self, newly: Option<&Started>) -> Result<(), String> {
        self.wait(|desk| (!desk.telling.busy).then(|| desk.telling.busy = true)).await;
        let _turn = Turn(self);
        let (orders, deadline) = {
            let mut desk = self.desk();
            if newly.is_some_and(|held| held.epoch != desk.guards_epoch()) {
                return Err("its guard has let go of everything meanwhile".into());
            }
            desk.telling.last += 1;
            let orders = desk.orders(desk.telling.last);
            desk.cover.tell(&orders.covered.keys().cloned().collect());
            (orders, desk.now + GUARD_ANSWERS)
        };
        let (sequence, covered) = (orders.sequence, orders.covered.keys().cloned().collect());
        self.put(Output::Order(Box::new(orders)));
        let answer = self.wait(|desk| {
            let (answered, refused) = &desk.telling.answered;
            if *answered >= sequence {
                return Some(refused.clone());
            }
            let late = || format!("its guard did not answer within {} s", GUARD_ANSWERS.as_secs());
            desk.is_past(deadline).then(|| {
                desk.telling.unanswered = sequence;
                Some(late())
            })
        });
        answer.await.map_or(Ok(()), Err)?;
        self.desk().cover.accepted(covered);
        Ok(())
    }
}

/// Keeps the guard's orders in line with what is to be covered, and says so when it is.
pub(super) async fn follow(port: Port) {
    let (mut said, mut looked) = (BTreeMap::new(), 0);
    loop {
        let changes = port.wait(|desk| (desk.changes != looked).then_some(desk.changes)).await;
        let wanted = {
            let desk = port.desk();
            let may = desk.epoch().is_some() && desk.has_quorum();
            may.then(|| desk.to_cover() != desk.cover.sure)
        };
        if wanted == Some(true) && port.tell(None).await.is_err() {
            let again = port.desk().now + AGAIN;
            port.wait_until(again).await;
            continue;
        }
        if wanted.is_some() {
            say_covered(&port, &mut said);
        }
        looked = changes;
    }
}

/// Reports of what is covered again, each with the moment since which it was not.
fn covered(desk: &Desk, said: &BTreeMap<String, u64>) -> Vec<(String, u64, u64)> {
    let news = desk.cover.sure.iter().filter_map(|group| {
        let instance = desk.instance(group)?;
        let since = instance.uncovered?;
        let new = desk.covers(group) && said.get(group) != Some(&since);
        new.then(|| (group.clone(), instance.token, since))
    });
    news.collect()
}

/// Tells the cluster once what is covered again.
fn say_covered(port: &Port, said: &mut BTreeMap<String, u64>) {
    let (news, node) = {
        let desk = port.desk();
        (covered(&desk, said), desk.me)
    };
    for (group, token, since) in news {
        said.insert(group.clone(), since);
        port.put(Output::Covered(Box::new(GroupCommand::Covered { group, node, token, since })));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    /// Until the guard has answered, a group may be in its orders and nobody may rely on that.
    #[test]
    fn h21_an_order_without_an_answer_covers_nothing_for_sure() {
        let mut cover = Cover::default();
        cover.accepted(set(&["web", "db"]));
        cover.tell(&set(&["db", "mail"]));
        assert_eq!(cover.sure, set(&["db"]));
        assert!(cover.may_end("web") && cover.may_end("mail"));
        cover.accepted(set(&["db", "mail"]));
        assert!(!cover.may_end("web") && cover.sure.contains("mail"));
        cover.over();
        assert!(cover.sure.is_empty() && cover.may_end("db"));
    }
}
