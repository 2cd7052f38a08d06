// Hives that exist only as heartbeats: any program may send one. Figures wander as real ones do.

const MODELS = ["llama-3.3-70b-instruct", "qwen3-32b", "mistral-small-3.2", "gemma-3-27b-it", "flux.1-dev", "whisper-large-v3", "bge-m3"];
const H100_MB = 81_559;

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const walk = (value, step, low, high) => clamp(value + (Math.random() - 0.5) * step, low, high);

/** A worker's first report; `i` is its number on its hive. */
function newWorker(hive, i) {
  const busy = i % 3 !== 2;
  return {
    group: ["llm", "llm", "image", "audio"][i % 4], instance: String(8080 + i), pid: 20_000 + i, pids: [20_000 + i, 30_000 + i],
    state: "ready", model: MODELS[i % MODELS.length], idle: !busy, cpu_pct: busy ? 80 + i % 60 : 0.4,
    rss_mb: 4_200 + i * 13, working_set_mb: 3_900 + i * 13, anon_mb: 2_100, uptime_s: 86_000 + i * 100,
    gpu_util_pct: hive.gpus ? (busy ? 60 : 0) : 0, vram_mb: hive.gpus ? 18_000 + (i * 977) % 50_000 : 0,
    total_vram_mb: hive.gpus ? H100_MB : null, requests_running: busy ? 1 + (i % 4) : 0,
    requests_waiting: busy && i % 5 === 0 ? 2 : 0, kv_cache_pct: busy ? 30 + (i % 50) : 0, slots: 8,
    url: `http://10.0.0.${hive.number}:${8080 + i}`, isolation: "cgroup", limits_applied: true, memory_limit_mb: 16_384,
    pressure: { cpu: 0.4, memory: 0, io: 0.1 }, throttled_pct: 0, restarts: 0, io_r_mb_s: 0, io_w_mb_s: 0.1,
  };
}

function wander(worker, hasGpu) {
  worker.uptime_s += 1;
  if (worker.idle || worker.state !== "ready") return;
  const home = 12 + (worker.pid * 37) % 140;
  worker.cpu_pct = clamp(worker.cpu_pct * 0.8 + home * 0.2 + (Math.random() - 0.5) * 30, 3, 400);
  worker.working_set_mb = Math.round(walk(worker.working_set_mb, 260, 1_500, 12_000));
  worker.kv_cache_pct = walk(worker.kv_cache_pct, 6, 5, 97);
  if (hasGpu) worker.gpu_util_pct = clamp(worker.gpu_util_pct * 0.8 + (40 + (worker.pid * 53) % 50) * 0.2 + (Math.random() - 0.5) * 24, 4, 100);
}

/** One GPU; of one that does not answer there is a name and nothing else. */
function newGpu(i, source) {
  const named = { id: String(i), uuid: `GPU-0000000${i}`, name: "NVIDIA H100 80GB HBM3" };
  if (source === "unknown") return named;
  const memory = { vram_used_mb: 38_000 + i * 9_000, vram_total_mb: H100_MB };
  return { ...named, ...memory, util_pct: 55 + i * 9, temp_c: 51 + i * 4, power_w: 340 + i * 40, health: "ok" };
}

export class FakeHive {
  constructor(id, { workers = 4, gpus = 0, number = 5, source = gpus ? "nvml" : "none", hostname, token } = {}) {
    Object.assign(this, { id, gpus, number, token, seq: 0, events: [], boot: crypto.randomUUID() });
    // Of a GPU that does not answer there are no figures.
    if (source === "unknown") this.gpus = 0;
    this.hostname = hostname ?? `10.0.0.${number}`;
    this.node = {
      cpu_pct: 420, cpu_count: 32, load1: 4.1, ram_used_mb: 96_000, ram_total_mb: 257_000, gpu_source: source,
      gpus: Array.from({ length: gpus }, (_, i) => newGpu(i, source)), rbee: { cpu_pct: 1, rss_mb: 14 },
    };
    this.workers = Array.from({ length: workers }, (_, i) => newWorker(this, i));
  }

  step() {
    const { node } = this;
    node.cpu_pct = walk(node.cpu_pct, 60, 100, 2_400);
    node.load1 = walk(node.load1, 0.4, 0.5, 20);
    for (const gpu of node.gpus.filter(({ util_pct }) => util_pct !== undefined)) {
      gpu.util_pct = walk(gpu.util_pct, 14, 5, 100);
      gpu.power_w = walk(gpu.power_w, 30, 90, 690);
    }
    for (const worker of this.workers) wander(worker, this.gpus > 0);
  }

  /** Something that happened to a worker: it goes with the next heartbeat. */
  tell(type, worker, last_exit) {
    const { group, instance, pid, state } = worker;
    const event = { seq: this.events.length + 1, type, at: new Date().toISOString(), group, instance, pid, state, last_exit };
    this.events.push(event);
  }

  async beat(url) {
    this.seq += 1;
    const hive = { id: this.id, hostname: this.hostname, port: 7835, operational_status: "ready", health_status: "healthy", version: "0.1.0" };
    const body = JSON.stringify({
      hive, timestamp: new Date().toISOString(), boot_id: this.boot, seq: this.seq, interval_ms: 1000,
      node: this.node, workers: this.workers, events: this.events,
    });
    const headers = this.token ? { authorization: `Bearer ${this.token}` } : {};
    const answer = await fetch(`${url}/v1/hive-heartbeat`, { method: "POST", headers, body });
    if (!answer.ok) throw new Error(`${answer.status}: ${await answer.text()}`);
    await answer.arrayBuffer();
  }

  /** Beats once now and then each second until the returned function is called. */
  async start(url) {
    await this.beat(url);
    const timer = setInterval(() => {
      this.step();
      this.beat(url).catch(() => {});
    }, 1_000);
    return () => clearInterval(timer);
  }
}

/** Ends a worker of a hive as the kernel does when memory runs out, and for good. */
export function fail(hive, worker, log_tail) {
  const figures = { cpu_pct: 0, working_set_mb: 0, rss_mb: 0, anon_mb: 0, gpu_util_pct: 0, vram_mb: 0, uptime_s: 0 };
  const unknown = { pid: null, pids: [], idle: null, requests_running: null, requests_waiting: null, kv_cache_pct: null };
  const last_exit = exitOf({ oom_killed: 1, signal: "SIGKILL", log_tail });
  Object.assign(worker, figures, unknown, { state: "failed", restarts: 5, last_exit });
  hive.tell("worker_exited", worker, last_exit);
  hive.tell("worker_failed", worker, last_exit);
}

/** An exit record. */
export const exitOf = (record) => ({
  at: new Date().toISOString(), code: null, signal: null, oom_killed: 0, uptime_s: 3_725, peak_rss_mb: 15_900,
  log_tail: [], next: "failed", ...record,
});
