//! LVM2 volume groups, with the lazy update of spec H28.
//!
//! A node that takes a volume group over reads the sequence number of its metadata, which grows with
//! every change anywhere, and compares it with the one that it knew (kept on its own disk). Only if
//! they differ does it rescan and reload; a takeover without changes pays for one `vgs`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use vedette_core::document::Finding;
use vedette_core::model::RunOutcome;

use super::{Common, Context, Detail, Failure, Health, Reach, Resource, error, file_name, warning};
use crate::cgroup::ControlGroup;
use crate::process::{self, PATH, Program};

/// `vgs` and `lvs` write a number for everything that could be meant; this one is "not found".
const NOT_FOUND: i32 = 5;

/// See [`vedette_core::group::ResourceKind::VolumeGroup`].
#[derive(Clone, Debug)]
pub(super) struct VolumeGroup {
    pub(super) common: Common,
    pub(super) name: String,
}

/// What LVM2 answers with `--reportformat json`.
#[derive(Debug, Deserialize)]
struct Answer {
    report: Vec<Report>,
}

#[derive(Debug, Default, Deserialize)]
struct Report {
    #[serde(default)]
    vg: Vec<BTreeMap<String, String>>,
    #[serde(default)]
    lv: Vec<BTreeMap<String, String>>,
}

/// What is known of the metadata. It is the same if both are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct MetadataVersion {
    uuid: String,
    seqno: String,
}

/// Logical volumes: how many are active, and of how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Volumes {
    active: usize,
    all: usize,
}

impl VolumeGroup {
    async fn bring_up(&self, context: &Context) -> Result<Detail, Failure> {
        let time = self.common.start;
        let seen = match self.read(context, time).await? {
            Some(seen) => seen,
            // It may have come since the last scan.
            None => {
                self.command(context, &["pvscan", "--cache"], time).await?;
                self.read(context, time).await?.ok_or_else(|| self.not_here())?
            }
        };
        let changed = self.known(context) != Some(seen);
        if changed {
            self.command(context, &["pvscan", "--cache"], time).await?;
        }
        self.activate(context, time).await?;
        if changed {
            self.command(context, &["vgchange", "--refresh", &self.name], time).await?;
        }
        let volumes = self.volumes(context, time).await?;
        if volumes.active < volumes.all {
            return Err(self.partly(volumes));
        }
        self.mark(context, true)?;
        self.remember(context, time).await?;
        Ok(if changed { "refreshed: its metadata changed" } else { "unchanged" }.into())
    }

    async fn take_down(&self, context: &Context) -> Result<Detail, Failure> {
        let time = self.common.stop;
        if self.read(context, time).await?.is_none() {
            if std::path::Path::new("/dev").join(&self.name).exists() {
                let why = format!("volume group {} is gone, but its devices are active", self.name);
                let advice = "Look after the disks; remove the devices with dmsetup.";
                return Err(Failure::new(why, advice).reaching(Reach::Node));
            }
            self.mark(context, false)?;
            return Ok("is not here".into());
        }
        self.command(context, &["vgchange", "-an", &self.name], time).await?;
        let volumes = self.volumes(context, time).await?;
        if volumes.active > 0 {
            let why = format!("{} of {}'s volumes are active still", volumes.active, self.name);
            let advice = "Somebody uses them: look with lsblk and lsof.";
            return Err(Failure::new(why, advice).reaching(Reach::Node));
        }
        self.mark(context, false)?;
        self.remember(context, time).await?;
        Ok(String::new())
    }

    async fn look(&self, context: &Context) -> Result<Health, Failure> {
        let volumes = self.volumes(context, self.common.monitor).await?;
        match volumes {
            // Nothing in it shows whether it is active.
            Volumes { all: 0, .. } if self.mark_path(context).exists() => Ok(Health::Running),
            Volumes { active: 0, .. } => Ok(Health::NotRunning),
            Volumes { active, all } if active == all => Ok(Health::Running),
            some => Err(self.partly(some)),
        }
    }

    /// The metadata's identity; `None` if there is no such group on the disks that are here.
    async fn read(
        &self,
        context: &Context,
        time: Duration,
    ) -> Result<Option<MetadataVersion>, Failure> {
        let argv = ["vgs", "--reportformat", "json", "-o", "vg_name,vg_uuid,vg_seqno,vg_attr"];
        let outcome = self.run(context, &[&argv[..], &[&self.name]].concat(), time).await;
        if outcome.exit == Some(NOT_FOUND) {
            return Ok(None);
        }
        let report = self.report(&outcome)?;
        let Some(group) = report.vg.into_iter().next() else { return Ok(None) };
        let field = |name: &str| group.get(name).cloned().unwrap_or_default();
        self.refuse_unfit(&field("vg_attr"))?;
        Ok(Some(MetadataVersion { uuid: field("vg_uuid"), seqno: field("vg_seqno") }))
    }

