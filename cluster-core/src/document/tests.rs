//! H34, H35, H36: documents are read with every finding, printed, and compared.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;
use crate::command::ManagerCommand;
use crate::definition::{FenceDef, Hooks, ManagerOptions, MonitorDef, OnFailure, Standby};
use crate::fixture::Fixture;
use crate::group::{
    AddressMode, Group, GroupDef, GroupState, Instance, MultipleActive, OnConflict, Policy,
    Release, ResourceDef, ResourceKind,
};
use crate::time::{DayWindow, WallTime};
use crate::trigger::Trigger;

mod left;
mod members;
mod spof;
mod starts;

const WEB: &str = r#"
[groups.web]
nodes = ["n1", "n2"]

[[groups.web.resources]]
name = "web-ip"
kind = "address"
address = "10.91.0.200/16"

[[groups.web.resources]]
name = "web-app"
kind = "application"
start = ["/opt/web", "start"]
stop = "/opt/web stop"
"#;

fn state() -> ClusterState {
    Fixture::settled(3).state
}

fn errors(text: &str) -> Vec<String> {
    errors_with(text, &state())
}

fn errors_with(text: &str, state: &ClusterState) -> Vec<String> {
    read(text, state).1.iter().filter(|finding| finding.error).map(ToString::to_string).collect()
}

/// The one error of a text, which has to hold these words.
fn refused(text: &str, words: &[&str]) {
    let found = errors(text);
    assert_eq!(found.len(), 1, "{found:#?}");
    for word in words {
        assert!(found[0].contains(word), "{word:?} is not in {:?}", found[0]);
    }
}

/// Findings F11: what is done about a foreign machine that has the address; refusing is left out in print.
#[test]
fn f11_an_address_says_what_is_done_about_a_conflict() {
    let with = |line: &str| WEB.replace("/16\"\n", &format!("/16\"\n{line}\n"));
    for (line, wanted, printed) in [
        ("", OnConflict::Fail, false),
        ("on_conflict = \"fail\"", OnConflict::Fail, false),
        ("on_conflict = \"take\"", OnConflict::Take, true),
    ] {
        let (document, findings) = read(&with(line), &state());
        assert_eq!(findings, [], "{line}");
        let kind = &document.definition.groups[0].resources[0].kind;
        let ResourceKind::Address { on_conflict, .. } = kind else { panic!("{kind:?}") };
        assert_eq!(*on_conflict, wanted, "{line}");
        assert_eq!(print_document(&document, &state()).contains("on_conflict"), printed, "{line}");
    }
    refused(&with("on_conflict = \"ask\""), &["on_conflict", "fail, take"]);
}

/// Findings R6, R11: what can never count, or never end, is refused with its line and why.
#[test]
fn r6_counts_and_windows_have_to_make_sense() {
    let group = |line: &str| WEB.replace("\"n2\"]\n", &format!("\"n2\"]\n{line}\n"));
    let resource = |line: &str| WEB.replace("/16\"\n", &format!("/16\"\n{line}\n"));
    let manager = |line: &str| format!("{WEB}\n[manager]\n{line}\n");
    for fine in [
        group("fallback_delay = \"10m\"\nfallback_window = \"22:00-04:00\""),
        resource("fall = 3\ntimeout_fall = 5\nrise = 2\nfailure_window = \"10m\""),
        manager("flap_failovers = 0\nflap_window = \"0\""),
    ] {
        assert_eq!(read(&fine, &state()).1, [], "{fine}");
    }
    let line = |text: &str, key: &str| 1 + text.lines().position(|l| l.starts_with(key)).unwrap();
    for (text, key, why) in [
        (resource("failure_window = \"0\""), "failure_window", "restarted in place for ever"),
        (resource("failure_window = \"1s\""), "failure_window", "at least 2s"),
        (resource("fall = 5\nfailure_window = \"5s\""), "failure_window", "at least 6s"),
        (resource("fall = 0"), "fall", "0 is out of range"),
        (resource("timeout_fall = 101"), "timeout_fall", "1 to 100"),
        (resource("rise = 0"), "rise", "0 is out of range"),
        (group("fallback_window = \"always\""), "fallback_window", "02:00-04:00"),
        (group("fallback_window = \"02:00-02:00\""), "fallback_window", "two different times"),
        (manager("flap_failovers = 1"), "flap_failovers", "at least 2"),
        (manager("flap_window = \"0\""), "flap_window", "within 0s"),
    ] {
        refused(&text, &[key, why]);
        let found = read(&text, &state()).1;
        assert_eq!(found[0].line, Some(line(&text, key)), "{found:?}");
    }
    let rotating = group("policy = \"rotating\"\nfallback_delay = \"10m\"");
    let found = read(&rotating, &state()).1;
    assert!(matches!(&found[..], [one] if !one.error && one.key.ends_with("fallback_delay")));
}

