//! Looks at what of earlier epochs remains, and runs of the programs that take it away.
//!
//! What is made of them is [`vedette_core::holding::Remaining`]'s. Nothing here waits.

use std::collections::BTreeMap;

use vedette_core::holding::{Look, Progress, ToLookAt};

use super::data::Watched;
use super::{HeldData, Programs};

/// Programs that run, and looks that are not answered yet.
#[derive(Debug, Default)]
pub struct Looks {
    programs: Programs,
    data: BTreeMap<HeldData, Watched>,
}

impl Looks {
    /// Starts what is to be started, and takes what earlier looks have found.
    pub fn look(&mut self, at: &ToLookAt) -> Look {
        for program in &at.anew {
            self.programs.forget(program);
        }
        self.programs.look(&at.programs);
        let programs = at.programs.iter().map(|program| {
            let done = self.programs.is_done(program);
            let progress = match done {
                true => Progress::Done,
                false => Progress::Runs(self.programs.why(program)),
            };
            (program.clone(), progress)
        });
        let programs = programs.collect();
        for data in &at.fresh {
            self.data.insert(data.clone(), Watched::new(&data.what));
        }
        let data = at.data.iter().map(|data| {
            let watched = self.data.entry(data.clone()).or_insert_with(|| Watched::new(&data.what));
            let gone = watched.look(&data.what);
            (data.clone(), (!gone).then(|| watched.why().to_owned()))
        });
        Look { programs, data: data.collect() }
    }
}
