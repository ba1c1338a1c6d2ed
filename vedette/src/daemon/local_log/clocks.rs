//! The clocks of local records.

use vedette_core::id::Hash;

/// Which start of the machine this is; one value of its own where the kernel does not say.
pub(super) fn boot() -> Hash {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    Hash::of(text.trim().as_bytes())
}

/// Microseconds since the machine started, suspension included: the guard's clock, too.
pub(crate) fn boot_time_us() -> u64 {
    let clock = nix::time::ClockId::CLOCK_BOOTTIME;
    let now = clock.now().unwrap_or_else(|_| nix::sys::time::TimeSpec::new(0, 0));
    now.tv_sec() as u64 * 1_000_000 + now.tv_nsec() as u64 / 1_000
}