#[test]
fn h36_a_small_document_says_all_that_is_needed() {
    let (document, findings) = read(WEB, &state());
    assert_eq!(findings, []);
    let [group] = &document.definition.groups[..] else { panic!("one group") };
    assert_eq!((group.policy, group.fallback), (Policy::Cascading, true));
    assert_eq!(group.nodes, [NodeNumber(1), NodeNumber(2)]);
    assert_eq!(
        group.resources[0].kind,
        ResourceKind::Address {
            address: IpAddr::V4(Ipv4Addr::new(10, 91, 0, 200)),
            prefix: 16,
            network: NetworkNumber(1),
            mode: AddressMode::Alias,
            on_conflict: OnConflict::Fail,
        }
    );
    let ResourceKind::Application { stop, .. } = &group.resources[1].kind else {
        panic!("{group:?}")
    };
    assert_eq!(stop, &["/opt/web", "stop"]);
    assert_eq!(document.networks, Document::of(&state()).networks, "what is not said stays");
}

/// The example that is delivered, for the cluster that it names.
#[test]
fn h36_the_example_is_fine() {
    let example = include_str!("../../../contrib/cluster.toml");
    let (document, findings) = read(example, &state());
    assert_eq!(findings, []);
    let names: Vec<&str> =
        document.definition.groups.iter().map(|group| group.name.as_str()).collect();
    assert_eq!(names, ["web", "db"], "in the order of the text");
    let resources: Vec<&str> = document.definition.groups[1]
        .resources
        .iter()
        .map(|resource| resource.name.as_str())
        .collect();
    assert_eq!(
        resources,
        ["db-disk", "db-files", "db-ip", "db-server"],
        "in the order of the text"
    );
}

#[test]
fn h35_every_finding_comes_at_once_with_its_line() {
    let text = "[cluster]\nvoterz = 3\n\n[groups.web]\npolicy = \"cascadin\"\nnodes = [\"n1\", \"n9\"]\n\
        \n[[groups.web.resources]]\nname = \"ip\"\nkind = \"address\"\naddress = \"10.91.0.300/16\"\n";
    let found = errors(text);
    assert_eq!(
        found,
        [
            "line 2: error: cluster.voterz: this key is not known. Did you mean voters?",
            "line 5: error: groups.web.policy: \"cascadin\" is not possible here. Did you mean cascading?",
            "line 6: error: groups.web.nodes: there is no node \"n9\" in this cluster. Did you mean n1?",
            "line 11: error: groups.web.resources.ip.address: \"10.91.0.300\" is not an IP address. \
             Write one such as \"10.91.0.50\" or \"fd00::50\".",
        ]
    );
}

#[test]
fn h35_what_is_no_toml_has_its_line() {
    let found = errors("[groups.web]\nnodes = [\n");
    assert!(found[0].starts_with("line ") && found[0].contains("this is not TOML"), "{found:?}");
    let found = errors("[groups.web]\nnodes = [\"n1\"]\n[groups.web]\nnodes = [\"n2\"]\n");
    assert!(found[0].starts_with("line 3: "), "{found:?}");
}

