//! Asking a person before something is changed: one rule for all commands.
//!
//! What can take a service away, if only for a moment, or cannot be taken back, asks first: a move, a stop,
//! another document, other rules or timers; a cluster formed or joined, a member admitted or deleted, a step
//! of an event skipped. What only shows, brings a service back, or is taken back by its own opposite without
//! any service noticing does not: `start`, `online`, `clear`, `maintenance`, the alert script, what is logged.
//!
//! A terminal asks; `--yes` is the answer given beforehand; where neither is, nothing is done. Questions go to
//! standard error, so that the answer of the command stays alone on standard output.

use std::io::{BufRead, IsTerminal, Write};
use std::time::Duration;

use clap::Args;

use super::aside;
use super::fail::{Failure, Result};

/// `--yes`, of a command that asks.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Confirm {
    /// Do it without asking; where there is no terminal to ask on, it is refused otherwise
    #[arg(short, long)]
    pub(crate) yes: bool,
}

/// `--yes`, of a command that asks nothing: whoever writes a script need not know which ones do.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct AsksNothing {
    #[arg(short, long, hide = true)]
    yes: bool,
}

impl Confirm {
    /// Shows `what` will happen and asks whether it shall.
    ///
    /// # Errors
    /// If the answer is no, or there is nobody to ask.
    pub(crate) fn ask(self, what: &str, question: &str) -> Result<()> {
        unless(self.yes, "--yes", what, question)
    }
}

/// Asks unless the flag of that name has answered already.
///
/// # Errors
/// If the answer is no, or there is nobody to ask.
pub(crate) fn unless(answered: bool, flag: &str, what: &str, question: &str) -> Result<()> {
    if answered {
        return Ok(());
    }
    aside::note(what);
    if !std::io::stdin().is_terminal() {
        return Err(Failure::refused(
            "this changes the cluster, and there is nobody to ask whether it shall",
            format!("Add {flag} if it shall."),
        ));
    }
    match line(&format!("{question} [y/N] "))?.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => {
            let advice = format!("Answer y, or add {flag}, to do it.");
            Err(Failure::refused("nothing was changed", advice))
        }
    }
}

/// Asks on standard error, reads one line from standard input.
///
/// # Errors
/// If there is no line any more: an input that has ended is no answer, and must not be asked again.
pub(crate) fn line(question: &str) -> Result<String> {
    let mut answer = String::new();
    let ask = || -> std::io::Result<usize> {
        let mut out = std::io::stderr().lock();
        out.write_all(question.as_bytes())?;
        out.flush()?;
        std::io::stdin().lock().read_line(&mut answer)
    };
    let asked = { ask }();
    let read = asked.map_err(|error| {
        Failure::failed(format!("no answer can be read: {error}"), "Run it on a terminal.")
    })?;
    if read == 0 {
        eprintln!();
        return Err(Failure::refused("no answer was given", "Run it on a terminal, or add --yes."));
    }
    Ok(answer)
}

/// A duration as people write it: `200ms`, `5s`, `30m`, `1h`, `2d`.
pub(crate) fn duration(text: &str) -> std::result::Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err("write a number and its unit, such as 200ms, 5s, 30m or 1h".into()),
    };
    let number: u64 = number.parse().map_err(|_| "write a number before the unit".to_owned())?;
    number
        .checked_mul(factor)
        .map(Duration::from_millis)
        .ok_or_else(|| "that is too long".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("200ms"), Ok(Duration::from_millis(200)));
        assert_eq!(duration("1h"), Ok(Duration::from_secs(3_600)));
        assert_eq!(duration("2d"), Ok(Duration::from_secs(172_800)));
        for bad in
            ["", "5", "s", "1.5s", "-1s", "5 s", "99999999999999999999s", "9999999999999999d"]
        {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
