//! Screens of groups, events and incidents.

use std::time::Duration;

use vedette_collector::clinfo::{
    GroupDoc, IncidentDoc, IncidentSummaryDoc, Ledger, ManagerDoc, Seen, Wanted,
};
use vedette_core::command::{Command, ManagerCommand, Scope};
use vedette_core::fixture::{Fixture, busy};
use vedette_core::id::NodeNumber;
use vedette_core::placement::{WhatIf, what_if};

use super::super::{event, group, incident};
use super::{NOW, SCREEN, expect, now, status_of};

/// H24 to H28: where groups are, what became of them, what would be done with them.
#[test]
fn groups() {
    let fixture = Fixture::with_groups();
    let all = GroupDoc::all(&fixture.view(NodeNumber(1)));
    expect("group_list.txt", &group::list_screen(&all, &now(), SCREEN));
    let busy = busy();
    let all = GroupDoc::all(&busy);
    expect("group_list_busy.txt", &group::list_screen(&all, &now(), SCREEN));
    let screens: Vec<String> =
        all.iter().map(|group| group::screen(group, &now(), SCREEN)).collect();
    expect("group_show.txt", &screens.join("\n"));
    let supposed = WhatIf { down: vec![NodeNumber(2)], ..WhatIf::default() };
    let plan = what_if(&fixture.state, &supposed);
    expect("group_plan.txt", &group::plan_screen(&fixture.state, &plan, SCREEN));
}

/// H11 to H18: the event in progress with its step, and what failed.
#[test]
fn the_manager() {
    let view = Fixture::failing_over().view(NodeNumber(2));
    let seen = Seen { view: &view, now: NOW, stale: Duration::ZERO };
    expect("event_show.txt", &event::screen(&ManagerDoc::new(seen), &now(), SCREEN));
    let busy = busy();
    let seen = Seen { view: &busy, now: NOW, stale: Duration::ZERO };
    expect("event_show_busy.txt", &event::screen(&ManagerDoc::new(seen), &now(), SCREEN));
    expect("status_failing_over.txt", &status_of(&view, Duration::ZERO));
}

/// H21: maintenance is the second thing that is said.
#[test]
fn status_in_maintenance() {
    let mut fixture = Fixture::with_groups();
    for scope in [Scope::Cluster, Scope::Node(NodeNumber(2)), Scope::Group("web".into())] {
        fixture.apply(Command::Manager(ManagerCommand::Maintenance { scope, on: true }));
    }
    let view = fixture.view(NodeNumber(1));
    let screen = status_of(&view, Duration::ZERO);
    assert!(screen.contains("\nMAINTENANCE  "), "{screen}");
    expect("status_maintenance.txt", &screen);
}

/// A failover as a waterfall: cause, decisions, steps with node and duration, outage.
#[test]
fn an_incident() {
    let view = Fixture::failing_over().view(NodeNumber(2));
    let records: Vec<_> = view.recent.iter().map(|record| (**record).clone()).collect();
    let last = records.iter().rev().find_map(|record| record.incident).unwrap();
    let own: Vec<_> = records.into_iter().filter(|it| it.incident == Some(last)).collect();
    let document = IncidentDoc::build(&own, |node| view.state.node_name(node)).unwrap();
    expect("incident_show.txt", &incident::screen(&document, &now(), SCREEN));
    let list = [IncidentSummaryDoc::new(&document)];
    expect("incident_list.txt", &incident::list(&list, &now()).render(SCREEN, 0));
}

/// What was promised, and what was kept.
#[test]
fn availability() {
    let view = Fixture::failing_over().view(NodeNumber(2));
    let mut ledger = Ledger::default();
    view.recent.iter().for_each(|record| ledger.take(record));
    let wanted = Wanted { since: None, until: None, group: None, now: NOW, known_until: NOW };
    let report = ledger.report(&wanted).unwrap();
    expect("incident_report.txt", &incident::report_screen(&report, &now(), SCREEN));
}
