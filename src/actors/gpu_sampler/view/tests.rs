#![allow(clippy::unwrap_used, reason = "a test says what it expects")]
use super::*;
use crate::platform::gpu::ProcessUse;
use proptest::prelude::*;

fn device(index: u32, total: u64, processes: &[(u32, f64, u64)]) -> SeenDevice {
    let process = |&(pid, sm_util_pct, vram_mb): &_| ProcessUse { pid, sm_util_pct, vram_mb };
    let device = GpuDevice {
        index,
        uuid: format!("GPU-{index}aaaaaaa"),
        vram_total_mb: Some(total),
        vram_used_mb: Some(1),
        processes: Some(processes.iter().map(process).collect()),
        ..GpuDevice::default()
    };
    SeenDevice { device, remembered: false }
}

fn view(seen: Vec<SeenDevice>) -> GpuView {
    GpuView::of(SourceKind::Nvml, seen, Instant::now())
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn a_tree_on_two_gpus_is_summed_and_each_total_counts_once() {
    let first = device(0, 100, &[(1, 30.0, 5), (2, 20.0, 7), (9, 50.0, 50)]);
    let view = view(vec![first, device(1, 200, &[(2, 40.0, 11)]), device(2, 400, &[])]);
    let found = view.of_worker(&[1, 2, 3], &[]);
    assert_eq!((found.util_pct, found.vram_mb, found.total_vram_mb), (90.0, 23, Some(300)));
    let shares: Vec<_> = found.shares.iter().map(|s| (&*s.uuid, s.util_pct, s.vram_mb)).collect();
    assert_eq!(shares, [("GPU-0aaaaaaa", 50.0, 12), ("GPU-1aaaaaaa", 40.0, 11)]);
    let given = view.of_worker(&[1], &names(&["0", "GPU-0aaaaaaa", "2"]));
    assert_eq!((given.total_vram_mb, given.shares.len()), (Some(500), 2));
}

#[test]
fn one_that_uses_none_is_known_to_use_none() {
    let view = view(vec![device(0, 100, &[(1, 30.0, 5)])]);
    let found = view.of_worker(&[7], &[]);
    assert_eq!(found, WorkerGpus { known: true, ..WorkerGpus::default() });
}

#[test]
fn what_cannot_be_told_is_unknown_for_all_and_what_is_remembered_for_whom_it_was() {
    let mut blind = device(0, 100, &[]);
    blind.device.processes = None;
    let unknown = view(vec![blind, device(1, 100, &[(1, 0.0, 1)])]);
    assert_eq!(unknown.source(), GpuSource::Unknown);
    assert!(!unknown.of_worker(&[1], &[]).known);
    let mut lost = device(0, 100, &[(1, 0.0, 5)]);
    (lost.remembered, lost.device.fault) = (true, Some("lost".into()));
    let view = view(vec![lost, device(1, 100, &[(2, 9.0, 1)])]);
    assert_eq!(view.source(), GpuSource::Nvml);
    assert!(!view.of_worker(&[1], &[]).known && view.of_worker(&[2], &[]).known);
    let health: Vec<_> = view.stats().iter().map(|gpu| gpu.health.as_deref().unwrap()).collect();
    assert_eq!(health, ["lost", "ok"]);
}

#[test]
fn what_was_given_up_has_no_figures_and_does_not_look_idle() {
    let view = view(vec![device(0, 100, &[(1, 30.0, 5)])]).given_up();
    assert_eq!(view.source(), GpuSource::Unknown);
    let gpu = &view.stats()[0];
    assert_eq!(
        (gpu.vram_used_mb, gpu.vram_total_mb, gpu.health.as_deref()),
        (None, Some(100), None)
    );
    let found = view.of_worker(&[1], &names(&["0"]));
    assert_eq!((found.util_pct, found.vram_mb, found.known), (0.0, 0, false));
}

#[test]
fn a_gpu_is_named_by_index_by_uuid_or_by_the_beginning_of_one() {
    let view = view(vec![device(0, 1, &[]), device(1, 1, &[])]);
    let resolve = |wanted: &[&str]| view.resolve(&names(wanted));
    assert_eq!(resolve(&["1", "GPU-0aaaaaaa"]).unwrap(), "GPU-1aaaaaaa,GPU-0aaaaaaa");
    assert_eq!(resolve(&["GPU-1aaa"]).unwrap(), "GPU-1aaaaaaa");
    assert_eq!(resolve(&["MIG-1"]).unwrap(), "MIG-1", "parts of a GPU are not listed");
    for wrong in ["2", "GPU-9aaaaaaa", "GPU-", "GPU-1"] {
        let refused = resolve(&[wrong]).unwrap_err();
        assert!(refused.contains(wrong) && refused.contains("\"0\" (GPU-0aaaaaaa)"), "{refused}");
    }
    let none = GpuView::without_gpu().resolve(&names(&["0"])).unwrap_err();
    assert!(none.contains("no GPU"), "{none}");
    assert_eq!(GpuView::default().resolve(&names(&["0", "GPU-x"])).unwrap(), "0,GPU-x");
}

proptest! {
    #[test]
    fn what_workers_have_together_is_what_the_gpus_have(
        uses in prop::collection::vec((0_usize..3, 0_u32..12, 0_u64..1_000), 0..40), split in 0_u32..12,
    ) {
        let mut by_device = vec![Vec::<(u32, f64, u64)>::new(); 3];
        for (at, pid, mb) in uses {
            if by_device[at].iter().all(|(other, ..)| *other != pid) {
                by_device[at].push((pid, 1.0, mb));
            }
        }
        let all: u64 = by_device.iter().flatten().map(|(_, _, mb)| mb).sum();
        let on: usize = by_device.iter().filter(|processes| !processes.is_empty()).count();
        let seen = by_device.iter().enumerate().map(|(at, p)| device(at as u32, 1_000, p)).collect();
        let view = view(seen);
        let (low, high): (Vec<u32>, Vec<u32>) = (0..12).partition(|pid| *pid < split);
        let parts = [view.of_worker(&low, &[]), view.of_worker(&high, &[])];
        prop_assert_eq!(parts.iter().map(|part| part.vram_mb).sum::<u64>(), all);
        let whole = view.of_worker(&(0..12).collect::<Vec<_>>(), &[]);
        prop_assert_eq!(whole.total_vram_mb.unwrap_or(0), 1_000 * on as u64);
        let one = |part: &WorkerGpus| part.total_vram_mb.unwrap_or(0) == 1_000 * part.shares.len() as u64;
        prop_assert!(parts.iter().all(one));
    }
}
