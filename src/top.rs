//! `rbee top`: every worker, live, in a terminal.
//!
//! What is on the screen follows from `state` alone, a pure (state, event) → state; this file owns
//! the terminal, the tasks that listen, and the clock. Memory is bounded: a row for each worker that
//! the queen knows, the last lines of one log, and short queues between the tasks.

mod feed;
mod fleet;
mod log_feed;
mod order;
mod state;
mod terminal;
mod view;

use crate::client::{Api, Connection, Failure, Role, logs};
use state::{Effect, Event, State};
use std::{
    io::IsTerminal,
    time::{Duration, Instant},
};
use terminal::Screen;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    task::JoinHandle,
};

/// Ages on the screen go on without any event.
const REDRAW_EVERY: Duration = Duration::from_secs(1);

/// However many events come, the screen changes no more often; a key is shown at once.
const REDRAW_AT_MOST_EVERY: Duration = Duration::from_millis(200);

/// Events on their way to the screen.
const QUEUE: usize = 32;

/// Lines that a log begins with.
const LOG_TAIL: u64 = 200;

/// `rbee top`
#[derive(Clone, Debug, clap::Args)]
pub struct TopArgs {
    /// Show only workers with this in their name, model or state
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub filter: String,

    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would show it")]
    pub connection: Connection,
}

/// Runs until `q`, Ctrl-C, a signal or the terminal's end.
pub async fn run(args: &TopArgs) -> Result<(), Failure> {
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        let message = "top needs a terminal: `rbee workers` prints a list, --json for programs";
        return Err(Failure::Usage(message.into()));
    }
    let api = Api::new(&args.connection)?;
    if api.role().await? == Role::Hive {
        let message = format!("{} is a hive: top is fed by a queen's stream", api.url());
        return Err(Failure::Usage(message));
    }
    let mut ends = Ends::new().map_err(|error| terminal::failed(&error))?;
    let screen = Screen::enter().map_err(|error| terminal::failed(&error))?;
    let (events, incoming) = mpsc::channel(QUEUE);
    let keys = terminal::keys()
        .map_err(|error| Failure::Refused(format!("keys cannot be read: {error}")))?;
    let mut feed = actix::spawn(feed::run(api.clone(), events.clone()));
    let colours = crate::client::Output::detect().colours;
    let mut top = Top {
        state: State::new(api.url(), &args.filter),
        screen,
        colours,
        api,
        events,
        log: None,
        drawn: Instant::now(),
    };
    let ended = top.go_on(incoming, keys, &mut feed, &mut ends).await;
    feed.abort();
    top.unfollow();
    ended
}

struct Top {
    state: State,
    screen: Screen,
    colours: bool,
    api: Api,
    events: mpsc::Sender<Event>,
    log: Option<JoinHandle<()>>,
    drawn: Instant,
}

impl Top {
    async fn go_on(
        &mut self,
        mut incoming: mpsc::Receiver<Event>,
        mut keys: mpsc::Receiver<Event>,
        feed: &mut JoinHandle<()>,
        ends: &mut Ends,
    ) -> Result<(), Failure> {
        let mut redraw_in = Duration::ZERO;
        loop {
            tokio::select! {
                biased;
                () = ends.next() => return Ok(()),
                key = keys.recv() => match key {
                    Some(event) => {
                        if self.take(event) {
                            return Ok(());
                        }
                        redraw_in = Duration::ZERO;
                    }
                    None => return Err(Failure::Refused("the terminal is gone".into())),
                },
                _ = &mut *feed => {
                    return Err(Failure::Refused("what listens to the stream has ended".into()));
                }
                () = tokio::time::sleep(redraw_in.saturating_sub(self.drawn.elapsed())) => {
                    self.draw()?;
                    redraw_in = REDRAW_EVERY;
                }
                Some(event) = incoming.recv() => {
                    self.take(event);
                    redraw_in = REDRAW_AT_MOST_EVERY;
                }
            }
        }
    }

    /// `true`: it is to end.
    fn take(&mut self, event: Event) -> bool {
        let state = std::mem::take(&mut self.state);
        let (state, effect) = state.next(event, Instant::now());
        self.state = state;
        match effect {
            Some(Effect::Quit) => return true,
            Some(Effect::Unfollow) => self.unfollow(),
            Some(Effect::Follow(name)) => {
                self.unfollow();
                let path = logs::path(&name, LOG_TAIL, true);
                let task = log_feed::run(self.api.clone(), path, self.events.clone());
                self.log = Some(actix::spawn(task));
            }
            None => {}
        }
        false
    }

    fn unfollow(&mut self) {
        if let Some(task) = self.log.take() {
            task.abort();
        }
    }

    fn draw(&mut self) -> Result<(), Failure> {
        let (state, colours) = (&self.state, self.colours);
        let drawn = self.screen.draw(|frame| view::draw(frame, state, colours, Instant::now()));
        self.drawn = Instant::now();
        drawn.map_err(|error| terminal::failed(&error))
    }
}

/// The signals that end it in order.
struct Ends([Signal; 4]);

impl Ends {
    fn new() -> std::io::Result<Self> {
        let on = |kind| signal(kind);
        Ok(Self([
            on(SignalKind::terminate())?,
            on(SignalKind::interrupt())?,
            on(SignalKind::hangup())?,
            on(SignalKind::quit())?,
        ]))
    }

    async fn next(&mut self) {
        let [terminate, interrupt, hangup, quit] = &mut self.0;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hangup.recv() => {}
            _ = quit.recv() => {}
        }
    }
}
