//! NVIDIA's management library, loaded at run time.
//!
//! A GPU that fell off the bus is told as such; a call that a driver does not support loses that one
//! value. Only when the library as a whole does not answer is there no reading.

mod health;
mod processes;

use super::{GpuDevice, GpuError, GpuReading, GpuSource, HandOver, SourceKind, shown};
use crate::limits::{GPU_DEVICES_MAX, Limit};
use health::Watchman;
use nvml_wrapper::{Device, Nvml, enum_wrappers::device::TemperatureSensor, error::NvmlError};
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

const MIB: u64 = 1 << 20;

/// NVML, open or not.
#[derive(Debug)]
pub struct NvmlLibrary {
    path: Option<PathBuf>,
    sample_counts_for: Duration,
    /// Fatal Xids by UUID: kept when the library is opened again, for the GPU is still the same.
    xids: HashMap<String, Option<u64>>,
}

/// What never changes of a GPU.
#[derive(Clone, Debug, Default)]
struct Nameplate {
    uuid: String,
    name: String,
    vram_total_mb: Option<u64>,
}

impl NvmlLibrary {
    /// The library at `path`, or where the loader finds it. An SM sample older than
    /// `sample_counts_for` says nothing about now.
    pub fn new(path: Option<PathBuf>, sample_counts_for: Duration) -> Self {
        Self { path, sample_counts_for, xids: HashMap::new() }
    }

    fn open(&self) -> Result<Nvml, GpuError> {
        let mut builder = Nvml::builder();
        if let Some(path) = &self.path {
            check_file(path)?;
            builder.lib_path(path.as_os_str());
        }
        builder.init().map_err(|error| match error {
            NvmlError::LibloadingError(_) | NvmlError::LibraryNotFound if self.path.is_none() => {
                GpuError::Absent("NVML's library")
            }
            NvmlError::DriverNotLoaded => GpuError::Absent("NVIDIA's driver"),
            source => GpuError::Nvml { doing: "open it", source },
        })
    }
}

/// To open anything else, a FIFO say, could block.
fn check_file(path: &Path) -> Result<(), GpuError> {
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(GpuError::Absent("NVML's library"))
        }
        Err(source) => Err(GpuError::Open { path: path.display().to_string(), source }),
        Ok(file) if file.is_file() => Ok(()),
        Ok(_) => {
            let source = std::io::Error::other("not a file");
            Err(GpuError::Open { path: path.display().to_string(), source })
        }
    }
}

impl GpuSource for NvmlLibrary {
    fn kind(&self) -> SourceKind {
        SourceKind::Nvml
    }

    fn serve(&mut self, _: Instant, hand_over: HandOver<'_>) -> Result<(), GpuError> {
        let nvml = self.open()?;
        let mut session = Session::new(&nvml, self.sample_counts_for, &mut self.xids);
        while hand_over(session.read()?).is_some() {}
        Ok(())
    }
}

/// From one opening of the library to its close.
struct Session<'a> {
    nvml: &'a Nvml,
    sample_counts_for: Duration,
    nameplates: Vec<Nameplate>,
    watchmen: Vec<Watchman<'a>>,
    xids: &'a mut HashMap<String, Option<u64>>,
}

impl<'a> Session<'a> {
    fn new(
        nvml: &'a Nvml,
        sample_counts_for: Duration,
        xids: &'a mut HashMap<String, Option<u64>>,
    ) -> Self {
        Self { nvml, sample_counts_for, nameplates: Vec::new(), watchmen: Vec::new(), xids }
    }

    fn read(&mut self) -> Result<GpuReading, GpuError> {
        let count = self.nvml.device_count().map_err(failed("count the GPUs"))?;
        if count > GPU_DEVICES_MAX as u32 {
            Limit::GpuDevices.reached();
        }
        let count = count.min(GPU_DEVICES_MAX as u32);
        if count as usize != self.nameplates.len() {
            self.nameplates = vec![Nameplate::default(); count as usize];
            self.watchmen = (0..count).map(|_| Watchman::default()).collect();
        }
        let devices = (0..count).filter_map(|index| self.device(index).transpose());
        Ok(GpuReading { devices: devices.collect::<Result<_, _>>()? })
    }