#[test]
fn h35_addresses_are_in_one_place() {
    let with = |address: &str, rest: &str| {
        format!(
            "{WEB}\n[groups.b]\nnodes = [\"n3\"]\n[groups.b.resources.b-ip]\nkind = \"address\"\n\
             address = \"{address}\"\n{rest}"
        )
    };
    assert_eq!(errors(&with("10.91.0.201/16", "")), [""; 0]);
    refused(
        &with("10.91.0.200/16", ""),
        &["line ", "b-ip", "is the address of web-ip and of b-ip"],
    );
    refused(&with("10.92.0.2/16", ""), &["10.92.0.2 is n2's own address"]);
    refused(&with("10.93.0.2/16", ""), &["outside every network"]);
    refused(&with("10.91.0.7/4", ""), &["fits 2 networks", "network = "]);
    refused(&with("10.91.0.7/33", ""), &["no prefix length that fits", "1 to 32"]);
    refused(&with("10.91.0.7", ""), &["no prefix length"]);
    refused(&with("127.0.0.1/8", "network = \"neta\"\n"), &["clients"]);
    for (address, words) in [
        ("10.91.255.255/16", "is the broadcast address of its subnet"),
        ("10.91.0.0/16", "is the address of the subnet itself"),
        ("255.255.255.255/32", "is the broadcast address, which"),
        ("::ffff:10.91.0.7/112", "Write it as \"10.91.0.7\"."),
        ("224.0.0.5/16", "multicast"),
        ("10.93.0.7/32", "is not said by its prefix"),
    ] {
        refused(&with(address, ""), &["line ", words]);
    }
    for address in ["10.91.0.201/32", "10.91.0.255/16"] {
        assert_eq!(errors(&with(address, "")), [""; 0]);
    }
    let (_, findings) = read(&with("10.91.0.201/32", ""), &state());
    assert!(findings.is_empty(), "a host's prefix is nothing to warn of: {findings:?}");
    refused(
        &with(
            "10.91.0.77/16",
            "[[standby]]\nnode = \"n3\"\nnetwork = \"neta\"\naddress = \"10.91.0.77\"\n",
        ),
        &["of a standby adapter of n3"],
    );
    let (_, findings) = read(&with("10.93.0.2/16", ""), &state());
    assert_eq!(findings.len(), 1, "that b has no resources would only confuse: {findings:?}");
    let (_, findings) = read(&with("192.168.7.7/24", "network = \"neta\"\n"), &state());
    assert!(findings.len() == 1 && !findings[0].error, "another subnet is a warning: {findings:?}");
}

