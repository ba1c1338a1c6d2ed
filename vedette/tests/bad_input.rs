//! The real program and what must not harm it: ports that are taken, damaged and foreign files,
//! garbage on every socket, clients that do not read, alert scripts that misbehave, kills.
//!
//! Every test runs daemons of its own on loopback addresses that no other test has. What a person
//! reads is checked: one sentence of what and why, one of what to do, and never a panic.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use vedette_collector::clinfo::ProblemDoc;
use vedette_collector::clinfo::problem::Kind;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A node of its own; its daemon ends with it.
struct Node {
    dir: tempfile::TempDir,
    address: Ipv4Addr,
    daemon: Option<Child>,
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            self.stop_by(&mut daemon, Signal::SIGTERM);
        }
    }
}

impl Node {
    /// The first member of a new cluster.
    fn formed(cluster: &str) -> Self {
        let node = Self::new("n1", cluster);
        let formed = node.vedette(&["init", "--yes"]);
        assert!(formed.status.success(), "{}", said(&formed));
        node
    }

    fn new(name: &str, cluster: &str) -> Self {
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let [high, low] = u16::try_from(std::process::id() % 60_000).expect("small").to_be_bytes();
        let host = NEXT.fetch_add(1, Ordering::SeqCst);
        // Another process of this test has another part of the network.
        let address = Ipv4Addr::new(127, 78 + (high & 1), low, host);
        let node = Self { dir: tempfile::tempdir().expect("a directory"), address, daemon: None };
        let path = |name: &str| node.dir.path().join(name);
        let text = format!(
            "[node]\nname = \"{name}\"\n[cluster]\nname = \"{cluster}\"\none_machine = true\n[[network]]\nname = \
             \"neta\"\naddress = \"{address}\"\n[http]\nlisten = \"{address}:7780\"\n[snmp]\nenabled = \
             false\n[paths]\nstate_dir = {:?}\ncontrol = {:?}\n",
            path("state"),
            path("control.sock")
        );
        std::fs::write(node.config(), text).expect("a file");
        node
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("vedette.toml")
    }

    fn state(&self, name: &str) -> PathBuf {
        self.dir.path().join("state").join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vedette"));
        command.arg("--config").arg(self.config()).args(arguments).stdin(Stdio::null());
        command
    }

    fn vedette(&self, arguments: &[&str]) -> Output {
        let output = self.command(arguments).output().expect("the program starts");
        assert!(!said(&output).contains("panicked"), "{}", said(&output));
        output
    }

    fn start(&mut self) {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.dir.path().join("log"))
            .expect("a log");
        let mut command = self.command(&["daemon"]);
        command.stdout(log.try_clone().expect("a log")).stderr(log);
        self.daemon = Some(command.spawn().expect("the program starts"));
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Waits until the cluster is as `status` says it should be.
    fn wait_until_fine(&self) {
        wait("a fine status", || self.vedette(&["status"]).status.success()).unwrap_or_else(
            |why| panic!("{why}: {}\n{}", said(&self.vedette(&["status"])), self.log()),
        );
    }

