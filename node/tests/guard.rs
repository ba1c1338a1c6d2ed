//! Real guards, as processes of their own, that hear each other over loopback addresses.

mod example;

use std::collections::BTreeMap;
use std::net::{IpAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use example::program;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use vedette_core::id::{ClusterId, NetworkNumber, NodeNumber, Session, StorageId};
use vedette_core::model::{AgentStatus, Priority, Timing};
use vedette_core::observation::{PeerView, Report};
use vedette_node::guard::protocol::{Configure, Notice, OwnNetwork, PeerNode, Secret};

/// How long anything may take on a busy machine; nothing is measured with it.
const DEADLINE: Duration = Duration::from_secs(30);

/// Two networks on loopback: 127.77.NETWORK.NODE.
fn address(network: u8, node: u16) -> IpAddr {
    IpAddr::from([127, 77, network, node as u8])
}

fn free_port() -> u16 {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a free port");
    socket.local_addr().expect("its number").port()
}

fn configure(me: u16, nodes: u16, port: u16) -> Configure {
    let networks = [1, 2].map(|n| OwnNetwork {
        number: NetworkNumber(n),
        priority: Priority::High,
        address: address(n, me),
        port,
        ping: None,
    });
    let peer = |node| PeerNode {
        number: NodeNumber(node),
        storage: StorageId([node as u8; 16]),
        live: true,
        addresses: BTreeMap::from([1, 2].map(|n| (NetworkNumber(n), address(n, node)))),
    };
    Configure {
        me: NodeNumber(me),
        storage: StorageId([me as u8; 16]),
        cluster: ClusterId([9; 16]),
        key: Secret::new([3; 32]),
        timing: Timing::DEFAULT,
        networks: networks.into(),
        peers: (1..=nodes).filter(|n| *n != me).map(peer).collect(),
        voters: Vec::new(),
        voters_since: 0,
    }
}

/// A guard process; ended, with its agent, when dropped.
struct Guard {
    directory: tempfile::TempDir,
    process: Child,
}

impl Guard {
    fn start(configure: &Configure) -> Self {
        Self::start_in(tempfile::tempdir().expect("a directory"), configure)
    }

    fn start_in(directory: tempfile::TempDir, configure: &Configure) -> Self {
        let text = serde_json::to_vec(configure).expect("JSON");
        std::fs::write(directory.path().join("configure.json"), text).expect("written");
        let process =
            Command::new(program()).arg(directory.path()).spawn().expect("the guard example");
        Self { directory, process }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn notices(&self) -> Vec<Notice> {
        let text = std::fs::read_to_string(self.path("notices.jsonl")).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| serde_json::from_str(line).expect("a notice")).collect()
    }

    fn reports(&self) -> Vec<Report> {
        let report = |notice| if let Notice::Report(report) = notice { Some(report) } else { None };
        self.notices().into_iter().filter_map(report).collect()
    }

    /// The sessions of the guard, one for each time an agent connected.
    fn sessions(&self) -> Vec<Session> {
        let session = |notice| match notice {
            Notice::Welcome { session, .. } => Some(session),
            _ => None,
        };
        self.notices().into_iter().filter_map(session).collect()
    }

    /// What each report said of a peer.
    fn views(&self, peer: u16) -> Vec<PeerView> {
        let peers = self.reports().into_iter().flat_map(|report| report.peers);
        peers.filter(|view| view.peer == NodeNumber(peer)).collect()
    }

    fn hears(&self, peer: u16) -> bool {
        self.reports().last().is_some_and(|report| {
            let links = report.links.iter().filter(|l| l.peer == NodeNumber(peer));
            links.filter(|l| l.inbound && l.outbound).count() == 2
        }) && self.views(peer).last().is_some_and(|view| view.agent == AgentStatus::Running)
    }

    fn agents(&self) -> Vec<i32> {
        let text = std::fs::read_to_string(self.path("agents")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.process.id() as i32), signal).expect("a running guard");
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        self.process.try_wait().expect("a child")
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // The kernel tells the agent.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[track_caller]
fn wait_for<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    while Instant::now() < end {
        if let Some(found) = probe() {
            return found;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("waited in vain: {what}");
}

fn pair() -> (Guard, Guard) {
    let port = free_port();
    let one = Guard::start(&configure(1, 2, port));
    let two = Guard::start(&configure(2, 2, port));
    wait_for("both hear each other", || (one.hears(2) && two.hears(1)).then_some(()));
    (one, two)
}

fn status_line(id: u32, name: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{id}/status")).expect("a running guard");
    let line = text.lines().find(|line| line.starts_with(name)).expect("a line of the status");
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number")
}

/// A8, A9 (host UP, agent DOWN), and the guard's size.
#[test]
fn an_agent_that_is_killed_is_missed_and_started_again() {
    let (one, two) = pair();
    let killed = one.agents()[0];
    let seen = two.views(1).len();
    kill(Pid::from_raw(killed), Signal::SIGKILL).expect("a running agent");
    wait_for("a second agent", || (one.agents().len() == 2).then_some(()));
    wait_for("DOWN, then RUNNING", || {
        let views = two.views(1).split_off(seen);
        let down = views.iter().position(|view| view.agent == AgentStatus::Down)?;
        views[down..].iter().any(|view| view.agent == AgentStatus::Running).then_some(())
    });
    let lost = two.reports().iter().any(|r| r.links.iter().any(|l| !l.inbound));
    assert!(!lost, "the host was heard throughout");
    assert_eq!(one.sessions()[0], one.sessions()[1], "it is the same guard");
    let resident = status_line(one.process.id(), "VmRSS");
    assert!(resident <= 8 * 1024, "the guard has {resident} KiB resident");
}

/// A guard that dies takes its agent with it, and peers notice its next run.
#[test]
fn a_guard_that_dies_takes_its_agent_with_it() {
    let (mut one, two) = pair();
    let agent = one.agents()[0];
    let session = two.views(1).last().and_then(|view| view.session);
    one.signal(Signal::SIGKILL);
    wait_for("the end of the guard", || one.ended());
    wait_for("the end of the agent", || (!is_running(agent)).then_some(()));
    wait_for("silence", || {
        let links = two.reports().pop()?.links;
        links.iter().all(|l| !l.inbound && !l.outbound).then_some(())
    });
    let again = Guard::start(
        &serde_json::from_slice(
            &std::fs::read(one.path("configure.json")).expect("its configuration"),
        )
        .expect("JSON"),
    );
    wait_for("its return", || (two.hears(1) && again.hears(2)).then_some(()));
    assert_ne!(two.views(1).last().and_then(|view| view.session), session);
}

/// A zombie of init's does not run any more.
fn is_running(id: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
}

/// A19: a node that is asked to end says that it leaves.
#[test]
fn a_guard_that_is_asked_to_end_says_goodbye() {
    let (mut one, two) = pair();
    one.signal(Signal::SIGTERM);
    let status = wait_for("the end of the guard", || one.ended());
    assert!(status.success(), "{status}");
    wait_for("a goodbye", || two.views(1).last().is_some_and(|v| v.leaving).then_some(()));
    assert!(!one.path("guard.sock").exists());
}

/// The guard blocks signals for itself; an agent that inherited that could never be asked to end.
#[test]
fn an_agent_can_be_sent_signals() {
    let one = Guard::start(&configure(1, 1, free_port()));
    let agent = wait_for("an agent", || one.agents().first().copied());
    // Between fork and exec it still is the guard.
    wait_for("an agent that blocks no signal", || {
        let status = std::fs::read_to_string(format!("/proc/{agent}/status")).ok()?;
        let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:"))?;
        (blocked.trim().trim_start_matches('0').is_empty()).then_some(())
    });
}

#[test]
fn two_guards_do_not_share_a_state_directory() {
    let one = Guard::start(&configure(1, 1, free_port()));
    wait_for("an agent", || one.agents().first().copied());
    let second = Command::new(program()).arg(one.directory.path()).output().expect("the example");
    assert!(!second.status.success());
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(said.contains("another vedette daemon runs") && said.contains("--state-dir"), "{said}");
}

#[test]
fn only_its_own_user_may_speak_to_a_guard() {
    use std::os::unix::fs::PermissionsExt;
    let one = Guard::start(&configure(1, 1, free_port()));
    wait_for("an agent", || one.agents().first().copied());
    let mode = |path: &Path| std::fs::metadata(path).expect("a socket").permissions().mode();
    assert_eq!(mode(&one.path("guard.sock")) & 0o777, 0o600);
}

/// H7: a configuration that the agent refuses ends the guard with the same status, at once.
#[test]
fn a_configuration_error_is_final() {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("exit"), "78").expect("written");
    let mut one = Guard::start_in(directory, &configure(1, 1, free_port()));
    let status = wait_for("the end of the guard", || one.ended());
    assert_eq!(status.code(), Some(78));
    assert_eq!(one.agents().len(), 1);
}

#[test]
fn a_crashing_agent_is_started_again_and_again() {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("exit"), "1").expect("written");
    let one = Guard::start_in(directory, &configure(1, 1, free_port()));
    wait_for("four starts", || (one.agents().len() >= 4).then_some(()));
    std::fs::remove_file(one.path("exit")).expect("removed");
    wait_for("a welcome", || one.sessions().first().copied());
}

/// An agent that hangs is killed and started again, though its process lives and is connected.
#[test]
fn a_hung_agent_is_replaced() {
    let one = Guard::start(&configure(1, 1, free_port()));
    wait_for("an agent", || one.sessions().first().copied());
    std::fs::write(one.path("hang"), "").expect("written");
    wait_for("a second agent", || (one.agents().len() >= 2).then_some(()));
}

/// H7, H4: an address that is not here is named, and the interface is reported as unusable.
#[test]
fn an_address_that_is_not_here_is_reported() {
    let mut wrong = configure(1, 2, free_port());
    // 192.0.2.0/24 is reserved for documentation.
    wrong.networks[1].address = IpAddr::from([192, 0, 2, 1]);
    let one = Guard::start(&wrong);
    wait_for("a warning", || {
        one.notices().into_iter().find(|notice| {
            matches!(notice, Notice::Warning { text } if text.contains("network 2") && text.contains("192.0.2.1"))
        })
    });
    let report = wait_for("a report", || one.reports().pop());
    let usable: Vec<_> = report.interfaces.iter().map(|i| i.usable).collect();
    assert_eq!(usable, [true, false]);
}

/// V4: the machine that has the number of a deleted node does not hear that node's old copy.
#[test]
fn an_old_copy_of_a_node_is_not_heard() {
    let port = free_port();
    let mut old = configure(2, 2, port);
    old.storage = StorageId([99; 16]);
    let (one, copy) = (Guard::start(&configure(1, 2, port)), Guard::start(&old));
    for guard in [&one, &copy] {
        wait_for("a count of wrong seals", || {
            guard
                .notices()
                .into_iter()
                .find(|notice| matches!(notice, Notice::Rejected(kinds) if kinds["seal"] > 0))
        });
        assert!(guard.reports().iter().all(|r| r.links.iter().all(|l| !l.inbound)));
    }
}

/// H8, V4: a cluster with another key on the same addresses is not heard, and is counted.
#[test]
fn another_key_is_not_heard() {
    let port = free_port();
    let mut other = configure(2, 2, port);
    other.key = Secret::new([4; 32]);
    let (one, _two) = (Guard::start(&configure(1, 2, port)), Guard::start(&other));
    wait_for("a count of wrong seals", || {
        one.notices()
            .into_iter()
            .find(|notice| matches!(notice, Notice::Rejected(kinds) if kinds["seal"] > 0))
    });
    assert!(one.reports().iter().all(|r| r.links.iter().all(|l| !l.inbound)));
}
