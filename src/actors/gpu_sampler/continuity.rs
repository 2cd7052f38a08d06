//! What one reading alone does not tell. Pure.
//!
//! A GPU that was there and is not listed any more is lost, not forgotten. Who was on a lost GPU still is,
//! so that nothing new is put there. And a PID that is no process of this machine, twice in a row, means
//! that the driver counts in another namespace: then no PID of that GPU can be believed.

use crate::platform::gpu::{GpuDevice, GpuReading};
use std::collections::{HashMap, HashSet};

const GONE: &str = "lost: its driver does not list it any more";

/// GPUs that are remembered.
const REMEMBERED_MAX: usize = 128;

/// One GPU, and whether what it says of processes is from now.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SeenDevice {
    pub device: GpuDevice,
    /// Its processes are those that were on it when it last answered.
    pub remembered: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Continuity {
    before: HashMap<String, GpuDevice>,
    strangers: HashSet<(String, u32)>,
}

impl Continuity {
    /// Takes in a reading. `exists` says whether there is a process of that PID here.
    pub(super) fn absorb(
        &mut self,
        reading: GpuReading,
        exists: impl Fn(u32) -> bool,
    ) -> Vec<SeenDevice> {
        let mut strangers = HashSet::new();
        let mut seen: Vec<_> = reading
            .devices
            .into_iter()
            .map(|device| self.known_processes(device, &exists, &mut strangers))
            .map(|device| self.with_memory(device))
            .collect();
        self.strangers = strangers;
        seen.extend(self.gone(&seen));
        for SeenDevice { device, .. } in seen.iter().filter(|one| !one.device.uuid.is_empty()) {
            if self.before.len() < REMEMBERED_MAX || self.before.contains_key(&device.uuid) {
                self.before.insert(device.uuid.clone(), device.clone());
            }
        }
        seen
    }

    /// One reading may name a process that ended a moment ago; two do not.
    fn known_processes(
        &self,
        mut device: GpuDevice,
        exists: &impl Fn(u32) -> bool,
        strangers: &mut HashSet<(String, u32)>,
    ) -> GpuDevice {
        let mut foreign = false;
        if let Some(processes) = &mut device.processes {
            processes.retain(|process| {
                if exists(process.pid) {
                    return true;
                }
                let stranger = (device.uuid.clone(), process.pid);
                foreign |= self.strangers.contains(&stranger);
                strangers.insert(stranger);
                false
            });
        }
        if foreign {
            device.processes = None;
        }
        device
    }

    fn with_memory(&self, mut device: GpuDevice) -> SeenDevice {
        let silent = device.fault.is_some() && device.processes.is_none();
        if silent && let Some(before) = self.before.get(&device.uuid) {
            device.processes.clone_from(&before.processes);
            for process in device.processes.iter_mut().flatten() {
                process.sm_util_pct = 0.0;
            }
        }
        SeenDevice { device, remembered: silent }
    }

    fn gone(&self, seen: &[SeenDevice]) -> Vec<SeenDevice> {
        let listed = |uuid: &str| seen.iter().any(|one| one.device.uuid == uuid);
        let missing = self.before.values().filter(|before| !listed(&before.uuid));
        let lost = |before: &GpuDevice| GpuDevice {
            index: before.index,
            uuid: before.uuid.clone(),
            name: before.name.clone(),
            vram_total_mb: before.vram_total_mb,
            fault: Some(GONE.into()),
            ..GpuDevice::default()
        };
        let mut gone: Vec<_> = missing.map(|before| self.with_memory(lost(before))).collect();
        gone.sort_unstable_by_key(|one| one.device.index);
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::gpu::ProcessUse;
    use proptest::prelude::*;

    fn on(uuid: &str, pids: &[u32]) -> GpuDevice {
        let process = |pid: &u32| ProcessUse { pid: *pid, sm_util_pct: 50.0, vram_mb: 10 };
        GpuDevice {
            uuid: uuid.into(),
            processes: Some(pids.iter().map(process).collect()),
            ..GpuDevice::default()
        }
    }

    fn absorb(continuity: &mut Continuity, devices: Vec<GpuDevice>) -> Vec<SeenDevice> {
        // PIDs from 1000 up are another namespace's.
        continuity.absorb(GpuReading { devices }, |pid| pid < 1000)
    }

    #[test]
    fn one_that_just_ended_is_left_out_and_a_strange_one_makes_all_unknown() {
        let mut continuity = Continuity::default();
        let first = absorb(&mut continuity, vec![on("a", &[1, 2000]), on("b", &[3])]);
        assert_eq!(first[0].device.processes, on("a", &[1]).processes);
        let again = absorb(&mut continuity, vec![on("a", &[1, 2000]), on("b", &[3])]);
        assert_eq!(again[0].device.processes, None);
        assert_eq!(again[1].device.processes, on("b", &[3]).processes, "the other one can be told");
        let other = absorb(&mut continuity, vec![on("a", &[1, 3000]), on("b", &[3])]);
        assert_eq!(other[0].device.processes, on("a", &[1]).processes);
    }

    #[test]
    fn a_lost_gpu_keeps_its_processes_and_does_not_say_that_they_are_idle() {
        let mut continuity = Continuity::default();
        absorb(&mut continuity, vec![on("a", &[1]), on("b", &[2])]);
        let lost = GpuDevice { processes: None, fault: Some("lost".into()), ..on("a", &[]) };
        for _ in 0..2 {
            let seen = absorb(&mut continuity, vec![lost.clone(), on("b", &[2])]);
            let processes = seen[0].device.processes.clone().unwrap_or_default();
            assert_eq!((processes[0].pid, processes[0].vram_mb), (1, 10));
            assert!(seen[0].remembered && !seen[1].remembered);
        }
        let seen = absorb(&mut continuity, vec![on("b", &[2])]);
        assert_eq!(seen[1].device.fault.as_deref(), Some(GONE));
        assert_eq!(seen[1].device.processes.as_ref().map(Vec::len), Some(1));
        let back = absorb(&mut continuity, vec![on("a", &[5]), on("b", &[2])]);
        assert_eq!(back.len(), 2);
        assert!(back[0].device.fault.is_none() && !back[0].remembered);
    }

    proptest! {
        #[test]
        fn every_gpu_ever_seen_is_told_once(
            readings in prop::collection::vec(prop::collection::hash_set(0_u32..6, 0..5), 1..12),
        ) {
            let (mut continuity, mut ever) = (Continuity::default(), HashSet::new());
            for present in readings {
                let devices = present.iter().map(|n| on(&n.to_string(), &[*n])).collect();
                ever.extend(present.iter().map(u32::to_string));
                let seen = absorb(&mut continuity, devices);
                let told: Vec<_> = seen.iter().map(|one| one.device.uuid.clone()).collect();
                prop_assert_eq!(told.len(), ever.len());
                prop_assert_eq!(told.into_iter().collect::<HashSet<_>>(), ever.clone());
                for one in &seen {
                    let here = present.contains(&one.device.uuid.parse().unwrap_or(99));
                    prop_assert_eq!(one.device.fault.is_none(), here);
                }
            }
        }
    }
}
