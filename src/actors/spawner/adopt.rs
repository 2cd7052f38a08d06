//! What a hive does with what an earlier one left, and with a configuration that changed.

use super::{
    SpawnerActor,
    lifecycle::{Event, Goal, Lifecycle, Phase},
    record::{Origin, RunRecord, WorkerRecord},
    worker::{Run, Worker},
};
use crate::{
    actors::hive_board::WorkerName,
    contract::{Isolation, RestartPolicy, RestartWhen, WorkerSpec, WorkerState},
    platform::{
        cgroup::RunCgroup,
        process::{Identity, ProcessWatch, SharedTracker, TableCache, boot_id, marker_of},
    },
};
use actix::prelude::*;
use std::{collections::HashMap, io, rc::Rc, sync::Arc};

impl SpawnerActor {
    /// Once, at the start: what runs is taken over, what should run is started.
    pub(super) fn adopt_what_runs(&mut self, ctx: &mut Context<Self>) {
        let mut damaged = Vec::new();
        for (group, instance, text) in std::mem::take(&mut self.config.records) {
            let name = WorkerName::new(&group, &instance);
            let record = text.and_then(|text| {
                serde_json::from_str::<WorkerRecord>(&text).map_err(io::Error::from)
            });
            match record.and_then(|record| named(&name, record)) {
                Ok(record) => self.restore(&name, record, ctx),
                Err(error) => {
                    tracing::warn!(worker = %name, %error, "its state is damaged: its spec is lost");
                    damaged.push(name);
                }
            }
        }
        self.observe_the_rest(ctx);
        for name in damaged {
            self.observe_marked(name, ctx);
        }
        let wanted = std::mem::take(&mut self.config.wanted);
        self.reconcile(wanted, ctx);
    }

    fn restore(&mut self, name: &WorkerName, record: WorkerRecord, ctx: &mut Context<Self>) {
        let spec = Arc::new(record.spec);
        let phase = match (record.resting, &record.run) {
            (Some(WorkerState::Failed), _) => Phase::Failed,
            (Some(_), _) => Phase::Stopped,
            (None, Some(run)) => phase_of(run),
            (None, None) => Phase::Spawning(None),
        };
        let life = Lifecycle::in_phase(phase, spec.restart.clone());
        let mut worker = Worker::with_life(Some(spec), record.origin, life);
        worker.restarts = record.restarts;
        worker.last_exit = record.last_exit.map(Arc::new);
        self.workers.insert(name.clone(), worker);
        match record.run.filter(|_| phase.runs()) {
            Some(run) => self.take_over(name, run, ctx),
            None if phase == Phase::Spawning(None) => self.launch(name, ctx),
            None => self.publish(name),
        }
    }

    /// Takes over a run, if it is there; else cleans up after it and starts another.
    fn take_over(&mut self, name: &WorkerName, record: RunRecord, ctx: &mut Context<Self>) {
        let same_boot = record.boot_id == boot_id();
        let cgroup = self.cgroup_of(name).filter(|_| record.isolation == Isolation::Cgroup);
        let main =
            record.main.or_else(|| find_marked(&record.run_id, &self.table)).filter(|_| same_boot);
        let running = main.filter(Identity::is_running);
        let watch =
            running.and_then(|main| ProcessWatch::new(main, main.open().ok()?).ok()).map(Rc::new);
        let Some(main) = main else { return self.replace(name, record.run_id, cgroup, ctx) };
        let runs = watch.is_some();
        tracing::info!(worker = %name, pid = main.pid, runs, "found again");
        let run = Run {
            main,
            watch,
            tracker: SharedTracker::new(Some(main), record.run_id.as_str()),
            cgroup,
            limits_applied: record.limits_applied,
            run_id: record.run_id,
            adopted: true,
        };
        let number = self.next_run();
        // One that died while no hive looked ends here: how is not known, but it is a death like any other.
        self.take_run(name, number, run, ctx);
        if runs {
            self.publish(name);
            self.monitor(name, ctx);
            self.resume_probes(name, ctx);
        }
    }

    /// The machine was booted, or its process was never made: what may be left of it goes first.
    fn replace(
        &mut self,
        name: &WorkerName,
        run_id: String,
        cgroup: Option<RunCgroup>,
        ctx: &mut Context<Self>,
    ) {
        tracing::info!(worker = %name, "is gone since the last hive: starting it again");
        let Some(worker) = self.workers.get_mut(name) else { return };
        let policy = worker.spec.as_ref().map(|spec| spec.restart.clone()).unwrap_or_default();
        worker.life = Lifecycle::new(policy);
        let (tree, worker_name) = (self.config.tree.clone(), name.clone());
        let job_name = name.clone();
        let tracker = SharedTracker::new(None, run_id);
        let processes = Arc::clone(&self.table);
        let clean = move || {
            super::run::clear(&tracker, cgroup.as_ref(), tree.as_ref(), &processes, &job_name)
        };
        self.off_thread(ctx, clean, move |_, spawner, ctx| spawner.launch(&worker_name, ctx));
    }

