//! What whoever looks at the cluster should know though nothing is wrong: what would outlive a lease.
//!
//! `vedette verify` has a finding for each group; here is one sentence for all of them, out of the same findings.

use crate::state::ClusterState;

use super::{Document, Finding, outliving};

/// Groups that are named beside the first.
const NAMED: usize = 3;

/// One sentence each, in its order; none where there is nothing to know.
pub fn notes(state: &ClusterState) -> Vec<String> {
    outlives(outliving(&Document::of(state), state)).into_iter().chain(outside(state)).collect()
}

/// Resources that run now where the end of a lease does not end them.
fn outside(state: &ClusterState) -> Option<String> {
    let mut all = state.groups.iter().flat_map(|(name, group)| {
        group.outside.iter().map(move |(node, resources)| {
            let resources: Vec<&str> = resources.iter().map(String::as_str).collect();
            format!("{} of {name} on {}", resources.join(", "), state.node_name(*node))
        })
    });
    let first = all.next()?;
    let more = match all.count() {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    let then = match state.definition.manager.strict {
        true => "a takeover waits for an operator",
        false => "it may run on two nodes after a takeover",
    };
    Some(format!(
        "nothing but its stop program ends {first}{more}: the end of the lease does not, so {then}. Name a release \
         program or its control_group, or let it run in its own"
    ))
}

/// Groups that would outlive a lease if processes stood still: one sentence for all of which the same would follow.
fn outlives(mut found: Vec<Finding>) -> Vec<String> {
    fn follows(finding: &Finding) -> Option<&str> {
        finding.what.rsplit(", and ").next()
    }
    let mut said = Vec::new();
    while let Some(first) = found.first().cloned() {
        let (alike, rest) = found.into_iter().partition(|it| follows(it) == follows(&first));
        found = rest;
        said.push(all_alike(&first, &alike));
    }
    if let Some(last) = said.last_mut() {
        last.push_str(". vedette verify has all of it");
    }
    said
}

fn all_alike(first: &Finding, all: &[Finding]) -> String {
    let mut others: Vec<&str> = all.iter().map(group).collect();
    // A group may have two: of what runs, and of its data.
    others.dedup();
    others.retain(|other| *other != group(first));
    let likewise = match others.len() {
        0 => String::new(),
        1..=NAMED => format!("; likewise {}", others.join(", ")),
        many => {
            format!("; likewise {} and {} more", others[..NAMED].join(", "), many - NAMED)
        }
    };
    format!("{}: {}{likewise}", group(first), first.what)
}

/// The group that a finding is about.
fn group(finding: &Finding) -> &str {
    finding.key.strip_prefix("groups.").unwrap_or(&finding.key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Fixture;
    use crate::group::{Release, ResourceKind};
    use crate::takeover::Backing;

    /// F2: as long as something would outlive a lease it is said, in the words of the findings, and no longer.
    #[test]
    fn f2_what_outlives_a_lease_is_said_in_one_sentence() {
        let mut fixture = Fixture::with_groups();
        let mut back = |backing: Backing, strict: bool| {
            let manager = &mut fixture.state.manager;
            manager.members.values_mut().for_each(|member| member.backing = backing);
            fixture.state.definition.manager.strict = strict;
            (notes(&fixture.state), outliving(&Document::of(&fixture.state), &fixture.state))
        };
        for strict in [false, true] {
            let (said, found) = back(Backing::Kernel, strict);
            let [first, others @ ..] = found.as_slice() else { panic!("{found:?}") };
            let begin = format!("{}: {}", group(first), first.what);
            assert!(said[0].starts_with(&begin), "{said:?}");
            let said = said.join("; ");
            assert!(others.iter().all(|other| said.contains(group(other))), "{said:?}");
            assert!(said.ends_with(". vedette verify has all of it"), "{said:?}");
        }
        assert_eq!(back(Backing::Watchdog, false).0, [""; 0]);
    }

    /// A release program is run without guard and agent as well, and nobody knows whether it succeeds; where something
    /// else of the group has none, nothing takes that away.
    #[test]
    fn f2_of_a_release_program_nobody_knows() {
        let mut fixture = Fixture::with_groups();
        let web = fixture.state.definition.groups.iter_mut().find(|it| it.name == "web");
        for resource in &mut web.expect("it").resources {
            if let ResourceKind::Application { release, .. } = &mut resource.kind {
                let program = vec!["/usr/bin/true".to_owned()];
                *release = Some(Release { program, within_ms: 1_000 });
            }
        }
        let said = |fixture: &Fixture| {
            let found = outliving(&Document::of(&fixture.state), &fixture.state);
            let web = found.into_iter().find(|it| group(it) == "web");
            web.map(|it| it.what).unwrap_or_default()
        };
        let what = "nobody knows whether a release program takes httpd (application) away";
        assert!(said(&fixture).contains(what), "{}", said(&fixture));
        let web = fixture.state.definition.groups.iter_mut().find(|it| it.name == "web");
        let more = web.expect("it").resources.last().expect("one").clone();
        let mut more = crate::group::ResourceDef { name: "more".into(), ..more };
        if let ResourceKind::Application { release, .. } = &mut more.kind {
            *release = None;
        }
        let web = fixture.state.definition.groups.iter_mut().find(|it| it.name == "web");
        web.expect("it").resources.push(more);
        for member in fixture.state.manager.members.values_mut() {
            member.reaper = Some("it cannot be started".into());
        }
        assert!(said(&fixture).contains("nothing takes httpd"), "{}", said(&fixture));
    }

    #[test]
    fn many_groups_are_counted() {
        let mut fixture = Fixture::with_groups();
        let model = fixture.state.definition.group("db").expect("one with data").clone();
        for number in 0..9 {
            let name = format!("more{number}");
            fixture.state.definition.groups.push(crate::group::GroupDef { name, ..model.clone() });
        }
        let all = outliving(&Document::of(&fixture.state), &fixture.state).len();
        let said = notes(&fixture.state);
        assert_eq!(said.len(), 1);
        assert!(said[0].contains(&format!(" and {} more. ", all - 1 - NAMED)), "{said:?}");
    }
}