#[test]
fn h35_resources_that_cannot_be() {
    let with = |resource: &str| format!("{WEB}\n[groups.web.resources.x]\n{resource}");
    // After a list, TOML takes such a table for a part of its last entry.
    refused(&with("kind = \"ocf\"\n"), &["groups.web.resources.web-app.x", "not known"]);
    let with = |resource: &str| {
        format!(
            "[groups.g]\nnodes = [\"n1\", \"n2\"]\n[[groups.g.resources]]\nname = \"x\"\n{resource}\n"
        )
    };
    for (resource, words) in [
        ("", ["has no kind", "application"]),
        ("kind = \"adress\"\naddress = \"10.91.0.9/16\"", ["adress", "Did you mean address?"]),
        ("kind = \"application\"\nstart = [\"/opt/x\"]", ["no program that stops it", "stop"]),
        ("kind = \"application\"\nstop = [\"/opt/x\"]", ["no program that starts it", "start"]),
        (
            "kind = \"application\"\nstart = [\"x\"]\nstop = [\"/x\"]",
            ["no absolute path", "whole path"],
        ),
        (
            "kind = \"application\"\nstart = \"/x | y\"\nstop = [\"/x\"]",
            ["cannot stand here", "a list of words"],
        ),
        (
            "kind = \"ocf\"\nagent = \"heartbeat:Dummy\"",
            ["not the name of an OCF agent", "ocf:heartbeat:Dummy"],
        ),
        ("kind = \"ocf\"\nagent = \"lsb:x:y\"", ["class \"lsb\"", "ocf:heartbeat:Dummy"]),
        (
            "kind = \"ocf\"\nagent = \"systemd:nginx\"",
            ["no OCF agent", "kind = \"systemd\" and unit = \"nginx.service\""],
        ),
        ("kind = \"systemd\"", ["unit is missing", "nginx.service"]),
        (
            "kind = \"systemd\"\nunit = \"nginx\"",
            ["\"nginx\" is no service of systemd", "unit = \"nginx.service\""],
        ),
        ("kind = \"systemd\"\nunit = \"web.timer\"", ["is no service of systemd", ".service"]),
        ("kind = \"systemd\"\nunit = \"../x.service\"", ["is no service of systemd", ".service"]),
        ("kind = \"systemd\"\nunit = \"-x.service\"", ["is no service of systemd", ".service"]),
        ("kind = \"systemd\"\nunit = \"web@.service\"", ["is a template", "an instance of it"]),
        ("kind = \"systemd\"\nunit = \"vedette.service\"", ["is Vedette itself", "another unit"]),
        ("kind = \"ocf\"\nagent = \"ocf:..:Dummy\"", ["cannot be part", "OCF"]),
        (
            "kind = \"application\"\nstart = \"/x\"\nstop = \"/x\"\nrelease_max = \"1s\"",
            ["no release program whose time", "release = "],
        ),
        (
            "kind = \"application\"\nstart = \"/x\"\nstop = \"/x\"\nrelease = []",
            ["names no program that takes it away", "leave it out"],
        ),
        (
            "kind = \"application\"\nstart = \"/x\"\nstop = \"/x\"\nrelease = \"x\"",
            ["x.release: \"x\" is no absolute path", "whole path"],
        ),
        (
            "kind = \"application\"\nstart = \"/x\"\nstop = \"/x\"\nrelease = \"/x\"\nrelease_max = \"100ms\"",
            ["100 ms are shorter than the time of every release, 300 ms", "\"5s\""],
        ),
        (
            "kind = \"application\"\nstart = \"/x\"\nstop = \"/x\"\nrelease = \"/x\"\nrelease_max = \"2m\"",
            ["would wait 120 s for the release program of x", "at most 60s"],
        ),
        (
            "kind = \"ocf\"\nagent = \"ocf:heartbeat:Dummy\"\nrelease = \"x\"",
            ["x.release: \"x\" is no absolute path", "whole path"],
        ),
        (
            "kind = \"ocf\"\nagent = \"ocf:heartbeat:Dummy\"\nrelease = \"/x\"\nrelease_max = \"2m\"",
            ["would wait 120 s for the release program of x", "at most 60s"],
        ),
        (
            "kind = \"ocf\"\nagent = \"ocf:heartbeat:Dummy\"\nrelease_max = \"1s\"",
            ["no release program whose time", "release = "],
        ),
        (
            "kind = \"application\"\nstart = \"/x\"\nstop = \"/x\"\ncontrol_group = \"/web\"",
            ["x.control_group: \"/web\" is a whole path", "--cgroup-parent="],
        ),
        (
            "kind = \"application\"\nstart = \"/x\"\nstop = \"/x\"\ncontrol_group = \"a/../b\"",
            ["\"a/../b\" is no path of a control group", "below the mount point of cgroup2"],
        ),
        (
            "kind = \"application\"\nstart = \"/x\"\nstop = \"/x\"\ncontrol_group = \"\"",
            ["\"\" is no path of a control group", "below the mount point of cgroup2"],
        ),
        (
            "kind = \"application\"\nstart = \"/x\"\nstop = \"/x\"\ncontrol_group = \"vedette/x\"",
            ["vedette/x is the cluster's own", "Take it out"],
        ),
        (
            "kind = \"application\"\nstart = \"/x\"\nstop = \"/x\"\ncontrol_group = \"system.slice\"",
            ["with system.slice the end of a lease would end the machine", "one of its own"],
        ),
        (
            "kind = \"application\"\nstart = \"/x\"\nstop = \"/x\"\ncontrol_group = \"a.slice/b.service\"",
            ["a unit of systemd, which would start it again", "unit = \"b.service\""],
        ),
        (
            "kind = \"systemd\"\nunit = \"web.service\"\ncontrol_group = \"web.slice\"",
            ["control_group", "line"],
        ),
        ("kind = \"volume_group\"", ["volume_group is missing", "datavg"]),
        ("kind = \"volume_group\"\nvolume_group = \"-x\"", ["cannot stand here", "'-'"]),
        (
            "kind = \"volume_group\"\nvolume_group = \"v\"\nrestarts = 500",
            ["500 times", "at most 100"],
        ),
        (
            "kind = \"volume_group\"\nvolume_group = \"v\"\nstart_timeout = 5",
            ["5 cannot stand here", "\"10s\""],
        ),
        (
            "kind = \"volume_group\"\nvolume_group = \"v\"\nstart_timeout = \"1ms\"",
            ["too short", "100ms"],
        ),
        (
            "kind = \"ocf\"\nagent = \"ocf:a:b\"\nrelease = \"/x\"\nrelease_max = \"500h\"",
            ["\"500h\" is too long: no time is longer than 168h", "at most \"168h\""],
        ),
        (
            "kind = \"file_system\"\ndevice = \"/dev/x\"\nmount_point = \"/\"\nfs_type = \"ext4\"",
            ["no directory to mount on", "below /"],
        ),
    ] {
        refused(&with(resource), &words);
    }
    let twice = with(
        "kind = \"volume_group\"\nvolume_group = \"v\"\n[groups.h]\nnodes = [\"n3\"]\n\
        [groups.h.resources.x]\nkind = \"volume_group\"\nvolume_group = \"w\"",
    );
    refused(&twice, &["the name x is used twice: in g and in h"]);
    let disk = with(
        "kind = \"volume_group\"\nvolume_group = \"v\"\n[groups.h]\nnodes = [\"n3\"]\n\
        [groups.h.resources.y]\nkind = \"volume_group\"\nvolume_group = \"v\"",
    );
    refused(&disk, &["v is used by x and by y"]);
    let engines = |one: &str, other: &str| {
        let program = "kind = \"application\"\nstart = \"/x\"\nstop = \"/x\"\ncontrol_group = ";
        with(&format!(
            "{program}\"{one}\"\n[groups.h]\nnodes = [\"n3\"]\n[groups.h.resources.y]\n{program}\"{other}\""
        ))
    };
    let beside = ["Give each a control group of its own"];
    refused(
        &engines("a.slice", "a.slice"),
        &["line 15", "a.slice is used by x and by y", beside[0]],
    );
    refused(&engines("a-b.slice", "a.slice"), &["x and y would end together", beside[0]]);
    refused(&engines("a", "a/b"), &["of a and a/b one is in the other", beside[0]]);
    let unit = with(
        "kind = \"systemd\"\nunit = \"web.service\"\n[groups.h]\nnodes = [\"n3\"]\n\
        [groups.h.resources.y]\nkind = \"systemd\"\nunit = \"web.service\"",
    );
    refused(&unit, &["line 11", "web.service is used by x and by y", "Give each its own"]);
    let everywhere = with("kind = \"address\"\naddress = \"10.91.0.9/16\"")
        .replace("nodes = [\"n1\", \"n2\"]", "nodes = [\"n1\", \"n2\"]\npolicy = \"concurrent\"");
    refused(&everywhere, &["runs on several nodes at once"]);
}

