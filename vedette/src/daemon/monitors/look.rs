//! One monitor on its interval, each look on a thread that may block.

use std::path::PathBuf;

use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use vedette_collector::monitor::{Kind, Monitor, Need, Taken, make};
use vedette_core::id::NodeNumber;
use vedette_node::transcript::{self, Heading, Transcripts};

use super::Look;

/// A monitor, and whom it tells.
pub(super) struct Monitored {
    pub(super) need: Need,
    pub(super) me: NodeNumber,
    pub(super) name: String,
    pub(super) folder: PathBuf,
    pub(super) transcripts: Transcripts,
    pub(super) looks: mpsc::Sender<Look>,
}

impl Monitored {
    /// Looks until nobody listens any more.
    pub(super) async fn run(self) {
        let mut ticks = tokio::time::interval(self.need.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut monitor = self.make();
        loop {
            ticks.tick().await;
            match self.look(monitor).await {
                Some(again) => monitor = again,
                None => return,
            }
        }
    }

    fn make(&self) -> Box<dyn Monitor> {
        make(&self.need, (self.me, &self.name), &self.folder)
    }

    /// Looks once and tells what was seen. Answers the monitor, for the next look; nothing if nobody
    /// listens.
    async fn look(&self, mut monitor: Box<dyn Monitor>) -> Option<Box<dyn Monitor>> {
        let wanted = self.need.wanted.clone();
        let mut look = tokio::task::spawn_blocking(move || {
            let taken = monitor.look(&wanted);
            (monitor, taken)
        });
        let in_time = match self.need.kind {
            // Its program is ended by whoever runs it.
            Kind::Executable(_) => (&mut look).await,
            _ => match tokio::time::timeout(self.need.limit, &mut look).await {
                Ok(done) => done,
                Err(_) => {
                    let limit = self.need.limit.as_millis();
                    self.tell(failed(format!("it gave no answer within {limit} ms"))).await?;
                    look.await
                }
            },
        };
        let (monitor, taken) = in_time
            .unwrap_or_else(|error| (self.make(), failed(format!("it ended early: {error}"))));
        let taken = self.kept(taken).await;
        self.tell(taken).await?;
        Some(monitor)
    }

    /// Keeps what the program of a look that failed has printed, and says where.
    async fn kept(&self, mut taken: Taken) -> Taken {
        let printed = std::mem::take(&mut taken.printed);
        if let (Kind::Executable(command), Some(why)) = (&self.need.kind, &mut taken.failure) {
            let resource = Some(self.need.name.clone());
            let heading =
                Heading { resource, ..Heading::new(transcript::Kind::Monitor, command.join(" ")) };
            if let Some(kept) = self.transcripts.keep(heading, why, &printed).await {
                why.push_str(&format!("; {}", kept.words()));
            }
        }
        taken
    }

    async fn tell(&self, taken: Taken) -> Option<()> {
        self.looks.send(Look { name: self.need.name.clone(), taken }).await.ok()
    }
}

fn failed(why: String) -> Taken {
    Taken::failed(why)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use vedette_collector::monitor::Wanted;
    use vedette_core::variable::Pattern;

    use super::*;

    /// J10: what a monitor program printed that failed is kept once for as long as it says the same, and what is
    /// told of it names the transcript.
    #[tokio::test(flavor = "multi_thread")]
    async fn j10_a_monitor_program_that_fails_has_a_transcript() {
        let folder = tempfile::tempdir().unwrap();
        let script = "i=0; while [ $i -lt 9000 ]; do i=$((i+1)); echo no value $i; done; exit 3";
        let command = vec!["/bin/sh".to_owned(), "-c".into(), script.into()];
        let patterns: Vec<Pattern> = Vec::new();
        let need = Need {
            name: "site.mailq".into(),
            kind: Kind::Executable(command),
            interval: Duration::from_millis(10),
            limit: Duration::from_secs(30),
            wanted: vec![Wanted { variable: "site.mailq".into(), patterns }],
        };
        let (looks, mut seen) = mpsc::channel(1);
        let transcripts = Transcripts::new(folder.path(), "n2");
        let kept = transcripts.folder().to_owned();
        let (me, name) = (NodeNumber(2), "n2".to_owned());
        let place = folder.path().to_owned();
        let monitored = Monitored { need, me, name, folder: place, transcripts, looks };
        let running = tokio::spawn(monitored.run());
        for _ in 0..2 {
            let look = seen.recv().await.unwrap();
            let why = look.taken.failure.unwrap();
            let wanted = "exit status 3, and printed: no value 1; its whole output: \
                          vedette transcript show n2/1";
            assert_eq!(why, wanted);
        }
        running.abort();
        let (label, text) = transcript::file::read(&kept, 1).unwrap();
        assert_eq!(label.heading.resource.as_deref(), Some("site.mailq"));
        assert_eq!(label.heading.kind, transcript::Kind::Monitor);
        assert!(text.ends_with(b"\nno value 9000\n"));
        assert_eq!(transcript::file::list(&kept).unwrap().len(), 1);
    }
}
