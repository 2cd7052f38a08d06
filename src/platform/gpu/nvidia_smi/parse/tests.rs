#![allow(clippy::unwrap_used, reason = "a test says what it expects")]
use super::*;
use crate::limits::tests::Counting;
use proptest::prelude::*;

const TWO: &str = "\
0, GPU-aaaa, NVIDIA A100-SXM4-80GB, 35, 81920, 41920, 45, 98.52, 0, Disabled
1, GPU-bbbb, NVIDIA A100-SXM4-80GB, [N/A], 81920, [N/A], -, [Not Supported], [N/A], [N/A]
";

#[test]
fn a_value_that_is_not_told_is_absent_and_costs_no_other() {
    let found = devices(TWO).unwrap();
    let [first, second] = [&found[0].device, &found[1].device];
    assert_eq!((first.index, first.uuid.as_str(), first.util_pct), (0, "GPU-aaaa", Some(35.0)));
    assert_eq!((first.vram_used_mb, first.vram_total_mb), (Some(40_000), Some(81_920)));
    assert_eq!(
        (first.temp_c, first.power_w, first.fault.as_deref()),
        (Some(45.0), Some(98.52), None)
    );
    let bare = GpuDevice {
        index: 1,
        uuid: "GPU-bbbb".into(),
        name: "NVIDIA A100-SXM4-80GB".into(),
        vram_total_mb: Some(81_920),
        ..GpuDevice::default()
    };
    assert_eq!(*second, bare);
}

#[test]
fn what_is_broken_says_so() {
    let of = |line: &str| devices(line).unwrap()[0].device.fault.clone().unwrap_or_default();
    let lost = "0, GPU-a, X, [GPU is lost], [GPU is lost], [GPU is lost], -, -, -, -";
    assert!(of(lost).starts_with("lost"));
    assert!(of("0, GPU-a, X, 1, 2, 1, 3, 4, 7, -").starts_with("7 uncorrected"));
}

#[test]
fn no_gpu_is_no_error_and_nonsense_is() {
    assert_eq!(devices("No devices were found\n"), Some(vec![]));
    assert_eq!(devices("hello\nworld"), None);
    assert_eq!(devices(""), None);
    let half = devices("garbage\n0, GPU-a, X, 1, 2, 1, 3, 4, 0, Enabled\n");
    let half = half.unwrap();
    assert!(half.len() == 1 && half[0].in_parts);
}

#[test]
fn a_gpu_that_is_told_twice_is_one() {
    let line = "0, GPU-a, X, 1, 2, 1, 3, 4, 0, Disabled\n";
    assert_eq!(devices(&line.repeat(2)).unwrap().len(), 1);
}

#[test]
fn memory_is_told_by_gpu_and_pid() {
    let found = memory("GPU-a, 10, 500\nGPU-b, 10, 7\nGPU-a, 11, [N/A]\nGPU-a, -, 3\nnonsense\n");
    assert_eq!(found.of["GPU-a"], [(10, Some(500)), (11, None)]);
    assert_eq!(found.of["GPU-b"], [(10, Some(7))]);
    assert_eq!(memory(""), Memory::default());
}

#[test]
fn columns_of_pmon_are_found_by_their_names() {
    let old = "# gpu        pid  type    sm   mem   enc   dec   command\n\
               # Idx          #   C/G     %     %     %     %   name\n\
               \x20   0       4321     C    85    40     -     -   python\n\
               \x20   0       4322     G     -     -     -     -   Xorg\n\
               \x20   1          -     -     -     -     -     -   -\n";
    let found = utilisation(old).unwrap();
    assert_eq!(found[&0], [(4321, Some(85.0)), (4322, Some(0.0))]);
    assert_eq!(found[&1], []);
    assert!(!found.contains_key(&2), "it was not looked at");
    let other = "# gpu   type  sm  pid\n 2  C  7  9\n 2 C [N/A] 10\n 2 C 4000 11\n x y z\n";
    assert_eq!(utilisation(other).unwrap()[&2], [(9, Some(7.0)), (10, None), (11, None)]);
    assert_eq!(utilisation("Not supported on the device(s)\n"), None);
}