#[test]
fn h35_settings_nodes_and_the_rest() {
    for (text, words) in [
        (
            "[cluster.timing]\ninterval_ms = 100",
            &["line 1", "cluster.timing", "detection after 500 ms"][..],
        ),
        ("[cluster]\nvoters = 4", &["line 2", "4 voters"]),
        ("[cluster]\nname = \"other\"", &["called prod"]),
        ("[cluster]\nlogging_level = \"loud\"", &["Possible: error, warning"]),
        ("[nodes.n4]\nnumber = 4", &["n4 is no member", "vedette node add n4"]),
        ("[nodes.n1]\nnumber = 7", &["n1 has the number 1"]),
        (
            "[nodes.n1.addresses]\nneta = \"10.91.0.2\"",
            &["10.91.0.2 is the address of n1 on neta and of n2"],
        ),
        (
            "[nodes.n1.addresses]\nneta = \"10.91.9.1\"\nnetb = \"10.92.9.1\"",
            &["keep none of its addresses"],
        ),
        ("[networks.neta]\nbeat_port = 1", &["cannot change while the cluster runs"]),
        ("[groups.g]\npolicy = \"rotating\"", &["has no node to run on"]),
        ("[groups.g]\nnodes = [\"n1\", \"n1\"]", &["twice in the list"]),
        (
            "[groups.g]\npolicy = \"concurrent\"\nnodes = [\"n1\"]\nmultiple_active = \"block\"",
            &["multiple_active", "nothing of it is one too many"],
        ),
        ("[fencing.n1]\nagent = \"fence x\"", &["not the name of a fence agent"]),
        ("[fencing.n1]\naction = \"off\"", &["agent is missing"]),
        ("[manager]\nfence_always = true", &["nobody can fence n1, n2, n3"]),
        ("[manager]\nstrict = true\ntrust_guard = true", &["both more and less than a lease"]),
        ("[monitors.x]\ninterval = \"1s\"", &["no command"]),
        ("[monitors.\"program.count\"]\ncommand = [\"/bin/true\"]", &["needs no program"]),
        ("[events.node_up]\nnotify = [\"mail\"]", &["no absolute path"]),
        (
            "[[standby]]\nnode = \"n1\"\nnetwork = \"netc\"\naddress = \"10.1.1.1\"",
            &["no network \"netc\""],
        ),
    ] {
        refused(text, words);
    }
    let found = errors("[networks.netc]\npriority = \"low\"\n");
    assert_eq!(found.len(), 3, "every node needs an address: {found:?}");
}

