//! File systems: mounted, looked at, unmounted although somebody uses them.
//!
//! The kernel's list of mounts says what is so; the programs `fsck`, `mount` and `umount` do it,
//! because they know every type's helpers. A device that is mounted elsewhere on this machine is
//! refused; that it is not mounted on another machine is what instances and tokens are for.
//!
//! Who keeps a file system busy is asked to end (SIGTERM), then ended (SIGKILL): a group that moves
//! does not wait for a forgotten shell. It is off when its device is free on the whole machine
//! ([`elsewhere`]): who uses it in another mount namespace is ended likewise; who uses nothing of it, and lives in
//! a namespace that has it, is none of ours and is named to the operator.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep, timeout};
use vedette_core::document::Finding;
use vedette_core::model::RunOutcome;

use super::{Common, Context, Detail, Failure, Health, Reach, Resource, error, warning};
use crate::process::{self, PATH, Program};

mod elsewhere;
mod holders;
mod mounts;

use elsewhere::{Kept, Sought};
use holders::Holders;
use mounts::Mount;

/// Between two attempts to unmount.
const AGAIN: Duration = Duration::from_millis(50);

/// Between two looks at all namespaces and processes of the machine.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// The longest that processes are waited for before they are killed.
const PATIENCE: Duration = Duration::from_secs(5);

/// Exit statuses of `fsck`: a bit each.
mod fsck {
    /// Errors were there, and are corrected.
    pub(super) const CORRECTED: i32 = 1;
    /// Errors are left. The others say that it could not be checked: 8 that the device was in use, say.
    pub(super) const LEFT: i32 = 4;
}

/// See [`vedette_core::group::ResourceKind::FileSystem`].
#[derive(Clone, Debug)]
pub(super) struct FileSystem {
    pub(super) common: Common,
    pub(super) device: String,
    pub(super) mount_point: PathBuf,
    pub(super) fs_type: String,
    pub(super) options: String,
    pub(super) check: bool,
}

/// Mount points that were looked at and have not answered yet.
static ASKED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

