//! Workers by what is asked for, so that no question has to look at all of them.

use super::seat::{Rank, Seat, Standing};
use crate::{actors::fleet::WorkerFilter, contract::WorkerState};
use std::{
    collections::{BTreeSet, HashMap},
    hash::Hash,
    sync::Arc,
};

/// The workers of one name.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    /// All of them.
    pub members: BTreeSet<u32>,
    /// Those that take a request now, the best first.
    pub open: BTreeSet<Rank>,
    /// Those that would with a free slot.
    pub full: BTreeSet<u32>,
}

impl Bucket {
    fn take_out(&mut self, standing: Standing, index: u32) {
        match standing {
            Standing::Open(rank) => self.open.remove(&rank),
            Standing::Full => self.full.remove(&index),
            Standing::Shut => false,
        };
    }

    fn put_in(&mut self, standing: Standing, index: u32) {
        match standing {
            Standing::Open(rank) => self.open.insert(rank),
            Standing::Full => self.full.insert(index),
            Standing::Shut => false,
        };
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Index {
    all: Bucket,
    models: HashMap<Arc<str>, Bucket>,
    groups: HashMap<Arc<str>, Bucket>,
    states: HashMap<WorkerState, BTreeSet<u32>>,
    idle: HashMap<bool, BTreeSet<u32>>,
    free: BTreeSet<(u64, u32)>,
}

impl Index {
    /// A worker's standing changes.
    pub(super) fn restand(&mut self, seat: &mut Seat, standing: Standing) {
        if seat.standing == standing {
            return;
        }
        let (before, index) = (std::mem::replace(&mut seat.standing, standing), seat.key.index);
        self.each_bucket(seat, |bucket| {
            bucket.take_out(before, index);
            bucket.put_in(standing, index);
        });
    }

    fn each_bucket(&mut self, seat: &Seat, mut change: impl FnMut(&mut Bucket)) {
        change(&mut self.all);
        if let Some(bucket) = self.groups.get_mut(&seat.group) {
            change(bucket);
        }
        for model in seat.models.iter() {
            if let Some(bucket) = self.models.get_mut(model) {
                change(bucket);
            }
        }
    }

    /// Takes a worker in under these names, shut.
    pub(super) fn enter(&mut self, seat: &mut Seat, group: &str, models: &BTreeSet<&str>) {
        seat.group = name_of(&mut self.groups, group);
        seat.models = models.iter().map(|model| name_of(&mut self.models, model)).collect();
        seat.standing = Standing::Shut;
        let index = seat.key.index;
        self.each_bucket(seat, |bucket| {
            bucket.members.insert(index);
        });
        self.states.entry(seat.facts.state).or_default().insert(index);
        if let Some(idle) = seat.facts.idle {
            self.idle.entry(idle).or_default().insert(index);
        }
        if let Some(free) = seat.free_mb {
            self.free.insert((free, index));
        }
    }

    /// Takes it out again.
    pub(super) fn leave(&mut self, seat: &mut Seat) {
        self.restand(seat, Standing::Shut);
        let index = seat.key.index;
        self.each_bucket(seat, |bucket| {
            bucket.members.remove(&index);
        });
        drop_if_empty(&mut self.groups, &seat.group);
        for model in seat.models.iter() {
            drop_if_empty(&mut self.models, model);
        }
        discard(&mut self.states, seat.facts.state, index);
        if let Some(idle) = seat.facts.idle {
            discard(&mut self.idle, idle, index);
        }
        if let Some(free) = seat.free_mb {
            self.free.remove(&(free, index));
        }
    }

    /// It answers to other models now.
    pub(super) fn rename(&mut self, seat: &mut Seat, models: &BTreeSet<&str>) {
        let (standing, index) = (seat.standing, seat.key.index);
        self.restand(seat, Standing::Shut);
        for model in seat.models.iter() {
            if let Some(bucket) = self.models.get_mut(model) {
                bucket.members.remove(&index);
            }
            drop_if_empty(&mut self.models, model);
        }
        seat.models = models.iter().map(|model| name_of(&mut self.models, model)).collect();
        for model in seat.models.iter() {
            if let Some(bucket) = self.models.get_mut(model) {
                bucket.members.insert(index);
            }
        }
        self.restand(seat, standing);
    }

    /// Its state and idleness change.
    pub(super) fn retell(&mut self, index: u32, before: (WorkerState, Option<bool>), seat: &Seat) {
        if before.0 != seat.facts.state {
            discard(&mut self.states, before.0, index);
            self.states.entry(seat.facts.state).or_default().insert(index);
        }
        if before.1 != seat.facts.idle {
            if let Some(idle) = before.1 {
                discard(&mut self.idle, idle, index);
            }
            if let Some(idle) = seat.facts.idle {
                self.idle.entry(idle).or_default().insert(index);
            }
        }
    }

    /// Its free memory changes.
    pub(super) fn refill(&mut self, seat: &mut Seat, free_mb: Option<u64>) {
        if seat.free_mb == free_mb {
            return;
        }
        if let Some(before) = std::mem::replace(&mut seat.free_mb, free_mb) {
            self.free.remove(&(before, seat.key.index));
        }
        if let Some(free) = free_mb {
            self.free.insert((free, seat.key.index));
        }
    }

    /// The smallest bucket that holds all workers of that model, or group, or both; `None`: there are none.
    pub(super) fn bucket(&self, model: Option<&str>, group: Option<&str>) -> Option<&Bucket> {
        match (model, group) {
            (None, None) => Some(&self.all),
            (Some(model), None) => self.models.get(model),
            (None, Some(group)) => self.groups.get(group),
            (Some(model), Some(group)) => {
                let (of_model, of_group) = (self.models.get(model)?, self.groups.get(group)?);
                let fewer = of_model.members.len() <= of_group.members.len();
                Some(if fewer { of_model } else { of_group })
            }
        }
    }

    /// All names of models, in any order.
    pub(super) fn models(&self) -> impl Iterator<Item = &Arc<str>> {
        self.models.keys()
    }

    /// Workers among which all that a filter means are: those of its narrowest condition.
    pub(super) fn candidates(&self, filter: &WorkerFilter) -> Vec<u32> {
        let none = BTreeSet::new();
        let of_name = self.bucket(filter.model.as_deref(), filter.group.as_deref());
        let mut sets = vec![of_name.map_or(&none, |bucket| &bucket.members)];
        sets.extend(filter.state.map(|state| self.states.get(&state).unwrap_or(&none)));
        sets.extend(filter.idle.map(|idle| self.idle.get(&idle).unwrap_or(&none)));
        let narrowest = sets.into_iter().min_by_key(|set| set.len()).unwrap_or(&none);
        match filter.min_free_vram_mb {
            // Without another condition, only those with enough memory are looked at.
            Some(least) if narrowest.len() == self.all.members.len() => {
                self.free.range((least, 0)..).map(|(_, index)| *index).collect()
            }
            _ => narrowest.iter().copied().collect(),
        }
    }

    /// All workers.
    pub(super) fn everyone(&self) -> &Bucket {
        &self.all
    }
}

fn name_of(names: &mut HashMap<Arc<str>, Bucket>, name: &str) -> Arc<str> {
    if let Some((known, _)) = names.get_key_value(name) {
        return Arc::clone(known);
    }
    let name: Arc<str> = name.into();
    names.insert(Arc::clone(&name), Bucket::default());
    name
}

fn drop_if_empty(names: &mut HashMap<Arc<str>, Bucket>, name: &str) {
    if names.get(name).is_some_and(|bucket| bucket.members.is_empty()) {
        names.remove(name);
    }
}

fn discard<K: Eq + Hash>(sets: &mut HashMap<K, BTreeSet<u32>>, key: K, index: u32) {
    if let Some(set) = sets.get_mut(&key) {
        set.remove(&index);
        if set.is_empty() {
            sets.remove(&key);
        }
    }
}
