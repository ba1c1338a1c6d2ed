//! What monitors read, what they are wanted for, and that nothing strange breaks them.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

const ME: NodeNumber = NodeNumber(2);

fn rule(name: &str, variable: &str, vector: &str) -> Rule {
    Rule {
        name: name.into(),
        state: "0".into(),
        program: "/p.rp".into(),
        kind: "2".into(),
        level: "0".into(),
        variable: variable.into(),
        vector: vector.into(),
        predicate: "X@0==0".into(),
        rearm: String::new(),
    }
}

fn want(variable: &str, vector: &str) -> Wanted {
    let variable = variable.to_owned();
    Wanted { variable, patterns: vec![Pattern::parse(vector).unwrap()] }
}

fn executable(name: &str, script: &str) -> MonitorDef {
    MonitorDef {
        variable: name.into(),
        command: vec!["/bin/sh".into(), "-c".into(), script.into()],
        interval_ms: 500,
        timeout_ms: 1_000,
    }
}

/// H29, H32: a node runs what its rules and the configuration need, and nothing for other nodes.
#[test]
fn h29_a_node_runs_what_is_needed() {
    let rules = [
        rule("A", "IBM.PSSP.Prog.xpcount", "NodeNum=*;ProgName=rwhod;UserName=root"),
        rule("B", "IBM.PSSP.aixos.FS.%totused", "NodeNum=3"),
        rule("C", "site.queue", "NodeNum=*"),
        rule("D", "site.unknown", "NodeNum=*"),
        rule("E", "paging.free_percent", "NodeNum=2"),
    ];
    let built_in = |variable: &str| MonitorDef {
        variable: variable.into(),
        command: Vec::new(),
        interval_ms: 250,
        timeout_ms: 400,
    };
    let configured = [executable("site.queue", "true"), built_in("program.count")];
    let found = needs(ME, &rules, &configured);
    let names: Vec<&str> = found.monitors.iter().map(|need| need.name.as_str()).collect();
    assert_eq!(names, ["memory", "programs", "site.queue"]);
    assert_eq!(found.monitors[0].interval, OTHERS_EVERY);
    assert_eq!(found.monitors[1].interval, Duration::from_millis(250));
    assert_eq!(found.monitors[2].kind, Kind::Executable(configured[0].command.clone()));
    assert_eq!(found.orphans, [("D".to_owned(), "site.unknown".to_owned())]);
    let unasked = needs(ME, &[], &[built_in("cpu.idle_percent"), built_in("program.count")]);
    assert_eq!(unasked.monitors.len(), 1, "programs have to be named by a rule");
    assert_eq!(unasked.monitors[0].kind, Kind::Processors);
    assert_eq!(needs(ME, &[], &[]), Needs::default());
}

/// H29: memory and paging space, and a machine without any.
#[test]
fn h29_memory_is_read() {
    let text = "MemTotal:       1000 kB\nMemFree:  100 kB\nMemAvailable:    253 kB\n\
                SwapTotal:      400 kB\nSwapFree:       100 kB\n";
    let values = memory::parse(text).unwrap();
    assert_eq!(values[0], ("memory.free_percent", Value::Float(25.3)));
    assert_eq!(values[1], ("paging.free_percent", Value::Float(25.0)));
    assert_eq!(values[2], ("paging.used_percent", Value::Float(75.0)));
    let without = memory::parse("MemTotal: 10 kB\nMemFree: 1 kB\nSwapTotal: 0 kB\n").unwrap();
    assert_eq!(without[1].1, Value::Float(100.0));
    assert_eq!(memory::parse("MemTotal: many kB"), None);
}

/// H29: processors are told by what they did between two looks.
#[test]
fn h29_processors_are_read() {
    let before = processor::parse("cpu  10 0 10 80 0 0 0 0 0 0\ncpu0 1 2 3 4\n").unwrap();
    let now = processor::parse("cpu  30 0 15 140 10 3 2 0 0 0\n").unwrap();
    let parts = processor::parts(before, now);
    let wanted = [("user", 20.0), ("kernel", 10.0), ("idle", 60.0), ("wait", 10.0)];
    for ((name, value), (wanted, percent)) in parts.iter().zip(wanted) {
        assert_eq!(
            (*name, value),
            (format!("cpu.{wanted}_percent").as_str(), &Value::Float(percent))
        );
    }
    assert_eq!(processor::parts(now, now), []);
    assert_eq!(processor::parse("intr 1 2 3\n"), None);
    assert_eq!(processor::load("0.42 0.3 0.1 1/300 999\n"), Some(0.42));
}