fn asked() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    ASKED.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FileSystem {
    async fn bring_up(&self, context: &Context) -> Result<Detail, Failure> {
        let detail = || format!("at {}", self.mount_point.display());
        if self.mounted()?.is_some() {
            return Ok(detail());
        }
        self.refuse_elsewhere().await?;
        self.refuse_missing()?;
        std::fs::create_dir_all(&self.mount_point).map_err(|error| {
            let why = format!("{} cannot be made: {error}", self.mount_point.display());
            Failure::new(why, "Make the directory.").reaching(Reach::Node)
        })?;
        if self.check {
            self.fsck(context).await?;
        }
        self.mount(context).await?;
        match self.mounted()? {
            Some(_) => Ok(detail()),
            None => {
                let why = format!("mount ended well, but {} is not there", detail());
                Err(Failure::new(why, "Look at /proc/self/mountinfo."))
            }
        }
    }

    async fn fsck(&self, context: &Context) -> Result<(), Failure> {
        let argv = ["fsck", "-t", &self.fs_type, "-p", &self.device];
        let outcome = self.run_inside(context, &argv).await?;
        match outcome.exit.filter(|_| !outcome.timed_out) {
            Some(status) if status & !fsck::CORRECTED == 0 => Ok(()),
            Some(status) if status & fsck::LEFT != 0 => {
                let advice = format!("Check it by hand (fsck {}).", self.device);
                Err(Failure::of_run(&format!("{} is damaged", self.device), &outcome, advice)
                    .reaching(Reach::Cluster))
            }
            _ => {
                let advice = format!(
                    "See who uses the device (lsblk, fuser {0}), and try it by hand: fsck -n {0}.",
                    self.device
                );
                Err(Failure::of_run(
                    &format!("{} could not be checked", self.device),
                    &outcome,
                    advice,
                )
                .reaching(Reach::Node))
            }
        }
    }

    async fn mount(&self, context: &Context) -> Result<(), Failure> {
        let point = self.mount_point.to_string_lossy();
        let mut argv = vec!["mount", "-t", &self.fs_type];
        if !self.options.is_empty() {
            argv.extend(["-o", &self.options]);
        }
        argv.extend([self.device.as_str(), &point]);
        let outcome = self.run_inside(context, &argv).await?;
        if outcome.succeeded() {
            return Ok(());
        }
        let what = format!("{} cannot be mounted at {point}", self.device);
        Err(Failure::of_run(&what, &outcome, "Try it by hand; the kernel's log may say more."))
    }

    async fn take_down(&self, context: &Context) -> Result<Detail, Failure> {
        let began = Instant::now();
        let (soft, end) = (began + PATIENCE.min(self.common.stop / 2), began + self.common.stop);
        let (mut asked, mut sought) = (Holders::default(), Sought::on(&self.device));
        while let Some(mount) = self.mounted()? {
            sought.iter_mut().for_each(|sought| sought.seen(&mount));
            let outcome = self.umount(context, end).await;
            if outcome.succeeded() {
                continue;
            }
            let signal = if Instant::now() < soft { libc::SIGTERM } else { libc::SIGKILL };
            let holders = holders::of(&self.mount_point).await;
            if Instant::now() >= end {
                return Err(self.busy(&holders, &outcome));
            }
            asked.signal_new(&holders, signal);
            sleep(AGAIN).await;
        }
        if let Some(sought) = sought {
            self.see_free(&sought, (soft, end), &mut asked).await?;
        }
        Ok(asked.words())
    }

    /// Ends who uses the device somewhere else, until nobody has it.
    async fn see_free(
        &self,
        sought: &Sought,
        (soft, end): (Instant, Instant),
        asked: &mut Holders,
    ) -> Result<(), Failure> {
        let left = || end.saturating_duration_since(Instant::now()).max(AGAIN);
        while let Some(kept) = elsewhere::keeps(sought, left()).await {
            let signal = if Instant::now() < soft { libc::SIGTERM } else { libc::SIGKILL };
            let holders = holders::of_devices(sought.numbers()).await;
            // Who does not use it is not ended, so there is nothing to wait for.
            if Instant::now() >= if holders.is_empty() { soft } else { end } {
                return Err(self.kept(&kept, &holders));
            }
            asked.signal_new(&holders, signal);
            sleep(LOOK_AGAIN).await;
        }
        Ok(())
    }

    fn kept(&self, kept: &Kept, holders: &Holders) -> Failure {
        let users = match holders.words().as_str() {
            "" => String::new(),
            words => format!(", and used by {words}"),
        };
        let (point, device) = (self.mount_point.display(), &self.device);
        let why = format!("{point} is unmounted, but {device} {}{users}", kept.words());
        Failure::new(why, kept.advice()).reaching(Reach::Node)
    }

    async fn umount(&self, context: &Context, end: Instant) -> RunOutcome {
        let time = end.saturating_duration_since(Instant::now()).max(AGAIN);
        let point = self.mount_point.to_string_lossy();
        self.run(context, &["umount", &point], time).await
    }

    fn busy(&self, holders: &Holders, outcome: &RunOutcome) -> Failure {
        let what = format!("{} cannot be unmounted", self.mount_point.display());
        let advice = match holders.words().as_str() {
            "" => "No process keeps it busy; another mount below it, or swap, may.".into(),
            words => format!("Look after the processes that use it: {words}."),
        };
        Failure::of_run(&what, outcome, advice).reaching(Reach::Node)
    }

    async fn look(&self) -> Result<Health, Failure> {
        let Some(mount) = self.mounted()? else { return Ok(Health::NotRunning) };
        let point = self.mount_point.display();
        if mount.is_read_only() && !self.options.split(',').any(|option| option == "ro") {
            let why = format!("{point} was made read-only, as the kernel does after disk errors");
            return Err(Failure::new(why, "Look into the kernel's log, and check the disk."));
        }
        match self.answers().await {
            Some(true) => return Ok(Health::Running),
            Some(false) => {
                let why = format!("{point} cannot be read");
                return Err(Failure::new(why, "Look after the disk and the way to it."));
            }
            None => {}
        }
        let time = self.common.monitor.as_millis();
        let why = format!("{point} does not answer within {time} ms");
        Err(Failure::new(why, "Look after the disk and the way to it.").late())
    }

    /// Whether it can be read; none if it does not answer in time. One question at a time: one that hangs is
    /// not joined by others.
    async fn answers(&self) -> Option<bool> {
        if !asked().insert(self.mount_point.clone()) {
            return None;
        }
        let point = self.mount_point.clone();
        let question = tokio::task::spawn_blocking(move || {
            let entry = std::fs::read_dir(&point).map(|mut entries| entries.next().transpose());
            asked().remove(&point);
            entry.is_ok_and(|entry| entry.is_ok())
        });
        timeout(self.common.monitor, question).await.ok().map(|read| read.unwrap_or(false))
    }

    /// Whether it is mounted where it should be. Something else there is a failure.
    fn mounted(&self) -> Result<Option<Mount>, Failure> {
        let all = mounts::all().map_err(|error| {
            let why = format!("the kernel's list of mounts cannot be read: {error}");
            Failure::new(why, "Mount /proc.").reaching(Reach::Node)
        })?;
        let point = real(&self.mount_point);
        // The last one is on top.
        let Some(mount) = all.into_iter().rfind(|mount| mount.point == point) else {
            return Ok(None);
        };
        if mount.is_of(&self.device) {
            return Ok(Some(mount));
        }
        let why = format!("{} is mounted at {} already", mount.source, point.display());
        let advice = "Unmount it, or choose another mount point.";
        Err(Failure::new(why, advice).reaching(Reach::Node))
    }

    async fn refuse_elsewhere(&self) -> Result<(), Failure> {
        let all = mounts::all().unwrap_or_default();
        if let Some(mount) = all.iter().find(|mount| mount.is_of_block(&self.device)) {
            let why = format!("{} is mounted at {} already", self.device, mount.point.display());
            let advice = format!("Unmount it there (umount {}).", mount.point.display());
            return Err(Failure::new(why, advice).reaching(Reach::Node));
        }
        let others = match Sought::on(&self.device) {
            Some(sought) => elsewhere::others(&sought).await,
            None => Vec::new(),
        };
        if others.is_empty() {
            return Ok(());
        }
        let why = format!("{} is mounted already {}", self.device, elsewhere::words(&others));
        Err(Failure::new(why, elsewhere::advice(&others)).reaching(Reach::Node))
    }

    fn refuse_missing(&self) -> Result<(), Failure> {
        if !self.device.starts_with("/dev/") || Path::new(&self.device).exists() {
            return Ok(());
        }
        let why = format!("there is no device {} here", self.device);
        let advice = "Look after the disk and the way to it; if it is in a volume group, that \
                      comes before it in the group.";
        Err(Failure::new(why, advice).reaching(Reach::Node))
    }

    async fn run(&self, context: &Context, argv: &[&str], time: Duration) -> RunOutcome {
        process::run(self.program(context, argv, time)).await
    }

    /// In the group's control group, which ends with the lease: no mount appears after that.
    async fn run_inside(&self, context: &Context, argv: &[&str]) -> Result<RunOutcome, Failure> {
        let place = context.place(&self.common.name)?;
        let place = place.map(|place| place.directory().to_owned());
        Ok(process::run(self.program(context, argv, self.common.start).cgroup(place)).await)
    }

    fn program(&self, context: &Context, argv: &[&str], time: Duration) -> Program {
        let program = Program::new(argv.iter().copied(), time)
            .environment([("LC_ALL", "C")])
            .environment(context.variables(&self.common.name));
        program.dies_with_us()
    }

    async fn findings(&self, context: &Context) -> Vec<Finding> {
        let name = &self.common.name;
        let path = context.environment.get("PATH").map_or(PATH, String::as_str);
        let needed = ["mount", "umount"].into_iter().chain(self.check.then_some("fsck"));
        let mut found: Vec<_> = needed
            .filter(|program| process::find_in(path, program).is_none())
            .map(|program| format!("the program {program} is not here"))
            .map(|what| error(name, what, "Install it: apt-get install mount util-linux."))
            .collect();
        if !self.mount_point.is_absolute() {
            let what = format!("the mount point {} is no full path", self.mount_point.display());
            found.push(error(name, what, "Begin it with `/`."));
        }
        if let Err(failure) = self.mounted() {
            found.push(error(name, failure.why, failure.advice));
        }
        found.extend(self.device_missing(context).await);
        found.extend(self.no_directory().map(|what| {
            error(name, what, "Choose another mount point, or take away what is in its place.")
        }));
        if !mounts::knows(&self.fs_type) {
            let what = format!(
                "this machine does not know file systems of the type {}: neither its kernel, nor a module, \
                 nor a helper mount.{}",
                self.fs_type, self.fs_type
            );
            let advice = "Correct fs_type, or install what mounts it on every node of the group.";
            // In a container the modules of the host are not seen.
            found.push(match mounts::modules_unknown() {
                true => warning(name, what, advice),
                false => error(name, what, advice),
            });
        }
        found
    }

    /// A device that is not there and that nothing brings. A logical volume is looked for in its group, which need
    /// not be active here.
    async fn device_missing(&self, context: &Context) -> Option<Finding> {
        let failure = self.refuse_missing().err()?;
        let name = &self.common.name;
        match self.volume(context).await {
            Some(Volume::There) if context.devices_come => None,
            Some(Volume::Missing(what)) => {
                Some(error(name, what, "Correct the device, or make it with lvcreate."))
            }
            _ if context.devices_come => Some(warning(name, failure.why, failure.advice)),
            _ => Some(error(name, failure.why, failure.advice)),
        }
    }

    /// What LVM2 knows of the device, if its name is that of a logical volume in a volume group of this machine.
    async fn volume(&self, context: &Context) -> Option<Volume> {
        let (group, volume) = volume_of(&self.device)?;
        let asked = async |what: &[&str]| {
            let outcome = self.run(context, what, self.common.monitor).await;
            outcome.exit.filter(|_| !outcome.timed_out)
        };
        let is_group = asked(&["vgs", "--noheadings", "-o", "vg_name", &group]).await == Some(0);
        if !is_group {
            return None;
        }
        let whole = format!("{group}/{volume}");
        match asked(&["lvs", "--noheadings", "-o", "lv_name", &whole]).await? {
            0 => Some(Volume::There),
            _ => {
                let what = format!("volume group {group} has no logical volume {volume}");
                Some(Volume::Missing(what))
            }
        }
    }

    /// Why the mount point could not be made where it is not there, or is none.
    fn no_directory(&self) -> Option<String> {
        let there = self.mount_point.ancestors().find(|path| path.exists())?;
        (!there.is_dir()).then(|| {
            format!(
                "{} cannot be mounted on: {} is no directory",
                self.mount_point.display(),
                there.display()
            )
        })
    }
}