/// H34: networks come and go while the cluster runs.
#[test]
fn h34_a_network_is_added_and_one_removed() {
    let added = "[networks.netc]\npriority = \"low\"\n\
        [nodes.n1.addresses]\nnetc = \"10.93.0.1\"\n[nodes.n2.addresses]\nnetc = \"10.93.0.2\"\n\
        [nodes.n3.addresses]\nnetc = \"10.93.0.3\"\n[networks.netb]\nremove = true\n";
    let (document, findings) = read(added, &state());
    assert!(findings.iter().all(|finding| !finding.error), "{findings:?}");
    let names: Vec<&str> =
        document.networks.values().map(|network| network.name.as_str()).collect();
    assert!(
        names.contains(&"neta") && names.contains(&"netc") && !names.contains(&"netb"),
        "{names:?}"
    );
    assert!(document.addresses.values().all(|own| own.len() == 2));
}

fn running(mut state: ClusterState, group: &str, node: NodeNumber) -> ClusterState {
    let instance = Instance {
        state: GroupState::Online,
        token: 9,
        since: WallTime::default(),
        resources: BTreeMap::new(),
        uncovered: None,
    };
    let instances = BTreeMap::from([(node, instance)]);
    state.groups.insert(group.into(), Group { number: 1, instances, ..Group::default() });
    state
}

#[test]
fn h34_a_change_does_not_strand_a_running_group() {
    let mut fixture = Fixture::settled(3);
    fixture.state.definition = parse(WEB, &fixture.state).0;
    let there = running(fixture.state.clone(), "web", NodeNumber(1));
    let moved = WEB.replace("[\"n1\", \"n2\"]", "[\"n2\"]");
    let (_, findings) = read(&moved, &there);
    assert!(
        findings.len() == 1 && !findings[0].error && findings[0].what.contains("web runs on n1")
    );
    fixture.node_down(NodeNumber(2), "test");
    let alone = running(fixture.state, "web", NodeNumber(1));
    let found = errors_with(&moved, &alone);
    assert!(found.len() == 1 && found[0].contains("no other node of it is there"), "{found:?}");
    let (_, findings) = read("", &alone);
    assert!(
        findings.len() == 1
            && findings[0].what.contains("would be removed although it is ONLINE on n1")
    );
}

#[test]
fn h34_a_difference_is_told_in_lines() {
    let mut state = running(state(), "web", NodeNumber(1));
    let old = read(WEB, &state).0;
    state.definition = old.definition.clone();
    let text = WEB
        .replace("10.91.0.200", "10.91.0.222")
        .replace("[\"n1\", \"n2\"]", "[\"n1\", \"n2\", \"n3\"]")
        + "monitor_interval = \"5s\"\n[groups.new]\npolicy = \"rotating\"\nnodes = [\"n3\"]\n\
           [networks.netb]\npriority = \"high\"\n[cluster]\nseed_count = 3\n";
    let new = read(&text, &state).0;
    let difference = diff(&old, &new, &state);
    assert_eq!(
        difference.lines(),
        [
            "~ seed_count: 2 -> 3",
            "~ network netb: priority: low -> high",
            "~ group web: nodes: n1, n2 -> n1, n2, n3",
            "~ group web: web-ip: address: 10.91.0.200/16 -> 10.91.0.222/16",
            "~ group web: web-app: monitor_interval: 1s -> 5s",
            "+ group new: rotating on n3, with no resources",
            "! web: is released and acquired again on n1",
        ]
    );
    assert!(diff(&old, &old, &state).is_empty());
    let gone = diff(&new, &old, &state);
    assert!(gone.lines().contains(&"- group new".to_owned()), "{gone:?}");
}

#[test]
fn h36_what_is_in_force_is_printed_and_read_as_the_same() {
    let state = state();
    let text = print(&state);
    let (document, findings) = read(&text, &state);
    assert_eq!(findings, []);
    assert_eq!(document, Document::of(&state));
    assert_eq!(print_document(&document, &state), text);
}

#[test]
fn too_long_a_text_is_not_looked_at() {
    refused(&"#".repeat(LONGEST + 1), &["262145 bytes"]);
}

// ---------------------------------------------------------------------------------------------
// Properties
// ---------------------------------------------------------------------------------------------

fn word() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9.-]{0,8}"
}

