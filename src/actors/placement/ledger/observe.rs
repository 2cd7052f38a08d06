//! What a heartbeat changes.

use super::{HiveSeat, Ledger};
use crate::actors::{
    fleet::{HiveRecord, takes_work_for},
    placement::{
        Upstream, WorkerKey,
        machine::Machine,
        news::{Changed, Told, model_names},
        seat::{Facts, Seat, worker_id},
        vram::GpuRoom,
    },
};
use crate::contract::WorkerReport;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};
use tokio::time::Instant;
use uuid::Uuid;

impl Ledger {
    /// What was last heard of that hive.
    pub(in crate::actors::placement) fn record_of(&self, hive: &str) -> Option<Arc<HiveRecord>> {
        self.hives.get(hive).map(|hive| Arc::clone(&hive.record))
    }

    /// A hive told how its workers stand, and this changed since [`record_of`](Self::record_of) it. What
    /// is to be looked at again: positions in its record.
    pub(in crate::actors::placement) fn begin_observing(
        &mut self,
        record: &Arc<HiveRecord>,
        machine: &Machine<'_>,
        changed: Changed,
        now: Instant,
    ) -> Vec<usize> {
        let takes_work_until =
            record.received + takes_work_for(&self.config.limits, record.interval_ms, &record.info);
        let hive = self.hives.entry(Arc::clone(&record.id)).or_insert_with(|| HiveSeat {
            record: Arc::clone(record),
            takes_work_until,
            shut: false,
            workers: vec![],
        });
        let was_shut = std::mem::replace(&mut hive.shut, false);
        hive.takes_work_until = takes_work_until;
        let before = std::mem::replace(&mut hive.record, Arc::clone(record));
        let all = || (0..record.workers.len()).collect();
        match changed {
            Changed::Seats => {
                self.reseat_all(record, machine, &before.workers, now);
                all()
            }
            Changed::Workers(_) if was_shut => all(),
            Changed::Workers(positions) => positions,
        }
    }

    /// Those that are new get a seat, those that are gone lose theirs.
    fn reseat_all(
        &mut self,
        record: &Arc<HiveRecord>,
        machine: &Machine<'_>,
        before: &[WorkerReport],
        now: Instant,
    ) {
        let Some(hive) = self.hives.get_mut(&record.id) else { return };
        let seats = std::mem::take(&mut hive.workers);
        let mut known: HashMap<_, _> = before.iter().map(names).zip(seats).collect();
        let mut workers = Vec::with_capacity(record.workers.len());
        for (position, worker) in record.workers.iter().enumerate() {
            let index = match known.remove(&names(worker)) {
                Some(index) => index,
                None => self.take_in(record, machine, worker),
            };
            if let Some(seat) = self.seat_mut(index) {
                seat.position = position;
            }
            workers.push(index);
        }
        for index in known.into_values() {
            self.vacate(index, now);
        }
        if let Some(hive) = self.hives.get_mut(&record.id) {
            hive.workers = workers;
        }
    }

    fn take_in(
        &mut self,
        record: &HiveRecord,
        machine: &Machine<'_>,
        worker: &WorkerReport,
    ) -> u32 {
        let index = self.vacant.pop().unwrap_or_else(|| {
            self.seats.push(None);
            u32::try_from(self.seats.len() - 1).unwrap_or(u32::MAX)
        });
        self.generation = self.generation.wrapping_add(1);
        let key = WorkerKey { index, generation: self.generation };
        let upstream = upstream_of(record, worker);
        let facts = Facts::of(record, machine, worker);
        let mut seat = Seat::new(key, Arc::clone(&record.id), upstream, facts, record.received);
        if let Some(rooms) = &seat.facts.rooms {
            self.promises.enter(rooms, index);
            seat.free_mb = Some(self.promises.free(rooms));
        }
        self.index.enter(&mut seat, &worker.group, &model_names(worker));
        if let Some(place) = self.seats.get_mut(index as usize) {
            *place = Some(seat);
        }
        index
    }

    /// A worker is gone. It is out of every index before what it held is given to others.
    fn vacate(&mut self, index: u32, now: Instant) {
        let Some(mut seat) = self.seats.get_mut(index as usize).and_then(Option::take) else {
            return;
        };
        self.index.leave(&mut seat);
        let rooms = seat.facts.rooms.take().unwrap_or_default();
        self.promises.leave(&rooms, index);
        if let Some(until) = seat.exclusion.until() {
            self.exclusions.remove(&(until, index));
        }
        for waiter in seat.awaiting_quiet.drain(..) {
            let _ = waiter.send(());
        }
        self.vacant.push(index);
        if self.void(seat.reservations) {
            self.refill_neighbours(&rooms, now);
        }
    }

    /// Ends these reservations. Whether there were any.
    fn void(&mut self, reservations: BTreeMap<u64, Uuid>) -> bool {
        let any = !reservations.is_empty();
        for id in reservations.into_values() {
            if let Some(gone) = self.reservations.remove(id) {
                self.promises.withdraw(&gone.shares);
            }
        }
        any
    }

    /// A hive is forgotten, with its workers.
    pub(in crate::actors::placement) fn forget(&mut self, id: &str, now: Instant) {
        let Some(hive) = self.hives.remove(id) else { return };
        for index in hive.workers {
            self.vacate(index, now);
        }
    }

