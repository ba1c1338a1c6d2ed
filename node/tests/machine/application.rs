//! Application servers (spec H25): what they leave behind is found and ended.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use vedette_core::group::{Release, ResourceDef, ResourceKind};
use vedette_node::cgroup::{self, ControlGroup};
use vedette_node::hold::{Held, Released, release_all};
use vedette_node::resource::{Context, Health, Reach, Resource, is_seen, resource};

use crate::support::{self, LONG, TestGroup, gone, program, read_pid, wait_for};

struct Site {
    directory: tempfile::TempDir,
    group: TestGroup,
}

impl Site {
    fn new(name: &str) -> Self {
        Self { directory: tempfile::tempdir().unwrap(), group: TestGroup::new(name) }
    }

    fn context(&self) -> Context {
        self.group.place(support::context(self.directory.path()))
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn file(&self, name: &str) -> String {
        self.path().join(name).to_str().unwrap().to_owned()
    }

    /// An application of three programs; an empty text is no program.
    fn application(&self, start: &str, stop: &str, monitor: &str) -> Box<dyn Resource> {
        self.filled(start, stop, monitor, None)
    }

    /// One that an engine runs in a control group of that path.
    fn filled(
        &self,
        start: &str,
        stop: &str,
        monitor: &str,
        engine: Option<&str>,
    ) -> Box<dyn Resource> {
        let argv = |name: &str, text: &str| match text {
            "" => Vec::new(),
            text => vec![program(&self.path().join(name), &format!("#!/bin/sh\n{text}\n"))],
        };
        let kind = ResourceKind::Application {
            start: argv("start", start),
            stop: argv("stop", stop),
            monitor: argv("monitor", monitor),
            user: None,
            control_group: engine.map(str::to_owned),
            release: None,
        };
        let def = ResourceDef::new("server", kind);
        resource(&ResourceDef { stop_timeout_ms: 1_500, monitor_timeout_ms: 1_000, ..def })
    }

    /// A daemon that leaves its session, is deaf to SIGTERM and writes its number to a file.
    fn daemon(&self) -> String {
        let file = self.file("pid");
        format!("setsid sh -c 'trap \"\" TERM; echo $$ > {file}; while :; do sleep 1; done' &")
    }
}

#[tokio::test]
async fn h25_a_daemon_is_started_watched_and_ended_whatever_it_does() {
    let site = Site::new("daemon");
    let (application, context) = (site.application(&site.daemon(), "", ""), site.context());
    assert_eq!(application.monitor(&context).await, Ok(Health::NotRunning));
    application.start(&context).await.unwrap();
    let pid = read_pid(&site.path().join("pid")).await;
    assert_eq!(application.monitor(&context).await, Ok(Health::Running));
    assert_eq!(application.start(&context).await, Ok("runs already".into()));
    assert_eq!(read_pid(&site.path().join("pid")).await, pid, "there is no second one");
    let said = application.stop(&context).await.unwrap();
    assert_eq!(said, "what the stop program left was killed");
    wait_for("its end", || gone(pid)).await;
    assert_eq!(application.monitor(&context).await, Ok(Health::NotRunning));
    assert_eq!(application.stop(&context).await, Ok(String::new()));
}

/// Programs know for whom they run; the token is for what can compare it.
#[tokio::test]
async fn h25_start_and_stop_are_told_group_resource_and_token() {
    let site = Site::new("told");
    let told = format!(
        "echo \"$0 $VEDETTE_GROUP $VEDETTE_RESOURCE $VEDETTE_TOKEN $VEDETTE_NODE\" >> {}",
        site.file("told")
    );
    let stop = format!("{told}; kill -9 $(cat {})", site.file("pid"));
    let application = site.application(&format!("{told}\n{}", site.daemon()), &stop, "");
    let context = site.context();
    application.start(&context).await.unwrap();
    read_pid(&site.path().join("pid")).await;
    application.stop(&context).await.unwrap();
    let told = std::fs::read_to_string(site.file("told")).unwrap();
    let line = |name: &str| format!("{} web server 42 n1\n", site.file(name));
    assert_eq!(told, line("start") + &line("stop"));
}

#[tokio::test]
async fn h25_a_monitor_tells_broken_from_off() {
    let site = Site::new("broken");
    let monitor = format!("echo checked; test -e {}", site.file("well"));
    let application = site.application(&site.daemon(), "", &monitor);
    let context = site.context();
    assert_eq!(application.monitor(&context).await, Ok(Health::NotRunning));
    application.start(&context).await.unwrap();
    read_pid(&site.path().join("pid")).await;
    let broken = application.monitor(&context).await.unwrap_err();
    assert!(broken.why.contains("does not work: exit status 1"), "{broken}");
    assert_eq!(broken.output, "checked\n");
    std::fs::write(site.file("well"), "").unwrap();
    assert_eq!(application.monitor(&context).await, Ok(Health::Running));
    std::fs::remove_file(site.file("well")).unwrap();
    application.stop(&context).await.unwrap();
}

#[tokio::test]
async fn h25_a_start_that_fails_says_what_it_printed() {
    let site = Site::new("fails");
    let application = site.application("echo no licence >&2; exit 3", "exit 0", "");
    let context = site.context();
    let failed = application.start(&context).await.unwrap_err();
    assert_eq!(failed.why, "the start program failed: exit status 3 (no licence)");
    assert_eq!(failed.output, "no licence\n");
    let idle = site.application("exit 0", "", "").start(&context).await.unwrap_err();
    assert!(idle.why.contains("none of its processes is alive"), "{idle}");
}

/// A stop program that fails does not keep a group on a node: its processes are known.
#[tokio::test]
async fn h25_a_stop_that_fails_is_overtaken_by_the_control_group() {
    let site = Site::new("stop");
    let application = site.application(&site.daemon(), "echo cannot; exit 1", "");
    let context = site.context();
    application.start(&context).await.unwrap();
    let pid = read_pid(&site.path().join("pid")).await;
    let said = application.stop(&context).await.unwrap();
    assert!(said.starts_with("its processes were killed, as the stop program failed"), "{said}");
    wait_for("its end", || gone(pid)).await;
}

impl Site {
    /// A service that something outside runs, as systemd does: `start` and `stop` only ask for it.
    fn service(&self) -> String {
        self.file("runs")
    }

