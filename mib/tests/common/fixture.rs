//! A cluster to show: three nodes, two networks, made by applying commands as a real one is. The
//! third node loses an interface, then is lost itself.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use vedette_core::command::{Change, Command, NewNetwork, NewNode, Proposal};
use vedette_core::fixture::{DOWN_AT, Fixture, busy_fixture, watched_fixture};
use vedette_core::group::GroupState;
use vedette_core::id::{
    ClusterId, CommandId, Hash, NetworkNumber, NodeNumber, RaftId, Session, StorageId,
};
use vedette_core::local::{Draft, LocalRecord, Phase, Stamp};
use vedette_core::local_view::{JournalHealth, Local, LogView, RaisedCondition};
use vedette_core::model::{
    AgentStatus, HostStatus, InterfaceStatus, Link, LinkStatus, NetworkStatus, Priority, Role,
    Settings, Severity,
};
use vedette_core::observation::{LinkView, PeerView, Report};
use vedette_core::record::{Code, Record, Subject};
use vedette_core::state::{ClusterState, Outcome};
use vedette_core::time::WallTime;
use vedette_core::view::{Source, View};

/// 2024-02-29T12:34:56Z.
const START: WallTime = WallTime(1_709_210_096_000_000);

/// A cluster that changes by commands, and what its first node shows of it.
pub struct World {
    inner: Mutex<Inner>,
}

struct Inner {
    state: ClusterState,
    index: u64,
    records: Vec<Arc<Record>>,
    journal: Vec<Arc<LocalRecord>>,
    view: Arc<View>,
}

impl Inner {
    /// Shows the state as it is now.
    fn publish(&mut self) {
        let view = view(&self.state, &self.records);
        self.show(view);
    }

    /// Shows `view` with the journal as it is now.
    fn show(&mut self, mut view: View) {
        view.local.journal_health.last = self.journal.last().map_or(0, |record| record.number);
        view.local.journal = self.journal.as_slice().into();
        self.view = Arc::new(view);
    }
}

impl World {
    /// A world before its first command.
    pub fn empty() -> Self {
        let state = ClusterState::default();
        let view = Arc::new(view(&state, &[]));
        Self {
            inner: Mutex::new(Inner {
                state,
                index: 0,
                records: Vec::new(),
                journal: Vec::new(),
                view,
            }),
        }
    }

    /// Three nodes on two networks; the third is down.
    pub fn three_nodes() -> Self {
        let world = Self::empty();
        world.form("sentry", 2);
        world.add(2, 2);
        world.add(3, 2);
        world.apply(Command::Office { director: NodeNumber(1), term: 2, continuity: false });
        world.apply(Command::Voters { voters: (1..=3).map(NodeNumber).collect() });
        world.all_up(3, 2);
        world.observe(vec![Change::Interface {
            node: NodeNumber(3),
            network: NetworkNumber(2),
            to: InterfaceStatus::Down,
            cause: "no beat of n3 on netb at n1 and n2 for 1000 ms".into(),
        }]);
        world.host(3, HostStatus::Down);
        world
    }

    /// The busy cluster that every surface shows: groups, an event in progress, failures.
    pub fn busy() -> Self {
        Self::of(busy_fixture())
    }

    /// The cluster that watches values, as every surface shows it.
    pub fn watched() -> Self {
        Self::of(watched_fixture())
    }

    fn of(fixture: Fixture) -> Self {
        let view = Arc::new(fixture.view(NodeNumber(1)));
        let (state, records) = (fixture.state, fixture.records);
        let inner = Inner { state, index: 1_000, records, journal: Vec::new(), view };
        Self { inner: Mutex::new(inner) }
    }

    /// The busy cluster as its director shows it when it hears nobody any more.
    pub fn alone() -> Self {
        let world = Self::busy();
        let mut inner = world.inner.lock().expect("lock");
        let mut view = (*inner.view).clone();
        lose_everybody(&mut view.local);
        inner.journal = journal();
        let mut shown = view.shown();
        shown.local.journal_health =
            JournalHealth { accounted: 1, dropped: 2, ..Default::default() };
        inner.show(shown);
        drop(inner);
        world
    }

    /// Writes into the journal of the first node.
    pub fn write(&self, content: Draft) {
        let mut inner = self.inner.lock().expect("lock");
        let last = inner.journal.last().map_or((0, Hash::default()), |it| (it.number, it.hash));
        let stamp = stamp(last.0);
        inner.journal.push(Arc::new(LocalRecord::new(last.0 + 1, stamp, content, last.1)));
        let view = (*inner.view).clone();
        inner.show(view);
    }