/// Whatever a text may hold.
fn any_text() -> impl Strategy<Value = String> {
    "[^\\x00]{0,12}"
}

fn time() -> impl Strategy<Value = u64> {
    prop_oneof![
        0_u64..3_000,
        (0_u64..600).prop_map(|s| s * 1_000),
        (0_u64..100).prop_map(|m| m * 60_000)
    ]
}

fn words() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(any_text(), 0..3)
}

fn ip() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<u32>().prop_map(|bits| IpAddr::V4(Ipv4Addr::from(bits))),
        any::<u128>().prop_map(|bits| IpAddr::V6(Ipv6Addr::from(bits))),
    ]
}

fn node() -> impl Strategy<Value = NodeNumber> {
    (1_u16..=3).prop_map(NodeNumber)
}

fn network() -> impl Strategy<Value = NetworkNumber> {
    (1_u8..=2).prop_map(NetworkNumber)
}

fn values() -> impl Strategy<Value = BTreeMap<String, String>> {
    prop::collection::btree_map(any_text(), any_text(), 0..3)
}

fn release() -> impl Strategy<Value = Option<Release>> {
    let program = words().prop_filter("a program", |words| !words.is_empty());
    let release = (program, time()).prop_map(|(program, within_ms)| Release { program, within_ms });
    prop::option::of(release)
}

fn kind() -> impl Strategy<Value = ResourceKind> {
    let mode = prop_oneof![Just(AddressMode::Alias), Just(AddressMode::Swap)];
    let way = prop_oneof![Just(OnConflict::Fail), Just(OnConflict::Take)];
    prop_oneof![
        (ip(), 1_u8..=32, network(), mode, way).prop_map(
            |(address, prefix, network, mode, on_conflict)| ResourceKind::Address {
                address,
                prefix,
                network,
                mode,
                on_conflict,
            }
        ),
        (any_text(), any_text(), any_text(), any_text(), any::<bool>()).prop_map(
            |(device, mount_point, fs_type, options, check)| ResourceKind::FileSystem {
                device,
                mount_point,
                fs_type,
                options,
                check,
            }
        ),
        any_text().prop_map(|name| ResourceKind::VolumeGroup { name }),
        (words(), words(), words(), [(); 2].map(|()| prop::option::of(any_text())), release())
            .prop_map(|(start, stop, monitor, [user, control_group], release)| {
                ResourceKind::Application { start, stop, monitor, user, control_group, release }
            }),
        any_text().prop_map(|unit| ResourceKind::Systemd { unit }),
        (word(), word(), values(), release()).prop_map(|(provider, agent, parameters, release)| {
            ResourceKind::Ocf { provider, agent, parameters, release }
        }),
    ]
}

fn resources() -> impl Strategy<Value = Vec<ResourceDef>> {
    let times = [time(), time(), time(), time(), time()];
    let counts = [1_u32..=100, 1..=100, 1..=100, 0..=1_000];
    let resource = (word(), kind(), times, counts).prop_map(
        |(name, kind, [every, start, stop, monitor, window], counts)| ResourceDef {
            name,
            kind,
            monitor_interval_ms: every,
            start_timeout_ms: start,
            stop_timeout_ms: stop,
            monitor_timeout_ms: monitor,
            fall: counts[0],
            timeout_fall: counts[1],
            rise: counts[2],
            restarts: counts[3],
            failure_window_ms: window,
        },
    );
    prop::collection::vec(resource, 0..4)
        .prop_map(distinct(|resource: &ResourceDef| resource.name.clone()))
}

/// Tables have different names.
fn distinct<T>(name: impl Fn(&T) -> String) -> impl Fn(Vec<T>) -> Vec<T> {
    move |all| {
        let mut seen = std::collections::BTreeSet::new();
        all.into_iter().filter(|one| seen.insert(name(one))).collect()
    }
}

fn groups() -> impl Strategy<Value = Vec<GroupDef>> {
    let policy = prop::sample::select(Policy::ALL.to_vec());
    let nodes = prop::collection::vec(node(), 0..3);
    let ways = prop::sample::select(MultipleActive::ALL.to_vec());
    let window = prop::option::of((0_u16..1_440, 1_u16..1_440))
        .prop_map(|it| it.map(|(from, long)| DayWindow { from, to: (from + long) % 1_440 }));
    let back = (any::<bool>(), time(), window);
    let group = (word(), policy, nodes, back, ways, resources()).prop_map(
        |(name, policy, nodes, back, multiple_active, resources)| GroupDef {
            name,
            policy,
            nodes,
            fallback: back.0,
            fallback_delay_ms: back.1,
            fallback_window: back.2,
            // It means nothing of a group that runs on several nodes at once.
            multiple_active: match policy {
                Policy::Concurrent => MultipleActive::StopExtra,
                _ => multiple_active,
            },
            resources,
        },
    );
    prop::collection::vec(group, 0..4).prop_map(distinct(|group: &GroupDef| group.name.clone()))
}

