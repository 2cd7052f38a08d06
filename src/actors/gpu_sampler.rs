//! Asks what the machine's GPUs do, on a tick of its own, and puts that on the board.
//!
//! The asking is done by a thread of its own (the `prober`), one probe at a time, so that a driver that
//! hangs costs that thread and no sample of anybody. When to ask, and when not to believe the last
//! answer any more, is decided by `watch`; this actor owns the timers.

mod choice;
mod continuity;
mod prober;
mod view;
mod watch;

pub use view::{GpuView, WorkerGpus};

use super::hive_board::HiveBoard;
use crate::{contract::GpuSource as Source, platform::gpu::GpuSource};
use actix::prelude::*;
use prober::Outcome;
use std::{
    sync::{Arc, mpsc::SyncSender},
    time::{Duration, Instant},
};
use watch::{Effect, Event, Watch};

/// Where there is no driver, it is looked for this often.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// Makes the sources, the better one first: once, and again for another thread.
pub type MakeSources = Box<dyn Fn() -> Vec<Box<dyn GpuSource>> + Send>;

/// What the sampler works with. Plain values and handles.
pub struct GpuSamplerConfig {
    /// Between two probes.
    pub interval: Duration,
    /// After this long without an answer nothing is known.
    pub timeout: Duration,
    /// Whom to ask.
    pub sources: MakeSources,
    /// Whether the machine has a GPU, whoever answers for it.
    pub is_present: Box<dyn Fn() -> bool + Send>,
}

/// See the module.
pub struct GpuSampler {
    config: GpuSamplerConfig,
    board: Arc<HiveBoard>,
    prober: Option<SyncSender<Instant>>,
    watch: Watch,
    /// What the next `Tell` tells.
    next: Option<GpuView>,
    /// Why the last probe failed, or another source had to do.
    reason: Option<String>,
    told: Option<Source>,
    next_tick: Option<SpawnHandle>,
}

impl GpuSampler {
    /// Puts what it learns on `board`.
    pub fn new(config: GpuSamplerConfig, board: Arc<HiveBoard>) -> Self {
        let watch = Watch::new(config.timeout);
        Self {
            config,
            board,
            prober: None,
            watch,
            next: None,
            reason: None,
            told: None,
            next_tick: None,
        }
    }

    fn tick(&mut self, ctx: &mut Context<Self>) {
        self.raise(Event::Tick, ctx);
        self.arm_tick(ctx);
    }

    fn arm_tick(&mut self, ctx: &mut Context<Self>) {
        let absent = self.told == Some(Source::None);
        let wait = if absent { self.config.interval.max(LOOK_AGAIN) } else { self.config.interval };
        if let Some(before) = self.next_tick.replace(ctx.run_later(wait, Self::tick)) {
            ctx.cancel_future(before);
        }
    }

    fn raise(&mut self, event: Event, ctx: &mut Context<Self>) {
        let now = Instant::now();
        for effect in self.watch.step(event, now) {
            match effect {
                Effect::Probe { deadline } => self.probe(deadline, ctx),
                Effect::WakeAt(at) => {
                    let wait = at.saturating_duration_since(now);
                    ctx.run_later(wait, |sampler, ctx| sampler.raise(Event::TimeOut, ctx));
                }
                Effect::Tell => {
                    if let Some(view) = self.next.take() {
                        self.tell(view, ctx);
                    }
                }
                Effect::GiveUp => {
                    let view = self.board.gpus().given_up();
                    self.tell(view, ctx);
                }
                Effect::StartProber => self.prober = None,
            }
        }
    }

    /// The thread is made when it is needed: at first, and after it has ended.
    fn probe(&mut self, deadline: Instant, ctx: &mut Context<Self>) {
        if self.prober.is_none() {
            let sampler = ctx.address();
            let tell = move |outcome| sampler.do_send(Probed(outcome));
            match prober::start((self.config.sources)(), tell) {
                Ok(prober) => self.prober = Some(prober),
                Err(error) => tracing::error!(%error, "cannot start the thread that asks for GPUs"),
            }
        }
        let sent = self.prober.as_ref().is_some_and(|prober| prober.try_send(deadline).is_ok());
        if !sent {
            ctx.notify(Probed(Outcome::Ended));
        }
    }

