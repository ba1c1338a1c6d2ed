//! What a lease stands on: a majority of guards, and no director, agent or log.

use std::time::Duration;

use vedette_tests::lab::{Lab, Prober, Victim};

use super::truth::{latest, outages_after};
use super::{
    PATIENCE, address, assert_one_owner, give, group, handover, look, rotating, wait_answer,
    wait_moved, wait_online,
};
use crate::lab;

fn number(name: &str) -> u16 {
    name[1..].parse().expect("n and a number")
}

/// The agents of two of three nodes stand still, so that nobody can be director, for several times as long as a
/// lease: what runs goes on, wherever it runs. The one that can speak says that nothing can be moved, and shows no
/// group of others as online.
#[test]
fn services_outlive_the_director() {
    let lab = lab();
    let (owner, prober) = rotating(&lab);
    let before = latest(&lab, &owner);
    let others: Vec<String> = lab.names().into_iter().filter(|name| *name != owner).collect();
    for name in &others {
        lab.pause(name, Victim::Agent).expect("paused");
    }
    let told = |lab: &vedette_tests::lab::Lab| {
        let verdict = look::status(lab, &owner);
        let local = look::get(lab, &owner, "/api/v1/local")?.json();
        let raised = local["conditions"].to_string().contains("NO_DIRECTOR");
        (verdict.contains("without a director") && raised && local["lease"] == true).then_some(())
    };
    lab.wait_for("NO_DIRECTOR to be told", PATIENCE, told).unwrap_or_else(|error| {
        panic!("{error}:\n{}", look::status(&lab, &owner));
    });
    let listed = lab.vedette(&owner, &["group", "list"]).expect("run");
    assert_eq!(listed.status.code(), Some(3), "what others have is not known");
    // Several times as long as a lease, an answer after the other.
    let end = prober.now() + Duration::from_secs(2);
    while prober.now() < end {
        wait_answer(&prober, number(&owner));
    }
    lab.resume(&others[0]).expect("resumed");
    lab.resume(&others[1]).expect("resumed");
    crate::make_healthy(&lab);
    wait_online(&lab, &owner, "web", &owner);
    assert_eq!(outages_after(&lab, &owner, before), Vec::<serde_json::Value>::new());
    assert_one_owner(prober, &[number(&owner)]);
}

/// Findings X13: nobody hears the beats of the owner, and everything else arrives. It has no lease, so its group is served
/// elsewhere, and it is not called UP meanwhile.
#[test]
fn x13_a_node_that_nobody_hears_is_no_place_for_groups() {
    let lab = lab();
    let (owner, prober) = rotating(&lab);
    lab.mute(&owner).expect("beats can be dropped");
    let next = wait_moved(&lab, &owner);
    handover(&prober, &owner, &next);
    // DISCONNECTED while its reports arrive; DOWN once they do not.
    assert_ne!(look::host(&lab, &next, &owner), "UP");
    lab.heal().expect("healed");
    crate::make_healthy(&lab);
    assert_one_owner(prober, &[number(&owner), number(&next)]);
}

/// A director leaves, with a service that takes long to stop, and its guard dies meanwhile: another node is director, and
/// has the service, while the agent that was left is still about its stop; and that one knows nothing any more.
#[test]
fn a_director_whose_guard_dies_while_it_leaves_is_replaced() {
    let lab = lab();
    let leaver = look::director(&lab, "n1").expect("a director");
    let others: Vec<String> = lab.names().into_iter().filter(|name| *name != leaver).collect();
    let slow = lab.dir().join("stops-slowly");
    std::fs::write(&slow, "").expect("written");
    let text = format!(
        "[groups.web]\npolicy = \"cascading\"\nnodes = [\"{leaver}\", \"{}\", \"{}\"]\n\n\
         [[groups.web.resources]]\nname = \"web-ip\"\nkind = \"address\"\naddress = \"{}/24\"\n\n\
         [[groups.web.resources]]\nname = \"web-app\"\nkind = \"application\"\nstop_timeout = \"40s\"\n\
         start = [\"/bin/sh\", \"-c\", \"sleep 100000 &\"]\nstop = [\"/bin/sh\", \"-c\", \"test ! -e {} || sleep 20\"]\n",
        others[0],
        others[1],
        address(&lab, 0),
        slow.display()
    );
    give(&lab, &text);
    wait_online(&lab, &leaver, "web", &leaver);
    let prober = Prober::start(&lab, 0, address(&lab, 0)).expect("a prober");
    wait_answer(&prober, number(&leaver));
    let left = |lab: &Lab| {
        let local = look::get(lab, &leaver, "/api/v1/local")?.json();
        let next = look::director(lab, &others[0]).filter(|next| *next != leaver);
        (local["quorate"] == false && next.is_some()).then_some(())
    };
    std::thread::scope(|scope| {
        scope.spawn(|| lab.stop(&leaver).expect("there is a daemon"));
        lab.wait_for("web to be released", PATIENCE, |lab| {
            (group(lab, &others[0], "web")?.1 == "RELEASING").then_some(())
        })
        .unwrap_or_else(|error| panic!("{error}:\n{}", look::status(&lab, &others[0])));
        lab.kill(&leaver, Victim::Guard).expect("its guard runs");
        lab.wait_for("another director, and an agent that knows nothing", PATIENCE, left)
            .unwrap_or_else(|error| panic!("{error}:\n{}", look::status(&lab, &others[0])));
    });
    let next = wait_moved(&lab, &leaver);
    handover(&prober, &leaver, &next);
    lab.wait_for("its agent to end", PATIENCE, |lab| {
        look::get(lab, &leaver, "/api/v1/local").is_none().then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}"));
    std::fs::remove_file(&slow).expect("it is there");
    crate::make_healthy(&lab);
    let answers = prober.stop().expect("the prober ran");
    assert_eq!(answers.doubly_owned(), Vec::new(), "two nodes had the address");
}
