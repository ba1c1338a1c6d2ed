//! Scripts that an earlier agent of this node was running when it died.
//!
//! The new agent runs the commands of the phase again, and two runs of one script side by side are
//! what no script expects. So whatever still runs is ended first. A script is told by its environment:
//! the control socket of this node, and the id of an event. Only leaders of process groups are looked
//! at, and their groups are ended: what a script put into a session of its own, to stay, stays.

use std::path::Path;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, getpgid};

/// Ends the scripts of an earlier agent with this control socket. Answers how many there were.
pub(super) fn end(control: &str) -> usize {
    let marks = [format!("VEDETTE_CONTROL={control}"), "VEDETTE_EVENT_ID=".to_owned()];
    let mut ended = 0;
    for leader in leaders() {
        if is_marked(Path::new("/proc"), leader, &marks) && killpg(leader, Signal::SIGKILL).is_ok()
        {
            ended += 1;
        }
    }
    ended
}

/// Leaders of process groups, this process left out.
fn leaders() -> Vec<Pid> {
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    let numbers = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let own = getpgid(None).ok();
    numbers
        .map(Pid::from_raw)
        .filter(|pid| getpgid(Some(*pid)).ok() == Some(*pid) && Some(*pid) != own)
        .collect()
}

/// Whether its environment begins a variable with each of the marks; the first one whole.
fn is_marked(proc: &Path, pid: Pid, marks: &[String; 2]) -> bool {
    let path = proc.join(pid.to_string()).join("environ");
    let Ok(environment) = std::fs::read(path) else { return false };
    let mut variables = environment.split(|byte| *byte == 0);
    let [control, event] = marks;
    let (mut ours, mut script) = (false, false);
    for variable in &mut variables {
        ours |= variable == control.as_bytes();
        script |= variable.starts_with(event.as_bytes());
    }
    ours && script
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command, Stdio};

    use super::*;

    fn script(control: &str, event: Option<&str>) -> Child {
        let mut command = Command::new("/bin/sleep");
        command.arg("600").env_clear().env("VEDETTE_CONTROL", control).process_group(0);
        if let Some(event) = event {
            command.env("VEDETTE_EVENT_ID", event);
        }
        command.stdin(Stdio::null()).spawn().unwrap()
    }

    /// H18: after a restart of the agent nothing of the earlier one's scripts runs on; scripts of
    /// another node on the same machine, and what is no script, are left alone.
    #[test]
    fn h18_scripts_of_an_earlier_agent_are_ended() {
        use std::os::unix::process::ExitStatusExt;
        let folder = tempfile::tempdir().unwrap();
        let control = folder.path().join("control.sock").display().to_string();
        let mut ours = script(&control, Some("7"));
        let mut others = [script(&format!("{control}2"), Some("7")), script(&control, None)];
        assert_eq!(end(&control), 1);
        assert_eq!(ours.wait().unwrap().signal(), Some(9));
        for other in &mut others {
            assert!(other.try_wait().unwrap().is_none());
            other.kill().unwrap();
            other.wait().unwrap();
        }
    }
}
