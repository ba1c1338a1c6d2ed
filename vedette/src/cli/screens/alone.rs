//! Screens of a node that lost all others: UNKNOWN of what they would have to confirm, and what was
//! known last beside it, within 80 columns.

use std::time::Duration;

use vedette_collector::clinfo::{
    AlertsDoc, GroupDoc, LinkDoc, LocalDoc, LocalRecordDoc, LocalRecordsDoc, ManagerDoc,
    NetworkDoc, NodeDoc, PortDoc, ScriptDoc, Seen, StatusDoc, was_deleted,
};
use vedette_core::fixture::{Fixture, alone, busy_fixture};
use vedette_core::id::NodeNumber;
use vedette_core::view::View;

use super::super::text::Style;
use super::super::{alert, event, form, group, history, network, node, status};
use super::{NOW, SCREEN, expect_narrow, now};

const NARROW: Style = Style { width: 80, ..SCREEN };

fn lost() -> View {
    alone(&busy_fixture(), NodeNumber(1))
}

fn seen(view: &View) -> Seen<'_> {
    Seen { view, now: NOW, stale: Duration::from_secs(11) }
}

/// A8, T2: a node that is cut off says so instead of what it last heard.
#[test]
fn status_of_a_node_that_is_cut_off() {
    let screen = status::screen(&StatusDoc::new(seen(&lost())), NARROW);
    expect_narrow("status_cut_off.txt", &screen);
    for line in screen.lines() {
        let claims = ["ONLINE", " UP", "3 of 3"].iter().any(|word| line.contains(word));
        let told = line.contains("UNKNOWN") || line.starts_with("12:0");
        assert!(told || !claims, "it claims: {line}");
    }
}

#[test]
fn lists_on_a_node_alone() {
    let view = lost();
    let nodes = NodeDoc::all(&view);
    let mut text = status::nodes(&nodes, &now(), false).render(NARROW, 0);
    for node in &nodes[..2] {
        text.push_str(&format!("\n{}", node::screen(node, &now(), NARROW)));
    }
    expect_narrow("alone_nodes.txt", &text);
    let groups = GroupDoc::all(&view);
    let mut text = group::list_screen(&groups, &now(), NARROW);
    text.push_str(&format!("\n{}", group::screen(&groups[1], &now(), NARROW)));
    expect_narrow("alone_groups.txt", &text);
    let networks = NetworkDoc::all(&view);
    let mut text = status::networks(&networks, &now()).render(NARROW, 0);
    text.push_str(&format!("\n{}", network::network_screen(&networks[0], &now(), NARROW)));
    expect_narrow("alone_networks.txt", &text);
    let links = network::link_screen(&nodes, &LinkDoc::all(&view), &now(), NARROW);
    expect_narrow("alone_links.txt", &links);
    let ports = PortDoc::all(&view);
    let ports = network::port_screen("prod", &LocalDoc::new(seen(&view)), &ports, NARROW);
    expect_narrow("alone_ports.txt", &ports);
    let manager = event::screen(&ManagerDoc::new(seen(&view)), &now(), NARROW);
    expect_narrow("alone_events.txt", &manager);
}

/// A14: nobody takes a script for idle of which only the text is known.
#[test]
fn alerts_on_a_node_alone() {
    let view = lost();
    let (script, alerts) = (ScriptDoc::new(&view), AlertsDoc::new(&view));
    let screen = alert::show_screen(&script, &alerts, &now(), NARROW);
    let waiting = "How many alerts are waiting for it is not known, 1 was delivered.\n";
    assert_eq!(screen.lines().nth(1), waiting.lines().next(), "{screen}");
}

/// A status says once how many voters are there: as many as the node itself sees.
#[test]
fn voters_are_counted_once() {
    let mut document = StatusDoc::new(seen(&lost()));
    let screen = status::screen(&document, NARROW);
    assert!(screen.contains("\nwaits for a majority: 1 of 3 voters is there"), "{screen}");
    assert!(!screen.contains("voters are there is not known"), "{screen}");
    document.waiting_for.clear();
    let screen = status::screen(&document, NARROW);
    assert!(screen.contains("\nvotes     how many of 3 voters are there is not known"), "{screen}");
}

/// The journal of a node, which it can always tell.
#[test]
fn the_journal() {
    let view = lost();
    let records: Vec<_> =
        view.local.journal.iter().map(|record| LocalRecordDoc::new(&view, record)).collect();
    let mut page = LocalRecordsDoc { node: "n1".into(), records, next_after: 1, last: 1 };
    expect_narrow("history_local.txt", &history::local_screen(&page, &now(), NARROW));
    page.records.clear();
    let nothing = "n1 has written nothing into its journal yet.\n";
    assert_eq!(history::local_screen(&page, &now(), NARROW), nothing);
}

/// T5: a lone survivor is told who is missing, that seeding does not help, and what does.
#[test]
fn seeding_does_not_replace_a_majority() {
    let view = alone(&Fixture::with_groups(), NodeNumber(1));
    let local = LocalDoc::new(seen(&view));
    let failure = form::cannot_seed(view.last_known(), &local);
    assert_eq!(
        failure.to_string(),
        "vedette: prod cannot go on here: a majority of its voters is missing (1 of 3 are there, 2 \
         are needed; n2, n3 not), and seeding does not replace it.\n\
         Bring back 1 of n2, n3: then it goes on by itself. To delete members that never come back \
         (vedette node delete) needs the same majority."
    );
    let two = alone(&Fixture::settled(2), NodeNumber(1));
    let failure = form::cannot_seed(two.last_known(), &LocalDoc::new(seen(&two)));
    assert!(failure.advice.starts_with("Bring back n2: then it goes on by itself."), "{failure}");
}

/// F15: a node that was deleted is told that, and not to bring back others: they would not help it.
#[test]
fn a_deleted_node_has_nothing_to_seed() {
    let view = alone(&Fixture::with_groups(), NodeNumber(1));
    let is_deleted = |view: &View| {
        let local = &view.local;
        was_deleted(view.last_known(), local.node, local.quorate, local.stage)
    };
    assert!(!is_deleted(&view), "it is only alone");
    let mut told = view.clone();
    told.local.stage = "deleted";
    let mut left_out = view;
    left_out.local.node = NodeNumber(9);
    assert!(is_deleted(&told) && is_deleted(&left_out));
    left_out.local.quorate = true;
    assert!(!is_deleted(&left_out), "it is being taken in");
    assert_eq!(
        form::deleted(told.last_known()).to_string(),
        "vedette: this node was deleted from prod and is no member of it any more, so it has nothing \
         to seed.\n\
         To take it in again: end this daemon, move its state directory away, vedette node add NODE \
         on a member, vedette join TOKEN here."
    );
}
