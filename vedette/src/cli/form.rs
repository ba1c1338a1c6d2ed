//! How a cluster comes to be and nodes come: `init`, `join`, `seed` (spec A2, A3, A4, V10, V11).

use std::collections::BTreeMap;
use std::net::IpAddr;

use clap::Args;
use serde::Serialize;
use time::OffsetDateTime;
use vedette_collector::clinfo::told::{JoinedDoc, WouldJoinDoc};
use vedette_collector::clinfo::{LocalDoc, TAKE_IN_AGAIN, was_deleted};
use vedette_core::command::{Command, NewNetwork};
use vedette_core::config::{Config, NetworkConfig};
use vedette_core::id::{NetworkNumber, NodeNumber};
use vedette_core::model::Node;
use vedette_core::state::ClusterState;
use vedette_core::time::WallTime;
use vedette_node::identity::{StateDir, VERSION};
use vedette_node::join::{
    self, InitRequest, JoinError, JoinRequest, Joined, OfferedNetwork, Token,
};

use super::ask::Confirm;
use super::context::{Context, actor};
use super::fail::{FAILED, Failure, REFUSED, Result};
use super::host;
use super::text::{Style, Table, clean, length};

/// `vedette init`
#[derive(Debug, Args)]
#[command(after_help = "Reads the configuration of this node; the smallest one is:\n\n  \
    [cluster]\n  name = \"prod\"\n\n  \
    [[network]]\n  name = \"neta\"\n  address = \"10.0.1.1\"\n\n  \
    [[network]]\n  name = \"netb\"\n  address = \"10.0.2.1\"\n\n\
    Examples:\n  \
    vedette init\n  \
    vedette --config ./n1.toml init --yes")]
pub(crate) struct InitArgs {
    #[command(flatten)]
    confirm: Confirm,
}

/// `vedette join`
#[derive(Debug, Args)]
#[command(
    after_help = "The token is what `vedette node add NODE` printed on a member. A mismatch of version \
    or settings is refused before anything changes.\n\n\
    Examples:\n  \
    vedette join TOKEN --check\n  \
    vedette join TOKEN\n  \
    vedette join TOKEN --yes && systemctl start vedette"
)]
pub(crate) struct JoinArgs {
    /// The token
    token: String,
    /// Only ask whether this node would be taken in; change nothing
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    confirm: Confirm,
}

/// `vedette seed`
#[derive(Debug, Args)]
#[command(
    after_help = "For a cluster that waits in vain for nodes that cannot come. The others join by \
    themselves later. A majority of the voters must be there: seeding does not replace it.\n\n\
    Examples:\n  vedette seed\n  vedette seed --yes"
)]
pub(crate) struct SeedArgs {
    #[command(flatten)]
    confirm: Confirm,
}

/// Forms a cluster with this node as its first member.
pub(crate) fn init(context: &Context, arguments: &InitArgs) -> Result<u8> {
    let config = context.config()?;
    if let Ok(own) = StateDir::new(&config.state_dir).identity()
        && (&own.cluster_name, &own.name) == (&config.cluster, &config.name)
    {
        let what = format!("{} is number {} of {} already", own.name, own.number, own.cluster_name);
        return context.unchanged(what);
    }
    let addresses = host::addresses(&config)?;
    let number = config.number.unwrap_or(NodeNumber(1));
    let plan = format!(
        "A new cluster {} will be formed, with {} (number {number}) as its first member:\n{}\
         A silent node is declared down after {}. State is kept in {}.",
        config.cluster,
        config.name,
        networks(&config, &addresses).render(Style::PLAIN, 2),
        length(config.settings.timing.detect()),
        config.state_dir.display()
    );
    arguments.confirm.ask(&plan, "Form it?")?;
    let request = InitRequest {
        state_dir: config.state_dir.clone(),
        cluster_name: config.cluster.clone(),
        node_name: config.name.clone(),
        number,
        networks: config.networks.iter().map(|(at, network)| (*at, defined(network))).collect(),
        addresses,
        settings: config.settings.clone(),
        now: wall_time(),
        actor: actor(),
    };
    let identity = join::init(&request).map_err(not_joined)?;
    let sentence = format!(
        "{} is formed, and {} is its first member. Start its daemon: systemctl start vedette, or \
         vedette daemon.",
        config.cluster, config.name
    );
    let document = JoinedDoc {
        cluster: identity.cluster,
        message: sentence,
        name: config.cluster,
        node: config.name,
        number,
    };
    tell(context, &document, &document.message)
}