    fn resume_probes(&mut self, name: &WorkerName, ctx: &mut Context<Self>) {
        let Some(worker) = self.workers.get(name) else { return };
        match worker.life.phase() {
            Phase::Starting if worker.spec.as_ref().is_some_and(|spec| spec.ready.is_some()) => {
                self.await_readiness(name, ctx);
            }
            Phase::Starting => self.raise(name, Event::Answered, ctx),
            Phase::Ready | Phase::Draining => self.watch_liveness(name, ctx),
            _ => {}
        }
    }

    fn cgroup_of(&self, name: &WorkerName) -> Option<RunCgroup> {
        let tree = self.config.tree.as_ref()?;
        Some(tree.run(&name.group, &name.instance)).filter(RunCgroup::exists)
    }

    /// Cgroups in our slice that nobody wrote down: empty ones are removed, others are watched.
    fn observe_the_rest(&mut self, ctx: &mut Context<Self>) {
        let Some(tree) = self.config.tree.clone() else { return };
        for (group, instance) in tree.list() {
            let name = WorkerName::new(&group, &instance);
            if self.workers.contains_key(&name) {
                continue;
            }
            let cgroup = tree.run(&group, &instance);
            match oldest(&cgroup.pids()) {
                Some(main) => self.observe(name, main, Some(cgroup), ctx),
                None => {
                    let _ = cgroup.remove();
                    tree.remove_group_if_empty(&group);
                }
            }
        }
    }

    /// Without a cgroup, and without a record that can be read, a worker is known by its marker.
    fn observe_marked(&mut self, name: WorkerName, ctx: &mut Context<Self>) {
        if self.workers.contains_key(&name) {
            return;
        }
        if let Some(main) = find_marked(&format!("{name}:"), &self.table) {
            self.observe(name, main, None, ctx);
        }
    }

    fn observe(
        &mut self,
        name: WorkerName,
        main: Identity,
        cgroup: Option<RunCgroup>,
        ctx: &mut Context<Self>,
    ) {
        let watch = main.open().and_then(|fd| ProcessWatch::new(main, fd));
        let Ok(watch) = watch else { return };
        tracing::warn!(worker = %name, pid = main.pid, "found without a spec: watched, not restarted");
        let policy = RestartPolicy { policy: RestartWhen::Never, ..RestartPolicy::default() };
        let life = Lifecycle::in_phase(Phase::Ready, policy);
        self.workers.insert(name.clone(), Worker::with_life(None, Origin::Api, life));
        let number = self.next_run();
        let run = Run {
            main,
            watch: Some(Rc::new(watch)),
            tracker: SharedTracker::new(Some(main), format!("{name}:")),
            cgroup,
            limits_applied: None,
            run_id: format!("{name}:"),
            adopted: true,
        };
        self.take_run(&name, number, run, ctx);
        self.publish(&name);
        self.monitor(&name, ctx);
    }

    /// Makes what runs what the configuration asks for: new workers start, removed ones stop. Changed
    /// ones are shown as such until they are restarted. Those that the API made are not touched.
    pub(super) fn reconcile(&mut self, wanted: Vec<WorkerSpec>, ctx: &mut Context<Self>) {
        let wanted: HashMap<_, _> = wanted
            .into_iter()
            .map(|spec| (WorkerName::new(&spec.group, &spec.instance), spec))
            .collect();
        let removed = |(name, worker): (&WorkerName, &Worker)| {
            let ours = worker.origin == Origin::File && worker.spec.is_some();
            (ours && !wanted.contains_key(name)).then(|| name.clone())
        };
        for name in self.workers.iter().filter_map(removed).collect::<Vec<_>>() {
            tracing::info!(worker = %name, "is not in the configuration any more: stopped");
            self.raise(&name, Event::Asked(Goal::Remove), ctx);
        }
        for (name, spec) in wanted {
            match self.workers.get_mut(&name) {
                None => {
                    self.admit(spec, Origin::File, ctx);
                }
                Some(worker) => {
                    worker.origin = Origin::File;
                    let same = worker.spec.as_deref() == Some(&spec);
                    worker.next_spec = (!same).then(|| Arc::new(spec));
                    self.publish(&name);
                }
            }
        }
    }
}

fn phase_of(run: &RunRecord) -> Phase {
    match (run.ready, run.draining) {
        (_, true) => Phase::Draining,
        (true, false) => Phase::Ready,
        // It goes through its start once more: its readiness is asked for again.
        (false, false) => Phase::Starting,
    }
}

/// A record under another worker's name is not believed.
fn named(name: &WorkerName, record: WorkerRecord) -> io::Result<WorkerRecord> {
    if *name.group == *record.spec.group && *name.instance == *record.spec.instance {
        return Ok(record);
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "it is another worker's"))
}

/// The hive was killed between making a process and writing down its PID: the marker tells.
fn find_marked(run_id: &str, processes: &TableCache) -> Option<Identity> {
    let table = processes.get().ok()?;
    let leaders = table.iter().filter(|e| e.session == e.identity.pid && !e.is_zombie());
    let marked = |pid| marker_of(processes.proc_root(), pid);
    let mut found =
        leaders.filter(|e| marked(e.identity.pid).is_some_and(|id| id.starts_with(run_id)));
    found.next().map(|entry| entry.identity)
}

fn oldest(pids: &[u32]) -> Option<Identity> {
    let known = pids.iter().filter_map(|pid| Identity::of(*pid).ok());
    known.min_by_key(|identity| (identity.start_ticks, identity.pid))
}
