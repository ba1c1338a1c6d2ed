//! Two namespaces with a cable between them; a guard in one, clients in the other.

use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use vedette_core::id::{ClusterId, NodeNumber, StorageId};
use vedette_core::model::Timing;
use vedette_core::observation::Report;
use vedette_node::guard::protocol::{Configure, Hold, Holding, Notice, Secret};
use vedette_node::hold::{Held, HeldAddress, HeldProgram};

/// How long anything may take on a busy machine; nothing is measured with it.
const DEADLINE: Duration = Duration::from_secs(30);
/// How long an answer over a cable may take.
const ANSWER: Duration = Duration::from_millis(100);
const PORT: u16 = 7;

/// The node's own address.
pub(crate) const OWN: &str = "10.77.0.1";
/// Service addresses.
pub(crate) const SERVICE: &str = "10.77.0.100";
/// Service addresses.
pub(crate) const SERVICE6: &str = "fd77::100";

static COUNT: AtomicU32 = AtomicU32::new(0);

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

#[track_caller]
pub(crate) fn wait_for<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    while Instant::now() < end {
        if let Some(found) = probe() {
            return found;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("waited in vain: {what}");
}

/// A zombie does not run any more.
pub(crate) fn is_running(id: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
}

#[track_caller]
fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|error| {
        panic!("{program}: {error}. Install it: apt-get install iproute2 nftables")
    });
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?} (needs root): {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs in a network namespace, on a thread of its own.
fn within<T: Send>(namespace: &str, work: impl FnOnce() -> T + Send) -> T {
    let file = File::open(format!("/run/netns/{namespace}")).expect("a namespace");
    let there = move || {
        setns(file, CloneFlags::CLONE_NEWNET).expect("root");
        work()
    };
    std::thread::scope(|scope| scope.spawn(there).join()).expect("no panic")
}

/// The namespaces: `node`, where the guard is, and `peer`. Removed when dropped.
pub(crate) struct Cable {
    node: String,
    peer: String,
}

impl Cable {
    pub(crate) fn new() -> Self {
        let name = format!("vdh{}x{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let cable = Self { node: format!("{name}n"), peer: format!("{name}p") };
        let (node, peer) = (cable.node.as_str(), cable.peer.as_str());
        run("ip", &["netns", "add", node]);
        run("ip", &["netns", "add", peer]);
        run("ip", &["-n", node, "link", "add", "e0", "type", "veth", "peer", "e0", "netns", peer]);
        for (namespace, four, six) in [(node, "1", "fd77::1/64"), (peer, "2", "fd77::2/64")] {
            run("ip", &["-n", namespace, "link", "set", "lo", "up"]);
            run("ip", &["-n", namespace, "link", "set", "e0", "up"]);
            let four = format!("10.77.0.{four}/24");
            run("ip", &["-n", namespace, "addr", "add", &four, "dev", "e0"]);
            run("ip", &["-n", namespace, "addr", "add", six, "dev", "e0", "nodad"]);
        }
        cable
    }

    /// Whether the node has the address.
    pub(crate) fn has(&self, address: &str) -> bool {
        run("ip", &["-n", &self.node, "-o", "addr", "show"]).contains(&format!(" {address}/"))
    }

    fn add(&self, address: &str) {
        let prefix = if address.contains(':') { 64 } else { 24 };
        let whole = format!("{address}/{prefix}");
        let nodad: &[&str] = if address.contains(':') { &["nodad"] } else { &[] };
        let add = ["-n", self.node.as_str(), "addr", "add", &whole, "dev", "e0"];
        run("ip", &[&add[..], nodad].concat());
    }

    /// The peer asks anew who has which address.
    pub(crate) fn forget_neighbours(&self) {
        run("ip", &["-n", &self.peer, "neigh", "flush", "all"]);
    }

    pub(crate) fn nft(&self, command: &str) -> String {
        let all: Vec<&str> =
            ["netns", "exec", &self.node, "nft"].into_iter().chain(command.split(' ')).collect();
        run("ip", &all)
    }

    /// How many tables there are.
    pub(crate) fn tables(&self) -> usize {
        self.nft("list tables").lines().filter(|line| line.contains("vedette_")).count()
    }

    /// Who speaks to an address of the node from the other side. The address is there.
    pub(crate) fn client(&self, address: &str) -> Client {
        let at = SocketAddr::new(ip(address), PORT);
        let echo = within(&self.node, || UdpSocket::bind(at)).expect("an echo");
        std::thread::spawn(move || {
            let mut buffer = [0; 16];
            // A send that the gate drops is an error; the next request may be answered.
            while let Ok((length, from)) = echo.recv_from(&mut buffer) {
                if &buffer[..length] == b"end" {
                    return;
                }
                let _ = echo.send_to(&buffer[..length], from);
            }
        });
        let any = if at.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
        let socket = within(&self.peer, || UdpSocket::bind(any)).expect("a socket");
        socket.connect(at).expect("a route");
        socket.set_read_timeout(Some(ANSWER)).expect("a timeout");
        Client { socket, asked: AtomicU32::new(0) }
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        for namespace in [&self.node, &self.peer] {
            let _ = Command::new("ip").args(["netns", "del", namespace]).status();
        }
    }
}

/// Asks, and awaits the answer.
pub(crate) struct Client {
    socket: UdpSocket,
    asked: AtomicU32,
}

impl Client {
    pub(crate) fn answered(&self) -> bool {
        let asked = self.asked.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        if self.socket.send(&asked).is_err() {
            return false;
        }
        let mut buffer = [0; 16];
        while let Ok(length) = self.socket.recv(&mut buffer) {
            if buffer[..length] == asked {
                return true;
            }
        }
        false
    }
}

/// A file system in memory; unmounted when dropped.
pub(crate) struct Mounted {
    point: tempfile::TempDir,
    device: String,
}

impl Mounted {
    pub(crate) fn new() -> Self {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let device = format!("vedette-test-{}-{count}", std::process::id());
        let point = tempfile::tempdir().expect("a directory");
        let at = point.path().to_str().expect("plain").to_owned();
        run("mount", &["-t", "tmpfs", &device, &at]);
        Self { point, device }
    }

    pub(crate) fn device(&self) -> String {
        self.device.clone()
    }

    pub(crate) fn point(&self) -> PathBuf {
        self.point.path().to_owned()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.point.path()).status();
    }
}

/// A control group; killed and removed when dropped.
pub(crate) struct Group {
    directory: PathBuf,
    children: std::cell::RefCell<Vec<Child>>,
}

impl Group {
    pub(crate) fn new() -> Self {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let root = vedette_node::cgroup::mount_point().expect("cgroup2 is mounted");
        let directory = root.join(format!("vedette-test-{}-{count}", std::process::id()));
        std::fs::create_dir_all(directory.join("inner")).expect("root");
        Self { directory, children: Vec::new().into() }
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Runs a shell that ignores all it can, and its child; answers their process ids.
    pub(crate) fn run_stubborn(&self) -> Vec<i32> {
        let script = format!(
            "trap '' TERM INT HUP; echo $$ > {0}/inner/cgroup.procs; setsid sleep 1000 & wait; \
             while :; do sleep 1000; done",
            self.directory.display()
        );
        let child = Command::new("sh").args(["-c", &script]).spawn().expect("a shell");
        self.children.borrow_mut().push(child);
        let inside = self.directory.join("inner/cgroup.procs");
        wait_for("two processes in the group", || {
            let text = std::fs::read_to_string(&inside).unwrap_or_default();
            let all: Vec<i32> = text.lines().filter_map(|line| line.parse().ok()).collect();
            (all.len() == 2).then_some(all)
        })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = std::fs::write(self.directory.join("cgroup.kill"), "1");
        for child in self.children.borrow_mut().iter_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let end = Instant::now() + Duration::from_secs(5);
        while self.directory.exists() && Instant::now() < end {
            let _ = std::fs::remove_dir(self.directory.join("inner"));
            let _ = std::fs::remove_dir(&self.directory);
        }
    }
}

/// A watchdog that is a pipe.
pub(crate) struct Pipe(std::cell::RefCell<(File, Vec<u8>)>);

impl Pipe {
    fn said(&self) -> Vec<u8> {
        let (file, said) = &mut *self.0.borrow_mut();
        let mut buffer = [0; 64];
        while let Ok(length @ 1..) = file.read(&mut buffer) {
            said.extend_from_slice(&buffer[..length]);
        }
        said.clone()
    }

    pub(crate) fn forget(&self) {
        self.said();
        self.0.borrow_mut().1.clear();
    }

    pub(crate) fn pets(&self) -> usize {
        self.said().iter().filter(|byte| **byte == 0).count()
    }

    pub(crate) fn closed(&self) -> bool {
        self.said().ends_with(b"V")
    }
}

/// The state directory of a guard that does not run yet.
pub(crate) struct Prepared {
    directory: tempfile::TempDir,
}

impl Prepared {
    pub(crate) fn watchdog(&self) -> Pipe {
        let path = self.directory.path().join("watchdog");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        let mut options = File::options();
        let file = options.read(true).custom_flags(libc_nonblock()).open(path).expect("a pipe");
        Pipe((file, Vec::new()).into())
    }

    pub(crate) fn begin(self, cable: &Cable) -> Guarded {
        let namespace = File::open(format!("/run/netns/{}", cable.node)).expect("a namespace");
        let mut command = Command::new(crate::example::program());
        command.arg(self.directory.path()).stdin(Stdio::null());
        let enter = move || Ok(setns(&namespace, CloneFlags::CLONE_NEWNET)?);
        // SAFETY: one system call, nothing is allocated.
        unsafe { command.pre_exec(enter) };
        let process = command.spawn().expect("the guard example");
        let earlier = notices(self.directory.path()).len();
        let cable = Cable { node: cable.node.clone(), peer: cable.peer.clone() };
        Guarded {
            directory: self.directory,
            process,
            earlier,
            cable: std::mem::ManuallyDrop::new(cable),
        }
    }
}

fn libc_nonblock() -> i32 {
    nix::fcntl::OFlag::O_NONBLOCK.bits()
}

fn notices(directory: &Path) -> Vec<Notice> {
    let text = std::fs::read_to_string(directory.join("notices.jsonl")).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| serde_json::from_str(line).expect("a notice")).collect()
}

/// A guard in a namespace, with its agent; ended when dropped.
pub(crate) struct Guarded {
    directory: tempfile::TempDir,
    process: Child,
    /// Notices of earlier runs in the same directory.
    earlier: usize,
    cable: std::mem::ManuallyDrop<Cable>,
}

/// A service address on the cable.
pub(crate) fn held_address(address: &&str) -> HeldAddress {
    let prefix = if address.contains(':') { 64 } else { 24 };
    HeldAddress { address: ip(address), prefix, device: "e0".into() }
}

impl Guarded {
    /// The directory of a guard with these files in it.
    pub(crate) fn prepare(files: &[&str]) -> Prepared {
        let directory = tempfile::tempdir().expect("a directory");
        let configure = Configure {
            me: NodeNumber(1),
            storage: StorageId([1; 16]),
            cluster: ClusterId([9; 16]),
            key: Secret::new([3; 32]),
            timing: Timing::DEFAULT,
            networks: Vec::new(),
            peers: Vec::new(),
            voters: Vec::new(),
            voters_since: 0,
        };
        let text = serde_json::to_vec(&configure).expect("JSON");
        std::fs::write(directory.path().join("configure.json"), text).expect("written");
        for file in files {
            std::fs::write(directory.path().join(file), "").expect("written");
        }
        Prepared { directory }
    }

    pub(crate) fn start(cable: &Cable, files: &[&str]) -> Self {
        Self::prepare(files).begin(cable)
    }

    /// With the directory as it is.
    pub(crate) fn start_again(mut self, cable: &Cable) -> Self {
        self.kill_guard();
        let empty = tempfile::tempdir().expect("a directory");
        let directory = std::mem::replace(&mut self.directory, empty);
        Prepared { directory }.begin(cable)
    }

    pub(crate) fn add(&self, file: &str) {
        std::fs::write(self.directory.path().join(file), "").expect("written");
    }

    pub(crate) fn remove(&self, file: &str) {
        std::fs::remove_file(self.directory.path().join(file)).expect("removed");
    }

    /// Orders to hold; an epoch of 0 is the present one.
    pub(crate) fn order(&self, addresses: &[&str], groups: &[&Path], sequence: u64, epoch: u64) {
        self.order_knowing(&[SERVICE, SERVICE6], addresses, groups, (sequence, epoch));
    }

    /// Orders to hold nothing more of that address, which is left running: it is not even known.
    pub(crate) fn order_left_running(&self, sequence: u64) {
        self.order_knowing(&[SERVICE6], &[], &[], (sequence, 0));
    }

    /// Orders to hold a control group, in a cluster without service addresses.
    pub(crate) fn order_group_alone(&self, group: &Path, sequence: u64) {
        self.order_knowing(&[], &[], &[group], (sequence, 0));
    }

    fn order_knowing(
        &self,
        known: &[&str],
        addresses: &[&str],
        groups: &[&Path],
        (sequence, epoch): (u64, u64),
    ) {
        let all = |addresses: Vec<HeldAddress>| Held {
            addresses: addresses.into_iter().collect(),
            groups: groups.iter().map(|group| group.to_path_buf()).collect(),
            ..Held::default()
        };
        let hold = Hold {
            sequence,
            epoch,
            known: known.iter().map(|address| ip(address)).collect(),
            held: all(addresses.iter().map(held_address).collect()),
            anew: Default::default(),
        };
        self.give(&hold);
    }

    /// Orders to hold what these programs take away.
    pub(crate) fn order_programs(&self, programs: &[HeldProgram], sequence: u64) {
        self.order_holding(&[], programs, sequence);
    }

    /// Orders to hold addresses, and what these programs take away.
    pub(crate) fn order_holding(
        &self,
        addresses: &[&str],
        programs: &[HeldProgram],
        sequence: u64,
    ) {
        let addresses = addresses.iter().map(held_address).collect();
        let programs = programs.iter().cloned().collect();
        self.order_held(Held { addresses, programs, ..Held::default() }, sequence);
    }

    /// Orders to hold that, in the first epoch.
    pub(crate) fn order_held(&self, held: Held, sequence: u64) {
        self.give(&Hold {
            sequence,
            epoch: 0,
            known: [ip(SERVICE), ip(SERVICE6)].into(),
            held,
            anew: Default::default(),
        });
    }

    fn give(&self, hold: &Hold) {
        let next = self.directory.path().join("hold.next");
        std::fs::write(&next, serde_json::to_vec(hold).expect("JSON")).expect("written");
        std::fs::rename(next, self.directory.path().join("hold.json")).expect("renamed");
    }

    /// Orders to hold, and acquires when that is accepted.
    #[track_caller]
    pub(crate) fn acquire_with(&self, addresses: &[&str], groups: &[&Path], sequence: u64) {
        wait_for("a lease", || self.reports().last().is_some_and(|r| r.lease).then_some(()));
        self.order(addresses, groups, sequence, 0);
        let answer = wait_for("an answer", || self.answer(sequence));
        assert_eq!(answer.refused, None);
        addresses.iter().for_each(|address| self.cable.add(address));
    }

    #[track_caller]
    pub(crate) fn acquire(&self, addresses: &[&str]) {
        self.acquire_with(addresses, &[], 1);
    }

    fn notices(&self) -> Vec<Notice> {
        notices(self.directory.path()).split_off(self.earlier)
    }

    fn holdings(&self) -> Vec<Holding> {
        let holding = |notice| match notice {
            Notice::Holding(holding) => Some(*holding),
            _ => None,
        };
        self.notices().into_iter().filter_map(holding).collect()
    }

    /// What the guard said of what it holds since it was started.
    pub(crate) fn notices_of_this_run(&self) -> Vec<Holding> {
        self.holdings()
    }

    pub(crate) fn last_holding(&self) -> Holding {
        self.holdings().pop().expect("a guard that spoke")
    }

    pub(crate) fn answer(&self, sequence: u64) -> Option<Holding> {
        self.holdings().into_iter().find(|holding| holding.sequence == sequence)
    }

    pub(crate) fn reports(&self) -> Vec<Report> {
        let report = |notice| if let Notice::Report(report) = notice { Some(report) } else { None };
        self.notices().into_iter().filter_map(report).collect()
    }

    /// How many grants the agent was told of.
    pub(crate) fn grants(&self) -> usize {
        self.notices().iter().filter(|notice| matches!(notice, Notice::Lease { .. })).count()
    }

    pub(crate) fn released_epoch(&self) -> Option<u64> {
        self.notices().into_iter().find_map(|notice| match notice {
            Notice::ReleasedAll { epoch, .. } => Some(epoch),
            _ => None,
        })
    }

    pub(crate) fn agent(&self) -> i32 {
        let text = std::fs::read_to_string(self.directory.path().join("agents")).expect("an agent");
        text.lines().last().and_then(|line| line.parse().ok()).expect("its process id")
    }

    fn own_id(&self) -> i32 {
        self.process.id() as i32
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.own_id()), signal).expect("a running guard");
    }

    /// The reaper that was started last.
    pub(crate) fn reaper(&self) -> i32 {
        wait_for("a reaper", || {
            let text = std::fs::read_to_string(self.directory.path().join("reapers")).ok()?;
            text.lines().last().and_then(|line| line.parse().ok())
        })
    }

    pub(crate) fn signal_reaper(&self, signal: Signal) {
        kill(Pid::from_raw(self.reaper()), signal).expect("a running reaper");
    }

    /// Stops the guard and its agent.
    pub(crate) fn stop_both(&self) {
        self.signal(Signal::SIGSTOP);
        kill(Pid::from_raw(self.agent()), Signal::SIGSTOP).expect("a running agent");
    }

    /// Stops all processes of the node: the reaper first, so that it never acts.
    pub(crate) fn stop_all(&self) {
        self.signal_reaper(Signal::SIGSTOP);
        self.stop_both();
    }

    /// Lets them go on.
    pub(crate) fn go_on(&self) {
        self.signal_reaper(Signal::SIGCONT);
        kill(Pid::from_raw(self.agent()), Signal::SIGCONT).expect("a stopped agent");
        self.signal(Signal::SIGCONT);
    }

    pub(crate) fn kill_guard(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// The agent first: it would let go, and the guard would start another.
    pub(crate) fn kill_both(&mut self) {
        let agent = self.agent();
        self.signal(Signal::SIGSTOP);
        kill(Pid::from_raw(agent), Signal::SIGKILL).expect("a running agent");
        self.kill_guard();
    }

    /// Without anybody who would let go.
    pub(crate) fn kill_all(&mut self) {
        self.signal(Signal::SIGSTOP);
        self.signal_reaper(Signal::SIGKILL);
        self.kill_both();
    }

    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.process.try_wait().expect("a child")
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // Neither a reaper nor an agent that is stopped would see its guard's end.
        if let Ok(reapers) = std::fs::read_to_string(self.directory.path().join("reapers")) {
            let last = reapers.lines().last().and_then(|line| line.parse().ok());
            let ours = last.filter(|id| is_child_of(*id, self.own_id()));
            ours.map(|id| kill(Pid::from_raw(id), Signal::SIGCONT));
        }
        if let Ok(agents) = std::fs::read_to_string(self.directory.path().join("agents")) {
            let last = agents.lines().last().and_then(|line| line.parse().ok());
            let ours = last.filter(|id| is_child_of(*id, self.own_id()));
            ours.map(|id| kill(Pid::from_raw(id), Signal::SIGKILL));
        }
        self.kill_guard();
    }
}

fn is_child_of(id: i32, parent: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    let rest = stat.rsplit(')').next().unwrap_or_default();
    rest.split_whitespace().nth(1) == Some(&parent.to_string())
}