fn defined(network: &NetworkConfig) -> NewNetwork {
    NewNetwork {
        name: network.name.clone(),
        priority: network.priority,
        beat_port: network.beat_port,
        peer_port: network.peer_port,
        ping: network.ping,
    }
}

/// This node's networks and addresses.
fn networks(config: &Config, addresses: &BTreeMap<NetworkNumber, IpAddr>) -> Table {
    let mut table =
        Table::new(&["NETWORK", "ADDRESS", "PRIORITY", "HEARTBEATS", "PEERS", "MONITORED"]);
    for (number, network) in &config.networks {
        table.row(vec![
            (&network.name).into(),
            addresses.get(number).map_or("-".into(), ToString::to_string).into(),
            network.priority.into(),
            format!("udp {}", network.beat_port).into(),
            format!("tcp {}", network.peer_port).into(),
            "yes".into(),
        ]);
    }
    table
}

/// The present time of this host.
fn wall_time() -> WallTime {
    let micros = OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000;
    WallTime(i64::try_from(micros).unwrap_or(i64::MAX))
}

/// Makes this node a member, or asks whether it would be one.
pub(crate) fn join(context: &Context, arguments: &JoinArgs) -> Result<u8> {
    let token: Token =
        arguments.token.trim().parse().map_err(|error| not_joined(JoinError::Token(error)))?;
    let config = context.config()?;
    if let Some(number) = config.number.filter(|number| *number != token.number) {
        return Err(Failure::refused(
            format!(
                "the token is for number {}, but this node's configuration says {number}",
                token.number
            ),
            format!(
                "Correct the number in vedette.toml, or get a token for it on a member: vedette \
                 node add {} --number {number}.",
                config.name
            ),
        ));
    }
    let addresses = host::addresses(&config)?;
    let mut request = JoinRequest {
        state_dir: config.state_dir.clone(),
        node_name: config.name.clone(),
        networks: offered(&config, &addresses),
        version: VERSION.to_owned(),
        clock: wall_time,
        dry_run: true,
        token,
    };
    let plan = plan_of_join(&request, &config, &addresses);
    // The cluster is asked first (A4): nobody should confirm what would be refused.
    if arguments.check || !arguments.confirm.yes {
        ask_cluster(&request)?;
    }
    if arguments.check {
        let sentence = format!("{} would be taken in. Nothing was changed.", config.name);
        let document = WouldJoinDoc { message: sentence, node: config.name };
        return tell(context, &document, &document.message);
    }
    arguments.confirm.ask(&plan, "Join?")?;
    request.dry_run = false;
    let joined = ask_cluster(&request)?;
    let number = request.token.number;
    let cluster = match &joined {
        Joined::Member(identity) => identity.cluster_name.clone(),
        Joined::WouldJoin => request.token.cluster.to_string(),
    };
    let sentence = format!(
        "{} is number {number} of {}. Start its daemon: systemctl start vedette, or vedette daemon.",
        config.name,
        clean(&cluster)
    );
    let document = JoinedDoc {
        cluster: request.token.cluster,
        message: sentence,
        name: cluster,
        node: config.name,
        number,
    };
    tell(context, &document, &document.message)
}

fn offered(
    config: &Config,
    addresses: &BTreeMap<NetworkNumber, IpAddr>,
) -> BTreeMap<String, OfferedNetwork> {
    let offer = |(number, network): (&NetworkNumber, &NetworkConfig)| {
        let address = *addresses.get(number)?;
        let (beat_port, peer_port) = (network.beat_port, network.peer_port);
        Some((network.name.clone(), OfferedNetwork { address, beat_port, peer_port }))
    };
    config.networks.iter().filter_map(offer).collect()
}

/// Whom this node will join, and with what (spec A3).
fn plan_of_join(
    request: &JoinRequest,
    config: &Config,
    addresses: &BTreeMap<NetworkNumber, IpAddr>,
) -> String {
    let members: Vec<String> = request.token.members.iter().map(ToString::to_string).collect();
    format!(
        "{} will join cluster {} as number {}, through {}, with these interfaces:\n{}\
         State is kept in {}. The token can be used until {}.",
        config.name,
        request.token.cluster,
        request.token.number,
        members.join(", "),
        networks(config, addresses).render(Style::PLAIN, 2),
        config.state_dir.display(),
        request.token.expires_at
    )
}