/// What keeps a file system on this machine, as a clause; none if it is mounted nowhere and its device is free. Waits
/// for the disk.
pub(crate) fn kept(device: &str, mount_point: &Path) -> Option<String> {
    let point = real(mount_point);
    let all = match mounts::all() {
        Ok(all) => all,
        Err(error) => return Some(format!("the kernel's list of mounts cannot be read: {error}")),
    };
    if let Some(mount) = all.iter().rfind(|mount| mount.is_of(device) && mount.point == point) {
        return Some(format!("{device} is still mounted at {}", mount.point.display()));
    }
    let kept = elsewhere::look(&Sought::on(device)?)?;
    Some(format!("{device} {}", kept.words()))
}

/// As the kernel lists it: without links and without `/` at the end.
fn real(path: &Path) -> PathBuf {
    std::fs::canonicalize(path).unwrap_or_else(|_| path.components().collect())
}

impl Resource for FileSystem {
    fn start<'a>(&'a self, context: &'a Context) -> BoxFuture<'a, Result<Detail, Failure>> {
        Box::pin(self.bring_up(context))
    }

    fn stop<'a>(&'a self, context: &'a Context) -> BoxFuture<'a, Result<Detail, Failure>> {
        Box::pin(self.take_down(context))
    }

    fn monitor<'a>(&'a self, _context: &'a Context) -> BoxFuture<'a, Result<Health, Failure>> {
        Box::pin(self.look())
    }

