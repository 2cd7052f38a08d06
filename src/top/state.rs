//! What `rbee top` knows and shows, and what each event makes of it. Pure: (state, event, now) →
//! (state, effect).
//!
//! ```text
//!            enter              l
//!   List ──────────► Detail ────────► Logs          ?: Help, from everywhere
//!    ▲ ◄── escape ───┘  ▲ ◄── escape ──┘             any key leaves it
//!    └──── / types a filter, enter or escape ends it
//! ```

use super::{
    fleet::{Fleet, StreamEvent},
    order::{SORTS, Sort, shown},
};
use crate::client::{model::Worker, name::WorkerName};
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Lines of a log that are kept.
pub(super) const LOG_LINES_MAX: usize = 2_000;

/// Characters of a filter.
const FILTER_MAX: usize = 100;

/// A key that means something here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Char(char),
    Enter,
    Escape,
    Backspace,
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
    Interrupt,
}

/// What happens.
#[derive(Clone, Debug)]
pub(super) enum Event {
    Key(Key),
    /// The terminal has this many rows now.
    Resized(u16),
    /// The stream said something.
    Told(Box<StreamEvent>),
    /// The stream is gone, and tried again after this.
    Lost {
        why: String,
        retry_in: Duration,
    },
    /// Lines of the log that is followed.
    Logged(Vec<String>),
    /// No more of them, and why.
    LogEnded(String),
}

/// What is to be done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Quit,
    Follow(WorkerName),
    Unfollow,
}

/// What is on the screen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Page {
    #[default]
    List,
    Detail,
    Logs,
}

/// Whether the stream flows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Link {
    #[default]
    Connecting,
    Live,
    Lost {
        since: Instant,
        why: String,
        retry_at: Instant,
    },
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub(super) url: String,
    pub(super) fleet: Fleet,
    pub(super) link: Link,
    pub(super) page: Page,
    pub(super) help: bool,
    pub(super) sort: Sort,
    pub(super) reversed: bool,
    pub(super) filter: String,
    /// Keys go into the filter.
    pub(super) typing: bool,
    pub(super) selected: Option<WorkerName>,
    pub(super) log: VecDeque<String>,
    pub(super) log_ended: Option<String>,
    /// Lines up from the log's end, or down in the details.
    pub(super) scroll: usize,
    /// Rows of the terminal, for a page's length.
    rows: u16,
}

impl State {
    pub(super) fn new(url: &str, filter: &str) -> Self {
        let filter = filter.chars().take(FILTER_MAX).collect();
        Self { url: url.to_owned(), filter, rows: 24, ..Self::default() }
    }

    /// The rows, in their order.
    pub(super) fn shown(&self) -> Vec<&Worker> {
        shown(&self.fleet, &self.filter, self.sort, self.reversed)
    }

    /// The worker that is selected, if it is still there.
    pub(super) fn selected(&self) -> Option<&Worker> {
        let name = self.selected.as_ref()?;
        self.fleet.workers().find(|worker| is(worker, name))
    }

    pub(super) fn next(mut self, event: Event, now: Instant) -> (Self, Option<Effect>) {
        let effect = match event {
            Event::Key(key) => self.key(key),
            Event::Resized(rows) => {
                self.rows = rows;
                None
            }
            Event::Told(event) => {
                self.link = Link::Live;
                self.fleet.apply(*event);
                None
            }
            Event::Lost { why, retry_in } => {
                self.lose(why, now + retry_in, now);
                None
            }
            Event::Logged(lines) => {
                self.log.extend(lines);
                let excess = self.log.len().saturating_sub(LOG_LINES_MAX);
                self.log.drain(..excess);
                None
            }
            Event::LogEnded(why) => {
                self.log_ended = Some(why);
                None
            }
        };
        self.keep_selection();
        (self, effect)
    }

    /// Since when is not forgotten by another try.
    fn lose(&mut self, why: String, retry_at: Instant, now: Instant) {
        let since = match self.link {
            Link::Lost { since, .. } => since,
            Link::Connecting | Link::Live => now,
        };
        self.link = Link::Lost { since, why, retry_at };
    }

    fn key(&mut self, key: Key) -> Option<Effect> {
        match key {
            Key::Interrupt => return Some(Effect::Quit),
            _ if self.help => self.help = false,
            _ if self.typing => self.type_filter(key),
            Key::Char('q') => return Some(Effect::Quit),
            Key::Char('?') => self.help = true,
            _ => {
                return match self.page {
                    Page::List => self.list_key(key),
                    Page::Detail => self.detail_key(key),
                    Page::Logs => self.log_key(key),
                };
            }
        }
        None
    }

