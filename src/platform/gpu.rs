//! What a machine's GPUs do, and who uses them. A source reads them, through NVIDIA's library or its
//! program; another maker's is one more file beside these.
//!
//! Invariant: what a driver does not tell is `None`, never zero. A call may hang without end, so that
//! sources are for a thread of their own; when to ask and whom to believe is decided elsewhere.

mod nvidia_smi;
mod nvml;

pub use nvidia_smi::NvidiaSmi;
pub use nvml::NvmlLibrary;

use super::process::RunError;
use crate::limits::{GPU_TEXT_MAX, Limit};
use nvml_wrapper::error::NvmlError;
use std::{fs, io, path::Path, time::Instant};
use thiserror::Error;

/// Who tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceKind {
    /// NVIDIA's management library.
    Nvml,
    /// The nvidia-smi program.
    NvidiaSmi,
}

/// A process's part in one GPU.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProcessUse {
    /// As the driver tells it: meant to be a PID here, but see [`GpuDevice::processes`].
    pub pid: u32,
    /// SM utilisation, 0 to 100; 0 without a recent sample.
    pub sm_util_pct: f64,
    /// Memory, MiB.
    pub vram_mb: u64,
}

/// One GPU at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GpuDevice {
    /// As the driver counts.
    pub index: u32,
    /// Identity across reboots; empty when a lost GPU has never told it.
    pub uuid: String,
    /// Product name.
    pub name: String,
    /// 0 to 100.
    pub util_pct: Option<f64>,
    /// MiB that nobody can have any more: what processes hold, and what the driver keeps for itself.
    pub vram_used_mb: Option<u64>,
    /// MiB there are.
    pub vram_total_mb: Option<u64>,
    /// Degrees Celsius.
    pub temp_c: Option<f64>,
    /// Watts.
    pub power_w: Option<f64>,
    /// Why nothing new should be put on it; `None`: nothing is known to be wrong.
    pub fault: Option<String>,
    /// Who uses it, each PID once; `None` when the driver cannot tell processes apart.
    pub processes: Option<Vec<ProcessUse>>,
}

/// All GPUs at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GpuReading {
    /// In the driver's order.
    pub devices: Vec<GpuDevice>,
}

