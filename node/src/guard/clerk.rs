//! The clerk: writes down what the node holds, so that nobody else has to wait for the disk.
//!
//! An order to hold goes through it: it is written, then the keeper takes or refuses it, then what
//! is not held any more is struck out. A guard that dies anywhere in between leaves a file that
//! names at least what is held.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};

use super::keeper::{Keeper, Task};
use super::protocol::Hold;
use crate::hold::{File, Held, Kept};

/// What the clerk is told.
#[derive(Debug)]
pub(super) enum Note {
    /// Whom to hand orders to.
    Keeper(Keeper),
    /// An order of the agent.
    Hold(Box<Hold>),
    /// An epoch began.
    Keep {
        /// The epoch.
        epoch: u64,
        /// What of those before was not seen to be gone.
        remaining: Held,
    },
    /// That changed.
    Remaining(Held),
    /// The name of the kernel's tables.
    Gate(String),
    /// Everything was let go of, and the gate is gone.
    Ended,
}

/// How other threads speak to the clerk.
#[derive(Clone, Debug)]
pub(super) struct Clerk(Sender<Note>);

impl Clerk {
    pub(super) fn tell(&self, note: Note) {
        // If the thread is gone, so is the guard.
        let _ = self.0.send(note);
    }
}

/// Starts the thread.
pub(super) fn start(file: File) -> io::Result<Clerk> {
    let (sender, notes) = channel();
    std::thread::Builder::new()
        .name("clerk".into())
        .stack_size(128 << 10)
        .spawn(move || run(file, &notes))?;
    Ok(Clerk(sender))
}

fn run(mut file: File, notes: &Receiver<Note>) {
    let mut keeper = None;
    for note in notes {
        let written = match note {
            Note::Keeper(who) => {
                keeper = Some(who);
                Ok(())
            }
            Note::Hold(order) => keeper.as_ref().map_or(Ok(()), |who| hold(&mut file, order, who)),
            Note::Keep { epoch, remaining } => file.update(|kept| {
                *kept = Kept { epoch, held: Held::default(), remaining, gate: kept.gate.take() };
            }),
            Note::Remaining(remaining) => file.update(|kept| kept.remaining = remaining),
            Note::Gate(name) => file.update(|kept| kept.gate = Some(name)),
            Note::Ended => file.update(|kept| {
                *kept = Kept { epoch: kept.epoch, ..Kept::default() };
            }),
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

fn hold(file: &mut File, order: Box<Hold>, keeper: &Keeper) -> io::Result<()> {
    if let Err(error) = file.update(|kept| kept.held.add(&order.held)) {
        let why = format!("it cannot be written to the state directory: {error}");
        keeper.tell(Task::Refuse(order.sequence, why));
        return Err(error);
    }
    let (sender, answer) = channel();
    keeper.tell(Task::Hold(order, sender));
    match answer.recv() {
        Ok(held) => file.update(|kept| kept.held = held),
        // The keeper ends, and so does the guard.
        Err(_) => Ok(()),
    }
}