    fn outside(&self, stop: &str, monitor: &str) -> Box<dyn Resource> {
        self.application(&format!("touch {}", self.service()), stop, monitor)
    }

    fn runs(&self) -> String {
        format!("test -e {}", self.service())
    }
}

/// Findings R1: what lives outside its control group is off when it says so itself.
#[tokio::test]
async fn h25_a_service_that_still_runs_after_its_stop_is_not_released() {
    let site = Site::new("alive");
    let context = site.context();
    for (stop, said) in [
        ("echo cannot; exit 1", "the stop program failed: exit status 1 (cannot)"),
        ("exit 0", "it was stopped without a failure"),
    ] {
        let service = site.outside(stop, &site.runs());
        let detail = service.start(&context).await.unwrap();
        assert!(detail.contains("the end of the lease does not end it"), "{detail}");
        let found = service.verify(&context).await;
        assert!(found.iter().any(|finding| finding.what == detail), "verify: {found:?}");
        let failure = service.stop(&context).await.unwrap_err();
        assert_eq!(failure.why, format!("{said}, but the monitor says that it still runs"));
        std::fs::remove_file(site.service()).unwrap();
        assert!(service.stop(&context).await.is_ok(), "somebody stopped it by hand");
    }
}

/// A stop is waited for until the service is gone, as long as a stop may take.
#[tokio::test]
async fn h25_a_stop_that_only_asks_is_waited_for() {
    let site = Site::new("asks");
    let asked = site.file("asked");
    // The monitor's third answer after it was asked to stop is that it does.
    let monitor = format!(
        "test -e {asked} || {{ {}; exit; }}; echo x >> {asked}; test $(wc -l < {asked}) -lt 4",
        site.runs()
    );
    let service = site.outside(&format!("echo x > {asked}"), &monitor);
    let context = site.context();
    service.start(&context).await.unwrap();
    service.stop(&context).await.unwrap();
    assert_eq!(std::fs::read_to_string(&asked).unwrap().lines().count(), 4);
}

/// Nor does one that cannot be run, as a shell says with 127.
#[tokio::test]
async fn r1_a_monitor_that_cannot_be_run_is_no_answer() {
    for status in [126, 127] {
        let site = Site::new(&format!("status{status}"));
        let context = site.context();
        let monitor = format!("test ! -e {} || exit {status}; {}", site.file("gone"), site.runs());
        let service = site.outside("exit 0", &monitor);
        service.start(&context).await.unwrap();
        std::fs::write(site.file("gone"), "").unwrap();
        let failure = service.stop(&context).await.unwrap_err();
        assert!(failure.why.starts_with("nobody can tell whether it still runs"), "{failure}");
    }
}

/// A monitor that hangs proves nothing of a service that lives elsewhere.
#[tokio::test]
async fn h25_a_silent_monitor_is_no_answer_for_what_lives_elsewhere() {
    let site = Site::new("silent");
    let context = site.context();
    let hangs = format!("{} || exit 1; test -e {} || sleep 60", site.runs(), site.file("answers"));
    std::fs::write(site.file("answers"), "").unwrap();
    let service = site.outside("exit 0", &hangs);
    service.start(&context).await.unwrap();
    std::fs::remove_file(site.file("answers")).unwrap();
    let hangs_now = service.monitor(&context).await.unwrap_err();
    assert!(hangs_now.why.starts_with("the monitor did not answer within "), "{hangs_now}");
    assert!(hangs_now.why.ends_with(" ms and was ended"), "{hangs_now}");
    let unknown = "Whether it works is not known; none of its processes is in its control group.";
    assert!(hangs_now.late && hangs_now.advice.starts_with(unknown), "{hangs_now}");
    let failure = service.stop(&context).await.unwrap_err();
    assert!(failure.why.starts_with("nobody can tell whether it still runs"), "{failure}");
    assert!(!failure.why.contains("says"), "a monitor that hangs says nothing: {failure}");
    assert!(failure.advice.contains("mend its monitor"), "{failure}");

    // What lived in its control group is known to be gone.
    std::fs::write(site.file("answers"), "").unwrap();
    let off = format!("test -e {}", site.file("pid"));
    let hangs = format!("{off} || exit 1; test -e {} || sleep 60", site.file("answers"));
    let daemon = site.application(&site.daemon(), "", &hangs);
    std::fs::remove_file(site.service()).unwrap();
    daemon.start(&context).await.unwrap();
    let pid = read_pid(&site.path().join("pid")).await;
    std::fs::remove_file(site.file("answers")).unwrap();
    assert_eq!(daemon.stop(&context).await.unwrap(), "what the stop program left was killed");
    wait_for("its end", || gone(pid)).await;
}

/// Findings R2: the guard took the group's place away, and the stop program runs all the same.
#[tokio::test]
async fn h25_the_stop_program_runs_after_the_lease_is_over() {
    let site = Site::new("over");
    let service = site.outside(&format!("rm {}", site.service()), &site.runs());
    let context = site.context();
    service.start(&context).await.unwrap();
    context.group_directory().unwrap().remove();
    service.stop(&context).await.unwrap();
    assert!(!Path::new(&site.service()).exists(), "it was stopped");
    assert!(!context.group_directory().unwrap().directory().exists(), "no place was made again");
    let left = std::fs::read_dir(context.cgroup.as_ref().unwrap()).unwrap().flatten();
    let left: Vec<_> = left.filter(|entry| entry.path().is_dir()).collect();
    assert!(left.is_empty(), "the place of the stop program is gone too: {left:?}");
}

#[tokio::test]
async fn h35_verify_says_what_is_missing() {
    let site = Site::new("verify");
    let kind = ResourceKind::Application {
        start: vec!["/no/such/program".into()],
        stop: Vec::new(),
        monitor: vec!["true".into()],
        user: Some("no-such-user".into()),
        control_group: None,
        release: Some(Release { program: vec!["/no/such/release".into()], within_ms: 1_000 }),
    };
    let application = resource(&ResourceDef::new("server", kind));
    let found = application.verify(&site.context()).await;
    let words: Vec<_> = found.iter().map(|finding| finding.what.as_str()).collect();
    assert_eq!(
        words,
        [
            "start: /no/such/program is not here, or is not executable",
            "release: /no/such/release is not here, or is not executable",
            "there is no user `no-such-user` here to run it as"
        ]
    );
    let failed = application.start(&site.context()).await.unwrap_err();
    assert_eq!(failed.reach, Reach::Node);
}

/// What runs now outside its control group is told, whoever started it: the end of the lease would not end it.
#[tokio::test]
async fn h35_verify_tells_of_what_runs_outside() {
    let site = Site::new("outside");
    let context = site.context();
    let service = site.outside("exit 0", &site.runs());
    assert!(service.verify(&context).await.is_empty(), "it does not run");
    std::fs::write(site.service(), "").unwrap();
    let found = service.verify(&context).await;
    assert!(found.len() == 1 && !found[0].error, "{found:?}");
    assert!(found[0].what.contains("none of its processes is in its control group"), "{found:?}");
    assert!(found[0].advice.contains("control_group"), "{found:?}");
    std::fs::remove_file(site.service()).unwrap();
    let pid = format!("test -e {}", site.file("pid"));
    let daemon = site.application(&site.daemon(), "", &pid);
    daemon.start(&context).await.unwrap();
    read_pid(&site.path().join("pid")).await;
    let found = daemon.verify(&context).await;
    let outside = found.iter().any(|finding| finding.what.contains("control group"));
    assert!(!outside, "what lives in it is ended with it: {found:?}");
}

/// R1: a daemon leaves its control group, and a child of it stays there: that is told at its start, is not forgotten as
/// long as it runs, and a control group that is empty is no proof that it is off.
#[tokio::test]
async fn r1_what_leaves_in_part_is_not_taken_for_covered() {
    let site = Site::new("partly");
    let mut context = site.context();
    context.environment.insert("VEDETTE_OPERATION".into(), format!("{}-1", std::process::id()));
    let (pid, place) = (site.file("pid"), site.group.directory().join("elsewhere"));
    std::fs::create_dir_all(&place).unwrap();
    let leaves = format!("sleep 600 & echo 0 > {}/cgroup.procs; echo $$ > {pid}", place.display());
    let start = format!(
        "setsid sh -c '{leaves}; while :; do sleep 1; done' & while ! test -s {pid}; do sleep 0.01; done"
    );
    // One that ended and that nobody has waited for has no command line.
    let runs = format!("grep -q sleep /proc/$(cat {pid})/cmdline");
    let service = site.application(&start, "exit 0", &runs);
    let detail = service.start(&context).await.unwrap();
    assert!(detail.starts_with("some of its processes left its control group"), "{detail}");
    assert_eq!(service.monitor(&context).await, Ok(Health::Running));
    let found = service.verify(&context).await;
    assert!(found.iter().any(|finding| finding.what == detail), "verify: {found:?}");
    let failure = service.stop(&context).await.unwrap_err();
    assert!(failure.why.ends_with("the monitor says that it still runs"), "{failure}");
    assert!(ControlGroup::at(&place).end(Duration::from_secs(5)).await.unwrap());
    let stopped = service.stop(&context).await;
    assert!(stopped.is_ok(), "it is off now: {stopped:?}");
}

/// Processes come and go while it is looked at where they are: none of them is taken for one that left.
#[tokio::test]
async fn r1_what_forks_all_the_time_is_covered() {
    let site = Site::new("forks");
    let mut context = site.context();
    context.environment.insert("VEDETTE_OPERATION".into(), format!("{}-2", std::process::id()));
    let forks = "while :; do sleep 0.02 & sleep 0.001; done";
    let start = format!("setsid sh -c '{forks}' & sleep 0.05");
    let service = site.application(&start, "exit 0", "");
    for _ in 0..25 {
        assert_eq!(service.start(&context).await, Ok(String::new()));
        let there = context.control_group("server").expect("control groups");
        assert!(there.end(Duration::from_secs(5)).await.unwrap());
    }
}

/// A start that comes after the guard took the group's place away finds none: nothing runs without a
/// lease, however late an agent that was stopped goes on.
#[tokio::test]
async fn h25_nothing_is_started_where_the_guard_took_the_place_away() {
    let site = Site::new("late");
    let (application, context) = (site.application(&site.daemon(), "", ""), site.context());
    context.group_directory().unwrap().remove();
    let failure = application.start(&context).await.unwrap_err();
    assert!(failure.why.contains("lease is over"), "{failure}");
    assert!(!site.path().join("pid").exists(), "it was started");
}

/// An engine outside everything of the cluster's: it moves what it starts into the control group that it was told.
fn engine(place: &Path, file: &str) -> String {
    let place = place.display();
    format!(
        "setsid sh -c 'mkdir -p {place}/one; echo 0 > {place}/one/cgroup.procs; echo $$ > {file}; \
         trap \"\" TERM; while :; do sleep 1; done' &"
    )
}

/// What an engine runs is the resource's: it runs while the control group has somebody, is off only when nobody is
/// in it, whatever its engine and its stop program say, and the guard ends it. The directory is the engine's.
#[tokio::test]
async fn r2_what_an_engine_runs_ends_with_its_control_group() {
    let site = Site::new("engine");
    let place = site.group.directory().join("box");
    let path = place.strip_prefix(cgroup::mount_point().unwrap()).unwrap();
    let path = path.to_str().unwrap().to_owned();
    let start = engine(&place, &site.file("pid"));
    let (context, stop) = (site.context(), "echo no engine; exit 1");
    let application = site.filled(&start, stop, "", Some(&path));
    let held = Held { engines: [path.clone()].into(), ..Held::default() };
    assert_eq!(application.monitor(&context).await, Ok(Health::NotRunning));
    for release in [false, true] {
        assert_eq!(application.start(&context).await, Ok(String::new()));
        assert_eq!(application.monitor(&context).await, Ok(Health::Running));
        let process = read_pid(Path::new(&site.file("pid"))).await;
        assert!(ControlGroup::at(place.join("one")).processes().contains(&process));
        if release {
            assert_eq!(release_all(&held, LONG), Released::default());
        } else {
            let said = application.stop(&context).await.unwrap();
            let killed = "its processes were killed, as the stop program failed: exit status 1";
            assert!(said.starts_with(killed), "{said}");
        }
        assert_eq!(application.monitor(&context).await, Ok(Health::NotRunning));
        wait_for("its end", || gone(process)).await;
        assert!(place.join("one").is_dir(), "the directory is the engine's");
        std::fs::remove_file(site.file("pid")).unwrap();
    }
}

/// It runs where its monitor cannot tell, as when the engine is down; and nobody takes it for stopped.
#[tokio::test]
async fn r2_a_control_group_says_more_than_an_engine_that_is_down() {
    let site = Site::new("engine-down");
    let place = site.group.directory().join("box");
    let path = place.strip_prefix(cgroup::mount_point().unwrap()).unwrap();
    let start = engine(&place, &site.file("pid"));
    let down = format!("test -e {}", site.file("engine-is-up"));
    let application = site.filled(&start, &down, &down, path.to_str());
    let context = site.context();
    application.start(&context).await.unwrap();
    let silent = application.monitor(&context).await.unwrap_err();
    assert!(silent.why.starts_with("the monitor says that it does not work"), "{silent}");
    let def = |path: &str| {
        let (start, stop, monitor) = (Vec::new(), Vec::new(), Vec::new());
        let (user, control_group, release) = (None, Some(path.to_owned()), None);
        let kind = ResourceKind::Application { start, stop, monitor, user, control_group, release };
        ResourceDef::new("server", kind)
    };
    assert!(is_seen(&def(path.to_str().unwrap())) && !is_seen(&def("vedette-test-none")));
    application.stop(&context).await.unwrap();
    assert_eq!(application.monitor(&context).await, Ok(Health::NotRunning));
    assert!(!is_seen(&def(path.to_str().unwrap())));
}

/// An engine that was not told the control group, or told another one: nothing would end it with the lease.
#[tokio::test]
async fn r2_a_start_that_leaves_its_control_group_empty_has_failed() {
    let site = Site::new("engine-elsewhere");
    let path = format!("vedette-test-{}-nowhere", std::process::id());
    let application = site.filled(&site.daemon(), "", "", Some(&path));
    let context = site.context();
    let failed = application.start(&context).await.unwrap_err();
    assert!(failed.why.contains(&format!("nothing is in the control group {path}")), "{failed}");
    assert!(failed.advice.contains(&format!("--cgroup-parent={path}")), "{failed}");
    application.stop(&context).await.unwrap();
}

/// An engine that starts again whatever is killed, at once.
struct Stubborn {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Stubborn {
    fn start(place: &Path) -> Self {
        std::fs::create_dir_all(place).unwrap();
        let (stop, place) = (Arc::new(AtomicBool::new(false)), place.to_owned());
        let halt = stop.clone();
        let thread = std::thread::spawn(move || {
            while !halt.load(Ordering::Relaxed) {
                let mut command = std::process::Command::new("sleep");
                let mut child = command.arg("1000").spawn().unwrap();
                std::fs::write(place.join("cgroup.procs"), child.id().to_string()).unwrap();
                while child.try_wait().unwrap().is_none() {
                    if halt.load(Ordering::Relaxed) {
                        child.kill().unwrap();
                    }
                    std::thread::yield_now();
                }
            }
        });
        Self { stop, thread }
    }

    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
    }
}

/// An engine that does so is not off, and the failure says what to tell it.
#[tokio::test]
async fn r2_what_an_engine_restarts_is_not_off() {
    let site = Site::new("engine-restarts");
    let place = site.group.directory().join("box");
    let path = place.strip_prefix(cgroup::mount_point().unwrap()).unwrap();
    let engine = Stubborn::start(&place);
    let (application, context) = (site.filled("true", "true", "", path.to_str()), site.context());
    application.start(&context).await.unwrap();
    let back = application.stop(&context).await.unwrap_err();
    assert!(back.why.contains("comes back as often as it is killed"), "{back}");
    assert!(back.advice.contains("--restart=no"), "{back}");
    assert_eq!(back.reach, Reach::Node);
    engine.end();
    application.stop(&context).await.unwrap();
    assert_eq!(application.monitor(&context).await, Ok(Health::NotRunning));
}
