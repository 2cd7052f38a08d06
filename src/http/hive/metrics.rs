//! What a hive tells Prometheus: all there is about workers, and the machine's GPUs.

use super::HiveState;
use crate::{
    actors::hive_board::Measured,
    contract::{GpuSource, GpuStats, WorkerReport},
    http::{
        error::HttpError,
        metrics::{Page, RequestDurations},
    },
};
use actix_web::{HttpResponse, web};
use prometheus::{GaugeVec, Result};

/// Of each series about a worker.
const WORKER: [&str; 2] = ["group", "instance"];
const MIB: f64 = 1_048_576.0;

#[utoipa::path(get, path = "/metrics", operation_id = "get_metrics", tag = "machine",
    summary = "For Prometheus: all about workers and GPUs",
    responses(
        (status = 200, description = "Prometheus' text format", body = String,
            content_type = "text/plain; version=0.0.4"),
        (status = 500, description = "The page cannot be written"),
    ))]
pub(super) async fn get(
    state: web::Data<HiveState>,
    durations: web::Data<RequestDurations>,
) -> std::result::Result<HttpResponse, HttpError> {
    let page = Page::begin("hive", &durations)?;
    let workers = state.board.measured();
    states(&page, &workers)?;
    counted(&page, &workers)?;
    levels(&page, &workers)?;
    gpus_of_workers(&page, &workers, state.board.gpus().source())?;
    gpus(&page, state.board.gpus().stats(), state.board.gpus().source())?;
    heartbeats(&page, &state)?;
    Ok(page.finish()?)
}

fn labels(worker: &WorkerReport) -> [&str; 2] {
    [&worker.group, &worker.instance]
}

fn states(page: &Page, workers: &[Measured]) -> Result<()> {
    let help = "1 for the state that the worker is in.";
    let states = page.gauge("rbee_worker_state", help, &["group", "instance", "state"])?;
    let up = page.gauge("rbee_worker_up", "1 while the worker has a process.", &WORKER)?;
    for Measured { report, .. } in workers {
        let [group, instance] = labels(report);
        states.with_label_values(&[group, instance, report.state.name()]).set(1.0);
        up.with_label_values(&[group, instance]).set(f64::from(u8::from(report.pid.is_some())));
    }
    Ok(())
}

fn counted(page: &Page, workers: &[Measured]) -> Result<()> {
    let counter = |name, help| page.counter(name, help, &WORKER);
    let restarts = counter("rbee_worker_restarts_total", "Starts after a death.")?;
    let oom_kills = counter(
        "rbee_worker_oom_kills_total",
        "Processes of the worker that the kernel killed for memory, since the hive began.",
    )?;
    let cpu = counter("rbee_worker_cpu_seconds_total", "Processor time of the run's tree.")?;
    let read = counter("rbee_worker_io_read_bytes_total", "Bytes read from devices by the run.")?;
    let written =
        counter("rbee_worker_io_written_bytes_total", "Bytes written to devices by the run.")?;
    for Measured { report, counted, oom_kills: killed } in workers {
        let labels = labels(report);
        restarts.with_label_values(&labels).inc_by(report.restarts as f64);
        oom_kills.with_label_values(&labels).inc_by(*killed as f64);
        let Some(counted) = counted else { continue };
        cpu.with_label_values(&labels).inc_by(counted.cpu_time.as_secs_f64());
        read.with_label_values(&labels).inc_by(counted.read_bytes as f64);
        written.with_label_values(&labels).inc_by(counted.write_bytes as f64);
    }
    Ok(())
}

/// What may be missing has no series then.
type Level = (&'static str, &'static str, fn(&Measured) -> Option<f64>);

const LEVELS: [Level; 15] = [
    ("rbee_worker_memory_bytes", "Memory of the tree, page cache included.", |w| {
        w.counted.map(|counted| counted.rss_bytes as f64)
    }),
    ("rbee_worker_memory_working_set_bytes", "Memory less what would be the first to go.", |w| {
        w.counted.map(|counted| counted.working_set_bytes as f64)
    }),
    ("rbee_worker_memory_limit_bytes", "The memory limit that was asked for.", |w| {
        w.report.memory_limit_mb.map(|mib| mib as f64 * MIB)
    }),
    ("rbee_worker_cpu_limit_ratio", "The CPU limit that was asked for; 1 is one core.", |w| {
        w.report.cpu_limit_pct.map(|pct| pct / 100.0)
    }),
    ("rbee_worker_throttled_ratio", "Scheduling periods in which it was held back.", |w| {
        w.report.throttled_pct.map(|pct| pct / 100.0)
    }),
    ("rbee_worker_cpu_pressure_ratio", "Time in which some of it waited for a processor.", |w| {
        w.report.pressure.cpu.map(|pct| pct / 100.0)
    }),
    ("rbee_worker_memory_pressure_ratio", "Time in which some of it waited for memory.", |w| {
        w.report.pressure.memory.map(|pct| pct / 100.0)
    }),
    ("rbee_worker_io_pressure_ratio", "Time in which some of it waited for devices.", |w| {
        w.report.pressure.io.map(|pct| pct / 100.0)
    }),
    ("rbee_worker_processes", "Processes of the tree.", |w| {
        w.report.pid.map(|_| w.report.pids.len() as f64)
    }),
    ("rbee_worker_idle", "1 while it does nothing; missing while that cannot be known.", |w| {
        w.report.idle.map(|idle| f64::from(u8::from(idle)))
    }),
    ("rbee_worker_requests_running", "Requests in progress, as its engine says.", |w| {
        w.report.requests_running.map(|n| n as f64)
    }),
    ("rbee_worker_requests_waiting", "Requests queued, as its engine says.", |w| {
        w.report.requests_waiting.map(|n| n as f64)
    }),
    ("rbee_worker_kv_cache_usage_ratio", "KV cache in use, as its engine says.", |w| {
        w.report.kv_cache_pct.map(|pct| pct / 100.0)
    }),
    ("rbee_worker_slots", "Requests that it takes at once; missing: no limit.", |w| {
        w.report.slots.map(f64::from)
    }),
    ("rbee_worker_sample_age_seconds", "How old its figures are.", |w| {
        w.counted.map(|_| w.report.sample_age_ms.ms() as f64 / 1e3)
    }),
];

