//! What a worker used lately, for charts: one ring of compact points per worker.
//!
//! Invariant: all rings together never hold more than the byte budget. Each may have an equal part of
//! it, and loses its oldest points first. Rings come and go with their workers.

use crate::contract::{HistoryPoint, WorkerReport};
use std::{collections::VecDeque, time::Duration};
use tokio::time::Instant;

/// Times are kept as milliseconds in 32 bits, so a history is never longer than this (a week).
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);
/// A full ring grows by at least this many points at once.
const GROWTH: usize = 8;

/// One sample. 20 bytes, because there may be millions.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Point {
    at_ms: u32,
    cpu_pct: f32,
    working_set_mb: u32,
    gpu_util_pct: f32,
    vram_mb: u32,
}

const POINT_BYTES: usize = size_of::<Point>();

/// Turns instants into the compact times of points, which wrap after 49 days.
#[derive(Clone, Copy, Debug)]
pub(super) struct HistoryClock {
    start: Instant,
    window_ms: u32,
}

impl HistoryClock {
    /// Points older than `window` are not kept.
    pub(super) fn new(start: Instant, window: Duration) -> Self {
        let window_ms = u32::try_from(window.min(LONGEST).as_millis()).unwrap_or(u32::MAX);
        Self { start, window_ms }
    }

    #[allow(clippy::cast_possible_truncation, reason = "compact times wrap on purpose")]
    fn stamp(&self, now: Instant) -> u32 {
        now.saturating_duration_since(self.start).as_millis() as u32
    }

    /// How far back points are kept.
    pub(super) fn window(&self) -> Duration {
        Duration::from_millis(self.window_ms.into())
    }
}

/// The points of one worker, oldest first.
#[derive(Debug, Default)]
pub(super) struct Ring {
    points: VecDeque<Point>,
}

impl Ring {
    /// Bytes taken from the budget.
    pub(super) fn bytes(&self) -> usize {
        self.points.capacity() * POINT_BYTES
    }

    /// Adds what the worker reports, dropping what is too old or above `limit` points.
    pub(super) fn push(
        &mut self,
        clock: &HistoryClock,
        now: Instant,
        worker: &WorkerReport,
        limit: usize,
    ) {
        let at_ms = clock.stamp(now);
        while self.points.front().is_some_and(|p| at_ms.wrapping_sub(p.at_ms) > clock.window_ms) {
            self.points.pop_front();
        }
        self.shrink(limit);
        if limit == 0 {
            return;
        }
        if self.points.len() == limit {
            self.points.pop_front();
        } else if self.points.len() == self.points.capacity() {
            let room = (self.points.len() / 2).max(GROWTH).min(limit - self.points.len());
            self.points.reserve_exact(room);
        }
        self.points.push_back(Point {
            at_ms,
            cpu_pct: to_f32(worker.cpu_pct),
            working_set_mb: to_u32(worker.working_set_mb),
            gpu_util_pct: to_f32(worker.gpu_util_pct),
            vram_mb: to_u32(worker.vram_mb),
        });
    }

    /// Gives back what is above `limit` points.
    pub(super) fn shrink(&mut self, limit: usize) {
        if self.points.capacity() > limit {
            let surplus = self.points.len().saturating_sub(limit);
            self.points.drain(..surplus);
            self.points.shrink_to(limit);
        }
    }

    /// The points of the last `within`, oldest first, every `stride`th counted from the newest.
    pub(super) fn read(
        &self,
        clock: &HistoryClock,
        now: Instant,
        within: Duration,
        stride: usize,
    ) -> Vec<HistoryPoint> {
        let now_ms = clock.stamp(now);
        let within_ms = u32::try_from(within.as_millis()).unwrap_or(u32::MAX).min(clock.window_ms);
        let mut points: Vec<_> = (self.points.iter().rev())
            .take_while(|p| now_ms.wrapping_sub(p.at_ms) <= within_ms)
            .step_by(stride.max(1))
            .map(|p| (p.age(now_ms), p.cpu_pct, p.working_set_mb, p.gpu_util_pct, p.vram_mb))
            .collect();
        points.reverse();
        points
    }

    /// How many points there are.
    pub(super) fn len(&self) -> usize {
        self.points.len()
    }
}

impl Point {
    fn age(&self, now_ms: u32) -> u64 {
        now_ms.wrapping_sub(self.at_ms).into()
    }
}

/// Bytes for all rings.
#[derive(Debug)]
pub(super) struct HistoryBudget {
    limit: usize,
    used: usize,
}

impl HistoryBudget {
    /// `limit` in bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, used: 0 }
    }

    /// How many points each of `workers` rings may hold.
    pub(super) fn points_each(&self, workers: usize) -> usize {
        self.limit / workers.max(1) / POINT_BYTES
    }

    /// Books that rings which held `before` bytes now hold `after`.
    pub(super) fn rebook(&mut self, before: usize, after: usize) {
        self.used = (self.used + after).saturating_sub(before);
    }

    /// Whether rings hold more than they may, since there are more of them than there were.
    pub(super) fn is_exceeded(&self) -> bool {
        self.used > self.limit
    }
}

/// Rings for `new`, taken from those of `old` where a worker is the same; both in their order.
pub(super) fn carry_over(
    old: &[WorkerReport],
    mut rings: Vec<Ring>,
    new: &[WorkerReport],
) -> Vec<Ring> {
    let same = |a: &WorkerReport, b: &WorkerReport| a.group == b.group && a.instance == b.instance;
    if old.len() == new.len() && old.iter().zip(new).all(|(a, b)| same(a, b)) {
        return rings;
    }
    let mut by_name: std::collections::HashMap<_, _> =
        old.iter().map(|w| (w.group.as_str(), w.instance.as_str())).zip(rings.drain(..)).collect();
    new.iter()
        .map(|w| by_name.remove(&(w.group.as_str(), w.instance.as_str())).unwrap_or_default())
        .collect()
}

#[allow(clippy::cast_possible_truncation, reason = "charts need no more, and the range is clamped")]
fn to_f32(value: f64) -> f32 {
    value.clamp(0.0, f64::from(f32::MAX)) as f32
}

fn to_u32(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

#[cfg(test)]
#[path = "history/tests.rs"]
mod tests;
