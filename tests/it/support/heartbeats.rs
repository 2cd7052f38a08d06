//! A hive that is only its heartbeats: any program may send them.

use super::{Api, ms};
use serde_json::{Value, json};
use std::{cell::RefCell, rc::Rc};
use tokio::task::JoinHandle;

/// Between two heartbeats, ms.
const INTERVAL_MS: u64 = 500;

/// Posts the same heartbeat again and again until it is dropped.
pub(crate) struct Heartbeats {
    queen: Api,
    body: Rc<RefCell<Value>>,
    sender: JoinHandle<()>,
}

impl Heartbeats {
    /// The queen knows these workers when it returns.
    pub(crate) async fn start(queen: &Api, hive: &str, workers: Value) -> Self {
        Self::with_node(queen, hive, workers, json!({})).await
    }

    /// Likewise, on a machine that has something to say for itself.
    pub(crate) async fn with_node(queen: &Api, hive: &str, workers: Value, node: Value) -> Self {
        let body = json!({
            "hive": {"id": hive, "hostname": "127.0.0.1", "port": 1},
            "timestamp": "2026-01-01T00:00:00Z", "interval_ms": INTERVAL_MS,
            "node": node, "workers": workers,
        });
        let body = Rc::new(RefCell::new(body));
        let sender = actix_web::rt::spawn(again_and_again(queen.clone(), Rc::clone(&body)));
        let beats = Self { queen: queen.clone(), body, sender };
        beats.beat().await;
        beats
    }

    /// The queen knows the change when it returns: `path` is a JSON pointer such as
    /// `/workers/0/state`, into something that is there already.
    pub(crate) async fn set(&self, path: &str, value: Value) {
        {
            let mut body = self.body.borrow_mut();
            *body.pointer_mut(path).unwrap_or_else(|| panic!("there is no {path}")) = value;
        }
        self.beat().await;
    }

    async fn beat(&self) {
        let body = self.body.borrow().clone();
        self.queen.post("/v1/hive-heartbeat", body).await.expect(200);
    }
}

async fn again_and_again(queen: Api, body: Rc<RefCell<Value>>) {
    loop {
        tokio::time::sleep(ms(INTERVAL_MS)).await;
        let newest = body.borrow().clone();
        // The queen may be gone before this is.
        let _ = queen.try_post("/v1/hive-heartbeat", newest).await;
    }
}

impl Drop for Heartbeats {
    fn drop(&mut self) {
        self.sender.abort();
    }
}

/// A ready worker `llm/{instance}` that serves model `m`, with `more` said of it.
pub(crate) fn report(instance: &str, more: Value) -> Value {
    let mut worker = json!({
        "group": "llm", "instance": instance, "pid": 1, "state": "ready", "model": "m",
        "url": "http://127.0.0.1:1", "slots": 4, "requests_running": 0, "requests_waiting": 0,
        "kv_cache_pct": 0.0, "gpu_util_pct": 0.0, "vram_mb": 0, "gpus": [],
    });
    let said = more.as_object().expect("more is an object").clone();
    worker.as_object_mut().expect("a worker is an object").extend(said);
    worker
}

/// A GPU of a node.
pub(crate) fn gpu(uuid: &str, used_mb: u64, total_mb: u64) -> Value {
    json!({
        "id": "0", "uuid": uuid, "name": "test", "util_pct": 0.0, "health": "ok",
        "vram_used_mb": used_mb, "vram_total_mb": total_mb,
    })
}