fn ask_cluster(request: &JoinRequest) -> Result<Joined> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| {
        Failure::failed(format!("no request can be made: {error}"), "Free some resources.")
    })?;
    runtime.block_on(join::join(request)).map_err(not_joined)
}

/// Why this node is no member. The sentences come from where the reason was found.
fn not_joined(error: JoinError) -> Failure {
    if let JoinError::Refused(refusal) = error {
        return refusal.into();
    }
    let exit = match error {
        JoinError::Token(_) | JoinError::WrongNode { .. } => REFUSED,
        _ => FAILED,
    };
    let text = error.to_string();
    let (what, advice) = text.split_once(". ").unwrap_or((&text, "See vedette join --help."));
    Failure::failed(what, advice).exiting(exit)
}

/// Starts a waiting cluster with the nodes that are there.
pub(crate) fn seed(context: &Context, arguments: &SeedArgs) -> Result<u8> {
    let (state, local) = (context.state()?, context.local()?);
    if was_deleted(&state, NodeNumber(local.number), local.quorate, &local.stage) {
        return Err(deleted(&state));
    }
    if !local.knows {
        return Err(cannot_seed(&state, &local));
    }
    if state.seeded {
        return context.unchanged(state.seeded_already().what);
    }
    let missing: Vec<&str> = state.missing_nodes().iter().map(|node| node.name.as_str()).collect();
    let plan = format!(
        "{} waits for {}.\nIt will start without them. If they run elsewhere, cut off from here, \
         both parts could be in charge at once: make sure that they are off.",
        clean(&state.name),
        clean(&missing.join(", "))
    );
    arguments.confirm.ask(&plan, "Start without them?")?;
    let done = context.order(&Command::Seed)?;
    context.done(&format!("{} starts with the nodes that are there.", clean(&state.name)), &done)
}

/// Why a node that was deleted cannot seed: no majority would make it a member again.
pub(crate) fn deleted(state: &ClusterState) -> Failure {
    let name = clean(&state.name);
    Failure::refused(
        format!(
            "this node was deleted from {name} and is no member of it any more, so it has nothing to \
             seed"
        ),
        format!("To take it in again: {TAKE_IN_AGAIN}."),
    )
}

/// Why a node that does not know the cluster cannot seed it. What its state says of a start may be long
/// over; who votes is all that is taken from it.
pub(crate) fn cannot_seed(state: &ClusterState, local: &LocalDoc) -> Failure {
    let (own, name) = (clean(&local.node), clean(&state.name));
    let heard = |node: &Node| {
        let peer = local.peers.iter().find(|peer| peer.number == node.number.0);
        node.number.0 == local.number || peer.is_some_and(|peer| !peer.heard_on.is_empty())
    };
    let voters: Vec<&Node> = state.voters().collect();
    let silent: Vec<&str> =
        voters.iter().filter(|node| !heard(node)).map(|node| node.name.as_str()).collect();
    let (there, needed) = (voters.len() - silent.len(), voters.len() / 2 + 1);
    if there >= needed {
        return Failure::unknown(
            format!("{own} does not know whether {name} runs: it waits for a director"),
            "Try again in a moment; vedette status says what is missing.",
        );
    }
    let who = clean(&silent.join(", "));
    let back = match (needed - there, silent.len()) {
        (_, 1) => who.clone(),
        (more, _) => format!("{more} of {who}"),
    };
    Failure::refused(
        format!(
            "{name} cannot go on here: a majority of its voters is missing ({there} of {} are there, \
             {needed} are needed; {who} not), and seeding does not replace it",
            voters.len()
        ),
        format!(
            "Bring back {back}: then it goes on by itself. To delete members that never come back \
             (vedette node delete) needs the same majority."
        ),
    )
}

/// Tells that something was done.
fn tell(context: &Context, document: &impl Serialize, sentence: &str) -> Result<u8> {
    if context.json() {
        return context.render(document, |_| String::new());
    }
    context.print(&format!("{sentence}\n"))?;
    Ok(0)
}
