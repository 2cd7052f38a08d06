//! Who tells about GPUs here, and which of their columns say something.

use super::Finding;
use crate::{
    platform::gpu::{self, GpuDevice, GpuError, GpuReading, GpuSource, NvidiaSmi, NvmlLibrary},
    settings::{GpuSettings, GpuSourceChoice},
};
use std::{
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

/// Samples of processes that are looked at.
const SAMPLES_OF: Duration = Duration::from_secs(2);

/// What a source may take beyond its deadline.
const MARGIN: Duration = Duration::from_millis(500);

pub(super) fn examine(settings: &GpuSettings) -> Vec<Finding> {
    let present = gpu::is_present("/proc".as_ref(), "/sys".as_ref());
    let told =
        sources(settings).into_iter().map(|(name, source)| (name, read(source, settings.timeout)));
    judge(present, settings.source, told.collect())
}

type Source = (&'static str, Box<dyn GpuSource>);

fn sources(settings: &GpuSettings) -> Vec<Source> {
    let nvml = || -> Source {
        ("NVML", Box::new(NvmlLibrary::new(settings.nvml_path.clone(), SAMPLES_OF)))
    };
    let smi = || -> Source {
        ("nvidia-smi", Box::new(NvidiaSmi::new(settings.nvidia_smi_path.as_str())))
    };
    match settings.source {
        GpuSourceChoice::Auto => vec![nvml(), smi()],
        GpuSourceChoice::Nvml => vec![nvml()],
        GpuSourceChoice::NvidiaSmi => vec![smi()],
        GpuSourceChoice::Off => Vec::new(),
    }
}

/// What one reading gave; `Err(None)`: nothing in time.
type Told = Result<GpuReading, Option<GpuError>>;

/// On a thread of its own: a driver may hang without end, and the thread with it.
fn read(mut source: Box<dyn GpuSource>, timeout: Duration) -> Told {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut reading = None;
        let served = source.serve(Instant::now() + timeout, &mut |read| {
            reading = Some(read);
            None
        });
        let told = reading.ok_or_else(|| served.err());
        let _ = sender.send(told);
    });
    receiver.recv_timeout(timeout + MARGIN).unwrap_or(Err(None))
}

/// Where several can tell, one that does is enough.
fn judge(present: bool, choice: GpuSourceChoice, told: Vec<(&'static str, Told)>) -> Vec<Finding> {
    if choice == GpuSourceChoice::Off {
        return vec![match present {
            true => Finding::warn(
                "gpu",
                "there is one, and hive.gpu.source is \"off\"",
                "set it to \"auto\"",
            ),
            false => Finding::ok("gpu", "off, as configured"),
        }];
    }
    let answers = told.iter().any(|(_, told)| told.is_ok());
    if !answers && !present && told.iter().all(|(_, told)| is_absent(told)) {
        return vec![Finding::ok("gpu", "there is none on this machine")];
    }
    let mut findings = Vec::new();
    for (name, told) in told {
        match told {
            Ok(reading) => findings.extend(devices(name, &reading)),
            Err(error) => findings.push(silent(name, error.as_ref(), answers)),
        }
    }
    findings
}

fn is_absent(told: &Told) -> bool {
    matches!(told, Err(Some(GpuError::Absent(_))))
}

fn silent(name: &str, error: Option<&GpuError>, answered: bool) -> Finding {
    let why = error.map_or_else(|| "no answer in time".to_owned(), |e| crate::startup::chain(e));
    let found = format!("{name}: {why}");
    if answered {
        return Finding::ok("gpu", format!("{found} (another source answers)"));
    }
    let remedy = "GPU figures are unknown, not idle: look at `nvidia-smi`, `dmesg | grep -i nvrm`, \
                  the driver's version, and hive.gpu.nvml_path and nvidia_smi_path";
    Finding::fail("gpu", found, remedy)
}

fn devices(name: &str, reading: &GpuReading) -> Vec<Finding> {
    if reading.devices.is_empty() {
        return vec![Finding::ok("gpu", format!("{name} answers: there is no GPU"))];
    }
    reading.devices.iter().map(|device| device_finding(name, device)).collect()
}

fn device_finding(name: &str, device: &GpuDevice) -> Finding {
    let what = format!("{name}: GPU {} {}", device.index, device.name);
    if let Some(fault) = &device.fault {
        let remedy = "it takes no new placement: reset the GPU or reboot, then restart the hive";
        return Finding::fail("gpu", format!("{what}: {fault}"), remedy);
    }
    let columns = [
        ("utilisation", device.util_pct.is_none()),
        ("used memory", device.vram_used_mb.is_none()),
        ("total memory", device.vram_total_mb.is_none()),
        ("temperature", device.temp_c.is_none()),
        ("power", device.power_w.is_none()),
        ("processes", device.processes.is_none()),
    ];
    let missing: Vec<_> = columns.iter().filter(|(_, missing)| *missing).map(|(c, _)| *c).collect();
    if missing.is_empty() {
        let count = device.processes.as_ref().map_or(0, Vec::len);
        let noun = if count == 1 { "process" } else { "processes" };
        return Finding::ok("gpu", format!("{what}: every column answers, {count} {noun}"));
    }
    let found = format!("{what}: does not tell {}", missing.join(", "));
    let remedy = if device.processes.is_none() {
        "workers cannot be told apart on it (MIG, or another PID namespace): run the hive in the host's"
    } else {
        "some boards never tell these; a newer driver may"
    };
    Finding::warn("gpu", found, remedy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Mark;

    fn marks(findings: &[Finding]) -> Vec<Mark> {
        findings.iter().map(|finding| finding.mark).collect()
    }

    fn device() -> GpuDevice {
        GpuDevice {
            util_pct: Some(1.0),
            vram_used_mb: Some(1),
            vram_total_mb: Some(2),
            temp_c: Some(3.0),
            power_w: Some(4.0),
            processes: Some(Vec::new()),
            ..GpuDevice::default()
        }
    }

    fn judged(present: bool, told: Vec<(&'static str, Told)>) -> Vec<Finding> {
        judge(present, GpuSourceChoice::Auto, told)
    }

    #[test]
    fn a_machine_without_one_is_well_and_one_that_is_silent_is_not() {
        let absent = || Err(Some(GpuError::Absent("NVML")));
        assert_eq!(marks(&judged(false, vec![("NVML", absent())])), [Mark::Ok]);
        assert_eq!(
            marks(&judged(true, vec![("NVML", absent()), ("nvidia-smi", Err(None))])),
            [Mark::Fail; 2]
        );
        let answered =
            vec![("NVML", Err(None)), ("nvidia-smi", Ok(GpuReading { devices: vec![device()] }))];
        assert_eq!(marks(&judged(true, answered)), [Mark::Ok; 2]);
    }

    #[test]
    fn what_a_column_does_not_tell_is_named() {
        let blind = GpuDevice { processes: None, power_w: None, ..device() };
        let found = device_finding("NVML", &blind);
        assert_eq!(found.mark, Mark::Warn);
        assert!(found.found.contains("power, processes"), "{found:?}");
        let ill = GpuDevice { fault: Some("Xid 79".into()), ..device() };
        assert_eq!(device_finding("NVML", &ill).mark, Mark::Fail);
    }
}
