//! Names of resource variables: ours, and those that IBM's rules use for the same (spec H32).

use crate::config::near::nearest;

/// A variable for which there is a built-in monitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Our name.
    pub name: &'static str,
    /// The names under which IBM's Event Management knows it.
    pub ibm: &'static [&'static str],
    /// The elements of its instance vector, in their usual order.
    pub elements: &'static [&'static str],
    /// What its value is; the fields in their order, where it has some.
    pub what: &'static str,
    /// A value as its monitor may yield it.
    pub sample: &'static str,
}

impl Variable {
    /// The least and the greatest number that its value or one of its fields can be.
    pub fn domain(&self) -> (f64, f64) {
        (0.0, if self.name.ends_with("_percent") { 100.0 } else { f64::INFINITY })
    }
}

/// Every variable with a built-in monitor.
pub const BUILT_IN: &[Variable] = &[
    Variable {
        name: "fs.used_percent",
        ibm: &["IBM.PSSP.aixos.FS.%totused"],
        elements: &["NodeNum", "MountPoint"],
        what: "used part of a file system's blocks, in percent",
        sample: "37",
    },
    Variable {
        name: "fs.inodes_used_percent",
        ibm: &["IBM.PSSP.aixos.FS.%nodesused"],
        elements: &["NodeNum", "MountPoint"],
        what: "used part of a file system's inodes, in percent",
        sample: "37",
    },
    Variable {
        name: "program.count",
        ibm: &["IBM.PSSP.Prog.xpcount"],
        elements: &["NodeNum", "ProgName", "UserName"],
        what: "X@0: processes of a program and user; X@1: how many before; X@2: their ids",
        sample: r#"7,9,"4711 4712""#,
    },
    Variable {
        name: "paging.free_percent",
        ibm: &["IBM.PSSP.aixos.PagSp.%totalfree"],
        elements: &["NodeNum"],
        what: "free part of all paging space, in percent",
        sample: "37",
    },
    Variable {
        name: "paging.used_percent",
        ibm: &["IBM.PSSP.aixos.PagSp.%totalused"],
        elements: &["NodeNum"],
        what: "used part of all paging space, in percent",
        sample: "37",
    },
    Variable {
        name: "memory.free_percent",
        ibm: &["IBM.PSSP.aixos.Mem.Real.%free"],
        elements: &["NodeNum"],
        what: "memory that programs can still have, in percent of all",
        sample: "37",
    },
    Variable {
        name: "cpu.idle_percent",
        ibm: &["IBM.PSSP.aixos.CPU.glidle"],
        elements: &["NodeNum"],
        what: "time in which processors did nothing, in percent",
        sample: "37",
    },
    Variable {
        name: "cpu.user_percent",
        ibm: &["IBM.PSSP.aixos.CPU.gluser"],
        elements: &["NodeNum"],
        what: "time that processors spent in programs, in percent",
        sample: "37",
    },
    Variable {
        name: "cpu.kernel_percent",
        ibm: &["IBM.PSSP.aixos.CPU.glkern"],
        elements: &["NodeNum"],
        what: "time that processors spent in the kernel, in percent",
        sample: "37",
    },
    Variable {
        name: "cpu.wait_percent",
        ibm: &["IBM.PSSP.aixos.CPU.glwait"],
        elements: &["NodeNum"],
        what: "time in which processors waited for disks, in percent",
        sample: "37",
    },
    Variable {
        name: "cpu.run_queue",
        ibm: &["IBM.PSSP.aixos.Proc.runque"],
        elements: &["NodeNum"],
        what: "processes that run or could run, on average over the last minute",
        sample: "37",
    },
];

/// The built-in variable of that name, ours or IBM's.
pub fn known(name: &str) -> Option<&'static Variable> {
    BUILT_IN.iter().find(|variable| variable.name == name || variable.ibm.contains(&name))
}

/// Our name for a variable; a name that is not known as an alias is its own.
pub fn canonical(name: &str) -> &str {
    known(name).map_or(name, |variable| variable.name)
}

/// What names look like.
pub fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-%".contains(c))
}

/// What to do about a name that no built-in monitor knows.
pub fn advice(name: &str) -> String {
    let names: Vec<&str> = BUILT_IN
        .iter()
        .flat_map(|variable| std::iter::once(variable.name).chain(variable.ibm.iter().copied()))
        .collect();
    match nearest(name, &names) {
        Some(meant) => format!("Did you mean {meant}? Else configure a monitor that yields it."),
        None => "Configure a monitor that yields it.".into(),
    }
}
