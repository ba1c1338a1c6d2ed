//! What an incident has to say, held against what the prober saw.
//!
//! The prober knows when clients were without the service and who had it before and after, and it
//! does not ask the cluster. An incident is true if it names what failed, on what ground the group was
//! taken, from whom to whom, if everything in it has ended, and if the outage that clients saw ends
//! within the outage that it tells of.

use serde_json::Value;
use vedette_core::time::WallTime;
use vedette_tests::lab::{Handover, Lab, Prober};

use super::{PATIENCE, look};

/// What an incident has to tell.
pub(super) struct Truth<'a> {
    /// Words of its first sentence: what failed.
    pub(super) title: &'a str,
    /// Words of a decision: on what ground.
    pub(super) ground: &'a str,
    pub(super) group: &'a str,
    pub(super) from: &'a str,
    pub(super) to: &'a str,
}

/// The number of the latest incident: those that begin later have greater ones.
pub(super) fn latest(lab: &Lab, asked: &str) -> u64 {
    all(lab, asked).iter().filter_map(|incident| incident["id"].as_u64()).max().unwrap_or(0)
}

/// The latest incidents in short, the last first.
pub(super) fn all(lab: &Lab, asked: &str) -> Vec<Value> {
    let listed = lab.json(asked, &["incident", "list", "--limit", "100", "-o", "json"]);
    let listed = listed.unwrap_or_else(|error| panic!("{error}"));
    let rows = listed.as_array().or_else(|| listed["incidents"].as_array()).cloned();
    rows.unwrap_or_else(|| panic!("no list of incidents: {listed:#}"))
}

/// Groups that were out of service in an incident after that one.
pub(super) fn outages_after(lab: &Lab, asked: &str, before: u64) -> Vec<Value> {
    let later = all(lab, asked).into_iter().filter(|it| it["id"].as_u64() > Some(before));
    later.flat_map(|it| it["outages"].as_array().cloned().unwrap_or_default()).collect()
}

/// Waits for the incident of that title that began after `before` and is over, and answers it with
/// all its steps.
pub(super) fn told(lab: &Lab, asked: &str, before: u64, title: &str) -> Value {
    let found = lab.wait_for(&format!("the end of an incident {title:?}"), PATIENCE, |lab| {
        let mut all = all(lab, asked).into_iter();
        let incident = all.find(|incident| {
            incident["id"].as_u64() > Some(before)
                && incident["title"].as_str().is_some_and(|text| text.contains(title))
                && incident["state"] != "open"
        })?;
        let id = incident["id"].to_string();
        lab.json(asked, &["incident", "show", &id, "-o", "json"]).ok()
    });
    found.unwrap_or_else(|error| panic!("{error}:\n{:#?}", all(lab, asked)))
}

/// The incident after `before` tells what happened; `seen` is what clients saw of it.
pub(super) fn assert_told(
    lab: &Lab,
    asked: &str,
    before: u64,
    truth: &Truth<'_>,
    (prober, seen): (&Prober, Handover),
) -> Value {
    let incident = told(lab, asked, before, truth.title);
    assert_ended(&incident);
    let decided = incident["decisions"].as_array().expect("decisions");
    let ground = |decision: &Value| decision.as_str().is_some_and(|it| it.contains(truth.ground));
    assert!(decided.iter().any(ground), "{:?} is not said: {decided:#?}", truth.ground);
    let outages = incident["outages"].as_array().expect("outages");
    let outage = outages.iter().rfind(|outage| outage["group"] == truth.group);
    let outage = outage.unwrap_or_else(|| panic!("no outage of {}: {incident:#}", truth.group));
    assert_eq!((&outage["from"], &outage["to"]), (&truth.from.into(), &truth.to.into()));
    assert_within(&incident, outage, prober, seen);
    assert_acquired(&incident, truth);
    incident
}

/// Nothing of it is still going on.
fn assert_ended(incident: &Value) {
    assert!(incident["recovered"].is_string(), "{incident:#}");
    let events = incident["events"].as_array().expect("events");
    assert!(events.iter().all(|event| event["ended"].is_string()), "{events:#?}");
}

/// Clients are without the service before the cluster knows, and have it again before the cluster
/// says so: the address answers, then the group is ONLINE.
fn assert_within(incident: &Value, outage: &Value, prober: &Prober, seen: Handover) {
    let at = |value: &Value| value.as_str().expect("a time").to_owned();
    let (ended, recovered) = (at(&outage["ended"]), at(&incident["recovered"]));
    // The prober is a thread among many on a machine that is busy.
    let first = moment(prober.unix_ms(seen.until) - 250);
    assert!(first <= ended, "clients had it at {first}, and it is told that it came at {ended}");
    assert!(ended <= recovered, "{ended} after {recovered}");
    let began = at(&outage["began"]);
    // An application that failed serves nobody, though its address answers until it is released.
    let failed = incident["steps"][0]["code"] == "RESOURCE_FAILED";
    if incident["detection_ms"].is_null() && !failed {
        let last = moment(prober.unix_ms(seen.from) - 250);
        assert!(last <= began, "clients had it until {last}, after {outage:#}");
    } else {
        // It is reckoned from the last beat; the kernel of a frozen node may answer a little longer.
        let last = moment(prober.unix_ms(seen.from) + 250);
        assert!(began <= last, "clients had it until {last} only, before {outage:#}");
    }
}

/// There is a step for the address on the node that has it now.
fn assert_acquired(incident: &Value, truth: &Truth<'_>) {
    let steps = incident["steps"].as_array().expect("steps");
    let online = format!("resource {}-ip is ONLINE on {}", truth.group, truth.to);
    let of_address = |step: &&Value| step["what"].as_str().is_some_and(|it| it.contains(&online));
    let step = steps.iter().find(of_address);
    let step = step.unwrap_or_else(|| panic!("no step {online:?}: {incident:#}"));
    assert_eq!((&step["node"], &step["kind"]), (&truth.to.into(), &"resource".into()));
}

/// As records print it, so that it can be compared with what they say.
fn moment(unix_ms: i64) -> String {
    WallTime(unix_ms * 1_000).to_string()
}

/// Waits until nothing is in progress and nothing waits.
pub(super) fn wait_idle(lab: &Lab, asked: &str) {
    let idle = |lab: &Lab| {
        let manager = look::get(lab, asked, "/api/v1/manager")?.json();
        let queue = manager["queue"].as_array()?;
        (manager["in_progress"].is_null() && queue.is_empty()).then_some(())
    };
    lab.wait_for("the manager to be idle", PATIENCE, idle)
        .unwrap_or_else(|error| panic!("{error}:\n{}", look::status(lab, asked)));
}
