//! A monitor that hangs where its group is not keeps nobody from knowing that nobody knows (R2).

use vedette_tests::lab::Lab;

use super::wait;
use crate::failover::{give, wait_online};
use crate::transcripts::script;
use crate::{lab, look};

/// The value of `vedette_group_multiple_active` for n2, as n1 has it.
fn multiple_active(lab: &Lab) -> Option<String> {
    let metrics = look::get(lab, "n1", "/metrics")?.body;
    let mut rows = metrics.lines().filter(|line| {
        line.starts_with("vedette_group_multiple_active{")
            && line.contains("group=\"seen\"")
            && line.contains("node=\"n2\"")
    });
    Some(rows.next()?.rsplit_once(' ')?.1.to_owned())
}

/// The node that does not have the group cannot look for it: no surface says that it does not run there. When the monitor
/// answers again, that is known again.
#[test]
fn r2_what_cannot_be_looked_for_is_not_said_to_be_off() {
    let lab = lab();
    let folder = lab.dir().join("looks");
    std::fs::create_dir_all(&folder).expect("made");
    let at = folder.display();
    let start = script(&folder.join("start"), &format!("touch {at}/on.$VEDETTE_NODE"));
    let stop = script(&folder.join("stop"), &format!("rm -f {at}/on.$VEDETTE_NODE"));
    let monitor = script(
        &folder.join("monitor"),
        &format!(
            "[ -e {at}/hangs.$VEDETTE_NODE ] && exec sleep 100000\n[ -e {at}/on.$VEDETTE_NODE ]"
        ),
    );
    give(
        &lab,
        &format!(
            "[manager]\nprobe_interval = \"1s\"\n\n[groups.seen]\npolicy = \"cascading\"\n\
             nodes = [\"n1\", \"n2\"]\n\n[[groups.seen.resources]]\nname = \"seen-app\"\n\
             kind = \"application\"\nstart = [\"{start}\"]\nstop = [\"{stop}\"]\nmonitor = [\"{monitor}\"]\n\
             monitor_timeout = \"1s\"\n"
        ),
    );
    wait_online(&lab, "n1", "seen", "n1");
    wait(&lab, "a look on n2", |lab| multiple_active(lab).as_deref() == Some("0"));
    std::fs::write(folder.join("hangs.n2"), "").expect("written");
    wait(&lab, "nobody to know", |lab| multiple_active(lab).as_deref() == Some("NaN"));
    let told = "resource seen-app cannot be looked for on n2";
    assert!(look::status(&lab, "n3").contains(told), "{}", look::status(&lab, "n3"));
    std::fs::remove_file(folder.join("hangs.n2")).expect("removed");
    wait(&lab, "it to be known again", |lab| multiple_active(lab).as_deref() == Some("0"));
    assert!(!look::status(&lab, "n3").contains(told));
    give(&lab, "");
}