    fn verify<'a>(&'a self, context: &'a Context) -> BoxFuture<'a, Vec<Finding>> {
        Box::pin(self.findings(context))
    }
}

/// A logical volume as LVM2 knows it.
enum Volume {
    There,
    /// Why not.
    Missing(String),
}

/// Volume group and logical volume of a device's name: `/dev/GROUP/VOLUME` or `/dev/mapper/GROUP-VOLUME`, where
/// a `-` in either is written twice.
fn volume_of(device: &str) -> Option<(String, String)> {
    const MARK: &str = "\u{0}";
    let (group, volume) = match device.strip_prefix("/dev/mapper/") {
        Some(mapped) => {
            let marked = mapped.replace("--", MARK);
            let (group, volume) = marked.split_once('-')?;
            (group.replace(MARK, "-"), volume.replace(MARK, "-"))
        }
        None => {
            let (group, volume) = device.strip_prefix("/dev/")?.split_once('/')?;
            (group.to_owned(), volume.to_owned())
        }
    };
    let plain = |name: &str| !name.is_empty() && !name.starts_with('-') && !name.contains('/');
    (plain(&group) && plain(&volume)).then_some((group, volume))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logical_volumes_are_told_by_their_names() {
        let of = |device| volume_of(device).map(|(group, volume)| format!("{group} {volume}"));
        assert_eq!(of("/dev/datavg/web"), Some("datavg web".into()));
        assert_eq!(of("/dev/mapper/data--vg-web--a"), Some("data-vg web-a".into()));
        for other in ["/dev/sda1", "/dev/disk/by-id/x", "LABEL=web", "/srv/disk.img", "/dev/vg/"] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
