//! Units of systemd (findings R1, R2): started, watched and ended, with the lease as well, by a real systemd.

use std::collections::BTreeSet;
use std::time::Duration;

use vedette_core::group::{ResourceDef, ResourceKind};
use vedette_node::cgroup::of_unit;
use vedette_node::hold::{self, Held};
use vedette_node::resource::{Context, Health, Reach, Resource, resource, systemd};

use crate::support::{self, TestGroup, gone, run, wait_for};
use crate::systemd_private::in_systemd;

/// One that comes back at once, whatever ends it.
const STUBBORN: &str = "[Unit]\nDefaultDependencies=no\nStartLimitIntervalSec=0\n\
                        [Service]\nExecStart=/bin/sleep infinity\nRestart=always\nRestartSec=0\n\
                        [Install]\nWantedBy=private.target\n";

struct Site {
    directory: tempfile::TempDir,
    group: TestGroup,
}

impl Site {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), group: TestGroup::new("systemd") }
    }

    fn context(&self) -> Context {
        self.group.place(support::context(self.directory.path()))
    }
}

fn install(unit: &str, text: &str) {
    std::fs::write(format!("/run/systemd/system/{unit}"), text).unwrap();
    run("systemctl daemon-reload");
}

fn unit(unit: &str) -> Box<dyn Resource> {
    let def = ResourceDef::new("server", ResourceKind::Systemd { unit: unit.into() });
    resource(&ResourceDef { stop_timeout_ms: 1_000, ..def })
}

fn property(unit: &str, name: &str) -> String {
    run(&format!("systemctl show --value --property={name} {unit}")).trim().to_owned()
}

fn main_process(unit: &str) -> i32 {
    property(unit, "MainPID").parse().unwrap()
}

fn kill(pid: i32) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL)
        .unwrap();
}

#[test]
fn r1_a_unit_is_started_watched_and_stopped() {
    in_systemd("systemd::r1_a_unit_is_started_watched_and_stopped", || async {
        let site = Site::new();
        let (web, context) = (unit("web.service"), site.context());
        install("web.service", STUBBORN);
        assert_eq!(web.monitor(&context).await, Ok(Health::NotRunning));
        assert_eq!(web.stop(&context).await, Ok(String::new()), "what is off is stopped");
        assert_eq!(web.start(&context).await, Ok(String::new()));
        assert_eq!(web.monitor(&context).await, Ok(Health::Running));
        assert_eq!(web.start(&context).await, Ok("runs already".into()));
        let first = main_process("web.service");
        // Whether it is restarted is the cluster's decision, though its file says always.
        kill(first);
        wait_for("its end", || gone(first)).await;
        wait_for("systemd's notice", || {
            (property("web.service", "ActiveState") == "failed").then_some(())
        })
        .await;
        assert_eq!(web.monitor(&context).await, Ok(Health::NotRunning));
        assert_eq!(web.start(&context).await, Ok(String::new()));
        assert_ne!(main_process("web.service"), first);
        let second = main_process("web.service");
        assert_eq!(web.stop(&context).await, Ok(String::new()));
        assert!(gone(second).is_some());
        assert_eq!(web.monitor(&context).await, Ok(Health::NotRunning));
    });
}

/// R2: nobody asks systemd or the agent; and it stays down, whoever wants it.
#[test]
fn r2_a_unit_ends_with_the_lease_and_stays_down() {
    in_systemd("systemd::r2_a_unit_ends_with_the_lease_and_stays_down", || async {
        let site = Site::new();
        let (web, context) = (unit("web.service"), site.context());
        install("web.service", STUBBORN);
        // It was started by hand, so it was no resource of anybody's, and is taken over as it is.
        run("systemctl start web.service");
        assert_eq!(web.start(&context).await, Ok("runs already".into()));
        let process = main_process("web.service");
        let place = context.group_directory().unwrap();
        let held = Held {
            groups: BTreeSet::from([place.directory().to_owned()]),
            units: BTreeSet::from(["web.service".to_owned()]),
            ..Held::default()
        };
        let released = hold::release(&held, Duration::from_secs(10));
        assert_eq!(released.failed, Vec::<String>::new());
        assert!(gone(process).is_some(), "it is dead when that is said");
        // Asked by an operator, systemd starts nothing and says why.
        run("systemctl start web.service");
        assert_eq!(property("web.service", "ConditionResult"), "no");
        assert_eq!(web.monitor(&context).await, Ok(Health::NotRunning));
        // Nor does an agent that slept over the end of its lease.
        let late = web.start(&context).await.unwrap_err();
        assert!(late.why.contains("this node's lease is over"), "{late}");
        assert_eq!(web.stop(&context).await, Ok(String::new()));
        // With the next lease it runs again.
        place.make().unwrap();
        assert_eq!(web.start(&context).await, Ok(String::new()));
        assert_eq!(web.monitor(&context).await, Ok(Health::Running));
        web.stop(&context).await.unwrap();
        // What is no resource any more is the operator's again.
        systemd::keep(&[].into(), &site.group.directory()).await.unwrap();
        place.remove();
        run("systemctl start web.service");
        assert_eq!(property("web.service", "ActiveState"), "active");
        run("systemctl stop web.service");
    });
}

