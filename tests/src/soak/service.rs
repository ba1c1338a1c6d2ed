//! The group of the campaign: a resource of each kind, and where each is alive.

use std::path::PathBuf;

use vedette_node::cgroup::ControlGroup;

use crate::lab::{Lab, LabError, Result};

/// The group.
pub(super) const GROUP: &str = "all";

/// What can be alive on a node.
pub(super) const KINDS: [&str; 6] =
    ["application", "unit", "escaped service", "container", "OCF agent", ADDRESS];

/// Seen by whom answers, not by processes.
pub(super) const ADDRESS: &str = "address";

const UNIT: &str = "soak.service";

/// One that comes back at once, whatever ends it.
const UNIT_TEXT: &str = "[Unit]\nDefaultDependencies=no\nStartLimitIntervalSec=0\n\
                         [Service]\nExecStart=/bin/sleep infinity\nRestart=always\nRestartSec=0\n";

/// The control group of what escapes, as its node sees it.
const ESCAPED: &str = "/sys/fs/cgroup/escaped";

/// The control group that an engine is told, as a container engine is.
const BOX: &str = "soak-box.slice";

/// A file of this name in the lab's directory says how a stop of the escaped service is to go wrong.
pub(super) const MISCHIEF: &str = "mischief";

/// Installs unit and document.
pub(super) fn install(lab: &Lab) -> Result<()> {
    for node in lab.names() {
        install_unit(lab, &node)?;
    }
    let text = document(lab);
    let file = lab.dir().join("soak.toml");
    std::fs::write(&file, text)?;
    let given = lab.vedette("n1", &["config", "apply", &file.display().to_string(), "--yes"])?;
    if !given.status.success() {
        return Err(LabError(String::from_utf8_lossy(&given.stderr).into_owned()));
    }
    Ok(())
}

/// Puts the unit on a node.
pub(super) fn install_unit(lab: &Lab, node: &str) -> Result<()> {
    lab.install_unit(node, UNIT, UNIT_TEXT)
}

fn document(lab: &Lab) -> String {
    let program = |what: &str| format!("[\"/bin/sh\", \"-c\", \"{what}\"]");
    let mischief = lab.dir().join(MISCHIEF).display().to_string();
    // What nobody but its own programs finds: a process in a control group that is none of the product's.
    let start =
        format!("mkdir -p {ESCAPED}; (echo 0 > {ESCAPED}/cgroup.procs; exec sleep infinity) &");
    let end = format!(
        "[ ! -d {ESCAPED} ] || echo 1 > {ESCAPED}/cgroup.kill; \
         while grep -qs 'populated 1' {ESCAPED}/cgroup.events; do sleep 0.01; done"
    );
    let stop = format!(
        "case $(cat {mischief} 2>/dev/null) in fails) exit 1;; lies) exit 0;; hangs) sleep 600;; esac; {end}"
    );
    let boxed = format!(
        "mkdir -p /sys/fs/cgroup/{BOX}/one; \
         (echo 0 > /sys/fs/cgroup/{BOX}/one/cgroup.procs; exec sleep infinity) &"
    );
    let monitor = format!("grep -qs 'populated 1' {ESCAPED}/cgroup.events");
    format!(
        "[manager]\nprobe_interval = \"1s\"\n\n\
         [groups.{GROUP}]\npolicy = \"rotating\"\nnodes = [\"n1\", \"n2\", \"n3\"]\n\n\
         [[groups.{GROUP}.resources]]\nname = \"ip\"\nkind = \"address\"\naddress = \"{}/24\"\n\n\
         [[groups.{GROUP}.resources]]\nname = \"app\"\nkind = \"application\"\nstart = {}\nstop = [\"/bin/true\"]\n\n\
         [[groups.{GROUP}.resources]]\nname = \"unit\"\nkind = \"systemd\"\nunit = \"{UNIT}\"\nmonitor_interval = \"1s\"\n\n\
         [[groups.{GROUP}.resources]]\nname = \"escaped\"\nkind = \"application\"\nstart = {}\nstop = {}\n\
         monitor = {}\nmonitor_interval = \"1s\"\nstop_timeout = \"2s\"\nrelease = {}\nrelease_max = \"2s\"\n\n\
         [[groups.{GROUP}.resources]]\nname = \"box\"\nkind = \"application\"\nstart = {}\nstop = [\"/bin/false\"]\n\
         control_group = \"{BOX}\"\nmonitor_interval = \"1s\"\n\n\
         [[groups.{GROUP}.resources]]\nname = \"ocf\"\nkind = \"ocf\"\nagent = \"ocf:heartbeat:anything\"\n\
         monitor_interval = \"1s\"\nparameters = {{ binfile = \"/bin/sleep\", cmdline_options = \"100000\", \
         pidfile = \"/run/soak-ocf.pid\" }}\n",
        address(lab),
        program("sleep infinity &"),
        program(&start),
        program(&stop),
        program(&monitor),
        program(&end),
        program(&boxed),
    )
}

/// The service address.
pub(super) fn address(lab: &Lab) -> std::net::Ipv4Addr {
    lab.service_address(0, 1)
}

/// What the control groups of this cluster begin with: one node has some.
fn cluster(lab: &Lab) -> Result<String> {
    let names = lab.names().into_iter();
    let all = names.filter_map(|node| std::fs::read_dir(lab.control_group(&node, "vedette")).ok());
    let folders = all.flatten().flatten().filter(|it| it.path().is_dir());
    let name = folders.into_iter().find_map(|entry| entry.file_name().into_string().ok());
    let name = name.ok_or_else(|| LabError("No node has control groups of ours.".into()))?;
    Ok(name.split('-').next().unwrap_or_default().to_owned())
}

/// Where the processes of each kind are on a node, if they are.
pub(super) fn places(lab: &Lab, node: &str) -> Result<Vec<(&'static str, ControlGroup)>> {
    let root = lab.control_group(node, "");
    let ours =
        root.join("vedette").join(format!("{}-{}", cluster(lab)?, node.trim_start_matches('n')));
    let at = |path: PathBuf| ControlGroup::at(path);
    Ok(vec![
        (KINDS[0], at(ours.join(GROUP).join("app"))),
        (KINDS[1], at(lab.unit_group(node, UNIT))),
        (KINDS[2], at(root.join("escaped"))),
        (KINDS[3], at(root.join(BOX))),
        (KINDS[4], at(ours.join(GROUP).join("ocf"))),
    ])
}