    /// Attributes such as `wz--n-`: the third tells exported, the fourth that disks are missing.
    fn refuse_unfit(&self, attributes: &str) -> Result<(), Failure> {
        let refused = |why: &str, advice: String| {
            let why = format!("volume group {} {why}", self.name);
            Err(Failure::new(why, advice).reaching(Reach::Node))
        };
        match (attributes.chars().nth(2), attributes.chars().nth(3)) {
            (Some('x'), _) => {
                refused("is exported", format!("Import it (vgimport {}).", self.name))
            }
            (_, Some('p')) => {
                refused("misses some of its disks", "Look after them and the way to them.".into())
            }
            _ => Ok(()),
        }
    }

    async fn volumes(&self, context: &Context, time: Duration) -> Result<Volumes, Failure> {
        let fields = "lv_name,lv_active,lv_skip_activation";
        let argv = ["lvs", "--reportformat", "json", "-o", fields, &self.name];
        let outcome = self.run(context, &argv, time).await;
        if outcome.exit == Some(NOT_FOUND) {
            return Ok(Volumes { active: 0, all: 0 });
        }
        let is = |volume: &BTreeMap<String, String>, field: &str| {
            volume.get(field).is_some_and(|value| !value.is_empty())
        };
        let mut volumes = self.report(&outcome)?.lv;
        // Those that an administrator keeps off are not missed.
        volumes.retain(|volume| is(volume, "lv_active") || !is(volume, "lv_skip_activation"));
        let active = volumes.iter().filter(|volume| is(volume, "lv_active")).count();
        Ok(Volumes { active, all: volumes.len() })
    }

    fn report(&self, outcome: &RunOutcome) -> Result<Report, Failure> {
        let what = format!("volume group {} cannot be looked at", self.name);
        if !outcome.succeeded() {
            let advice = "Try vgs and lvs by hand; if they are missing: apt-get install lvm2.";
            return Err(Failure::of_run(&what, outcome, advice));
        }
        parse(&outcome.output).ok_or_else(|| {
            let why = format!("{what}: the answer is not understood");
            Failure::new(why, "LVM2 2.02.158 or newer is needed.").with(&outcome.output)
        })
    }

    /// What is being activated ends with the group's control group, so that nothing appears after the lease.
    async fn activate(&self, context: &Context, time: Duration) -> Result<(), Failure> {
        let place = context.place(&self.common.name)?;
        let argv = ["vgchange", "-ay", &self.name];
        let outcome = self.run_in(context, place, &argv, time).await;
        if outcome.succeeded() {
            return Ok(());
        }
        let what = format!("{} failed", argv.join(" "));
        Err(Failure::of_run(&what, &outcome, "Try it by hand; the kernel's log may say more."))
    }

    async fn command(
        &self,
        context: &Context,
        argv: &[&str],
        time: Duration,
    ) -> Result<(), Failure> {
        let outcome = self.run(context, argv, time).await;
        if outcome.succeeded() {
            return Ok(());
        }
        let what = format!("{} failed", argv.join(" "));
        Err(Failure::of_run(&what, &outcome, "Try it by hand; the kernel's log may say more."))
    }

    async fn run(&self, context: &Context, argv: &[&str], time: Duration) -> RunOutcome {
        self.run_in(context, None, argv, time).await
    }

    async fn run_in(
        &self,
        context: &Context,
        place: Option<ControlGroup>,
        argv: &[&str],
        time: Duration,
    ) -> RunOutcome {
        let program = Program::new(argv.iter().copied(), time)
            .environment([("LC_ALL", "C")])
            .environment(context.variables(&self.common.name))
            .cgroup(place.map(|place| place.directory().to_owned()));
        process::run(program.dies_with_us()).await
    }

    fn known_path(&self, context: &Context) -> PathBuf {
        context.state.join(format!("volume-group.{}.json", file_name(&self.name)))
    }