fn manager() -> impl Strategy<Value = ManagerOptions> {
    let flaps = (0_u32..=100, time());
    (prop::option::of(time()), time(), time(), time(), flaps, any::<[bool; 4]>()).prop_map(
        |(
            settle_ms,
            command_timeout_ms,
            too_long_ms,
            probe_interval_ms,
            (flap_failovers, flap_window_ms),
            [verbose, trust_guard, fence_always, strict],
        )| {
            ManagerOptions {
                settle_ms,
                command_timeout_ms,
                too_long_ms,
                probe_interval_ms,
                flap_failovers,
                flap_window_ms,
                verbose,
                trust_guard,
                fence_always,
                strict,
            }
        },
    )
}

fn definition() -> impl Strategy<Value = Definition> {
    let standby = (node(), network(), ip()).prop_map(|(node, network, address)| Standby {
        node,
        network,
        address,
    });
    let ways = prop::sample::select(vec![OnFailure::Wait, OnFailure::Skip, OnFailure::Abort]);
    let ends = (ways, prop::option::of(0_u64..100_000_000));
    let hooks = (words(), words(), words(), 0_u32..=100, words(), ends).prop_map(
        |(notify, pre, recovery, retries, post, (on_failure, time_limit_ms))| Hooks {
            notify,
            pre,
            recovery,
            retries,
            post,
            on_failure,
            time_limit_ms,
        },
    );
    let action = prop_oneof![Just("off".to_owned()), Just("reboot".to_owned())];
    let fence =
        (any_text(), values(), action, time()).prop_map(|(agent, options, action, timeout_ms)| {
            FenceDef { agent, options, action, timeout_ms }
        });
    let monitor = (any_text(), words(), time(), time()).prop_map(
        |(variable, command, interval_ms, timeout_ms)| MonitorDef {
            variable,
            command,
            interval_ms,
            timeout_ms,
        },
    );
    let monitors = prop::collection::vec(monitor, 0..3)
        .prop_map(distinct(|monitor: &MonitorDef| monitor.variable.clone()));
    (
        manager(),
        groups(),
        prop::collection::vec(standby, 0..3),
        prop::collection::btree_map(any_text(), hooks, 0..3),
        prop::collection::btree_map(node(), fence, 0..3),
        monitors,
    )
        .prop_map(|(manager, groups, standbys, hooks, fencing, monitors)| Definition {
            manager,
            groups,
            standbys,
            hooks,
            fencing,
            monitors,
        })
}

proptest! {
    /// H36: whatever is in force can be printed, and reading the text yields the very same.
    #[test]
    fn h36_printing_and_reading_are_inverse(definition in definition()) {
        let mut state = state();
        state.definition = definition;
        let text = print(&state);
        let (document, findings) = read(&text, &state);
        prop_assert_eq!(&document, &Document::of(&state), "{}\n{:#?}", text, findings);
        prop_assert!(diff(&document, &Document::of(&state), &state).is_empty());
    }

    #[test]
    fn any_text_is_answered(text in "\\PC*") {
        read(&text, &state());
    }

    /// Texts that are nearly right reach more of the reader than noise does.
    #[test]
    fn a_damaged_document_is_answered(definition in definition(), at in any::<prop::sample::Index>(), put in "\\PC{0,3}") {
        let mut state = state();
        state.definition = definition;
        let text = print(&state);
        let places: Vec<usize> = text.char_indices().map(|(place, _)| place).collect();
        let place = places[at.index(places.len())];
        let end = (place..=text.len()).find(|end| *end > place && text.is_char_boundary(*end)).unwrap_or(text.len());
        let damaged = format!("{}{put}{}", &text[..place], &text[end..]);
        let (document, _) = read(&damaged, &state);
        diff(&Document::of(&state), &document, &state);
        single_points(&document, &state);
        print_document(&document, &state);
    }
}
