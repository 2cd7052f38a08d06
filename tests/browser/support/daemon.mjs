// The real binary, on free ports of loopback, with a configuration and a state directory of its own.

import { spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { until } from "./wait.mjs";

const BINARY = process.env.RBEE_BINARY;

/** A port that was free a moment ago. */
export async function freePort() {
  const server = createServer();
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** One daemon; `roles` gets the ports and yields the configuration. */
export class Daemon {
  static async start(roles) {
    const daemon = new Daemon();
    daemon.folder = await mkdtemp(join(tmpdir(), "rbee-browser-"));
    daemon.ports = { queen: await freePort(), hive: await freePort(), worker: await freePort() };
    daemon.config = join(daemon.folder, "rbee.toml");
    await writeFile(daemon.config, await roles(daemon.ports, daemon.folder));
    await daemon.run();
    return daemon;
  }

  get url() {
    return `http://127.0.0.1:${this.ports.queen}`;
  }

  /** Starts the process, again too; returns when the queen answers. */
  async run() {
    this.log = "";
    this.process = spawn(BINARY, ["--config", this.config], { stdio: ["ignore", "pipe", "pipe"] });
    for (const stream of [this.process.stdout, this.process.stderr]) {
      stream.on("data", (text) => (this.log = (this.log + text).slice(-20_000)));
    }
    this.ended = new Promise((resolve) => this.process.once("exit", resolve));
    await until(`the queen at ${this.url}`, () => this.answers()).catch((error) => {
      this.process.kill("SIGKILL");
      throw new Error(`${error.message}; ${this.log}`);
    });
  }

  async answers() {
    if (this.process.exitCode !== null) throw new Error(`the daemon ended: ${this.log}`);
    return fetch(`${this.url}/health`).then(({ ok }) => ok, () => false);
  }

  /** Where tokens are wanted it shows the operator's. */
  async json(path) {
    const headers = { authorization: `Bearer ${TOKENS.admin}` };
    return (await fetch(`${this.url}${path}`, { headers })).json();
  }

  /** Ends the process as an operator would, and waits until it has. */
  async halt() {
    this.process.kill("SIGTERM");
    await this.ended;
  }

  async stop() {
    if (this.process.exitCode === null) await this.halt();
    await rm(this.folder, { recursive: true, force: true });
  }
}

export const TOKENS = { admin: "admin-5e8c1b7d9f", hive: "hive-0c4a6e2b8d", inference: "inference-7a3f9d1c5b" };

/** Writes a token's file, as an operator would: for nobody else to read. */
export const writeToken = (folder, role, token) => writeFile(join(folder, `${role}.token`), `${token}\n`, { mode: 0o600 });

/** The same roles, with a token for each who may ask the queen. `read` without one where `publicRead`. */
export const withTokens = (roles, { publicRead = false } = {}) => async (ports, folder) => {
  for (const [role, token] of Object.entries(TOKENS)) await writeToken(folder, role, token);
  const file = (role) => `"${folder}/${role}.token"`;
  const text = roles(ports, folder)
    .replace("[queen]\n", `[queen]\npublic_read = ${publicRead}\n`)
    .replace("[hive]\n", `[hive]\nqueen_token_file = ${file("hive")}\n`);
  return `${text}
[queen.auth]
token_file = ${file("admin")}
hive_token_file = ${file("hive")}
inference_token_file = ${file("inference")}
[[queen.hives]]
id = "here"
url = "http://127.0.0.1:${ports.hive}"
`;
};

/** A queen alone. */
export const queenOnly = ({ queen }) => `
[queen]
bind = "127.0.0.1:${queen}"
degraded_after_ms = 3000
`;

const echo = (port) => `
[[hive.workers]]
group = "echo"
instance = "${port}"
command = "rbee"
args = ["echo-worker", "--port", "${port}", "--model", "echo-${port}"]
slots = 4
ready = { http = "http://127.0.0.1:${port}/health", interval_ms = 50 }
load = { metrics = "http://127.0.0.1:${port}/metrics" }
`;

/** A queen and a hive with an echo worker, and one that says something and waits. */
export const queenAndHive = (ports, folder) => `${queenOnly(ports)}
[hive]
id = "here"
bind = "127.0.0.1:${ports.hive}"
queen_urls = ["http://127.0.0.1:${ports.queen}"]
state_dir = "${folder}/state"
on_exit = "stop"
[hive.cgroup]
mode = "off"
${echo(ports.worker)}
[[hive.workers]]
group = "talker"
instance = "one"
command = "/bin/sh"
args = ["-c", "while :; do echo tick; echo '<script>window.hacked = 1</script><b>bold</b>'; sleep 0.2; done"]
restart = { backoff_ms = 200 }
`;
