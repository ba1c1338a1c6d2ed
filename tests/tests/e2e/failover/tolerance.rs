//! What is tolerated, and what ends by itself: looks that are too slow, failures in place, an operator's
//! preference, and the wait before a group goes home.

use std::path::PathBuf;

use serde_json::Value;
use vedette_tests::lab::Lab;

use super::{PATIENCE, give, look, wait_online};
use crate::lab;

const NODES: [&str; 3] = ["n1", "n2", "n3"];

/// The service of the group `svc`: a file of its node. While `slow` is there, looks at it do not end in time.
struct Service<'a>(&'a Lab);

impl<'a> Service<'a> {
    fn configured(lab: &'a Lab) -> Self {
        let service = Self(lab);
        let at = lab.dir().join("tol.").display().to_string();
        let program = |what: &str| format!("[\"/bin/sh\", \"-c\", \"{what}\"]");
        give(
            lab,
            &format!(
                "[groups.svc]\npolicy = \"cascading\"\nnodes = [\"n1\", \"n2\", \"n3\"]\n\
                 fallback_delay = \"2s\"\n\n\
                 [[groups.svc.resources]]\nname = \"svc-app\"\nkind = \"application\"\n\
                 start = {}\nstop = {}\nmonitor = {}\nmonitor_interval = \"200ms\"\n\
                 monitor_timeout = \"300ms\"\ntimeout_fall = 100\nfailure_window = \"2s\"\n",
                program(&format!("touch {at}$VEDETTE_NODE")),
                program(&format!("rm -f {at}$VEDETTE_NODE")),
                program(&format!("test ! -e {at}slow || sleep 20; test -e {at}$VEDETTE_NODE")),
            ),
        );
        wait_online(lab, "n1", "svc", "n1");
        service
    }

    fn file(&self, what: &str) -> PathBuf {
        self.0.dir().join(format!("tol.{what}"))
    }

    /// Waits until the group is as `wanted` says, and answers with what it says of it.
    fn wait<T>(&self, what: &str, wanted: impl Fn(&Value) -> Option<T>) -> T {
        let shown = |lab: &Lab| Some(look::get(lab, "n2", "/api/v1/groups/svc")?.json());
        let waited = self.0.wait_for(what, PATIENCE, |lab| wanted(&shown(lab)?));
        waited.unwrap_or_else(|error| {
            let events = self.0.vedette("n2", &["event", "list"]).map(|o| o.stdout);
            let events = events.unwrap_or_default();
            panic!("{error}: {:#?}\n{}", shown(self.0), String::from_utf8_lossy(&events))
        })
    }
}

/// Nothing of it is left for the tests that follow.
impl Drop for Service<'_> {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.file("slow"));
        give(self.0, "");
        for node in NODES {
            let _ = std::fs::remove_file(self.file(node));
        }
    }
}

/// Findings R6, R11.
#[test]
fn what_is_tolerated_and_what_ends_by_itself() {
    let lab = lab();
    let service = Service::configured(&lab);
    let tolerated = |group: &Value| {
        let seen = group["instances"][0]["resources"][0]["tolerated"].clone();
        Some((seen["count"].as_u64()?, seen["total"].as_u64()?))
    };

    // Slow looks are shown where it stands, and are no failure and no record of one.
    let seq = look::seq(&lab, "n1");
    std::fs::write(service.file("slow"), "").expect("written");
    service.wait("slow looks to be tolerated", |group| {
        tolerated(group).filter(|(count, _)| *count >= 2)
    });
    std::fs::remove_file(service.file("slow")).expect("it was there");
    service.wait("it to be well again", |group| tolerated(group).filter(|(count, _)| *count == 0));
    let failed =
        |record: &Value| record["code"] == "RESOURCE_FAILED" || record["code"] == "RESOURCE";
    let records = look::records_after(&lab, "n1", seq);
    assert!(!records.iter().any(failed), "{records:#?}");

    // A failure is one at once, is repaired in place, and is forgotten.
    std::fs::remove_file(service.file("n1")).expect("it ran there");
    let (left, ends) = service.wait("its failure to be counted", |group| {
        let fail = group["fails"][0].clone();
        Some((fail["restarts_left"].as_u64()?, fail["ends"].as_str()?.to_owned()))
    });
    assert_eq!((left, ends.ends_with('Z')), (1, true), "{ends}");
    service.wait("it to be forgotten", |group| {
        group["fails"].as_array().filter(|fails| fails.is_empty()).map(|_| ())
    });
    wait_online(&lab, "n1", "svc", "n1");

    // An operator's wish ends, and the group goes home.
    let moved = lab.vedette(
        "n1",
        &["group", "move", "svc", "--to", "n3", "--until", "20s", "--yes", "--no-wait"],
    );
    let moved = moved.expect("run");
    assert!(moved.status.success(), "{}", String::from_utf8_lossy(&moved.stderr));
    service.wait("it to be on n3 for a while", |group| {
        let there = group["owner"] == "n3" && group["state"] == "ONLINE";
        there.then_some(())?;
        group["preferred_until"].as_str().map(str::to_owned)
    });
    wait_online(&lab, "n1", "svc", "n1");
    service.wait("nobody to want it anywhere", |group| group["preferred"].is_null().then_some(()));

    // Its home dies and is back: it waits before it goes there.
    lab.vedette("n1", &["stop", "--node", "n1", "--yes"]).expect("run");
    wait_online(&lab, "n2", "svc", "n2");
    lab.vedette("n1", &["start", "--node", "n1"]).expect("run");
    let back = service.wait("the way home to be planned", |group| {
        let planned = &group["goes_back"];
        Some((planned["node"].as_str()?.to_owned(), planned["at"].as_str()?.to_owned()))
    });
    assert_eq!((back.0.as_str(), back.1.ends_with('Z')), ("n1", true));
    wait_online(&lab, "n2", "svc", "n1");
}