/// Why there is no reading.
#[derive(Debug, Error)]
pub enum GpuError {
    /// It is not on this machine, or no driver is.
    #[error("{0} is not there")]
    Absent(&'static str),
    /// It is, but is not what it should be.
    #[error("cannot open {path}")]
    Open {
        /// Where.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The library refused.
    #[error("NVML: cannot {doing}")]
    Nvml {
        /// What it was asked.
        doing: &'static str,
        /// Its answer.
        source: NvmlError,
    },
    /// The program failed.
    #[error("nvidia-smi {call}")]
    Program {
        /// What it was asked.
        call: &'static str,
        /// How it failed.
        source: RunError,
    },
    /// The program printed what nobody can read.
    #[error("nvidia-smi {0}: not its output")]
    Garbage(&'static str),
}

/// Takes a reading's place with the one who asked; returns by when the next one is wanted, `None` when
/// none is from this source.
pub type HandOver<'a> = &'a mut dyn FnMut(GpuReading) -> Option<Instant>;

/// Who can tell about GPUs.
pub trait GpuSource: Send {
    /// Which.
    fn kind(&self) -> SourceKind;

    /// Opens the source and takes a reading, and another each time that `hand_over` asks for one.
    /// Returns when it does not, or at the first reading that fails. May block without end; what can be
    /// cut short is, at `deadline`.
    fn serve(&mut self, deadline: Instant, hand_over: HandOver<'_>) -> Result<(), GpuError>;
}

/// Whether this machine has an NVIDIA GPU that is not some other driver's, whatever answers for it.
pub fn is_present(proc_root: &Path, sys_root: &Path) -> bool {
    let cards = fs::read_dir(proc_root.join("driver/nvidia/gpus"));
    if cards.is_ok_and(|mut cards| cards.next().is_some()) {
        return true;
    }
    let slots = fs::read_dir(sys_root.join("bus/pci/devices")).into_iter().flatten().flatten();
    slots.into_iter().any(|slot| is_nvidia_display(&slot.path()))
}

/// A display controller (PCI class 03) of NVIDIA's (vendor 10de) that is nvidia's or nobody's.
fn is_nvidia_display(slot: &Path) -> bool {
    let holds = |name: &str, prefix: &str| {
        fs::read_to_string(slot.join(name)).is_ok_and(|text| text.starts_with(prefix))
    };
    let foreign = fs::read_link(slot.join("driver"))
        .is_ok_and(|driver| driver.file_name().is_none_or(|name| name != "nvidia"));
    holds("vendor", "0x10de") && holds("class", "0x03") && !foreign
}

/// A driver's text as it may be shown: of one line, and not endless.
fn shown(text: &str) -> String {
    let mut shown = String::new();
    for c in text.trim().chars().filter(|c| !c.is_control()) {
        if shown.len() + c.len_utf8() > GPU_TEXT_MAX {
            Limit::GpuText.reached();
            break;
        }
        shown.push(c);
    }
    shown
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects")]
    use super::*;
    use crate::limits::{GPU_OUTPUT_MAX, tests::Counting};
    use proptest::prelude::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_gpu_is_there_by_its_driver_or_by_its_slot() {
        let dir = tempfile::tempdir().unwrap();
        let (proc_root, sys_root) = (dir.path().join("proc"), dir.path().join("sys"));
        assert!(!is_present(&proc_root, &sys_root));
        let slot = sys_root.join("bus/pci/devices/0000:01:00.0");
        fs::create_dir_all(&slot).unwrap();
        fs::write(slot.join("vendor"), "0x10de\n").unwrap();
        fs::write(slot.join("class"), "0x040300\n").unwrap();
        assert!(!is_present(&proc_root, &sys_root), "its sound");
        fs::write(slot.join("class"), "0x030200\n").unwrap();
        assert!(is_present(&proc_root, &sys_root));
        symlink("../../drivers/vfio-pci", slot.join("driver")).unwrap();
        assert!(!is_present(&proc_root, &sys_root), "given away");
        fs::create_dir_all(proc_root.join("driver/nvidia/gpus/0000:01:00.0")).unwrap();
        assert!(is_present(&proc_root, &sys_root));
    }

    proptest! {
        #[test]
        fn what_is_shown_is_one_short_line(text in "\\PC{0,200}|[\\x00-\\x7f]{0,300}") {
            let shown = shown(&text);
            prop_assert!(shown.len() <= GPU_TEXT_MAX && !shown.chars().any(char::is_control));
        }
    }

    #[test]
    fn a_text_is_cut_at_its_most() {
        assert_eq!(shown(&"x".repeat(GPU_TEXT_MAX)).len(), GPU_TEXT_MAX);
        let counting = Counting::of(Limit::GpuText);
        assert_eq!(shown(&"x".repeat(GPU_TEXT_MAX + 1)).len(), GPU_TEXT_MAX);
        counting.counted();
    }

    #[test]
    fn nvidia_smi_may_print_so_much() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        for beyond in [0, 1] {
            let program = dir.path().join(format!("nvidia-smi-{beyond}"));
            let script = format!("#!/bin/sh\nhead -c {} /dev/zero\n", GPU_OUTPUT_MAX + beyond);
            fs::write(&program, script).unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
            let counting = Counting::of(Limit::GpuOutput);
            let deadline = Instant::now() + std::time::Duration::from_secs(30);
            let mut smi = NvidiaSmi::new(program.to_str().unwrap());
            let error = smi.serve(deadline, &mut |_| None).unwrap_err();
            let garbage = matches!(error, GpuError::Garbage(_));
            assert_eq!(garbage, beyond == 0, "{error:?}");
            counting.at_least(beyond as u64);
        }
    }
}