fn levels(page: &Page, workers: &[Measured]) -> Result<()> {
    for (name, help, level) in LEVELS {
        let gauge = page.gauge(name, help, &WORKER)?;
        for worker in workers {
            set(&gauge, &labels(&worker.report), level(worker));
        }
    }
    Ok(())
}

/// A zero is told only where it is known to be one.
fn gpus_of_workers(page: &Page, workers: &[Measured], source: GpuSource) -> Result<()> {
    let each = ["group", "instance", "gpu"];
    let help = "SM utilisation of the worker on a GPU.";
    let util = page.gauge("rbee_worker_gpu_utilization_ratio", help, &each)?;
    let help = "Memory of the worker on a GPU.";
    let memory = page.gauge("rbee_worker_gpu_memory_bytes", help, &each)?;
    if matches!(source, GpuSource::Unknown | GpuSource::None) {
        return Ok(());
    }
    for Measured { report, .. } in workers {
        for share in &report.gpus {
            let labels = [&*report.group, &*report.instance, &*share.uuid];
            util.with_label_values(&labels).set(share.util_pct / 100.0);
            memory.with_label_values(&labels).set(share.vram_mb as f64 * MIB);
        }
    }
    Ok(())
}

type GpuLevel = (&'static str, &'static str, fn(&GpuStats) -> Option<f64>);

const GPU_LEVELS: [GpuLevel; 6] = [
    ("rbee_gpu_utilization_ratio", "Time in which a kernel ran.", |gpu| {
        gpu.util_pct.map(|pct| pct / 100.0)
    }),
    ("rbee_gpu_memory_used_bytes", "Memory in use, by anyone.", |gpu| {
        gpu.vram_used_mb.map(|mib| mib as f64 * MIB)
    }),
    ("rbee_gpu_memory_total_bytes", "Memory that there is.", |gpu| {
        gpu.vram_total_mb.map(|mib| mib as f64 * MIB)
    }),
    ("rbee_gpu_temperature_celsius", "Its temperature.", |gpu| gpu.temp_c),
    ("rbee_gpu_power_watts", "What it draws.", |gpu| gpu.power_w),
    ("rbee_gpu_healthy", "0 when nothing new is placed on it.", |gpu| {
        gpu.health.as_deref().map(|health| f64::from(u8::from(health == "ok")))
    }),
];

fn gpus(page: &Page, gpus: &[GpuStats], source: GpuSource) -> Result<()> {
    let help = "1 for whom the figures of GPUs come from.";
    let sources = page.gauge("rbee_gpu_source", help, &["source"])?;
    let name = serde_json::to_value(source).unwrap_or_default();
    sources.with_label_values(&[name.as_str().unwrap_or("unknown")]).set(1.0);
    for (name, help, level) in GPU_LEVELS {
        let gauge = page.gauge(name, help, &["gpu", "name"])?;
        for gpu in gpus {
            set(&gauge, &[&gpu.uuid, &gpu.name], level(gpu));
        }
    }
    Ok(())
}

fn set(gauge: &GaugeVec, labels: &[&str], value: Option<f64>) {
    if let Some(value) = value {
        gauge.with_label_values(labels).set(value);
    }
}

fn heartbeats(page: &Page, state: &HiveState) -> Result<()> {
    let help = "Heartbeats sent, by what the queen answered.";
    let sent = page.counter("rbee_heartbeats_sent_total", help, &["result"])?;
    for (result, count) in state.heartbeats.counts() {
        sent.with_label_values(&[result]).inc_by(count as f64);
    }
    let dropped = state.heartbeats.events_dropped();
    page.count("rbee_events_dropped_total", "Events that no queen was there for.", dropped)
}
