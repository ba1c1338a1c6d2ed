//! Data that a node holds: file systems and volume groups, which nobody but the agent takes away.
//!
//! Whoever lets go of everything else looks whether they are gone: at the kernel's lists of mounts, in every mount
//! namespace, at the device itself, and at what the device mapper has. A look may hang with its disk, so each is made
//! on a thread of its own, one at a time.

use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::{Duration, Instant};

use super::Data;
use crate::resource;

/// Between two looks.
const AGAIN: Duration = Duration::from_millis(50);

/// How long what is killed again may take to end before it is said that it does not.
const KILL: Duration = Duration::from_millis(200);

/// A disk that has not answered for so long is said not to.
const SILENT: Duration = Duration::from_secs(1);

/// The clause that says what keeps it here; none if it is gone. May take as long as its disk takes.
fn kept(data: &Data) -> Option<String> {
    match data {
        Data::FileSystem { device, mount_point } => resource::file_system_kept(device, mount_point),
        Data::VolumeGroup { name } => resource::volume_group_kept(name),
        // They are killed again: somebody may have put one there.
        Data::Processes(place) => {
            let left = super::end(std::slice::from_ref(place), Instant::now() + KILL);
            left.into_iter().map(|(why, _)| why).next()
        }
    }
}

/// What is seen of one of them, look by look.
#[derive(Debug)]
pub(super) struct Watched {
    answer: Option<(Receiver<Option<String>>, Instant)>,
    again: Instant,
    why: String,
}

impl Watched {
    pub(super) fn new(data: &Data) -> Self {
        let why = format!("{} was not looked at yet", data.name());
        Self { answer: None, again: Instant::now(), why }
    }

    /// Why it is there still.
    pub(super) fn why(&self) -> &str {
        &self.why
    }

    /// Looks, or takes what a look has found; answers whether it is gone.
    pub(super) fn look(&mut self, data: &Data) -> bool {
        let now = Instant::now();
        let Some((answer, asked)) = &self.answer else {
            if now >= self.again {
                self.ask(data, now);
            }
            return false;
        };
        match answer.try_recv() {
            Ok(None) => return true,
            Ok(Some(why)) => {
                (self.why, self.answer, self.again) = (why, None, now + AGAIN);
            }
            Err(TryRecvError::Disconnected) => {
                let why = format!("the look at {} failed", data.name());
                (self.why, self.answer, self.again) = (why, None, now + AGAIN);
            }
            Err(TryRecvError::Empty) if now - *asked >= SILENT => {
                let what = "does not answer, so nobody can tell whether it is in use";
                self.why = format!("{} {what}", data.name());
            }
            Err(TryRecvError::Empty) => {}
        }
        false
    }

    fn ask(&mut self, data: &Data, now: Instant) {
        let (sender, answer) = channel();
        let data = data.clone();
        let look = move || drop(sender.send(kept(&data)));
        let builder = std::thread::Builder::new().name("look at data".into());
        match builder.stack_size(256 << 10).spawn(look) {
            Ok(_) => self.answer = Some((answer, now)),
            Err(error) => {
                self.why = format!("it cannot be looked at: {error}");
                self.again = now + SILENT;
            }
        }
    }
}
