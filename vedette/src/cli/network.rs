//! `vedette network`, `link` and `port`: the communication beneath the cluster, in the texts that
//! operators of older systems know: `lssrc -ls topsvcs` (spec H5), `lltstat -nvv` (V6),
//! `gabconfig -a` (V8) and `lssrc -ls grpsvcs` (H10).

use clap::{Args, Subcommand};
use vedette_collector::clinfo::{LinkDoc, LocalDoc, NetworkDoc, NodeDoc, PortDoc, StatusDoc};
use vedette_core::model::{LinkStatus, NetworkStatus};

use super::context::Context;
use super::fail::{REFUSED, Result};
use super::node::segment;
use super::status;
use super::text::{Cell, Style, Table, age, clean, clock, length, millis};

/// `vedette network`
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:\n  vedette network list\n  vedette network show neta")]
pub(crate) enum NetworkCommand {
    /// List the networks
    #[command(after_help = "Exit status 1 if a network is DOWN, 3 if this node does not know.\n\n\
        Examples:\n  vedette network list\n  vedette network list -o json")]
    List,
    /// Show one network: its group, interval and sensitivity
    Show(ShowArgs),
}

/// `vedette network show`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  vedette network show neta\n  vedette network show neta -o json"
)]
pub(crate) struct ShowArgs {
    /// Its name
    #[arg(add = super::complete::networks())]
    network: String,
}

/// `vedette link`
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:\n  vedette link list\n  vedette link list --check")]
pub(crate) enum LinkCommand {
    /// List every node on every network with its address, and every path between two nodes
    List(LinkArgs),
}

/// `vedette link list`
#[derive(Debug, Args)]
#[command(
    after_help = "Exit status 1 if a link is DOWN or ONE_WAY, 3 if this node does not know.\n\n\
    Examples:\n  \
    vedette link list\n  \
    vedette link list --check || mail -s 'links' root   # for cron: silent while all is well\n  \
    vedette link list -o json"
)]
pub(crate) struct LinkArgs {
    /// Show only what is not as it should be
    #[arg(long)]
    check: bool,
}

/// `vedette port`
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:\n  vedette port list\n  vedette port list -o json")]
pub(crate) enum PortCommand {
    /// List the ports with generation and membership
    #[command(
        after_help = "Port a is communication itself, h the cluster manager; each network has \
        one of its own.\nIn a membership, digits stand at their place and `;` marks tens.\n\n\
        Examples:\n  vedette port list\n  vedette port list -o json"
    )]
    List,
}

/// Carries out a command on networks.
pub(crate) fn run_network(context: &Context, command: NetworkCommand) -> Result<u8> {
    match command {
        NetworkCommand::List => {
            let networks = context.show("/api/v1/networks", |networks: &Vec<NetworkDoc>| {
                status::networks(networks, &context.now()).render(context.style, 0)
            })?;
            let down = networks.iter().any(|network| network.status == NetworkStatus::Down);
            Ok(if down { REFUSED } else { 0 })
        }
        NetworkCommand::Show(arguments) => show(context, &arguments.network),
    }
}

fn show(context: &Context, wanted: &str) -> Result<u8> {
    let path = format!("/api/v1/networks/{}", segment(wanted));
    context.show(&path, |network: &NetworkDoc| {
        network_screen(network, &context.now(), context.style)
    })?;
    Ok(0)
}

/// What `lssrc -ls topsvcs` shows of a network (spec H5).
pub(crate) fn network_screen(network: &NetworkDoc, now: &str, style: Style) -> String {
    let mut facts = Table::new(&["NETWORK", &clean(&network.name)]);
    let mut fact = |name: &str, value: Cell| facts.row(vec![name.into(), value]);
    fact("number", network.number.into());
    fact("status", status::known_or_last(network.status, network.last_known.as_ref(), now));
    fact(
        "  since",
        format!("{}, {} ago", clock(&network.since, now), age(&network.since, now)).into(),
    );
    fact("priority", network.priority.into());
    fact("group", (&network.group).into());
    fact("  status", Cell::status(network.group_status));
    fact("  generation", network.group_generation.into());
    fact("  nodes defined", network.nodes_defined.into());
    fact("  nodes in group", status::count_or_unknown(network.nodes_in_group).into());
    fact("  members", network.members.join(" ").into());
    let nobody = if network.nodes_in_group.is_some() { "none" } else { "not known" };
    fact("  leader", network.leader.as_deref().unwrap_or(nobody).into());
    let interval = std::time::Duration::from_millis(network.interval_ms);
    fact("interval", length(interval).into());
    fact("sensitivity", network.sensitivity.into());
    fact("heartbeats", format!("udp {}", network.beat_port).into());
    fact("peers", format!("tcp {}", network.peer_port).into());
    fact("ping target", network.ping.as_deref().unwrap_or("none").into());
    for standby in &network.standbys {
        let cause = if standby.cause.is_empty() {
            String::new()
        } else {
            format!(" ({})", clean(&standby.cause))
        };
        let how = format!("{} {}{cause}", standby.status, standby.address);
        fact(&format!("standby of {}", clean(&standby.node)), how.into());
    }
    facts.render(style, 0)
}