    /// `None`: it is there, but not for us.
    fn device(&mut self, index: u32) -> Result<Option<GpuDevice>, GpuError> {
        let read = self.nvml.device_by_index(index).and_then(|device| {
            self.identify(index, &device)?;
            self.measure(index, &device)
        });
        let fault = match read {
            Ok(device) => return Ok(Some(device)),
            Err(NvmlError::NoPermission) => return Ok(None),
            Err(NvmlError::GpuLost) => "lost: it does not answer any more",
            Err(NvmlError::ResetRequired) => "it needs a reset",
            Err(NvmlError::InsufficientPower) => "its power cables are not attached",
            Err(NvmlError::IrqIssue) => "the kernel has trouble with its interrupts",
            Err(source) => return Err(GpuError::Nvml { doing: "read a GPU", source }),
        };
        Ok(Some(self.faulty(index, fault)))
    }

    /// Who it is, asked once.
    fn identify(&mut self, index: u32, device: &Device<'a>) -> Result<(), NvmlError> {
        let Some(plate) = self.nameplates.get_mut(index as usize) else { return Ok(()) };
        if plate.uuid.is_empty() {
            plate.uuid = shown(&device.uuid()?);
            plate.name = optional(device.name())?.map(|name| shown(&name)).unwrap_or_default();
        }
        Ok(())
    }

    fn plate(&self, index: u32) -> Nameplate {
        self.nameplates.get(index as usize).cloned().unwrap_or_default()
    }

    /// All that is left to be said of one that does not answer.
    fn faulty(&self, index: u32, fault: &str) -> GpuDevice {
        let Nameplate { uuid, name, vram_total_mb } = self.plate(index);
        GpuDevice {
            index,
            uuid,
            name,
            vram_total_mb,
            fault: Some(fault.into()),
            ..GpuDevice::default()
        }
    }

    fn measure(&mut self, index: u32, device: &Device<'a>) -> Result<GpuDevice, NvmlError> {
        let memory = optional(device.memory_info())?;
        let total = memory.as_ref().map(|memory| memory.total / MIB);
        if let Some(plate) = self.nameplates.get_mut(index as usize) {
            plate.vram_total_mb = total;
        }
        let Nameplate { uuid, name, .. } = self.plate(index);
        let xid = self.xids.entry(uuid.clone()).or_default();
        let watchman = self.watchmen.get_mut(index as usize);
        let fault = watchman.and_then(|watchman| watchman.look(self.nvml, device, xid));
        Ok(GpuDevice {
            index,
            uuid,
            name,
            util_pct: optional(device.utilization_rates())?.map(|rates| f64::from(rates.gpu)),
            vram_used_mb: memory.map(|memory| memory.total.saturating_sub(memory.free) / MIB),
            vram_total_mb: total,
            temp_c: optional(device.temperature(TemperatureSensor::Gpu))?.map(f64::from),
            power_w: optional(device.power_usage())?.map(|milliwatts| f64::from(milliwatts) / 1e3),
            fault,
            processes: processes::of(device, self.sample_counts_for)?,
        })
    }
}

/// A value that may be missing: only what ends a GPU or the library is an error.
fn optional<T>(told: Result<T, NvmlError>) -> Result<Option<T>, NvmlError> {
    match told {
        Ok(value) => Ok(Some(value)),
        Err(
            error @ (NvmlError::GpuLost
            | NvmlError::ResetRequired
            | NvmlError::Uninitialized
            | NvmlError::DriverNotLoaded
            | NvmlError::LibRmVersionMismatch),
        ) => Err(error),
        Err(_) => Ok(None),
    }
}

fn failed(doing: &'static str) -> impl FnOnce(NvmlError) -> GpuError {
    move |source| GpuError::Nvml { doing, source }
}
