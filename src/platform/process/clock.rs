//! The clocks that /proc counts in.

use nix::time::{ClockId, clock_gettime};
use std::{sync::LazyLock, time::Duration};

/// Ticks a second of the times in `/proc/PID/stat`, asked of the system, not assumed to be 100.
static TICKS_PER_SECOND: LazyLock<u64> = LazyLock::new(|| procfs::ticks_per_second().max(1));

/// CLOCK_BOOTTIME: time since boot, suspended or not; what start times are counted in.
pub fn since_boot() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}

/// A number of ticks as time.
pub(super) fn ticks(count: u64) -> Duration {
    let rate = *TICKS_PER_SECOND;
    Duration::from_secs(count / rate) + Duration::from_nanos(count % rate * 1_000_000_000 / rate)
}

/// The kernel's id of this boot, `/proc/sys/kernel/random/boot_id`; empty where there is none.
pub fn boot_id() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    text.map(|text| text.trim().to_owned()).unwrap_or_default()
}
