//! One monitor on its interval, each look on a thread that may block.

use std::path::PathBuf;

use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use vedette_collector::monitor::{Kind, Monitor, Need, Taken, make};
use vedette_core::id::NodeNumber;

use super::Look;

/// A monitor, and whom it tells.
pub(super) struct Monitored {
    pub(super) need: Need,
    pub(super) me: NodeNumber,
    pub(super) name: String,
    pub(super) folder: PathBuf,
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
        self.tell(taken).await?;
        Some(monitor)
    }

    async fn tell(&self, taken: Taken) -> Option<()> {
        self.looks.send(Look { name: self.need.name.clone(), taken }).await.ok()
    }
}

fn failed(why: String) -> Taken {
    Taken { samples: Vec::new(), failure: Some(why) }
}