/// H29: the machine's own figures.
#[test]
fn h29_this_machine_is_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let look = |variable: &str, vector: &str| {
        let found = needs(ME, &[rule("R", variable, vector)], &[]);
        let mut monitor = make(&found.monitors[0], (ME, "n2"), folder.path());
        monitor.look(&found.monitors[0].wanted)
    };
    for variable in ["memory.free_percent", "paging.used_percent", "cpu.run_queue"] {
        let taken = look(variable, "NodeNum=2");
        assert_eq!(taken.failure, None);
        assert_eq!(taken.samples.len(), 1, "{variable}: {taken:?}");
        assert!(matches!(taken.samples[0].value, Value::Float(value) if value >= 0.0));
    }
    let root = look("fs.used_percent", "NodeNum=*;MountPoint=/");
    assert_eq!((root.samples.len(), &root.failure), (1, &None), "{root:?}");
    let none = look("fs.used_percent", "MountPoint=/nowhere at all");
    let why = none.failure.unwrap();
    assert!(why.ends_with("/nowhere at all is not mounted"), "{why}");
    assert!(!look("fs.inodes_used_percent", "").samples.is_empty());
}

/// H29: mount points as the kernel writes them.
#[test]
fn h29_mounts_are_read() {
    let text = "22 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n\
                30 22 0:5 / /a\\040b rw,nosuid - tmpfs tmpfs rw\nnonsense\n";
    let mounts = file_system::parse(text);
    let wanted = [("/".to_owned(), "ext4".to_owned()), ("/a b".to_owned(), "tmpfs".to_owned())];
    assert_eq!(mounts, BTreeMap::from(wanted));
}

/// A process that can be ended.
struct Sleeper(std::process::Child);

impl Sleeper {
    /// A process of that name.
    fn start(folder: &Path, name: &str) -> Self {
        let program = folder.join(name);
        if !program.exists() {
            std::fs::copy("/bin/sleep", &program).unwrap();
        }
        Self(std::process::Command::new(program).arg("600").spawn().unwrap())
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn fields(taken: &Taken) -> (i64, i64) {
    assert_eq!(taken.failure, None);
    let number = |place| match taken.samples.first().and_then(|sample| sample.value.field(place)) {
        Some(Value::Integer(number)) => *number,
        other => panic!("{other:?} of {taken:?}"),
    };
    (number(0), number(1))
}

/// Looks until the count is that one: a child is `sleep` a moment after it was made.
fn until(monitor: &mut dyn Monitor, wanted: &[Wanted], count: i64) -> (i64, i64) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let now = fields(&monitor.look(wanted));
        if now.0 == count || Instant::now() > deadline {
            return now;
        }
        std::thread::yield_now();
    }
}

/// H29, H31: processes are counted by name and user, with the count before; a restarted agent knows
/// what the one before counted, a restarted machine does not.
#[test]
fn h31_processes_are_counted_with_the_count_before() {
    let folder = tempfile::tempdir().unwrap();
    let name = format!("vedette-monitored-{}", std::process::id());
    let user = User::name();
    let wanted = [want("program.count", &format!("ProgName={name};UserName={user}"))];
    let make = || program::Programs::new(ME, "/proc".into(), folder.path());
    let mut monitor = make();
    assert_eq!(fields(&monitor.look(&wanted)), (0, 0), "it has a value before it ever ran");
    let first = Sleeper::start(folder.path(), &name);
    assert_eq!(until(&mut monitor, &wanted, 1), (1, 0));
    let second = Sleeper::start(folder.path(), &name);
    assert_eq!(until(&mut monitor, &wanted, 2), (2, 1));
    assert_eq!(fields(&monitor.look(&wanted)), (2, 1), "before the last change");
    let ids = monitor.look(&wanted).samples[0].value.field(2).cloned();
    assert!(ids.is_some_and(|ids| ids.to_string().contains(&second.0.id().to_string())));
    drop((first, second));
    let mut monitor = make();
    assert_eq!(until(&mut monitor, &wanted, 0), (0, 2), "it died while nobody looked");
    let other = [want("program.count", &format!("ProgName={name};UserName=nobody-at-all"))];
    assert_eq!(fields(&monitor.look(&other)), (0, 0));
    let file = folder.path().join("programs.json");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replacen("\"boot\":\"", "\"boot\":\"0", 1)).unwrap();
    assert_eq!(fields(&make().look(&wanted)), (0, 0), "of another start of the machine");
}

/// The user of this test.
struct User;

impl User {
    fn name() -> String {
        let uid = nix::unistd::geteuid();
        nix::unistd::User::from_uid(uid).unwrap().map_or(uid.to_string(), |user| user.name)
    }
}

/// H29: who lives, and under which name.
#[test]
fn h29_processes_are_read() {
    let text = "Name:\trwhod\nState:\tS (sleeping)\nPid:\t70\nPPid:\t1\n\
                Uid:\t0\t1000\t0\t0\nNSpid:\t70\t5\n";
    let process = program::parse(text).unwrap();
    assert_eq!((process.name.as_str(), process.uid, process.id), ("rwhod", 1000, 5));
    assert_eq!(program::parse(&text.replace("S (sleeping)", "Z (zombie)")), None);
    assert_eq!(program::parse(&text.replace("PPid:\t1", "PPid:\t2")), None);
    for (cut, line, whole) in [
        ("a-very-long-nam", "/opt/a-very-long-name\0-x\0", "a-very-long-name"),
        ("a-very-long-nam", "/bin/sh\0/opt/a-very-long-name\0", "a-very-long-name"),
        ("a-very-long-nam", "other\0", "a-very-long-nam"),
    ] {
        assert_eq!(program::whole_name(cut, line.as_bytes()), whole);
    }
}