/// Carries out a command on links.
pub(crate) fn run_link(context: &Context, command: LinkCommand) -> Result<u8> {
    let LinkCommand::List(arguments) = command;
    let path = "/api/v1/links";
    let links = if context.json() {
        context.show(path, |_: &Vec<LinkDoc>| String::new())?
    } else {
        let client = context.client()?;
        let (links, nodes): (Vec<LinkDoc>, Vec<NodeDoc>) =
            (client.read(path)?, client.read("/api/v1/nodes")?);
        let bad: Vec<LinkDoc> = links.iter().filter(|link| is_bad(link)).cloned().collect();
        let screen = match (arguments.check, bad.is_empty()) {
            (true, true) => String::new(),
            (true, false) => paths(&bad, &context.now()).render(context.style, 0),
            (false, _) => link_screen(&nodes, &links, &context.now(), context.style),
        };
        context.print_screen(&screen)?;
        links
    };
    Ok(if links.iter().any(is_bad) { REFUSED } else { 0 })
}

fn is_bad(link: &LinkDoc) -> bool {
    matches!(link.status, LinkStatus::Down | LinkStatus::OneWay)
}

/// What `lltstat -nvv` shows (spec V6), then every path.
pub(crate) fn link_screen(nodes: &[NodeDoc], links: &[LinkDoc], now: &str, style: Style) -> String {
    let priority = |network: u8| {
        let link = links.iter().find(|link| link.network_number == network);
        link.map_or("-".to_owned(), |link| link.priority.to_string())
    };
    let mut table = Table::new(&["", "NODE", "STATE", "LINK", "STATUS", "PRIORITY", "ADDRESS"]);
    for node in nodes {
        for (place, interface) in node.interfaces.iter().enumerate() {
            let head = if place == 0 {
                vec![
                    Cell::from(if node.local { "*" } else { "" }),
                    format!("{} {}", node.number, node.name).into(),
                    Cell::status(node.host_status),
                ]
            } else {
                vec!["".into(), "".into(), "".into()]
            };
            let tail = vec![
                (&interface.network).into(),
                status::known_or_last(interface.status, interface.last_known.as_ref(), now),
                priority(interface.network_number).into(),
                (&interface.address).into(),
            ];
            table.row(head.into_iter().chain(tail).collect());
        }
    }
    format!("{}\n{}", table.render(style, 0), paths(links, now).render(style, 0))
}

/// Every path between two nodes; of this node's own also what it sees itself.
fn paths(links: &[LinkDoc], now: &str) -> Table {
    // With what was known last there is no room for since when it is not known, and for every count.
    let known = links.iter().all(|link| link.last_known.is_none());
    let columns: &[&str] = if known {
        &["PATH", "NETWORK", "STATUS", "SINCE", "HEARD", "RTT", "RECEIVED", "LOST"]
    } else {
        &["PATH", "NETWORK", "STATUS", "HEARD", "RTT", "LOST"]
    };
    let mut table = Table::new(columns);
    for link in links {
        let seen = link.seen.as_ref();
        let or_dash = |value: Option<String>| Cell::from(value.unwrap_or("-".into()));
        let heard = seen
            .map(|seen| seen.silent_ms.map_or("never".into(), |ms| format!("{} ago", millis(ms))));
        let rtt = seen.and_then(|seen| seen.rtt_ms).map(|rtt| format!("{rtt:.2} ms"));
        let mut row = vec![
            Cell::from(format!("{} - {}", link.low, link.high)),
            (&link.network).into(),
            status::known_or_last(link.status, link.last_known.as_ref(), now),
        ];
        if known {
            row.push(clock(&link.since, now).into());
        }
        row.extend([or_dash(heard), or_dash(rtt)]);
        if known {
            row.push(or_dash(seen.map(|seen| seen.received.to_string())));
        }
        row.push(or_dash(seen.map(|seen| seen.lost.to_string())));
        table.row(row);
    }
    table
}

/// Carries out a command on ports.
pub(crate) fn run_port(context: &Context, command: PortCommand) -> Result<u8> {
    let PortCommand::List = command;
    let path = "/api/v1/ports";
    if context.json() {
        context.show(path, |_: &Vec<PortDoc>| String::new())?;
        return Ok(0);
    }
    let client = context.client()?;
    let ports: Vec<PortDoc> = client.read(path)?;
    let status: StatusDoc = client.read("/api/v1/status")?;
    context.print_screen(&port_screen(
        &status.cluster.name,
        &status.local,
        &ports,
        context.style,
    ))?;
    Ok(0)
}

/// What `gabconfig -a` shows (spec V8), then what `lssrc -ls grpsvcs` does (H10).
pub(crate) fn port_screen(
    domain: &str,
    local: &LocalDoc,
    ports: &[PortDoc],
    style: Style,
) -> String {
    let widest = ports.iter().map(|port| port.name.chars().count()).max().unwrap_or(1);
    let mut text = format!("Port Memberships\n{}\n", "=".repeat(style.width.min(60)));
    for port in ports {
        text.push_str(&format!(
            "Port {:widest$} gen {:8x} membership {}{}\n",
            clean(&port.name),
            port.generation,
            clean(&port.membership),
            if port.known { "" } else { "  (others are not known)" }
        ));
    }
    text.push_str(&format!("\nDomain {}: {} groups\n", clean(domain), ports.len()));
    let mut groups = Table::new(&["GROUP", "PROVIDERS", "LOCAL", "MEMBERS"]);
    for port in ports {
        groups.row(vec![
            (&port.group).into(),
            status::count_or_unknown(port.known.then_some(port.numbers.len())).into(),
            usize::from(port.numbers.contains(&local.number)).into(),
            port.members.join(" ").into(),
        ]);
    }
    text.push_str(&groups.render(style, 0));
    text
}
