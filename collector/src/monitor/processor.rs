//! Processors, from `/proc/stat` and `/proc/loadavg`.
//!
//! The kernel counts time since the machine started; a part in percent is of the time between two
//! looks, so the first one yields only the length of the run queue.

use std::path::PathBuf;

use vedette_core::id::NodeNumber;
use vedette_core::variable::Value;

use super::{Monitor, Taken, Wanted, of_node, percent, read};

/// Time that processors spent, by what they did, in ticks since the machine started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ticks {
    user: u64,
    kernel: u64,
    idle: u64,
    wait: u64,
    stolen: u64,
}

/// See the module.
pub(super) struct Processors {
    me: NodeNumber,
    proc: PathBuf,
    before: Option<Ticks>,
}

impl Processors {
    pub(super) fn new(me: NodeNumber, proc: PathBuf) -> Self {
        Self { me, proc, before: None }
    }

    fn values(&mut self) -> Result<Vec<(&'static str, Value)>, String> {
        let load = load(&read(&self.proc, "loadavg")?).ok_or("/proc/loadavg has no number")?;
        let now =
            parse(&read(&self.proc, "stat")?).ok_or("/proc/stat has no line of all processors")?;
        let mut values = vec![("cpu.run_queue", Value::Float(load))];
        if let Some(before) = self.before.replace(now) {
            values.extend(parts(before, now));
        }
        Ok(values)
    }
}

impl Monitor for Processors {
    fn look(&mut self, wanted: &[Wanted]) -> Taken {
        match self.values() {
            Ok(values) => Taken { samples: of_node(self.me, wanted, &values), ..Taken::default() },
            Err(why) => Taken::failed(why),
        }
    }
}

/// The line of all processors of `/proc/stat`.
pub(super) fn parse(text: &str) -> Option<Ticks> {
    let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<u64> = line.split_whitespace().map_while(|word| word.parse().ok()).collect();
    let at = |place: usize| ticks.get(place).copied().unwrap_or(0);
    (ticks.len() >= 4).then(|| Ticks {
        user: at(0).saturating_add(at(1)),
        kernel: at(2).saturating_add(at(5)).saturating_add(at(6)),
        idle: at(3),
        wait: at(4),
        stolen: at(7),
    })
}

/// What the time between two looks was spent with. Counters that went back (a kernel may correct
/// them) count as nothing.
pub(super) fn parts(before: Ticks, now: Ticks) -> Vec<(&'static str, Value)> {
    let user = now.user.saturating_sub(before.user);
    let kernel = now.kernel.saturating_sub(before.kernel);
    let idle = now.idle.saturating_sub(before.idle);
    let wait = now.wait.saturating_sub(before.wait);
    let stolen = now.stolen.saturating_sub(before.stolen);
    let all = [user, kernel, idle, wait, stolen].into_iter().fold(0, u64::saturating_add);
    if all == 0 {
        return Vec::new();
    }
    vec![
        ("cpu.user_percent", percent(user, all)),
        ("cpu.kernel_percent", percent(kernel, all)),
        ("cpu.idle_percent", percent(idle, all)),
        ("cpu.wait_percent", percent(wait, all)),
    ]
}

/// The average of the last minute.
pub(super) fn load(text: &str) -> Option<f64> {
    text.split_whitespace().next()?.parse().ok().filter(|load: &f64| load.is_finite())
}
