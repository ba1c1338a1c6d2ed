//! Programs of net-snmp for tests: a private `snmpd` and `snmptrapd`, and the command line tools.
//!
//! Each daemon has its own directory, an unprivileged port of the loopback interface, and is ended
//! by its process id. A program that is missing fails the test and says what installs it.

use std::fs;
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use super::until;

/// SNMPv3 user of the tests: authenticated with SHA-256, encrypted with AES.
pub const USER: &str = "sentinel";
pub const AUTH: &str = "authentication-phrase";
pub const PRIV: &str = "privacy-phrase";

/// Engine ids of the two daemons, so that neither has to be asked for.
pub const SNMPD_ENGINE: &str = "0x80001f8804736e6d7064";
pub const TRAPD_ENGINE: &str = "0x80001f88047472617064";

/// The folder of this crate.
pub fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A program with its environment: no MIB but ours, nothing kept outside `dir`.
pub fn program(name: &str, dir: &Path) -> Command {
    let mut command = Command::new(name);
    command
        .env("SNMP_PERSISTENT_DIR", dir.join("persist"))
        .env("SNMPCONFPATH", dir)
        .env("MIBDIRS", folder().join("base"))
        .env("MIBS", folder().join("VEDETTE-MIB.txt"))
        .env("LC_ALL", "C")
        .stdin(Stdio::null());
    command
}

fn found<T>(name: &str, result: io::Result<T>) -> T {
    let package = match name {
        "smilint" => "smitools",
        "snmpd" | "snmptrapd" => name,
        _ => "snmp",
    };
    result.unwrap_or_else(|why| panic!("{name}: {why}; install it: apt-get install {package}"))
}

/// Runs a program to its end.
pub fn run(command: &mut Command) -> Output {
    let name = command.get_program().to_string_lossy().into_owned();
    found(&name, command.output())
}

