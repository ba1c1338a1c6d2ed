//! A program of the site that prints values (spec H29).
//!
//! A line is `instance-vector value`, such as `Queue=mail 12` or `Queue=mail;Kind=out 3,"a b"`; a line
//! without `=` in its first word is the value of the one instance that the node has. Empty lines and
//! those that begin with `#` say nothing. `NodeNum` is added. A status that is not 0, a line that
//! cannot be read or output without end make the run a failure, and nothing of it counts: half of the
//! truth would fire rules as well as the whole.

use std::collections::BTreeMap;
use std::time::Duration;

use vedette_core::id::NodeNumber;
use vedette_core::model::RunOutcome;
use vedette_core::variable::{Instance, Value};
use vedette_node::process::{self, Program};

use super::{Monitor, Sample, Taken, Wanted};

/// The most that it may print, in bytes.
const MOST_OUTPUT: usize = 64 * 1_024;

/// The most instances it may know.
const MOST_INSTANCES: usize = 1_000;

/// See the module.
pub(super) struct Executable {
    pub(super) me: NodeNumber,
    pub(super) name: String,
    pub(super) command: Vec<String>,
    pub(super) variable: String,
    pub(super) limit: Duration,
}

impl Monitor for Executable {
    /// Needs to be called on a thread that knows a Tokio runtime and may block.
    fn look(&mut self, wanted: &[Wanted]) -> Taken {
        let runtime = match tokio::runtime::Handle::try_current() {
            Ok(runtime) => runtime,
            Err(error) => return Taken::failed(format!("it cannot be run: {error}")),
        };
        let program = Program::new(self.command.clone(), self.limit)
            .environment([
                ("VEDETTE_NODE", self.name.clone()),
                ("VEDETTE_NODE_NUMBER", self.me.to_string()),
                ("VEDETTE_VARIABLE", self.variable.clone()),
            ])
            .keep_both_ends()
            .ends_all()
            .dies_with_us();
        let outcome = runtime.block_on(process::run(program));
        match self.read(&outcome) {
            Ok(values) => Taken { samples: self.samples(values, wanted), ..Taken::default() },
            Err(why) => Taken { printed: outcome.output, ..Taken::failed(why) },
        }
    }
}

impl Executable {
    /// The values that a run has printed, if all of it can be taken.
    fn read(&self, outcome: &RunOutcome) -> Result<BTreeMap<Instance, Value>, String> {
        if !outcome.succeeded() {
            let first = outcome.output.lines().next().unwrap_or_default();
            let first: String = first.chars().take(200).collect();
            let printed = if first.is_empty() { first } else { format!(", and printed: {first}") };
            return Err(format!("{}{printed}", outcome.summary()));
        }
        if outcome.output_dropped > 0 || outcome.output.len() > MOST_OUTPUT {
            return Err(format!("it printed more than {MOST_OUTPUT} bytes"));
        }
        parse(&outcome.output, self.me)
    }

    fn samples(&self, values: BTreeMap<Instance, Value>, wanted: &[Wanted]) -> Vec<Sample> {
        let values = values.into_iter();
        values
            .filter(|(instance, _)| wanted.iter().any(|one| one.matches(instance)))
            .map(|(instance, value)| Sample { variable: self.variable.clone(), instance, value })
            .collect()
    }
}

/// What a program printed; of an instance that is there twice, the last value.
pub(super) fn parse(text: &str, me: NodeNumber) -> Result<BTreeMap<Instance, Value>, String> {
    let mut values = BTreeMap::new();
    for (place, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (instance, value) = read_line(line, me)
            .map_err(|why| format!("line {} of its output: {why}", place + 1))?;
        values.insert(instance, value);
        if values.len() > MOST_INSTANCES {
            return Err(format!("it printed values of more than {MOST_INSTANCES} instances"));
        }
    }
    Ok(values)
}

fn read_line(line: &str, me: NodeNumber) -> Result<(Instance, Value), String> {
    let (first, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let quoted = first.starts_with('"');
    let (vector, value) = if first.contains('=') && !quoted { (first, rest) } else { ("", line) };
    let instance = Instance::parse(vector).map_err(|error| error.what)?;
    let instance = instance.at(me).map_err(|error| error.what)?;
    let value = value.trim();
    if value.is_empty() {
        return Err(format!("there is no value after {vector}"));
    }
    if value.len() > Value::LONGEST {
        return Err(format!("a value is longer than {} bytes", Value::LONGEST));
    }
    Ok((instance, Value::parse(value)))
}