    fn stop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            self.stop_by(&mut daemon, Signal::SIGTERM);
        }
    }

    fn stop_by(&self, daemon: &mut Child, signal: Signal) {
        let _ = kill(pid(daemon.id()), signal);
        if wait("its end", || daemon.try_wait().expect("a child").is_some()).is_err() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }

    /// The process of the agent.
    fn agent(&self) -> Option<Pid> {
        let guard = self.daemon.as_ref()?.id();
        let path = format!("/proc/{guard}/task/{guard}/children");
        let text = std::fs::read_to_string(path).ok()?;
        text.split_whitespace().next()?.parse().ok().map(pid)
    }

    /// Runs the daemon, which must refuse for good, and answers what it says.
    fn refused_daemon(&self) -> String {
        let output = self.vedette(&["daemon"]);
        let text = said(&output);
        assert_eq!(output.status.code(), Some(78), "{text}");
        assert!(text.contains("vedette: the daemon ended: "), "{text}");
        text
    }

    /// A setting, as this node shows it.
    fn seed_count(&self) -> Option<u64> {
        let output = self.vedette(&["config", "show", "-o", "json"]);
        let document: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
        document["cluster"]["seed_count"].as_u64()
    }

    /// What the API answers.
    fn http(&self, path: &str) -> String {
        let mut stream = self.connect(7_780);
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    }

    fn connect(&self, port: u16) -> TcpStream {
        let stream = TcpStream::connect((self.address, port)).expect("somebody listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream
    }

    /// Every surface answers, and a command is carried out.
    fn assert_well(&self) {
        let status = self.vedette(&["status"]);
        assert!(status.status.success(), "{}\n{}", said(&status), self.log());
        assert!(self.http("/healthz").starts_with("HTTP/1.1 200"), "{}", self.log());
        assert!(self.http("/metrics").contains("vedette_node_host_status"));
        for count in ["2", "1"] {
            let set = self.vedette(&["config", "set", "seed", count]);
            assert!(set.status.success(), "{}", said(&set));
        }
        let verified = self.vedette(&["history", "verify"]);
        assert!(verified.status.success(), "{}", said(&verified));
        assert!(!self.log().contains("panicked"), "{}", self.log());
    }
}

fn pid(number: u32) -> Pid {
    Pid::from_raw(i32::try_from(number).expect("a process id"))
}

fn said(output: &Output) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}

