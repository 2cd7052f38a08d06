//! Hives and workers as the stream tells of them: events in, the newest state out.

use crate::client::model::{Exit, Hive, Node, Worker};
use serde::Deserialize;
use std::collections::BTreeMap;

/// Of the stream's events, those that change what is shown.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum StreamEvent {
    /// Everything that is known.
    Snapshot {
        hives: Vec<Hive>,
        workers: Vec<Worker>,
    },
    /// One hive's newest figures.
    HiveTelemetry {
        hive_id: String,
        workers: Vec<Worker>,
        #[serde(default)]
        node: Node,
    },
    /// The queen's own counts, which are not shown: the rows are counted.
    Queen {},
    WorkerStarted(Lifecycle),
    WorkerReady(Lifecycle),
    WorkerExited(Lifecycle),
    WorkerFailed(Lifecycle),
    WorkerStopped(Lifecycle),
    HiveOnline {
        hive_id: String,
    },
    HiveDegraded {
        hive_id: String,
    },
    HiveDown {
        hive_id: String,
    },
    HiveEvicted {
        hive_id: String,
    },
    /// Events were lost; the next heartbeats make up for them.
    Lagged {},
}

/// What happened to a worker.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct Lifecycle {
    hive_id: String,
    group: String,
    instance: String,
    pid: Option<u32>,
    state: Option<String>,
    last_exit: Option<Exit>,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Fleet {
    hives: BTreeMap<String, Member>,
}

#[derive(Clone, Debug, Default)]
struct Member {
    hive: Hive,
    workers: Vec<Worker>,
}

impl Fleet {
    pub(super) fn hives(&self) -> impl Iterator<Item = &Hive> {
        self.hives.values().map(|member| &member.hive)
    }

    pub(super) fn hive(&self, id: &str) -> Option<&Hive> {
        self.hives.get(id).map(|member| &member.hive)
    }

    pub(super) fn workers(&self) -> impl Iterator<Item = &Worker> {
        self.hives.values().flat_map(|member| &member.workers)
    }

    pub(super) fn apply(&mut self, event: StreamEvent) {
        match event {
            StreamEvent::Snapshot { hives, workers } => self.replace(hives, workers),
            StreamEvent::HiveTelemetry { hive_id, workers, node } => {
                let member = self.member(&hive_id);
                member.hive.node = node;
                member.workers = workers;
                for worker in &mut member.workers {
                    worker.hive_id = Some(hive_id.clone());
                }
                self.fresh(&hive_id, "healthy");
            }
            StreamEvent::WorkerStarted(what)
            | StreamEvent::WorkerReady(what)
            | StreamEvent::WorkerExited(what)
            | StreamEvent::WorkerFailed(what)
            | StreamEvent::WorkerStopped(what) => self.happened(what),
            StreamEvent::HiveOnline { hive_id } => self.fresh(&hive_id, "healthy"),
            StreamEvent::HiveDegraded { hive_id } => self.fresh(&hive_id, "degraded"),
            StreamEvent::HiveDown { hive_id } => self.fresh(&hive_id, "down"),
            StreamEvent::HiveEvicted { hive_id } => {
                self.hives.remove(&hive_id);
            }
            StreamEvent::Queen {} | StreamEvent::Lagged {} => {}
        }
    }

    fn replace(&mut self, hives: Vec<Hive>, workers: Vec<Worker>) {
        self.hives.clear();
        for hive in hives {
            let id = hive.id.clone();
            self.member(&id).hive = hive;
        }
        for worker in workers {
            let hive = worker.hive_id.clone().unwrap_or_default();
            self.member(&hive).workers.push(worker);
        }
    }

    fn member(&mut self, id: &str) -> &mut Member {
        let member = self.hives.entry(id.to_owned()).or_default();
        if member.hive.id.is_empty() {
            id.clone_into(&mut member.hive.id);
        }
        member
    }

    fn fresh(&mut self, id: &str, freshness: &str) {
        let member = self.member(id);
        member.hive.freshness = Some(freshness.to_owned());
        for worker in &mut member.workers {
            worker.freshness = Some(freshness.to_owned());
        }
    }

    /// At once, without waiting for the figures of the next heartbeat.
    fn happened(&mut self, what: Lifecycle) {
        let workers = &mut self.member(&what.hive_id).workers;
        let same = |w: &Worker| w.group == what.group && w.instance == what.instance;
        let index = workers.iter().position(same).unwrap_or_else(|| {
            workers.push(Worker {
                hive_id: Some(what.hive_id.clone()),
                group: what.group.clone(),
                instance: what.instance.clone(),
                ..Worker::default()
            });
            workers.len() - 1
        });
        let worker = &mut workers[index];
        worker.state = what.state.or(worker.state.take());
        worker.pid = what.pid.or(worker.pid);
        worker.last_exit = what.last_exit.or(worker.last_exit.take());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects")]
    use super::*;
    use serde_json::{Value, json};

    fn told(fleet: &mut Fleet, event: Value) {
        fleet.apply(serde_json::from_value(event).unwrap());
    }

    fn shown(fleet: &Fleet) -> Vec<String> {
        let show = |w: &Worker| {
            let text = |field: &Option<String>| field.clone().unwrap_or_default();
            format!("{} {} {}", w.name(), text(&w.state), text(&w.freshness))
        };
        fleet.workers().map(show).collect()
    }

    #[test]
    fn the_newest_word_on_each_hive_and_worker_holds() {
        let mut fleet = Fleet::default();
        let worker = json!({"hive_id": "a", "group": "g", "instance": "1", "state": "ready", "freshness": "healthy"});
        told(&mut fleet, json!({"type": "snapshot", "hives": [{"id": "a"}], "workers": [worker]}));
        assert_eq!(shown(&fleet), ["a/g/1 ready healthy"]);
        told(
            &mut fleet,
            json!({"type": "worker_exited", "hive_id": "a", "group": "g", "instance": "1", "state": "backoff", "last_exit": {"code": 1}}),
        );
        assert_eq!(shown(&fleet), ["a/g/1 backoff healthy"]);
        told(
            &mut fleet,
            json!({"type": "worker_started", "hive_id": "a", "group": "g", "instance": "2", "state": "starting", "pid": 3}),
        );
        assert_eq!(shown(&fleet), ["a/g/1 backoff healthy", "a/g/2 starting "]);
        told(
            &mut fleet,
            json!({"type": "hive_telemetry", "hive_id": "a", "workers": [{"group": "g", "instance": "2", "state": "ready"}]}),
        );
        assert_eq!(shown(&fleet), ["a/g/2 ready healthy"]);
        told(&mut fleet, json!({"type": "hive_down", "hive_id": "a"}));
        assert_eq!(shown(&fleet), ["a/g/2 ready down"]);
        told(&mut fleet, json!({"type": "hive_evicted", "hive_id": "a"}));
        assert!(shown(&fleet).is_empty() && fleet.hives().count() == 0);
    }

    #[test]
    fn what_a_newer_queen_says_beyond_this_is_no_event() {
        let new: Result<StreamEvent, _> = serde_json::from_value(json!({"type": "moon_phase"}));
        assert!(new.is_err());
        let more = json!({"type": "queen", "workers_online": 3, "moon": 1});
        assert_eq!(serde_json::from_value::<StreamEvent>(more).unwrap(), StreamEvent::Queen {});
    }
}
