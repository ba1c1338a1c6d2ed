//! `vedette demo`, as a newcomer meets it: the real program, its real daemons, snmpd, snmptrapd and
//! Prometheus. A node is killed as the tour suggests, and every surface must say so; afterwards
//! nothing may be left. Shows the demo's part of spec rows A8, V1, V2, V7, V9 and V14.
//!
//! The demo's networks have fixed addresses, so there is one demo at a time on a machine: these
//! tests wait for one another, and for a demo that somebody else runs.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use vedette::sandbox::{self, LabFile, LabNode};

const PROGRAM: &str = env!("CARGO_BIN_EXE_vedette");

/// How long anything may take on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// How long a demo of somebody else is waited for.
const OTHERS: Duration = Duration::from_secs(300);

static ONE: Mutex<()> = Mutex::new(());

/// Asks until there is an answer.
fn until<T>(what: &str, patience: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + patience;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A running demo; it is ended whatever happens.
struct Demo {
    child: Child,
    dir: PathBuf,
    _room: tempfile::TempDir,
    _one: MutexGuard<'static, ()>,
}

impl Demo {
    fn start() -> Self {
        for (program, package) in [
            ("snmpd", "snmpd"),
            ("snmpget", "snmp"),
            ("snmptrapd", "snmptrapd"),
            ("prometheus", "prometheus"),
        ] {
            let found = sandbox::find_program(program).is_some();
            assert!(found, "{program} is missing: apt-get install {package}");
        }
        let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let room = tempfile::tempdir().expect("a directory");
        let dir = room.path().join("demo");
        let child = until("a place among other demos", OTHERS, || {
            let mut child = demo(&dir).stdout(Stdio::null()).spawn().expect("the demo starts");
            until("demo.json or a refusal", DEADLINE, || {
                let ended = child.try_wait().expect("a status").is_some();
                (ended || dir.join("demo.json").exists()).then_some(())
            });
            child.try_wait().expect("a status").is_none().then_some(child)
        });
        Self { child, dir, _room: room, _one: one }
    }

    fn file(&self) -> LabFile {
        LabFile::read(&self.dir.join("demo.json")).expect("demo.json is what it is said to be")
    }

    /// Runs a command as that node, with the script that the tour names.
    fn ask(&self, node: &str, arguments: &[&str]) -> Output {
        Command::new(self.dir.join(node).join("vedette")).args(arguments).output().expect("it runs")
    }

    fn signal(&mut self, signal: Signal) -> Option<i32> {
        kill(pid(self.child.id()), signal).expect("the demo is there");
        until("the end of the demo", DEADLINE, || self.child.try_wait().expect("a status")).code()
    }

    /// Command lines of the processes that were started with something of its directory.
    fn processes(&self) -> Vec<String> {
        let own = self.dir.display().to_string();
        let all = std::fs::read_dir("/proc").expect("processes").filter_map(Result::ok);
        let line = |entry: std::fs::DirEntry| std::fs::read(entry.path().join("cmdline")).ok();
        let lines = all.filter_map(line).map(|it| String::from_utf8_lossy(&it).replace('\0', " "));
        lines.filter(|line| line.contains(&own)).collect()
    }

    /// Everything that was started is gone, and so is the directory.
    fn assert_nothing_left(&self, before: &LabFile) {
        let pids = before.nodes.iter().flat_map(|node| [node.guard_pid, node.agent_pid]);
        for pid in pids.flatten() {
            until("the end of a daemon", DEADLINE, || (!sandbox::is_alive(pid)).then_some(()));
        }
        until("the end of the directory", DEADLINE, || (!self.dir.exists()).then_some(()));
        until("the end of what its groups ran", DEADLINE, || {
            self.processes().is_empty().then_some(())
        });
        for node in &before.nodes {
            let tcp = node.http.trim_start_matches("http://");
            until(tcp, DEADLINE, || TcpListener::bind(tcp).ok());
            let udp = &node.snmp.address;
            until(udp, DEADLINE, || UdpSocket::bind(udp).ok());
            for address in &node.addresses {
                let beat = format!("{address}:7770");
                until(&beat, DEADLINE, || UdpSocket::bind(&beat).ok());
            }
        }
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.signal(Signal::SIGINT);
        }
    }
}

fn demo(dir: &Path) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(["demo", "--dir"]).arg(dir).stdin(Stdio::null()).stderr(Stdio::null());
    command
}

fn pid(number: u32) -> Pid {
    Pid::from_raw(number.try_into().expect("a process id"))
}