    /// What cannot be read is not known, and costs a refresh.
    fn known(&self, context: &Context) -> Option<MetadataVersion> {
        let text = std::fs::read_to_string(self.known_path(context)).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// Losing this costs a refresh at the next takeover and nothing else, so it is not synced.
    async fn remember(&self, context: &Context, time: Duration) -> Result<(), Failure> {
        let Some(known) = self.read(context, time).await? else { return Ok(()) };
        let text = serde_json::to_string(&known).unwrap_or_default();
        let path = self.known_path(context);
        let written =
            std::fs::create_dir_all(&context.state).and_then(|()| std::fs::write(&path, text));
        if let Err(error) = written {
            tracing::warn!(path = %path.display(), %error, "what is known of a volume group is not kept");
        }
        Ok(())
    }

    fn mark_path(&self, context: &Context) -> PathBuf {
        context.run.join(format!("volume-group.{}.active", file_name(&self.name)))
    }

    fn mark(&self, context: &Context, active: bool) -> Result<(), Failure> {
        let path = self.mark_path(context);
        let marked = match active {
            true => std::fs::create_dir_all(&context.run).and_then(|()| std::fs::write(&path, "")),
            false => match std::fs::remove_file(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
                other => other,
            },
        };
        marked.map_err(|error| {
            let why = format!("{} cannot be written: {error}", path.display());
            Failure::new(why, "Look after that directory.").reaching(Reach::Node)
        })
    }

    fn not_here(&self) -> Failure {
        let why = format!("there is no volume group {} on the disks of this node", self.name);
        Failure::new(why, "Look after the disks and the way to them (pvs).").reaching(Reach::Node)
    }

    fn partly(&self, Volumes { active, all }: Volumes) -> Failure {
        let why = format!("only {active} of {all} volumes of {} are active", self.name);
        Failure::new(why, "Look with lvs which, and activate one by hand to see why not.")
    }

    async fn findings(&self, context: &Context) -> Vec<Finding> {
        let path = context.environment.get("PATH").map_or(PATH, String::as_str);
        let missing: Vec<_> = ["vgs", "lvs", "vgchange", "pvscan"]
            .into_iter()
            .filter(|program| process::find_in(path, program).is_none())
            .map(|program| format!("the program {program} is not here"))
            .map(|what| error(&self.common.name, what, "Install LVM2: apt-get install lvm2."))
            .collect();
        if !missing.is_empty() {
            return missing;
        }
        let there = match self.read(context, self.common.monitor).await {
            Ok(Some(_)) => None,
            Ok(None) => Some(self.not_here()),
            Err(failure) => Some(failure),
        };
        let name = &self.common.name;
        let not = there.map(|failure| match context.devices_come {
            true => warning(name, failure.why, failure.advice),
            false => error(name, failure.why, failure.advice),
        });
        not.into_iter().chain(self.starts_by_itself(context).await).collect()
    }

    /// A volume group that every node activates when it boots is active on two nodes.
    async fn starts_by_itself(&self, context: &Context) -> Option<Finding> {
        let argv = ["vgs", "--reportformat", "json", "-o", "vg_autoactivation", &self.name];
        let outcome = self.run(context, &argv, self.common.monitor).await;
        let group = parse(&outcome.output)?.vg.into_iter().next()?;
        (group.get("vg_autoactivation")? == "enabled").then(|| {
            let what = format!("volume group {} is activated by whichever node boots", self.name);
            let advice =
                format!("Leave that to the cluster: vgchange --setautoactivation n {}.", self.name);
            warning(&self.common.name, what, advice)
        })
    }
}

/// Warnings of LVM2 may stand before the answer and after it.
fn parse(text: &str) -> Option<Report> {
    let from = text.find('{')?;
    let to = text.rfind('}')?;
    let answer: Answer = serde_json::from_str(text.get(from..=to)?).ok()?;
    answer.report.into_iter().next()
}

impl Resource for VolumeGroup {
    fn start<'a>(&'a self, context: &'a Context) -> BoxFuture<'a, Result<Detail, Failure>> {
        Box::pin(self.bring_up(context))
    }

    fn stop<'a>(&'a self, context: &'a Context) -> BoxFuture<'a, Result<Detail, Failure>> {
        Box::pin(self.take_down(context))
    }

    fn monitor<'a>(&'a self, context: &'a Context) -> BoxFuture<'a, Result<Health, Failure>> {
        Box::pin(self.look(context))
    }

    fn verify<'a>(&'a self, context: &'a Context) -> BoxFuture<'a, Vec<Finding>> {
        Box::pin(self.findings(context))
    }
}

/// What of a volume group is active on this machine, as a clause; none if nothing is. The kernel's device mapper is
/// asked: LVM's own programs wait for disks and for each other.
pub(crate) fn kept(name: &str) -> Option<String> {
    let devices = std::fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let mapped = devices.filter_map(|it| std::fs::read_to_string(it.path().join("dm/name")).ok());
    let active: Vec<String> =
        mapped.filter_map(|mapped| volume_in(name, mapped.trim_end()).map(str::to_owned)).collect();
    (!active.is_empty())
        .then(|| format!("volumes of {name} are still active: {}", active.join(", ")))
}

/// The volume's part of a name of the device mapper, if it is one of that group: `GROUP-VOLUME`, where a `-` in
/// either is written twice.
fn volume_in<'a>(group: &str, mapped: &'a str) -> Option<&'a str> {
    let rest = mapped.strip_prefix(&group.replace('-', "--"))?.strip_prefix('-')?;
    (!rest.is_empty() && !rest.starts_with('-')).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_told_by_the_names_of_the_device_mapper() {
        assert_eq!(volume_in("data", "data-web"), Some("web"));
        assert_eq!(volume_in("data-vg", "data--vg-web--a"), Some("web--a"));
        assert_eq!(volume_in("data", "data--vg-web"), None, "of the group data-vg");
        assert_eq!(volume_in("data", "database-web"), None);
    }

    #[test]
    fn an_answer_is_found_among_warnings() {
        let text = "  WARNING: x\n {\"report\":[{\"vg\":[{\"vg_seqno\":\"7\"}]}]}\n  more";
        assert_eq!(parse(text).unwrap().vg[0]["vg_seqno"], "7");
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_answered_never_panics(text in "\\PC{0,60}\\{?\\PC{0,60}\\}?") {
            let _ = parse(&text);
        }
    }
}