#[test]
fn a_figure_that_was_not_told_makes_its_gpu_unknown_not_idle() {
    let told = put_together(&[(1, Some(10)), (1, Some(10))], &[(1, Some(5.0)), (2, Some(0.0))]);
    let mut told = told.unwrap();
    told.sort_by_key(|process| process.pid);
    assert_eq!(told.len(), 2);
    assert_eq!((told[0].vram_mb, told[0].sm_util_pct), (10, 5.0));
    assert_eq!(put_together(&[(1, None)], &[]), None);
    assert_eq!(put_together(&[(1, Some(1))], &[(1, None)]), None);
}

proptest! {
    #[test]
    fn no_text_is_too_strange(text in "[-0-9a-zG, #\\[\\]/\\.\n]{0,200}|\\PC{0,200}") {
        for Listed { device, .. } in devices(&text).unwrap_or_default() {
            prop_assert!(device.uuid.starts_with("GPU-"));
            prop_assert!(device.power_w.is_none_or(|watts| watts >= 0.0 && watts.is_finite()));
        }
        prop_assert!(memory(&text).of.values().flatten().all(|(pid, _)| *pid != 0));
        let busy = utilisation(&text).unwrap_or_default();
        prop_assert!(busy.values().flatten().all(|(_, sm)| sm.is_none_or(|sm| (0.0..=100.0).contains(&sm))));
    }

    #[test]
    fn what_nvidia_smi_prints_is_read_back(
        rows in prop::collection::vec((0_u32..8, 1_u32..99_999, prop::option::of(0_u32..=100)), 0..50),
    ) {
        let mut text = "# gpu         pid   type     sm    mem    enc    dec    command \n\
                        # Idx           #    C/G      %      %      %      %    name \n".to_owned();
        for (gpu, pid, sm) in &rows {
            let sm = sm.map_or("-".to_owned(), |sm| sm.to_string());
            text += &format!("{gpu:5} {pid:10}     C {sm:>6}      -      -      -    python         \n");
        }
        let found = utilisation(&text).unwrap();
        for (gpu, pid, sm) in &rows {
            let wanted = (*pid, Some(f64::from(sm.unwrap_or(0))));
            prop_assert!(found[gpu].contains(&wanted));
        }
        prop_assert_eq!(found.values().map(Vec::len).sum::<usize>(), rows.len());
    }
}

#[test]
fn so_many_gpus_are_looked_at() {
    let lines = |n: usize| -> String {
        let line = |i| format!("{i}, GPU-{i}, X, 1, 2, 1, 30, 5, 0, Disabled\n");
        (0..n).map(line).collect()
    };
    assert_eq!(devices(&lines(GPU_DEVICES_MAX)).unwrap().len(), GPU_DEVICES_MAX);
    let counting = Counting::of(Limit::GpuDevices);
    assert_eq!(devices(&lines(GPU_DEVICES_MAX + 1)).unwrap().len(), GPU_DEVICES_MAX);
    counting.counted();
}

#[test]
fn fuzz_nvidia_smi() {
    crate::fuzz::fuzz_text("nvidia-smi", |text| {
        let devices = devices(text).unwrap_or_default();
        assert!(devices.len() <= GPU_DEVICES_MAX);
        for listed in &devices {
            assert!(
                listed.device.util_pct.is_none_or(|percent| percent.is_finite() && percent >= 0.0)
            );
            assert!(!listed.device.name.contains(char::is_control));
        }
        let (memory, busy) = (memory(text), utilisation(text).unwrap_or_default());
        for held in memory.of.values() {
            for busy in busy.values() {
                let _ = put_together(held, busy);
            }
        }
    });
}