/// The body of a GET.
fn get(url: &str) -> Option<String> {
    let (host, path) = url.strip_prefix("http://")?.split_once('/')?;
    let mut stream = TcpStream::connect(host).ok()?;
    write!(stream, "GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned())
}

/// Host status of `n3` over SNMP.
fn over_snmp(node: &LabNode, mibs: &Path) -> String {
    let output = Command::new("snmpget")
        .args(["-v2c", "-Oqv", "-m", "VEDETTE-MIB", "-c", &node.snmp.community, "-M"])
        .arg(mibs)
        .args([&node.snmp.address, "vedetteNodeHostStatus.3"])
        .output()
        .expect("snmpget runs");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Waits until every surface says that the host of n3 is in that state.
fn every_surface_says(demo: &Demo, state: &str) {
    let (file, upper) = (demo.file(), state.to_uppercase());
    for node in file.nodes.iter().filter(|node| node.name != "n3") {
        let about = |surface: &str| format!("{surface} of {}: n3 is {upper}", node.name);
        until(&about("API"), DEADLINE, || {
            let host = format!("\"host_status\":\"{upper}\"");
            get(&format!("{}/api/v1/nodes/n3", node.http))?.contains(&host).then_some(())
        });
        until(&about("metrics"), DEADLINE, || {
            let line = format!(
                "vedette_node_host_status{{cluster=\"demo\",node=\"n3\",state=\"{state}\"}} 1"
            );
            get(&format!("{}/metrics", node.http))?.contains(&line).then_some(())
        });
        until(&about("SNMP"), DEADLINE, || {
            (over_snmp(node, &demo.dir.join("mibs")) == state).then_some(())
        });
        let line = format!("node n3 is {upper}");
        // What a busy machine adds may have pushed it off the first page.
        for command in [&["history", "show", "--limit", "500"][..], &["alert", "log"]] {
            until(&about(&command.join(" ")), DEADLINE, || {
                let shown = text(&demo.ask(&node.name, command));
                shown.lines().any(|shown| shown.contains(&line)).then_some(())
            });
        }
        let log = std::fs::read_to_string(node.state_dir.join("alert.log")).unwrap_or_default();
        let first = file.nodes[0].name == node.name;
        assert!(!first || log.contains(&line), "the script on the director wrote: {log}");
    }
    until("the notification", DEADLINE, || {
        let traps = std::fs::read_to_string(file.traps.as_ref()?).ok()?;
        let line = format!("vedetteNotifyMessage.0 = node n3 is {upper}");
        traps.lines().any(|trap| trap.contains(&line)).then_some(())
    });
    until("Prometheus", DEADLINE, || {
        let query = format!(
            "{}/api/v1/query?query=vedette_node_host_status%7Bnode=%22n3%22,state=%22{state}%22%7D==1",
            file.prometheus.as_ref()?
        );
        get(&query)?.contains("\"metric\"").then_some(())
    });
}

/// H25: the demo's cascading group is on the first of its list that is there.
fn web_runs_on(demo: &Demo, name: &str) {
    let node = &demo.file().nodes[0];
    until(&format!("web on {name}"), DEADLINE, || {
        let web = get(&format!("{}/api/v1/groups/web", node.http))?;
        let there = web.contains("\"state\":\"ONLINE\"");
        (there && web.contains(&format!("\"owners\":[\"{name}\"]"))).then_some(())
    });
    let file = demo.dir.join(format!("web.{name}.pid"));
    let running = until("its process", DEADLINE, || {
        std::fs::read_to_string(&file).ok()?.trim().parse::<u32>().ok()
    });
    assert!(sandbox::is_alive(running), "web has no process on {name}");
}

/// A8, V1, V2, V7, V9, V14: the tour.
#[test]
fn a_node_that_is_killed_is_down_on_every_surface() {
    let mut demo = Demo::start();
    let file = demo.file();
    assert_eq!(file.networks, ["neta", "netb"]);
    assert_eq!(file.nodes.len(), 3);
    assert!(file.nodes.iter().all(|node| node.guard_pid.is_some() && node.agent_pid.is_some()));
    assert_eq!(demo.ask("n1", &["status"]).status.code(), Some(0), "all is fine at first");

    web_runs_on(&demo, "n3");
    let victim = file.node("n3").expect("n3");
    for number in [victim.guard_pid, victim.agent_pid].into_iter().flatten() {
        kill(pid(number), Signal::SIGKILL).expect("it ran");
    }
    every_surface_says(&demo, "down");
    web_runs_on(&demo, "n2");
    let status = demo.ask("n1", &["status"]);
    assert_eq!(status.status.code(), Some(1), "{}", text(&status));
    assert!(text(&status).contains("n3 is DOWN since"), "{}", text(&status));
    until("demo.json without n3", DEADLINE, || {
        demo.file().node("n3").is_some_and(|node| node.guard_pid.is_none()).then_some(())
    });

    let mut by_hand = Command::new(demo.dir.join("n3/vedette"))
        .arg("daemon")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts again");
    every_surface_says(&demo, "up");
    let complete = until("demo.json with the new n3", DEADLINE, || {
        let file = demo.file();
        let pid = file.node("n3").and_then(|node| node.agent_pid.and(node.guard_pid));
        (pid == Some(by_hand.id())).then_some(file)
    });
    web_runs_on(&demo, "n3");
    let same = text(&demo.ask("n1", &["history", "compare"]));
    assert!(!same.contains(" no "), "{same}");

    let second = demo_output(&demo.dir.with_file_name("second"));
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(2));
    assert!(said.contains(&format!("process {}", demo.child.id())), "{said}");
    assert!(!demo.dir.with_file_name("second").exists(), "the refused one leaves nothing");

    assert_eq!(demo.signal(Signal::SIGINT), Some(0));
    by_hand.wait().expect("it is gone");
    demo.assert_nothing_left(&complete);
}

/// A demo that is killed leaves nothing either.
#[test]
fn a_killed_demo_leaves_nothing() {
    let mut demo = Demo::start();
    let file = demo.file();
    assert_eq!(demo.signal(Signal::SIGKILL), None);
    demo.assert_nothing_left(&file);
}

fn demo_output(dir: &Path) -> Output {
    demo(dir).stderr(Stdio::piped()).output().expect("the program runs")
}

/// A directory with something in it is left alone.
#[test]
fn a_directory_in_use_is_refused() {
    let room = tempfile::tempdir().expect("a directory");
    let precious = room.path().join("precious");
    std::fs::write(&precious, "mine").expect("a file");
    // Another demo may run; then that is the reason to refuse, and the file stays as well.
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let output = until("a place among other demos", OTHERS, || {
        let output = demo_output(room.path());
        (!String::from_utf8_lossy(&output.stderr).contains("another demo")).then_some(output)
    });
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("is not empty"));
    assert_eq!(std::fs::read_to_string(precious).expect("still there"), "mine");
}