    pub fn form(&self, name: &str, networks: u8) {
        let network = |number: u8| NewNetwork {
            name: network_name(number),
            priority: if number == 1 { Priority::High } else { Priority::Low },
            beat_port: 7770,
            peer_port: 7771,
            ping: None,
        };
        self.apply(Command::Form {
            cluster: ClusterId([0x5e; 16]),
            name: name.into(),
            settings: Settings { seed_count: 2, ..Settings::default() },
            networks: (1..=networks).map(|n| (NetworkNumber(n), network(n))).collect(),
            first: new_node(1, networks),
            raft_id: RaftId(1),
        });
    }

    pub fn add(&self, number: u16, networks: u8) {
        let hash = Hash::of(&number.to_be_bytes());
        self.apply(Command::IssueToken {
            hash,
            name: format!("n{number}"),
            number: NodeNumber(number),
            expires_at: START.plus(Duration::from_secs(864_000)),
        });
        self.apply(Command::AddNode { node: new_node(number, networks), token: hash });
    }

    /// Everything is well, with every link.
    pub fn all_up(&self, nodes: u16, networks: u8) {
        let cause = || "heard by all".to_owned();
        let mut changes = Vec::new();
        for number in 1..=networks {
            let network = NetworkNumber(number);
            changes.push(Change::Network { network, to: NetworkStatus::Up, cause: cause() });
        }
        for node in (1..=nodes).map(NodeNumber) {
            let (to, planned) = (HostStatus::Up, false);
            changes.push(Change::Host { node, to, planned, cause: cause(), silent_ms: None });
            changes.push(Change::Agent { node, to: AgentStatus::Running, cause: cause() });
            for network in (1..=networks).map(NetworkNumber) {
                let to = InterfaceStatus::Up;
                changes.push(Change::Interface { node, network, to, cause: cause() });
                for low in (1..node.0).map(NodeNumber) {
                    let to = LinkStatus::Up;
                    changes.push(Change::Link { low, high: node, network, to, cause: cause() });
                }
            }
        }
        self.observe(changes);
    }

    pub fn host(&self, node: u16, to: HostStatus) {
        let cause = "no beat on any network at n1 and n2 for 1000 ms".into();
        self.observe(vec![Change::Host {
            node: NodeNumber(node),
            to,
            planned: false,
            cause,
            silent_ms: None,
        }]);
    }

    pub fn observe(&self, changes: Vec<Change>) {
        self.apply(Command::Observe { changes });
    }

    /// Applies a command and publishes the view.
    pub fn apply(&self, command: Command) {
        let mut inner = self.inner.lock().expect("lock");
        let index = inner.index + 1;
        let proposal = Proposal {
            id: CommandId(u128::from(index).to_be_bytes()),
            at: START.plus(Duration::from_millis(index * 1_500)),
            origin: NodeNumber(1),
            actor: "director".into(),
            command,
            tick: None,
        };
        inner.index = index;
        let applied = inner.state.apply(index, &proposal);
        assert!(matches!(applied.outcome, Outcome::Applied { .. }), "{:?}", applied.outcome);
        inner.records.extend(applied.records.into_iter().map(Arc::new));
        inner.publish();
    }

    /// Changes what is shown without the core, to make more of it than a real cluster has.
    pub fn tamper(&self, change: impl FnOnce(&mut ClusterState)) {
        let mut inner = self.inner.lock().expect("lock");
        change(&mut inner.state);
        inner.publish();
    }

    /// `count` links, as many as it takes for a table of that many rows.
    pub fn links(&self, count: usize) {
        let pairs = (1..=u16::MAX).flat_map(|high| (1..high).map(move |low| (low, high)));
        let link = |(low, high): (u16, u16)| Link {
            low: NodeNumber(low),
            high: NodeNumber(high),
            network: NetworkNumber(1),
            status: LinkStatus::Up,
            since: START,
        };
        let mut links: Vec<Link> = pairs.take(count).map(link).collect();
        links.sort_by_key(Link::key);
        self.tamper(|state| state.links = links);
    }

    pub fn head(&self) -> u64 {
        self.inner.lock().expect("lock").state.seq
    }
}

impl Source for World {
    fn view(&self) -> Arc<View> {
        Arc::clone(&self.inner.lock().expect("lock").view)
    }

    fn stale(&self) -> Duration {
        Duration::ZERO
    }

    fn records_after(&self, seq: u64, most: usize) -> Vec<Arc<Record>> {
        let records = &self.inner.lock().expect("lock").records;
        records.iter().filter(|record| record.seq > seq).take(most).cloned().collect()
    }
}

/// When the node of [`World::alone`] lost its quorum.
const LOST: WallTime = WallTime(DOWN_AT.0 + 60_000_000);