#[test]
fn r1_a_stop_that_hangs_or_leaves_something_is_seen_to_the_end() {
    in_systemd("systemd::r1_a_stop_that_hangs_or_leaves_something_is_seen_to_the_end", || async {
        let site = Site::new();
        let context = site.context();
        let hangs = STUBBORN.replace(
            "Restart=always",
            "ExecStop=/bin/sleep infinity\nTimeoutStopSec=infinity\nRestart=always",
        );
        install("hangs.service", &hangs);
        let leaves =
            STUBBORN.replace("Restart=always", "KillMode=none\nExecStop=/bin/true\nRestart=always");
        install("leaves.service", &leaves);
        for name in ["hangs.service", "leaves.service"] {
            let it = unit(name);
            it.start(&context).await.unwrap();
            let process = main_process(name);
            let said = it.stop(&context).await.unwrap();
            assert!(said.contains("killed"), "{name}: {said}");
            assert!(gone(process).is_some(), "{name}");
            assert_eq!(it.monitor(&context).await, Ok(Health::NotRunning), "{name}");
            assert!(of_unit(name).iter().all(|group| !group.is_populated()), "{name}");
        }
    });
}

#[test]
fn r1_what_cannot_be_a_resource_is_said_with_what_helps() {
    in_systemd("systemd::r1_what_cannot_be_a_resource_is_said_with_what_helps", || async {
        let site = Site::new();
        let context = site.context();
        install("web.service", STUBBORN);
        std::os::unix::fs::symlink("/dev/null", "/run/systemd/system/masked.service").unwrap();
        std::os::unix::fs::symlink("web.service", "/run/systemd/system/alias.service").unwrap();
        install(
            "once.service",
            "[Unit]\nDefaultDependencies=no\n[Service]\nType=oneshot\nExecStart=/bin/true\n",
        );
        for (name, what, advice) in [
            (
                "none.service",
                "there is no unit none.service on this node",
                "Install it on every node",
            ),
            ("masked.service", "masked.service is masked", "systemctl unmask masked.service"),
            (
                "alias.service",
                "alias.service is another name of web.service",
                "unit = \"web.service\"",
            ),
            (
                "once.service",
                "once.service is over as soon as it has started",
                "RemainAfterExit=yes",
            ),
        ] {
            let failed = unit(name).start(&context).await.unwrap_err();
            assert!(
                failed.why.contains(what) && failed.advice.contains(advice),
                "{name}: {failed}"
            );
            assert_eq!(failed.reach, Reach::Node, "{name}");
            let found = unit(name).verify(&context).await;
            assert_eq!(found.len(), 1, "{name}: {found:?}");
            assert!(found[0].error && found[0].what == failed.why, "{name}: {found:?}");
        }
        install("fails.service", &STUBBORN.replace("/bin/sleep infinity", "/nowhere/web"));
        // On a busy machine it may end a moment after it was looked at, which its monitor would find.
        let mut failed = None;
        for _ in 0..20 {
            failed = unit("fails.service").start(&context).await.err();
            if failed.is_some() {
                break;
            }
        }
        let failed = failed.expect("it cannot run");
        assert!(
            failed.why.contains("fails.service ended at once: failed (result exit-code)"),
            "{failed}"
        );
        assert!(failed.advice.contains("systemctl status fails.service"), "{failed}");
    });
}

/// What would start it beside the cluster is known before that happens.
#[test]
fn r1_a_unit_that_something_else_starts_is_found_by_verify() {
    in_systemd("systemd::r1_a_unit_that_something_else_starts_is_found_by_verify", || async {
        let site = Site::new();
        let context = site.context();
        install("web.service", STUBBORN);
        assert_eq!(unit("web.service").verify(&context).await, []);
        run("systemctl enable --runtime web.service");
        install(
            "web.socket",
            "[Unit]\nDefaultDependencies=no\n[Socket]\nListenStream=/run/web.socket\n",
        );
        run("systemctl start web.socket");
        let found = unit("web.service").verify(&context).await;
        let said: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "warning: resource server: web.service is enabled: at boot systemd starts it before the cluster \
                 says where it runs. Leave its start to the cluster: systemctl disable web.service.",
                "warning: resource server: web.socket would start web.service, and is there on nodes that do not \
                 have the group. Turn it off on every node: systemctl disable --now web.socket.",
            ]
        );
        let nowhere = Context { cgroup: None, ..context };
        let found = unit("web.service").verify(&nowhere).await;
        assert!(found[0].error && found[0].what.contains("without cgroup2"), "{found:?}");
    });
}