async fn run(script: &str, timeout_ms: u64) -> Taken {
    let monitor = MonitorDef { timeout_ms, ..executable("site.q", script) };
    let need = needs(ME, &[], &[monitor]).monitors.remove(0);
    let mut monitor = make(&need, (ME, "n2"), Path::new("/"));
    tokio::task::spawn_blocking(move || monitor.look(&need.wanted)).await.unwrap()
}

/// H29: an executable yields values; whatever else it does is a sentence.
#[tokio::test(flavor = "multi_thread")]
async fn h29_an_executable_yields_values() {
    let good =
        run("echo Queue=mail 12; echo '# a word'; echo 'Queue=a;Kind=out 3,\"x y\"'", 20_000).await;
    let told: Vec<String> =
        good.samples.iter().map(|it| format!("{} {}", it.instance, it.value)).collect();
    assert_eq!(told, ["NodeNum=2;Kind=out;Queue=a 3,\"x y\"", "NodeNum=2;Queue=mail 12"]);
    let told = run("echo $VEDETTE_NODE_NUMBER; test $VEDETTE_NODE = n2", 20_000).await;
    assert_eq!(told.samples[0].value, Value::Integer(2));
    for (script, why) in [
        ("echo no luck; exit 3", "exit status 3, and printed: no luck"),
        ("echo Queue=mail", "line 1 of its output: there is no value after Queue=mail"),
        (
            "echo ok=1 1; echo NodeNum=4 1",
            "line 2 of its output: NodeNum is 4, but it is a value of",
        ),
        ("yes X=1 12", "ran too long"),
        ("yes X=1 12 | head -c 100000", "more than 65536 bytes"),
        ("sleep 100", "ran too long"),
        (
            "i=0; while [ $i -le 1000 ]; do i=$((i+1)); echo I=$i 1; done",
            "more than 1000 instances",
        ),
    ] {
        let endless = why == "ran too long";
        let taken = run(script, if endless { 300 } else { 20_000 }).await;
        assert_eq!(taken.samples, [], "{script}");
        let said = taken.failure.unwrap_or_default();
        assert!(said.contains(why), "{script}: {said}");
    }
}

proptest! {
    /// H29: what stands in /proc, and what a program prints, breaks no parser.
    #[test]
    fn no_text_is_too_strange(text in "(?s).{0,300}", line in proptest::collection::vec(any::<u8>(), 0..60)) {
        let _ = (memory::parse(&text), processor::parse(&text), processor::load(&text));
        let _ = (file_system::parse(&text), program::parse(&text), executable::parse(&text, ME));
        let name = program::whole_name("abc", &line);
        prop_assert!(name.starts_with("abc"));
    }

    /// H29: fields of the kernel with any numbers in them.
    #[test]
    fn no_number_is_too_great(numbers in proptest::collection::vec(any::<u64>(), 8..11), back in any::<bool>()) {
        let line: Vec<String> = numbers.iter().map(u64::to_string).collect();
        let now = processor::parse(&format!("cpu  {}\n", line.join(" "))).unwrap();
        let none = processor::parse("cpu  0 0 0 0 0 0 0 0").unwrap();
        let parts = if back { processor::parts(now, none) } else { processor::parts(none, now) };
        for (_, value) in parts {
            prop_assert!(matches!(value, Value::Float(part) if (0.0..=100.0).contains(&part)));
        }
        let text = format!("MemTotal: {} kB\nMemAvailable: {} kB\nSwapTotal: {} kB\nSwapFree: {} kB\n",
            numbers[0], numbers[1], numbers[2], numbers[3]);
        for (_, value) in memory::parse(&text).into_iter().flatten() {
            prop_assert!(matches!(value, Value::Float(part) if (0.0..=100.0).contains(&part)));
        }
    }

    /// H29, H30: what a program prints in the documented form is read as it was meant.
    #[test]
    fn values_of_programs_are_read(values in proptest::collection::btree_map("[a-z]{1,8}", any::<i64>(), 0..20)) {
        let lines: String = values.iter().map(|(name, value)| format!("Queue={name} {value}\n")).collect();
        let read = executable::parse(&lines, ME).unwrap();
        prop_assert_eq!(read.len(), values.len());
        for (name, value) in values {
            let instance = Instance::on(ME, &[("Queue", &name)]);
            prop_assert_eq!(read.get(&instance), Some(&Value::Integer(value)));
        }
    }
}