/// Nobody is heard, and nothing is held any more.
fn lose_everybody(local: &mut Local) {
    local.quorate = false;
    local.host = HostStatus::Disconnected;
    local.unknown_since = Some(LOST);
    local.waiting_for = "n2 or n3".into();
    let mut report = local.report.as_deref().expect("a report").clone();
    for link in &mut report.links {
        (link.inbound, link.outbound) = (false, false);
    }
    for peer in &mut report.peers {
        *peer = PeerView::unheard(peer.peer);
    }
    local.report = Some(Arc::new(report));
    let released = local.groups.keys().map(|name| (name.clone(), GroupState::Offline)).collect();
    local.groups = Arc::new(released);
    local.conditions = Arc::new([RaisedCondition {
        code: Code::QuorumLost,
        subject: N1,
        subject_name: "n1".into(),
        severity: Severity::Error,
        message: "n1 has no quorum".into(),
        cause: "it waits for n2 or n3, which are silent on neta and netb".into(),
        since: LOST,
    }]);
}

const N1: Subject = Subject::Node(NodeNumber(1));

/// What a node writes down.
pub fn draft(code: Code, phase: Phase, message: &str, cause: &str) -> Draft {
    Draft {
        code,
        phase,
        severity: if phase == Phase::Cleared { Severity::Notice } else { Severity::Error },
        subject: N1,
        subject_name: "n1".into(),
        message: message.into(),
        cause: cause.into(),
        duration_ms: (phase == Phase::Cleared).then_some(15_000),
        times: 1,
        alert: false,
    }
}

fn stamp(number: u64) -> Stamp {
    let after = Duration::from_millis(number * 800);
    Stamp { at: LOST.plus(after), uptime_us: 7_000_000, boot: Hash([4; 32]), session: Session(7) }
}

/// A journal of the node that is alone.
fn journal() -> Vec<Arc<LocalRecord>> {
    let group = Draft {
        severity: Severity::Warning,
        subject: Subject::Group(1),
        subject_name: "web".into(),
        duration_ms: Some(12),
        ..draft(Code::GroupReleased, Phase::Happened, "n1 let go of web", "its lease ended")
    };
    let contents = [
        draft(Code::SnmpAway, Phase::Raised, "snmpd of n1 is away", "connection refused"),
        draft(Code::SnmpAway, Phase::Cleared, "snmpd of n1 is back", "after 15.0 s"),
        draft(
            Code::QuorumLost,
            Phase::Raised,
            "n1 has no quorum",
            "it waits for n2 or n3, which are silent on neta and netb",
        ),
        group,
    ];
    let mut last = Hash::default();
    let record = |(number, content)| {
        let record = LocalRecord::new(number, stamp(number), content, last);
        last = record.hash;
        Arc::new(record)
    };
    (1..).zip(contents).map(record).collect()
}

fn network_name(number: u8) -> String {
    format!("net{}", char::from(b'a' + number - 1))
}

fn new_node(number: u16, networks: u8) -> NewNode {
    let address = |network: u8| {
        let [high, low] = number.to_be_bytes();
        IpAddr::V4(Ipv4Addr::new(10, network, high, low))
    };
    let addresses: BTreeMap<_, _> =
        (1..=networks).map(|n| (NetworkNumber(n), address(n))).collect();
    NewNode {
        number: NodeNumber(number),
        name: format!("n{number}"),
        storage: StorageId([number as u8; 16]),
        version: "0.1.0".into(),
        addresses,
    }
}

fn view(state: &ClusterState, records: &[Arc<Record>]) -> View {
    let recent = records.len().saturating_sub(View::RECENT);
    View {
        state: Arc::new(state.clone()),
        recent: records[recent..].into(),
        known: None,
        viewpoint: 0,
        local: Local {
            node: NodeNumber(1),
            session: Session(7),
            lease: true,
            quorate: true,
            director: true,
            role: Role::Voter,
            host: HostStatus::Up,
            agent: AgentStatus::Running,
            stage: "running",
            waiting_for: String::new(),
            report: Some(Arc::new(report())),
            clocks: Arc::default(),
            history_seq: state.seq,
            agentx: Some(true),
            monitors: Arc::default(),
            unknown_since: None,
            presented: true,
            groups: Arc::default(),
            conditions: Arc::default(),
            journal: Arc::default(),
            journal_health: JournalHealth::default(),
            log: LogView::default(),
        },
    }
}

/// What the first node measures of its link to the second.
fn report() -> Report {
    Report {
        observer: NodeNumber(1),
        session: Session(7),
        sequence: 1,
        self_suspect: false,
        made_us: 0,
        lease: true,
        voters: 0,
        timing: None,
        directed: true,
        epoch: 1,
        released: false,
        continuity: true,
        agent: AgentStatus::Running,
        position: 4_711,
        peers: vec![PeerView {
            agent: AgentStatus::Running,
            clock_offset_us: Some(-1_500),
            position: 4_709,
            position_max: 4_709,
            ..PeerView::unheard(NodeNumber(2))
        }],
        links: vec![LinkView {
            peer: NodeNumber(2),
            network: NetworkNumber(1),
            inbound: true,
            outbound: true,
            silent: Some(Duration::from_millis(40)),
            rtt_us: Some(180),
            lost: 2,
            received: 4_200,
            narrow: false,
        }],
        interfaces: Vec::new(),
    }
}