fn wait(what: &str, mut done: impl FnMut() -> bool) -> Result<(), String> {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        if Instant::now() > deadline {
            return Err(format!("no {what} in time"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// H7: a port that another program has is refused at the start, by name, with what to do.
#[test]
fn a_port_in_use_is_refused_at_the_start() {
    let node = Node::formed("ports");
    let taken = UdpSocket::bind((node.address, 7_770)).expect("a free port");
    let text = node.refused_daemon();
    assert!(text.contains("network neta: no heartbeat from"), "{text}");
    assert!(text.contains("Another program has the port"), "{text}");
    drop(taken);
    let ports = [7_771, 7_780];
    let _taken = ports.map(|port| TcpListener::bind((node.address, port)).expect("a free port"));
    let text = node.refused_daemon();
    for port in ports {
        assert!(text.contains(&format!("{}:{port}/tcp is in use", node.address)), "{text}");
        assert!(text.contains("Another program has it"), "{text}");
    }
}

/// V14: a state directory and a configuration that do not belong together; two daemons in one.
#[test]
fn a_state_directory_of_another_node_is_refused() {
    let mut node = Node::formed("owner");
    let config = std::fs::read_to_string(node.config()).expect("a file");
    for (from, to, expected) in [
        ("\"n1\"", "\"n7\"", "the name of this node is n1, but the configuration says n7"),
        (
            "[cluster]",
            "number = 7\n[cluster]",
            "belongs to node 1, but the configuration says that",
        ),
    ] {
        std::fs::write(node.config(), config.replacen(from, to, 1)).expect("a file");
        let text = node.refused_daemon();
        assert!(text.contains(expected), "{text}");
    }
    std::fs::write(node.config(), config).expect("a file");
    node.start();
    node.wait_until_fine();
    let second = node.vedette(&["daemon"]);
    assert!(!second.status.success());
    assert!(said(&second).contains("another vedette daemon runs"), "{}", said(&second));
    let bare = node.vedette(&["agent"]);
    assert!(said(&bare).contains("Start the agent through `vedette daemon`."), "{}", said(&bare));
    node.assert_well();
}

/// A daemon that sees the processes of another namespace would end others and not find its own.
#[test]
fn a_list_of_other_processes_is_refused() {
    let node = Node::formed("blind");
    let daemon = node.command(&["daemon"]);
    let mut apart = Command::new("unshare");
    apart.args(["--pid", "--fork"]).arg(daemon.get_program()).args(daemon.get_args());
    let output = apart.output().expect("unshare: apt-get install util-linux, and root");
    let text = said(&output);
    assert_eq!(output.status.code(), Some(78), "{text}");
    assert!(text.contains("/proc lists this process, which is number 1, as "), "{text}");
    assert!(text.contains("mount -t proc proc /proc"), "{text}");
}

/// Runs a statement in a database.
fn sql(file: &Path, statement: &str) {
    let status = Command::new("sqlite3")
        .arg(file)
        .arg(statement)
        .stdout(Stdio::null())
        .status()
        .expect("sqlite3 is needed: apt-get install sqlite3");
    assert!(status.success(), "{statement}");
}

/// Overwrites every page but the first.
fn damage(file: &Path) {
    let mut bytes = std::fs::read(file).expect("a database");
    bytes.iter_mut().skip(4_096).for_each(|byte| *byte = 0xa5);
    std::fs::write(file, bytes).expect("a file");
}

/// A damaged page, a newer version, a database of another cluster: refused with the file's name,
/// and left as it is.
#[test]
fn a_database_that_is_not_right_is_refused_and_left_alone() {
    let mut other = Node::formed("other");
    let mut node = Node::formed("mine");
    for one in [&mut other, &mut node] {
        one.start();
        one.wait_until_fine();
        one.stop();
    }
    type Spoil<'a> = &'a dyn Fn(&Path);
    let foreign = |file: &Path| {
        std::fs::copy(
            other.state(file.file_name().and_then(|name| name.to_str()).expect("a name")),
            file,
        )
        .expect("a copy");
    };
    let newer =
        |file: &Path| sql(file, "PRAGMA user_version = 999; PRAGMA wal_checkpoint(TRUNCATE);");
    let cases: &[(&str, Spoil<'_>, &str)] = &[
        ("cluster.db", &damage, "cluster.db"),
        ("cluster.db", &newer, "newer"),
        ("cluster.db", &foreign, "but this node is member 1 of cluster"),
        ("history.db", &damage, "history.db"),
        ("history.db", &newer, "newer"),
    ];
    for (name, spoil, expected) in cases {
        let file = node.state(name);
        sql(&file, "PRAGMA wal_checkpoint(TRUNCATE);");
        let good = std::fs::read(&file).expect("a database");
        spoil(&file);
        let spoilt = std::fs::read(&file).expect("a database");
        let text = node.refused_daemon();
        assert!(text.contains(expected), "{name}: {text}");
        assert!(std::fs::read(&file).expect("a database") == spoilt, "{name} was changed: {text}");
        std::fs::write(&file, good).expect("a file");
    }
    node.start();
    node.wait_until_fine();
    node.assert_well();
}

/// Whatever is sent to any socket, the others go on.
#[test]
fn garbage_on_every_socket_harms_nobody() {
    let mut node = Node::formed("garbage");
    node.start();
    node.wait_until_fine();
    let udp = UdpSocket::bind((node.address, 0)).expect("a socket");
    let junk: Vec<u8> =
        (0..60_000_u32).map(|i| i.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    for size in [0, 1, 16, 63, 64, 65, 200, 1_400, 9_000, 60_000] {
        udp.send_to(&junk[..size], (node.address, 7_770)).expect("a datagram");
    }
    let mut held = Vec::new();
    for port in [7_771, 7_780] {
        for size in [0, 1, 5, 60_000] {
            let mut stream = node.connect(port);
            let _ = stream.write_all(&junk[..size]);
            held.push(stream);
        }
    }
    let control = node.dir.path().join("control.sock");
    let mut stream = UnixStream::connect(&control).expect("a socket");
    let _ = stream.write_all(&junk);
    for (path, body) in [
        ("propose", r#"{"id":"x"}"#.to_owned()),
        ("propose", "[".repeat(100_000)),
        ("token", "{\"name\":\"".to_owned() + &"a".repeat(8_000_000)),
        ("nothing", String::new()),
    ] {
        let mut stream = UnixStream::connect(&control).expect("a socket");
        let head = format!(
            "POST /control/v1/{path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: \
             application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let _ = stream.write_all((head + &body).as_bytes());
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        let told = answer.starts_with("HTTP/1.1 4") && answer.contains("urn:vedette:problem:");
        assert!(answer.is_empty() || told, "{path}: {answer}");
    }
    node.assert_well();
}

/// One request on the control socket: its status, its media type, and its body.
fn ask(node: &Node, method: &str, path: &str, body: &str) -> (u16, String, String) {
    let mut stream =
        UnixStream::connect(node.dir.path().join("control.sock")).expect("a control socket");
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + body).as_bytes()).expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a status");
    let media = head.lines().find_map(|line| line.strip_prefix("content-type: ")).unwrap_or("");
    (status, media.to_owned(), body.to_owned())
}

/// Requests that either API refuses: method, path, body, the kind of problem, and words of its detail.
const REFUSED: &[(&str, &str, &str, Kind, &str)] = &[
    ("GET", "/control/v1/nothing", "", Kind::UnknownRoute, "/control/v1/nothing"),
    ("GET", "/api/v1/nothing", "", Kind::UnknownRoute, "/api/v1/nothing"),
    ("DELETE", "/control/v1/state", "", Kind::WrongMethod, "DELETE"),
    ("POST", "/api/v1/nodes", "", Kind::WrongMethod, "POST"),
    ("POST", "/control/v1/propose", "nonsense", Kind::MalformedBody, "line 1"),
    ("POST", "/control/v1/propose", "{\"id\":", Kind::MalformedBody, "line 1"),
    ("POST", "/control/v1/token", "{\"name\":7}", Kind::BadBody, "expected a string"),
    ("POST", "/control/v1/leave", "7", Kind::BadBody, "line 1"),
    (
        "POST",
        "/control/v1/resource",
        "{\"verb\":\"acquire\",\"group\":\"x\"}",
        Kind::UnknownGroup,
        "group x",
    ),
    ("GET", "/control/v1/history?limit=many", "", Kind::BadParameter, "limit=\"many\""),
    ("GET", "/control/v1/history?colour=red", "", Kind::BadParameter, "\"colour\""),
    ("GET", "/control/v1/history?code=NOPE", "", Kind::BadParameter, "code=\"NOPE\""),
    ("GET", "/control/v1/history?since=x", "", Kind::BadParameter, "since=\"x\""),
    ("GET", "/control/v1/history/export?format=xml", "", Kind::BadParameter, "format=\"xml\""),
    ("GET", "/control/v1/transcripts?event=x", "", Kind::BadParameter, "event=\"x\""),
    ("GET", "/control/v1/transcripts/x", "", Kind::BadParameter, "number=\"x\""),
    ("GET", "/control/v1/transcripts/%ff", "", Kind::BadParameter, "path"),
    ("GET", "/control/v1/transcripts/99999", "", Kind::NoTranscript, "99999"),
];

/// A command that is proposed, and the kind of problem that it is.
const PROPOSED: &[(&str, Kind, &str)] = &[
    ("{\"voters\":{\"voters\":[1]}}", Kind::NotForOperators, "daemon's own"),
    ("{\"set_seed_count\":0}", Kind::Refused, "0 nodes"),
];

/// Whatever the control socket refuses, it says so with the same document as the API.
#[test]
fn the_control_socket_refuses_with_problems() {
    let mut node = Node::formed("problems");
    node.start();
    node.wait_until_fine();
    let assert_refused = |(method, path, body): (&str, &str, &str), kind: Kind, says: &str| {
        let (status, media, answer) = ask(&node, method, path, body);
        assert_eq!(media, "application/problem+json", "{path} {body}: {status} {answer}");
        let problem = ProblemDoc::read(status, answer.as_bytes()).expect(path);
        assert!(problem.is(kind), "{path} {body}: {problem:?}");
        assert_eq!((status, &*problem.title), (kind.status(), kind.title()), "{path}");
        assert!(problem.detail.contains(says), "{path} {body}: {problem:?}");
        assert!(!problem.advice.is_empty(), "{path} {body}: {problem:?}");
    };
    for (method, path, body, kind, says) in REFUSED {
        assert_refused((method, path, body), *kind, says);
    }
    let order = |command: &str| {
        let id = format!("{:032x}", command.len());
        format!("{{\"id\":\"{id}\",\"actor\":\"x\",\"command\":{command}}}")
    };
    let propose = "/control/v1/propose";
    for (command, kind, says) in PROPOSED {
        assert_refused(("POST", propose, &order(command)), *kind, says);
    }
    // What is so already is no refusal.
    let already = order("{\"manager\":{\"start\":{\"nodes\":[1]}}}");
    let (status, _, body) = ask(&node, "POST", propose, &already);
    assert!(status == 200 && body.contains("\"met\""), "{status} {body}");
    node.assert_well();
}

/// Watchers that never read hold up nobody.
#[test]
fn clients_that_stop_reading_hold_up_nobody() {
    let mut node = Node::formed("readers");
    node.start();
    node.wait_until_fine();
    let watchers: Vec<TcpStream> = (0..20)
        .map(|_| {
            let mut stream = node.connect(7_780);
            stream.write_all(b"GET /api/v1/watch HTTP/1.1\r\nhost: x\r\n\r\n").expect("a request");
            stream
        })
        .collect();
    for _ in 0..5 {
        node.assert_well();
    }
    drop(watchers);
}

/// A14: a script that hangs and forks, one that floods its output: while they run everything
/// answers, and when the daemon ends nothing of them is left. What cannot run is refused.
#[test]
fn alert_scripts_hold_up_nobody() {
    let mut node = Node::formed("scripts");
    node.start();
    node.wait_until_fine();
    for text in ["echo without an interpreter\n", "#!/nonexistent/sh\n", "#!/bin/sh\nif then\n"] {
        let file = node.dir.path().join("bad.sh");
        std::fs::write(&file, text).expect("a file");
        let refused = node.vedette(&["alert", "edit", "--file", file.to_str().expect("UTF-8")]);
        assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
        assert!(said(&refused).contains("the script has errors:\n    line "), "{}", said(&refused));
    }
    let mark = format!("86{}", std::process::id());
    let hangs = format!("for i in 1 2 3 4 5 6 7 8; do sleep {mark} & done; sleep {mark}\n");
    let mut tests = Vec::new();
    for (text, count) in [(hangs.as_str(), 9), ("exec yes flood\n", 9)] {
        let file = node.dir.path().join("script.sh");
        std::fs::write(&file, format!("#!/bin/sh\n{text}")).expect("a file");
        let saved = node.vedette(&["alert", "edit", "--file", file.to_str().expect("UTF-8")]);
        assert!(saved.status.success(), "{}", said(&saved));
        let mut test = node.command(&["alert", "test"]);
        test.stdout(Stdio::null()).stderr(Stdio::null());
        tests.push(test.spawn().expect("the program starts"));
        wait("hanging script", || left_behind(&mark) == count).expect("it runs");
        node.assert_well();
    }
    node.stop();
    for mut test in tests {
        let _ = test.wait();
    }
    wait("end of what the scripts started", || left_behind(&mark) == 0).expect("all is gone");
}

/// How many processes sleep for `mark` seconds.
fn left_behind(mark: &str) -> usize {
    let wanted = format!("sleep\0{mark}\0");
    let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
    let line = |path: PathBuf| std::fs::read(path.join("cmdline")).unwrap_or_default();
    processes.filter(|process| line(process.path()) == wanted.as_bytes()).count()
}

/// Guard and agent are killed again and again while commands are given: nothing that was
/// acknowledged is lost, and the node always comes back.
#[test]
fn kills_lose_nothing_that_was_acknowledged() {
    let mut node = Node::formed("kills");
    node.start();
    node.wait_until_fine();
    let mut orphan = None;
    for round in 2..14_u16 {
        let count = round.to_string();
        wait("acknowledgement", || {
            node.vedette(&["config", "set", "seed", &count]).status.success()
        })
        .unwrap_or_else(|why| panic!("{why}\n{}", node.log()));
        if round % 2 == 0 {
            if let Some(agent) = node.agent() {
                let _ = kill(agent, Signal::SIGKILL);
            }
        } else {
            orphan = node.agent().or(orphan);
            let mut guard = node.daemon.take().expect("a daemon");
            guard.kill().expect("a process");
            guard.wait().expect("its end");
            node.start();
        }
        // While it reads its log again it shows the state of then; what it says last counts.
        wait("acknowledged value", || node.seed_count() == Some(u64::from(round)))
            .unwrap_or_else(|why| panic!("{why}: {:?}\n{}", node.seed_count(), node.log()));
    }
    wait("acknowledgement", || node.vedette(&["config", "set", "seed", "1"]).status.success())
        .unwrap_or_else(|why| panic!("{why}\n{}", node.log()));
    // An agent whose guard was killed answers for a moment longer.
    let gone = || orphan.is_none_or(|agent| kill(agent, None).is_err());
    wait("the last agent without a guard to end", gone).unwrap_or_else(|why| panic!("{why}"));
    node.wait_until_fine();
    node.assert_well();
}

/// A group with one resource of these lines.
fn one_group(name: &str, nodes: &str, resource: &str) -> String {
    format!(
        "[groups.{name}]\npolicy = \"rotating\"\nnodes = [{nodes}]\n[[groups.{name}.resources]]\nname = \
         \"{name}-ip\"\n{resource}\n"
    )
}

/// H15, H31, H35: documents and rules that are wrong: what is said names file, line and value, and what
/// to do; what is in force stays in force, and who says the same twice is told so.
#[test]
fn wrong_documents_and_rules_change_nothing() {
    let mut node = Node::formed("wrong");
    node.start();
    node.wait_until_fine();
    let file = |name: &str, text: &str| {
        let path = node.dir.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(&path, text).expect("a file");
        path.to_str().expect("UTF-8").to_owned()
    };
    let good = file("good.toml", "[manager]\ntoo_long = \"2m\"\n");
    let rule = "UE_FULL\n0\n/site/full.rp\n2\n0\nfs.used_percent\nMountPoint=/\nX>=100\n\n";
    let good_rules = file("good", rule);
    let good_programs = file("programs/full.rp", "all \"/bin/true\" 0 NULL\n");
    let programs = good_programs.replace("/full.rp", "");
    let load = |rules: &str, programs: &str| {
        node.vedette(&["rules", "load", rules, "--programs", programs, "--yes"])
    };
    assert!(node.vedette(&["config", "apply", &good, "--yes"]).status.success());
    assert!(load(&good_rules, &programs).status.success());
    let in_force = || {
        let text = |arguments: &[&str]| said(&node.vedette(arguments));
        (text(&["config", "history", "-o", "json"]), text(&["rules", "history", "-o", "json"]))
    };
    let before = in_force();
    let refused = |output: &Output, exit: i32, words: &[&str]| {
        let text = said(output);
        assert_eq!(output.status.code(), Some(exit), "{text}");
        // Lines are cut for a terminal.
        let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for word in words {
            assert!(flat.contains(word), "{word:?} is not said: {text}");
        }
        assert_eq!(in_force(), before, "{text}");
    };

    let address = "kind = \"address\"\naddress = \"192.0.2.77/24\"";
    let other = "kind = \"application\"\nstart = [\"/bin/true\"]\nstop = [\"/bin/true\"]";
    let cases: &[(&str, &[&str])] = &[
        (
            &one_group("web", "\"n1\", \"n7\"", other),
            &["line 3: error: groups.web.nodes: there is no node \"n7\"", "Did you mean n1?"],
        ),
        (
            &one_group("web", "\"n1\"", address),
            &[
                "line 4: error: groups.web.resources.web-ip",
                "192.0.2.77/24 is outside every network of this cluster. Correct the address",
            ],
        ),
    ];
    for (text, words) in cases {
        let path = file("bad.toml", text);
        let output = node.vedette(&["config", "apply", &path, "--yes"]);
        let words = [*words, &["bad.toml has", "nothing was changed"]].concat();
        refused(&output, 2, &words);
    }
    refused(
        &node.vedette(&["config", "apply", &good]),
        0,
        &["Nothing had to be done: version 1 says the same and is in force already."],
    );
    refused(
        &node.vedette(&["config", "apply", &good, "--based-on", "0", "--yes"]),
        1,
        &["made from version 0, but version 1 is in force now. See what changed meanwhile"],
    );

    let cases: &[(&str, &[&str])] = &[
        (
            &rule.replacen("2\n", "", 1),
            &[
                "bad:1: error: UE_FULL: this rule has 8 lines, and a rule has exactly nine",
                "Write one line",
            ],
        ),
        (
            &rule.replace("X>=100", "X@1>90"),
            &[
                "bad:8: error: UE_FULL, predicate: column 1: the value is a whole number and has no fields",
            ],
        ),
        (
            &rule.replace("X>=100", "X/0>90"),
            &[
                "bad:8: error: UE_FULL, predicate: column 3: this is a division by zero",
                "Divide by",
            ],
        ),
        (
            &rule.replace("X>=100", "X>\"a\"+1"),
            &["column 3: a text stands where a number is needed"],
        ),
    ];
    for (text, words) in cases {
        let output = load(&file("bad", text), &programs);
        let words =
            [*words, &["the rules in", "have 1 error", "check them again: vedette rules"]].concat();
        refused(&output, 2, &words);
    }
    let nobody = file("nobody/full.rp", "barrier\n\"/bin/true\" 0 NULL\n");
    refused(
        &load(&good_rules, &nobody.replace("/full.rp", "")),
        2,
        &[&format!("{nobody}:2: error: the line names no node set. Write: all|event|other")],
    );
    let again = load(&good_rules, &programs);
    refused(
        &again,
        0,
        &["Nothing had to be done: these rules are in force already, as version 1."],
    );
    refused(
        &node.vedette(&["recover", "retry", "--event", "77"]),
        1,
        &["there is no event 77. See what waits and runs: vedette event show."],
    );
    refused(
        &node.vedette(&["seed"]),
        0,
        &["Nothing had to be done: wrong was seeded before and runs: all of its nodes are there."],
    );
    node.assert_well();
}

/// H34: whoever edits the document while somebody else applies another does not undo that: the text is
/// refused, and kept.
#[test]
fn an_edit_that_was_overtaken_is_refused_and_kept() {
    use std::os::unix::fs::PermissionsExt;
    let mut node = Node::formed("overtaken");
    node.start();
    node.wait_until_fine();
    let path = |name: &str| node.dir.path().join(name);
    std::fs::write(path("other.toml"), "[manager]\ntoo_long = \"2m\"\n").expect("a file");
    let editor = format!(
        "#!/bin/sh\n{:?} --config {:?} config apply {:?} --yes && printf '[manager]\\ntoo_long = \
         \"4m\"\\n' > \"$1\"\n",
        env!("CARGO_BIN_EXE_vedette"),
        node.config(),
        path("other.toml")
    );
    std::fs::write(path("editor"), editor).expect("a file");
    std::fs::set_permissions(path("editor"), PermissionsExt::from_mode(0o755)).expect("set");
    let mut edit = node.command(&["config", "edit", "--yes"]);
    edit.env("VISUAL", path("editor")).env("TMPDIR", node.dir.path());
    let output = edit.output().expect("the program starts");
    let text = said(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("made from version 0, but version 1 is in force now"), "{text}");
    let (_, kept) = text.split_once("Your text is kept: vedette config apply ").expect(&text);
    let kept = std::fs::read_to_string(kept.trim().trim_end_matches('.')).expect("a file");
    assert!(kept.contains("4m"), "{kept}");
    let shown = said(&node.vedette(&["config", "show", "--document"]));
    assert!(shown.contains("2m") && !shown.contains("4m"), "{shown}");
}
