//! The control group of one command of a user-defined event, so that all of it can be ended.
//!
//! Intuition: a program of the site may fork, make sessions and hang. Whoever gives it up (an operator aborts its
//! event, its time is over) wants nothing of it left, which a signal to a process group does not do. A program that
//! has ended by itself is another thing: what it put into a session of its own, such as the daemon that it was to
//! restart, stays.
//!
//! Invariants: the place is no resource's, so no end of a lease touches it; without control groups the command runs
//! all the same, and what it put apart is not found then.

use std::path::{Path, PathBuf};
use std::time::Duration;

use vedette_node::cgroup::ControlGroup;

/// Where they are, within the directory of the node's control groups. No group is called so.
const FOLDER: &str = ".events";

/// How long what was killed may take to be gone.
const LONGEST: Duration = Duration::from_secs(10);

/// Ends what is in it when it is dropped, unless it was left before.
#[derive(Debug)]
pub(super) struct Enclosure {
    group: Option<ControlGroup>,
}

impl Enclosure {
    /// That of one command: event, phase, attempt and place in the phase.
    pub(super) fn new(root: Option<&Path>, command: (u64, usize, u32, usize)) -> Self {
        let (event, phase, attempt, index) = command;
        let name = format!("{event}-{phase}-{attempt}-{index}");
        let group = root.map(|root| ControlGroup::at(root.join(FOLDER).join(name)));
        let made = |group: &ControlGroup| match group.make() {
            Ok(()) => true,
            Err(error) => {
                let place = group.directory().display();
                tracing::warn!(%place, %error, "a command gets no control group of its own");
                false
            }
        };
        Self { group: group.filter(made) }
    }

    /// Where a program of the command starts.
    pub(super) fn place(&self) -> Option<PathBuf> {
        self.group.as_ref().map(|group| group.directory().to_owned())
    }

    /// Ends all that is in it, so that another program can be started there.
    pub(super) async fn empty(&self) {
        let Some(group) = &self.group else { return };
        if !matches!(group.empty(LONGEST).await, Ok(true)) {
            tracing::warn!(place = %group.directory().display(), "not everything of a command has ended");
        }
    }

    /// The command has ended by itself: what it left running goes on.
    pub(super) fn leave(mut self) {
        if let Some(group) = self.group.take() {
            group.remove();
        }
    }
}

impl Drop for Enclosure {
    fn drop(&mut self) {
        let Some(group) = self.group.take() else { return };
        // At once, and again in the background: who forks meanwhile is ended, too.
        let _ = group.kill();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { group.end(LONGEST).await });
        }
    }
}

/// Removes what earlier agents left that is empty.
pub(super) fn tidy(root: Option<&Path>) {
    if let Some(root) = root {
        ControlGroup::at(root.join(FOLDER)).remove();
    }
}

#[cfg(test)]
mod tests {
    use vedette_node::cgroup;
    use vedette_node::process::{self, Program};

    use super::*;

    /// A place for control groups, or none on a machine that has no writable ones.
    fn root() -> Option<PathBuf> {
        let root = cgroup::mount_point()?.join(format!("vedette-enclosure-{}", std::process::id()));
        ControlGroup::at(&root).make().ok().map(|()| root)
    }

    /// Runs a command that puts a process into a session of its own and hangs or ends; answers whether that process
    /// lives when the command is over.
    async fn survives(root: &Path, id: u64, hangs: bool) -> bool {
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().join("pid");
        let last = if hangs { "sleep 600" } else { "exit 0" };
        let script = format!(
            "env -i setsid /bin/sh -c 'echo $$ > {0}.new; mv {0}.new {0}; exec sleep 600' \
             > /dev/null 2>&1 < /dev/null & while ! [ -e {0} ]; do sleep 0.01; done; {last}",
            mark.display()
        );
        let enclosure = Enclosure::new(Some(root), (id, 0, 0, 0));
        let place = enclosure.place();
        let group = ControlGroup::at(place.clone().expect("a place"));
        let argv = ["/bin/sh".to_owned(), "-c".into(), script];
        let run = process::run(Program::new(argv, Duration::from_secs(60)).cgroup(place));
        if hangs {
            let told = async {
                while !mark.exists() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::select! {
                _ = run => panic!("it hangs"),
                () = told => {}
            }
            drop(enclosure);
            while group.is_populated() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        } else {
            assert_eq!(run.await.exit, Some(0));
            enclosure.leave();
        }
        let pid = std::fs::read_to_string(&mark).unwrap();
        let lives = group.processes().contains(&pid.trim().parse().unwrap());
        group.end(LONGEST).await.unwrap();
        lives
    }

    /// T9: nothing of a command that is given up runs on, be it in a session of its own without a mark; what a
    /// command left that ended by itself does.
    #[tokio::test]
    async fn t9_what_is_given_up_is_ended_whole() {
        let Some(root) = root() else { return };
        assert!(!survives(&root, 1, true).await, "it was given up");
        assert!(survives(&root, 2, false).await, "it ended by itself");
        tidy(Some(&root));
        ControlGroup::at(&root).remove();
        assert!(!root.exists());
    }
}