    /// A change of who tells is logged, each such change once.
    fn tell(&mut self, view: GpuView, ctx: &mut Context<Self>) {
        let (source, reason) = (view.source(), self.reason.take());
        let before = self.told.replace(source);
        if before != Some(source) {
            log_change(&view, reason.as_deref());
        }
        self.board.set_gpus(view);
        if before == Some(Source::None) && source != Source::None {
            self.arm_tick(ctx);
        }
    }
}

fn log_change(view: &GpuView, reason: Option<&str>) {
    let gpus = view.stats().len();
    match view.source() {
        Source::None => tracing::info!("this machine has no GPU"),
        Source::Nvml => tracing::info!(source = "nvml", gpus, "GPUs are sampled"),
        Source::NvidiaSmi => match reason {
            None => tracing::info!(source = "nvidia-smi", gpus, "GPUs are sampled"),
            Some(_) => tracing::warn!(source = "nvidia-smi", gpus, reason, "GPUs are sampled"),
        },
        Source::Unknown => {
            let reason = reason.unwrap_or("no answer");
            tracing::warn!(gpus, reason, "what GPUs do is not known: nobody counts as idle");
        }
    }
}

impl Actor for GpuSampler {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.tick(ctx);
    }
}

/// A probe came back.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Probed(Outcome);

impl Handler<Probed> for GpuSampler {
    type Result = ();

    fn handle(&mut self, Probed(outcome): Probed, ctx: &mut Self::Context) {
        let event = match outcome {
            Outcome::Read { kind, devices, instead_because } => {
                let view = GpuView::of(kind, devices, Instant::now());
                self.reason = instead_because.or_else(|| view.doubt());
                self.next = Some(view);
                Event::Reading
            }
            Outcome::Absent
                if !(self.config.is_present)() && self.board.gpus().stats().is_empty() =>
            {
                self.next = Some(GpuView::without_gpu());
                Event::Reading
            }
            Outcome::Absent => {
                self.reason = Some("there is a GPU, but no driver that answers for it".into());
                Event::NoReading
            }
            Outcome::Failed(why) => {
                self.reason = Some(why);
                Event::NoReading
            }
            Outcome::Ended => Event::ProberEnded,
        };
        self.raise(event, ctx);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        actors::supervise::start_guarded,
        platform::gpu::{GpuDevice, GpuError, GpuReading, HandOver, SourceKind},
    };
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Panics at its first reading, and tells one GPU at all others.
    struct Fragile(Arc<AtomicUsize>);

    impl GpuSource for Fragile {
        fn kind(&self) -> SourceKind {
            SourceKind::Nvml
        }

        fn serve(&mut self, _: Instant, hand_over: HandOver<'_>) -> Result<(), GpuError> {
            assert!(self.0.fetch_add(1, Ordering::SeqCst) > 0, "the first time");
            let processes = Some(Vec::new());
            let device = GpuDevice { uuid: "a".into(), processes, ..GpuDevice::default() };
            while hand_over(GpuReading { devices: vec![device.clone()] }).is_some() {}
            Ok(())
        }
    }

    #[actix::test]
    async fn a_probe_thread_that_panics_is_replaced() {
        let (board, opened) = (Arc::new(HiveBoard::default()), Arc::new(AtomicUsize::new(0)));
        let of_source = Arc::clone(&opened);
        let config = GpuSamplerConfig {
            interval: Duration::from_millis(10),
            timeout: Duration::from_secs(60),
            sources: Box::new(move || vec![Box::new(Fragile(Arc::clone(&of_source)))]),
            is_present: Box::new(|| true),
        };
        let on_board = Arc::clone(&board);
        start_guarded(&Arbiter::current(), |_| GpuSampler::new(config, on_board), |_| {});
        let deadline = Instant::now() + Duration::from_secs(20);
        while board.gpus().source() != Source::Nvml {
            assert!(Instant::now() < deadline, "opened {opened:?} times");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(opened.load(Ordering::SeqCst), 2);
    }
}