    /// Looks again at these of the hive's workers.
    pub(in crate::actors::placement) fn observe_workers(
        &mut self,
        record: &HiveRecord,
        told: Vec<Told<'_>>,
        now: Instant,
    ) {
        for told in told {
            let index = self.hives.get(&record.id).and_then(|hive| hive.workers.get(told.position));
            if let Some(index) = index.copied() {
                self.observe_worker(index, record, told, now);
            }
        }
    }

    fn observe_worker(&mut self, index: u32, record: &HiveRecord, told: Told<'_>, now: Instant) {
        let Some(seat) = self.seat_mut(index) else { return };
        let ended = told.facts.ends_the_run_of(&seat.facts);
        let before = std::mem::replace(&mut seat.facts, told.facts);
        self.rename(index, record, told.worker, &told.models);
        if ended {
            self.end_run(index, now);
        }
        let Some(seat) = self.seats.get_mut(index as usize).and_then(Option::as_mut) else {
            return;
        };
        seat.tell_apart(now);
        self.index.retell(index, (before.state, before.idle), seat);
        self.refill(index, &before, now);
        self.restand(index, now);
    }

    /// Its model or its URL changed.
    fn rename(
        &mut self,
        index: u32,
        record: &HiveRecord,
        worker: &WorkerReport,
        models: &BTreeSet<&str>,
    ) {
        let Some(seat) = self.seats.get_mut(index as usize).and_then(Option::as_mut) else {
            return;
        };
        if seat.upstream.url != url_of(worker) {
            // Whoever refused was at the old address.
            if let Some(until) = seat.exclusion.until() {
                self.exclusions.remove(&(until, index));
            }
            seat.exclusion.answered();
            seat.upstream = upstream_of(record, worker);
            seat.has_url = worker.url.is_some();
        }
        if !seat.models.iter().map(|name| &**name).eq(models.iter().copied()) {
            self.index.rename(seat, models);
        }
    }

    /// What memory is free, once what it took lately has redeemed what it was promised.
    fn refill(&mut self, index: u32, before: &Facts, now: Instant) {
        let redeemed = self.redeem(index, before);
        let Some(seat) = self.seat(index) else { return };
        let (old, new) = (before.rooms.as_deref(), seat.facts.rooms.as_deref());
        let (old, new) = (old.unwrap_or_default(), new.unwrap_or_default());
        if old.iter().map(|room| &room.gpu).ne(new.iter().map(|room| &room.gpu)) {
            let rooms = new.to_vec();
            self.promises.leave(old, index);
            self.promises.enter(&rooms, index);
        }
        self.refill_one(index);
        if redeemed {
            self.refill_neighbours_of(index, now);
        }
    }

    /// Whether anything that the worker was promised is in use since the last time.
    fn redeem(&mut self, index: u32, before: &Facts) -> bool {
        let Some(seat) = self.seat(index).filter(|seat| !seat.reservations.is_empty()) else {
            return false;
        };
        let grown = |room: &GpuRoom| {
            let old = before.rooms.iter().flatten().find(|old| old.gpu == room.gpu);
            old.map_or(0, |old| room.own_mb.saturating_sub(old.own_mb))
        };
        let rooms = seat.facts.rooms.iter().flatten();
        let rooms: Vec<_> = rooms.map(|room| (Arc::clone(&room.gpu), grown(room))).collect();
        let ids: Vec<_> = seat.reservations.values().copied().collect();
        let mut redeemed = false;
        for (gpu, mut grown) in rooms {
            for id in &ids {
                if grown == 0 {
                    break;
                }
                let Some(shares) = self.reservations.shares_mut(*id) else { continue };
                let left = self.promises.redeem(shares, &gpu, grown);
                redeemed |= left < grown;
                grown = left;
            }
        }
        redeemed
    }

    fn refill_neighbours_of(&mut self, index: u32, now: Instant) {
        let rooms = self.seat(index).and_then(|seat| seat.facts.rooms.clone());
        self.refill_neighbours(&rooms.unwrap_or_default(), now);
    }

    /// All workers on these GPUs have other free memory now.
    pub(super) fn refill_neighbours(&mut self, rooms: &[GpuRoom], now: Instant) {
        for index in self.promises.neighbours(rooms) {
            if self.refill_one(index) {
                self.restand(index, now);
            }
        }
    }

    fn refill_one(&mut self, index: u32) -> bool {
        let Some(seat) = self.seats.get_mut(index as usize).and_then(Option::as_mut) else {
            return false;
        };
        let free = seat.facts.rooms.as_deref().map(|rooms| self.promises.free(rooms));
        let changed = seat.free_mb != free;
        self.index.refill(seat, free);
        changed
    }

    /// All that was booked on the worker's run is void.
    fn end_run(&mut self, index: u32, now: Instant) {
        let Some(seat) = self.seat_mut(index) else { return };
        seat.begin_run();
        let reservations = std::mem::take(&mut seat.reservations);
        if self.void(reservations) {
            self.refill_neighbours_of(index, now);
        }
    }
}

fn names(worker: &WorkerReport) -> (&str, &str) {
    (&worker.group, &worker.instance)
}

/// Where it serves.
fn url_of(worker: &WorkerReport) -> &str {
    worker.url.as_deref().unwrap_or_default().trim_end_matches('/')
}

fn upstream_of(record: &HiveRecord, worker: &WorkerReport) -> Arc<Upstream> {
    let (worker_id, url) = (worker_id(record, worker), url_of(worker).to_owned());
    Arc::new(Upstream { worker_id, url })
}
