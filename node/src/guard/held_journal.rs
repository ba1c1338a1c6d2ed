//! The journal: writes down what the node holds, so that nobody else has to wait for the disk.
//!
//! An order to hold goes through it: it is written, then the enforcer takes or refuses it, then what
//! is not held any more is struck out. A guard that dies anywhere in between leaves a file that
//! names at least what is held.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};

use vedette_core::holding::{Hold, JournalEntry};

use super::enforcer::{EnforcerHandle, Task};
use crate::hold::File;

/// Messages to the thread of the journal.
#[derive(Debug)]
pub(super) enum JournalOrder {
    /// Whom to hand orders to.
    Enforcer(EnforcerHandle),
    /// An order of the agent.
    Hold(Box<Hold>),
    /// An entry of the enforcer's.
    Entry(JournalEntry),
}

/// Handle of the thread, for the other ones of the guard.
#[derive(Clone, Debug)]
pub(super) struct HeldJournal(Sender<JournalOrder>);

impl HeldJournal {
    pub(super) fn tell(&self, order: JournalOrder) {
        // If the thread is gone, so is the guard.
        let _ = self.0.send(order);
    }
}

/// Starts the thread.
pub(super) fn start(file: File) -> io::Result<HeldJournal> {
    let (sender, orders) = channel();
    std::thread::Builder::new()
        .name("journal".into())
        .stack_size(128 << 10)
        .spawn(move || run(file, &orders))?;
    Ok(HeldJournal(sender))
}

fn run(mut file: File, orders: &Receiver<JournalOrder>) {
    let mut enforcer = None;
    for order in orders {
        let written = match order {
            JournalOrder::Enforcer(who) => {
                enforcer = Some(who);
                Ok(())
            }
            JournalOrder::Hold(hold) => {
                enforcer.as_ref().map_or(Ok(()), |who| expect(&mut file, hold, who))
            }
            JournalOrder::Entry(entry) => file.update(|kept| kept.write(entry)),
        };
        if let Err(error) = written {
            tracing::error!(
                %error,
                "what this node holds cannot be written to held.json in the state directory. Make \
                 room on the disk; until then no group is acquired here"
            );
        }
    }
}

fn expect(file: &mut File, order: Box<Hold>, enforcer: &EnforcerHandle) -> io::Result<()> {
    if let Err(error) = file.update(|kept| kept.expect(&order.held)) {
        let why = format!("it cannot be written to the state directory: {error}");
        enforcer.tell(Task::Refuse(order.sequence, why));
        return Err(error);
    }
    let (sender, answer) = channel();
    enforcer.tell(Task::Hold(order, sender));
    match answer.recv() {
        Ok(held) => file.update(|kept| kept.write(JournalEntry::Held(held))),
        // The enforcer ends, and so does the guard.
        Err(_) => Ok(()),
    }
}
