//! The nvidia-smi program, for machines whose library does not answer. Three calls a reading, each of
//! which is killed at the deadline with all that it started.
//!
//! It tells no memory of processes that only draw; what its columns say is for [`parse`].

mod parse;

use super::{GpuError, GpuReading, GpuSource, HandOver, SourceKind};
use crate::limits::{GPU_OUTPUT_MAX, Limit};
use crate::platform::process::{BoundedRunner, RunError};
use parse::{Listed, Memory, Utilisation};
use std::{collections::HashMap, io, process::Command, time::Instant};

const QUERY: &str = "--query-gpu=index,uuid,name,utilization.gpu,memory.total,memory.free,\
                     temperature.gpu,power.draw,ecc.errors.uncorrected.volatile.total,mig.mode.current";
const APPS: &str = "--query-compute-apps=gpu_uuid,pid,used_gpu_memory";
const CSV: &str = "--format=csv,noheader,nounits";

/// See the module.
#[derive(Debug)]
pub struct NvidiaSmi {
    program: String,
    runner: BoundedRunner,
}

impl NvidiaSmi {
    /// By its path, or by its name, which is looked up in PATH.
    pub fn new(program: impl Into<String>) -> Self {
        Self { program: program.into(), runner: BoundedRunner::default() }
    }

    fn call(
        &mut self,
        call: &'static str,
        arguments: &[&str],
        deadline: Instant,
    ) -> Result<String, GpuError> {
        let mut command = Command::new(&self.program);
        command.args(arguments).env("LC_ALL", "C");
        self.runner.run(&mut command, deadline, GPU_OUTPUT_MAX).map_err(|error| match error {
            RunError::Start(source) if source.kind() == io::ErrorKind::NotFound => {
                GpuError::Absent("nvidia-smi")
            }
            RunError::Failed { said, .. }
                if said.contains("communicate with the NVIDIA driver") =>
            {
                GpuError::Absent("NVIDIA's driver")
            }
            source => {
                if matches!(source, RunError::TooMuch(_)) {
                    Limit::GpuOutput.reached();
                }
                GpuError::Program { call, source }
            }
        })
    }

    fn read(&mut self, deadline: Instant) -> Result<GpuReading, GpuError> {
        let printed = self.call("--query-gpu", &[QUERY, CSV], deadline)?;
        let mut listed = parse::devices(&printed).ok_or(GpuError::Garbage("--query-gpu"))?;
        if !listed.is_empty() {
            let apps = self.call("--query-compute-apps", &[APPS, CSV], deadline)?;
            // A GPU in parts, and an old one, may refuse this call: then nobody can be told apart.
            let pmon = match self.call("pmon", &["pmon", "-c", "1", "-s", "u"], deadline) {
                Err(GpuError::Program { source: RunError::Failed { .. }, .. }) => None,
                told => Some(told?),
            };
            if let Some(utilisation) = pmon.as_deref().and_then(parse::utilisation) {
                assign(&mut listed, &parse::memory(&apps), &utilisation);
            }
        }
        Ok(GpuReading { devices: listed.into_iter().map(|one| one.device).collect() })
    }
}

impl GpuSource for NvidiaSmi {
    fn kind(&self) -> SourceKind {
        SourceKind::NvidiaSmi
    }

    fn serve(&mut self, deadline: Instant, hand_over: HandOver<'_>) -> Result<(), GpuError> {
        let mut next = Some(deadline);
        while let Some(deadline) = next {
            next = hand_over(self.read(deadline)?);
        }
        Ok(())
    }
}

/// Gives each GPU its processes; none where the calls do not tell all of them.
fn assign(listed: &mut [Listed], memory: &Memory, utilisation: &Utilisation) {
    let is_listed = |uuid: &String| listed.iter().any(|one| one.device.uuid == *uuid);
    if !memory.of.keys().all(is_listed) {
        return;
    }
    for Listed { device, .. } in listed.iter_mut().filter(|one| !one.in_parts) {
        let held = memory.of.get(&device.uuid).map_or(&[][..], Vec::as_slice);
        if let Some(busy) = utilisation.get(&device.index).filter(|_| device.fault.is_none()) {
            device.processes = parse::put_together(held, busy);
        }
    }
}

/// PIDs with a figure; `None` where it was not told.
type ByDevice<K, T> = HashMap<K, Vec<(u32, Option<T>)>>;