    fn type_filter(&mut self, key: Key) {
        match key {
            Key::Char(c) if self.filter.chars().count() < FILTER_MAX => self.filter.push(c),
            Key::Backspace => {
                self.filter.pop();
            }
            Key::Escape => {
                self.filter.clear();
                self.typing = false;
            }
            Key::Enter => self.typing = false,
            _ => {}
        }
    }

    fn list_key(&mut self, key: Key) -> Option<Effect> {
        match key {
            Key::Up | Key::Char('k') => self.move_by(-1),
            Key::Down | Key::Char('j') => self.move_by(1),
            Key::PageUp => self.move_by(-self.page_length()),
            Key::PageDown => self.move_by(self.page_length()),
            Key::Home => self.move_by(isize::MIN),
            Key::End => self.move_by(isize::MAX),
            Key::Enter if self.selected.is_some() => self.open(Page::Detail),
            Key::Char('l') => return self.follow(),
            Key::Char('/') => self.typing = true,
            Key::Escape => self.filter.clear(),
            Key::Char('s') => self.sort = self.sort.step(false),
            Key::Char('S') => self.sort = self.sort.step(true),
            Key::Char('r') => self.reversed = !self.reversed,
            Key::Char(c) => {
                if let Some((sort, ..)) = SORTS.iter().find(|(_, key, _)| *key == c) {
                    self.sort = *sort;
                }
            }
            Key::Enter | Key::Backspace | Key::Interrupt => {}
        }
        None
    }

    fn detail_key(&mut self, key: Key) -> Option<Effect> {
        match key {
            Key::Escape | Key::Enter | Key::Backspace => self.open(Page::List),
            Key::Char('l') => return self.follow(),
            Key::Up | Key::Char('k') => self.scroll = self.scroll.saturating_sub(1),
            Key::Down | Key::Char('j') => self.scroll = (self.scroll + 1).min(LOG_LINES_MAX),
            _ => {}
        }
        None
    }

    fn log_key(&mut self, key: Key) -> Option<Effect> {
        let page = self.page_length().unsigned_abs();
        let back = |scroll: usize, by| scroll.saturating_add(by).min(LOG_LINES_MAX);
        match key {
            Key::Escape | Key::Char('l') | Key::Backspace => {
                self.open(Page::List);
                self.log = VecDeque::new();
                return Some(Effect::Unfollow);
            }
            Key::Up | Key::Char('k') => self.scroll = back(self.scroll, 1),
            Key::PageUp => self.scroll = back(self.scroll, page),
            Key::Down | Key::Char('j') => self.scroll = self.scroll.saturating_sub(1),
            Key::PageDown => self.scroll = self.scroll.saturating_sub(page),
            Key::Home => self.scroll = LOG_LINES_MAX,
            Key::End => self.scroll = 0,
            _ => {}
        }
        self.scroll = self.scroll.min(self.log.len().saturating_sub(1));
        None
    }

    fn open(&mut self, page: Page) {
        self.page = page;
        self.scroll = 0;
    }

    fn follow(&mut self) -> Option<Effect> {
        let name = self.selected.clone()?;
        self.open(Page::Logs);
        self.log.clear();
        self.log_ended = None;
        Some(Effect::Follow(name))
    }

    fn page_length(&self) -> isize {
        (self.rows as isize - 6).max(1)
    }

    fn move_by(&mut self, by: isize) {
        let shown = self.shown();
        let at = shown.iter().position(|worker| self.is_selected(worker)).unwrap_or(0);
        let last = shown.len().saturating_sub(1);
        let to = at.saturating_add_signed(by).min(last);
        self.selected = shown.get(to).map(|worker| worker.name());
    }

    pub(super) fn is_selected(&self, worker: &Worker) -> bool {
        self.selected.as_ref().is_some_and(|name| is(worker, name))
    }

    /// On the list, one of the rows is selected where there are any. Elsewhere the worker stays the
    /// same, even if it is gone.
    fn keep_selection(&mut self) {
        if self.page != Page::List {
            return;
        }
        let shown = self.shown();
        if !shown.iter().any(|worker| self.is_selected(worker)) {
            self.selected = shown.first().map(|worker| worker.name());
        }
    }
}

fn is(worker: &Worker, name: &WorkerName) -> bool {
    worker.instance == name.instance && worker.group == name.group && worker.hive_id == name.hive
}

#[cfg(test)]
#[path = "state/tests.rs"]
mod tests;
