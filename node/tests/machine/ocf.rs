//! OCF agents as installed (spec H25 by other means): `ocf:heartbeat:Dummy` and `IPaddr2`.

use std::collections::BTreeMap;
use std::path::Path;

use vedette_core::group::{Release, ResourceDef, ResourceKind};
use vedette_node::hold::{Held, Released, release_all};
use vedette_node::resource::ocf::metadata::MetaData;
use vedette_node::resource::{Health, Reach, Resource, release_program, resource};

use crate::support::{self, LONG, TestGroup, block_on, in_network, run};

const AGENTS: &str = "/usr/lib/ocf/resource.d/heartbeat";

fn ocf(agent: &str, parameters: &[(&str, &str)]) -> Box<dyn Resource> {
    assert!(
        Path::new(AGENTS).join("Dummy").exists(),
        "OCF agents are missing: apt-get install resource-agents"
    );
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let kind = ResourceKind::Ocf {
        provider: "heartbeat".into(),
        agent: agent.into(),
        parameters: parameters.iter().map(own).collect::<BTreeMap<_, _>>(),
        release: None,
    };
    resource(&ResourceDef::new("thing", kind))
}

#[tokio::test]
async fn an_agent_is_started_watched_and_stopped() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state-of-dummy");
    let group = TestGroup::new("ocf");
    let context = group.place(support::context(directory.path()));
    let dummy = ocf("Dummy", &[("state", state.to_str().unwrap())]);
    assert!(dummy.verify(&context).await.is_empty());
    assert_eq!(dummy.monitor(&context).await, Ok(Health::NotRunning));
    for _ in 0..2 {
        dummy.start(&context).await.unwrap();
        assert_eq!(dummy.monitor(&context).await, Ok(Health::Running));
        assert!(state.exists(), "the agent got its parameter");
    }
    for _ in 0..2 {
        dummy.stop(&context).await.unwrap();
        assert_eq!(dummy.monitor(&context).await, Ok(Health::NotRunning));
    }
}

#[test]
fn an_address_can_be_an_agent_s_too() {
    in_network(|| async {
        run("ip link add a0 type veth peer name a1");
        run("ip link set a0 up");
        run("ip link set a1 up");
        run("ip address add 192.0.2.1/24 dev a0");
        let directory = tempfile::tempdir().unwrap();
        let context = support::context(directory.path());
        let address = ocf("IPaddr2", &[("ip", "192.0.2.10"), ("cidr_netmask", "24")]);
        assert_eq!(address.monitor(&context).await, Ok(Health::NotRunning));
        address.start(&context).await.unwrap();
        assert_eq!(address.monitor(&context).await, Ok(Health::Running));
        assert!(run("ip -br address show a0").contains("192.0.2.10/24"));
        address.stop(&context).await.unwrap();
        assert_eq!(address.monitor(&context).await, Ok(Health::NotRunning));
    });
}

#[test]
fn what_an_agent_says_of_its_failure_is_passed_on() {
    in_network(|| async {
        let directory = tempfile::tempdir().unwrap();
        let context = support::context(directory.path());
        let wrong = ocf("IPaddr2", &[("ip", "not-an-address")]);
        let failed = wrong.start(&context).await.unwrap_err();
        assert_eq!(failed.reach, Reach::Cluster, "{failed}");
        assert!(failed.why.contains("exit status 6, its parameters are wrong: "), "{failed}");
        let found = wrong.verify(&context).await;
        assert!(found.iter().any(|finding| finding.error), "{found:?}");
    });
}

#[tokio::test]
async fn verify_compares_parameters_with_what_the_agent_says() {
    let directory = tempfile::tempdir().unwrap();
    let context = support::context(directory.path());
    let found =
        ocf("Filesystem", &[("device", "/dev/null"), ("divice", "x")]).verify(&context).await;
    let has = |words: &str| found.iter().any(|finding| finding.what.contains(words));
    assert!(has("has no parameter divice") && has("needs the parameter directory"), "{found:?}");
    let missing = ocf("no-such-agent", &[]).verify(&context).await;
    assert!(missing[0].advice.contains("apt-get install resource-agents"), "{missing:?}");
    assert_eq!(ocf("../../x", &[]).verify(&context).await.len(), 1, "a name leads nowhere else");
    let failed = ocf("no-such-agent", &[]).start(&context).await.unwrap_err();
    assert_eq!(failed.reach, Reach::Node);
    let promotable = ocf("Stateful", &[]).verify(&context).await;
    assert!(promotable[0].what.contains("runs unpromoted"), "{promotable:?}");
}

/// Every plain agent of the package can be called the way that is supported here.
#[test]
fn installed_agents_describe_what_is_needed() {
    block_on(async {
        for agent in
            ["Dummy", "IPaddr2", "Filesystem", "LVM-activate", "apache", "nginx", "mysql", "Xen"]
        {
            let path = Path::new(AGENTS).join(agent);
            let argv = [path.to_str().unwrap(), "meta-data"];
            let program = vedette_node::process::Program::new(argv, support::LONG)
                .environment([("OCF_ROOT", "/usr/lib/ocf")])
                .keep(1 << 20);
            let outcome = vedette_node::process::run(program).await;
            let described = MetaData::parse(&outcome.output);
            for action in ["start", "stop", "monitor"] {
                assert!(described.actions.contains(action), "{agent}: {described:?}");
            }
            assert!(!described.parameters.is_empty(), "{agent}");
        }
    });
}

/// R2: what an agent has others run lives in no control group; its release program may be the agent itself, which
/// gets its parameters, and the guard runs it without the agent of the node.
#[test]
fn r2_an_agent_may_be_its_own_release_program() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state-of-dummy");
    let group = TestGroup::new("ocf-release");
    let context = group.place(support::context(directory.path()));
    let agent = format!("{AGENTS}/Dummy");
    let kind = ResourceKind::Ocf {
        provider: "heartbeat".into(),
        agent: "Dummy".into(),
        parameters: [("state".to_owned(), state.to_str().unwrap().to_owned())].into(),
        release: Some(Release { program: vec![agent, "stop".into()], within_ms: 5_000 }),
    };
    let def = ResourceDef::new("thing", kind);
    let (dummy, program) =
        (resource(&def), release_program(&context, &Default::default(), &def).expect("it has one"));
    block_on(async { dummy.start(&context).await }).unwrap();
    assert!(state.exists());
    let held = Held { programs: [program].into(), ..Held::default() };
    assert_eq!(release_all(&held, LONG), Released::default());
    assert!(!state.exists(), "the guard's program took it away");
    assert_eq!(block_on(async { dummy.monitor(&context).await }), Ok(Health::NotRunning));
}

#[tokio::test]
async fn what_cannot_release_is_found_before_it_is_needed() {
    let directory = tempfile::tempdir().unwrap();
    let context = support::context(directory.path());
    let kind = ResourceKind::Ocf {
        provider: "heartbeat".into(),
        agent: "Dummy".into(),
        parameters: BTreeMap::new(),
        release: Some(Release { program: vec!["/no/such/program".into()], within_ms: 5_000 }),
    };
    let found = resource(&ResourceDef::new("thing", kind)).verify(&context).await;
    assert!(found[0].error, "{found:?}");
    assert_eq!(found[0].what, "release: /no/such/program is not here, or is not executable");
}
