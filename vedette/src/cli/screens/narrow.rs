//! Every screen on a terminal of 40 columns: nothing is wider, and of a table nothing is lost.

use std::time::Duration;

use vedette_collector::clinfo::{
    GroupDoc, IncidentDoc, IncidentSummaryDoc, LinkDoc, ManagerDoc, NetworkDoc, NodeDoc, PortDoc,
    ScriptDoc, Seen, StatusDoc,
};
use vedette_core::fixture::{Fixture, alone, busy, busy_fixture, one_down};
use vedette_core::id::NodeNumber;
use vedette_core::placement::{WhatIf, what_if};
use vedette_core::view::View;

use super::super::text::{Style, fit};
use super::super::{alert, event, group, incident, network, node, rules, status};
use super::{NOW, compare, now};

const NARROW: Style = Style { colour: false, width: 40, cut: true };

fn seen(view: &View) -> Seen<'_> {
    Seen { view, now: NOW, stale: Duration::ZERO }
}

/// Every screen that is made of a view.
fn screens(view: &View) -> Vec<(&'static str, String)> {
    let (nodes, groups) = (NodeDoc::all(view), GroupDoc::all(view));
    let (networks, links) = (NetworkDoc::all(view), LinkDoc::all(view));
    let status = StatusDoc::new(seen(view));
    let script = ScriptDoc::new(view);
    let mut screens = vec![
        ("status", status::screen(&status, NARROW)),
        ("node list", status::nodes(&nodes, &now(), true).render(NARROW, 0)),
        ("group list", group::list_screen(&groups, &now(), NARROW)),
        ("network list", status::networks(&networks, &now()).render(NARROW, 0)),
        ("link list", network::link_screen(&nodes, &links, &now(), NARROW)),
        ("port list", network::port_screen("prod", &status.local, &PortDoc::all(view), NARROW)),
        ("event list", status::events(&status.events, &now()).render(NARROW, 0)),
        ("event show", event::screen(&ManagerDoc::new(seen(view)), &now(), NARROW)),
        ("alert versions", alert::versions_screen(&script, &now(), NARROW)),
        ("rules show", rules::show_screen(&view.state.rules, &now(), NARROW)),
        ("rules history", rules::history_screen(&view.state.rules, &now(), NARROW)),
    ];
    screens.extend(nodes.iter().map(|it| ("node show", node::screen(it, &now(), NARROW))));
    screens.extend(groups.iter().map(|it| ("group show", group::screen(it, &now(), NARROW))));
    let shown = |it| ("network show", network::network_screen(it, &now(), NARROW));
    screens.extend(networks.iter().map(shown));
    let supposed = WhatIf { down: vec![NodeNumber(2)], ..WhatIf::default() };
    let plan = what_if(&view.state, &supposed);
    screens.push(("group plan", group::plan_screen(&view.state, &plan, NARROW)));
    let records: Vec<_> = view.recent.iter().map(|record| (**record).clone()).collect();
    if let Some(last) = records.iter().rev().find_map(|record| record.incident) {
        let own: Vec<_> = records.into_iter().filter(|it| it.incident == Some(last)).collect();
        let document = IncidentDoc::build(&own, |node| view.state.node_name(node)).unwrap();
        screens.push(("incident show", incident::screen(&document, &now(), NARROW)));
        let list = [IncidentSummaryDoc::new(&document)];
        screens.push(("incident list", incident::list(&list, &now()).render(NARROW, 0)));
    }
    screens
}

#[test]
fn every_screen_fits_forty_columns() {
    let views = [
        busy(),
        one_down(),
        alone(&busy_fixture(), NodeNumber(1)),
        Fixture::failing_over().view(NodeNumber(2)),
    ];
    let mut wide = Vec::new();
    for (name, screen) in views.iter().flat_map(screens) {
        let shown = fit(&screen, NARROW);
        let too_wide = |line: &&str| line.chars().count() > NARROW.width;
        wide.extend(shown.lines().filter(too_wide).map(|line| format!("{name}: {line}")));
    }
    assert!(wide.is_empty(), "{wide:#?}");
}

#[test]
fn what_forty_columns_look_like() {
    let screens = screens(&busy());
    let text = |wanted: &str| {
        let all = screens.iter().filter(|(name, _)| *name == wanted);
        all.map(|(_, screen)| fit(screen, NARROW)).collect::<Vec<_>>().join("\n")
    };
    compare("narrow_status.txt", &text("status"));
    compare("narrow_group_show.txt", &text("group show"));
    compare("narrow_link_list.txt", &text("link list"));
}