/// What a program prints; it must end well and complain of nothing.
pub fn printed(command: &mut Command) -> String {
    let output = run(command);
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {complaints}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A port that nobody uses, for UDP and TCP, and that no other test gets: below those the kernel hands
/// out, because the tools of net-snmp take one of them for each question.
pub fn free_port() -> u16 {
    const PORTS: std::ops::Range<u32> = 20_000..32_000;
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    loop {
        let nth = std::process::id().wrapping_mul(97) + TAKEN.fetch_add(1, Ordering::Relaxed);
        let port = u16::try_from(PORTS.start + nth % (PORTS.end - PORTS.start)).expect("a port");
        let free = UdpSocket::bind(("127.0.0.1", port)).is_ok();
        if free && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A daemon in the foreground, killed in the end.
struct Daemon(Child);

impl Daemon {
    /// Fails with what it logged if it has ended.
    fn must_run(&mut self, name: &str, log: &Path) {
        if let Some(status) = self.0.try_wait().expect("a child") {
            let why = fs::read_to_string(log).unwrap_or_default();
            panic!("{name} ended with {status}:\n{why}");
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A private `snmpd`.
pub struct Snmpd {
    pub dir: tempfile::TempDir,
    pub port: u16,
    /// Where it listens for subagents besides the Unix socket.
    pub tcp_port: u16,
    daemon: Option<Daemon>,
}

impl Snmpd {
    /// Starts one; `extra` is added to its configuration.
    pub fn start(extra: &str) -> Self {
        let dir = tempfile::tempdir().expect("temporary directory");
        let (port, tcp_port) = (free_port(), free_port());
        let socket = dir.path().join("agentx");
        let conf = format!(
            "rocommunity public 127.0.0.1\n\
             rwcommunity private 127.0.0.1\n\
             createUser {USER} SHA-256 {AUTH} AES {PRIV}\n\
             rouser {USER} priv\n\
             exactEngineID {SNMPD_ENGINE}\n\
             master agentx\n\
             agentXSocket unix:{},tcp:127.0.0.1:{tcp_port}\n\
             agentXTimeout 10\n\
             {extra}\n",
            socket.display()
        );
        fs::write(dir.path().join("snmpd.conf"), conf).expect("write");
        let mut snmpd = Self { dir, port, tcp_port, daemon: None };
        snmpd.restart();
        snmpd
    }

    /// Starts it (again), after it was killed if it still ran.
    pub fn restart(&mut self) {
        self.kill();
        let mut command = program("snmpd", self.dir.path());
        command.env("MIBS", "").args(["-f", "-Lf"]).arg(self.dir.path().join("snmpd.log"));
        command.args(["-C", "-c"]).arg(self.dir.path().join("snmpd.conf"));
        command.arg(format!("udp:127.0.0.1:{}", self.port));
        let mut daemon = Daemon(found("snmpd", command.stdout(Stdio::null()).spawn()));
        until("snmpd answers", || {
            daemon.must_run("snmpd", &self.dir.path().join("snmpd.log"));
            let mut get = self.client("snmpget", &["-v2c", "-cpublic", "-t0.2", "-r0"]);
            run(get.arg(".1.3.6.1.2.1.1.3.0")).status.success().then_some(())
        });
        self.daemon = Some(daemon);
    }

    /// Kills it without warning.
    pub fn kill(&mut self) {
        self.daemon = None;
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: &str) {
        let pid = self.daemon.as_ref().expect("snmpd runs").0.id().to_string();
        assert!(run(Command::new("kill").args([signal, &pid])).status.success());
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("agentx")
    }

    /// A tool that talks to it, with the options `how`; the objects follow.
    pub fn client(&self, tool: &str, how: &[&str]) -> Command {
        let mut command = program(tool, self.dir.path());
        command.args(how).arg(format!("udp:127.0.0.1:{}", self.port));
        // net-snmp wants options before the agent, objects after it.
        command
    }

    /// What a tool prints for the objects, with SNMPv2c.
    pub fn ask(&self, tool: &str, options: &[&str], objects: &[&str]) -> String {
        let how = [&["-v2c", "-cpublic", "-t5", "-r0"], options].concat();
        printed(self.client(tool, &how).args(objects))
    }

    /// The value of one object as net-snmp prints it, or nothing as long as there is none.
    pub fn value(&self, object: &str) -> Option<String> {
        let output =
            run(self.client("snmpget", &["-v2c", "-cpublic", "-t2", "-r0", "-Oqv"]).arg(object));
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        (output.status.success() && !text.starts_with("No Such")).then_some(text)
    }
}

/// A private `snmptrapd` that prints what it receives into a file.
pub struct Trapd {
    dir: tempfile::TempDir,
    pub port: u16,
    _daemon: Daemon,
}

impl Trapd {
    /// Takes v2c of `public`, and of SNMPv3 only what is authenticated and encrypted.
    pub fn start() -> Self {
        let dir = tempfile::tempdir().expect("temporary directory");
        let port = free_port();
        let conf = format!(
            "authCommunity log public\n\
             exactEngineID {TRAPD_ENGINE}\n\
             createUser {USER} SHA-256 {AUTH} AES {PRIV}\n\
             createUser -e {SNMPD_ENGINE} {USER} SHA-256 {AUTH} AES {PRIV}\n\
             authUser log {USER} priv\n\
             format1 %P|%q %v\\n\n\
             format2 %P|%v\\n\n"
        );
        fs::write(dir.path().join("snmptrapd.conf"), conf).expect("write");
        let mut command = program("snmptrapd", dir.path());
        command.args(["-f", "-n", "-Lf"]).arg(dir.path().join("received"));
        command.args(["-C", "-c"]).arg(dir.path().join("snmptrapd.conf"));
        command.arg(format!("udp:127.0.0.1:{port}"));
        let mut daemon = Daemon(found("snmptrapd", command.stdout(Stdio::null()).spawn()));
        until("snmptrapd listens", || {
            daemon.must_run("snmptrapd", &dir.path().join("received"));
            UdpSocket::bind(("127.0.0.1", port)).err()
        });
        Self { dir, port, _daemon: daemon }
    }

    /// Everything it received so far, one notification a line.
    pub fn received(&self) -> Vec<String> {
        let text = fs::read_to_string(self.dir.path().join("received")).unwrap_or_default();
        text.lines().filter(|line| line.contains('|')).map(str::to_owned).collect()
    }

    /// Waits for a notification that holds all of `parts`.
    pub fn wait_for(&self, parts: &[&str]) -> String {
        until(&format!("notification with {parts:?}, received {:#?}", self.received()), || {
            let mut lines = self.received().into_iter();
            lines.find(|line| parts.iter().all(|part| line.contains(part)))
        })
    }
}
