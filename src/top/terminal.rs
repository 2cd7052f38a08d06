//! The terminal: taken over while [`Screen`] lives, and as it was before whatever ends it, a panic too.

use super::state::{Event, Key};
use crate::client::Failure;
use ratatui::{
    Frame, Terminal,
    backend::CrosstermBackend,
    crossterm::{
        cursor::Show,
        event::{self, Event as TerminalEvent, KeyCode, KeyEvent, KeyEventKind, KeyModifiers},
        execute, queue,
        terminal::{
            BeginSynchronizedUpdate, EndSynchronizedUpdate, EnterAlternateScreen,
            LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
        },
    },
};
use std::io::{self, BufWriter, Stdout, Write};
use tokio::sync::mpsc;

/// Keys on their way.
const QUEUE: usize = 64;

type Out = BufWriter<Stdout>;

/// See the module.
pub(super) struct Screen(Terminal<CrosstermBackend<Out>>);

impl Screen {
    pub(super) fn enter() -> io::Result<Self> {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore();
            before(panic);
        }));
        enable_raw_mode()?;
        // From here on what was changed is changed back, also when the next step fails.
        let changed = Restore;
        let mut out = BufWriter::new(io::stdout());
        execute!(out, EnterAlternateScreen)?;
        let screen = Self(Terminal::new(CrosstermBackend::new(out))?);
        std::mem::forget(changed);
        Ok(screen)
    }

    /// All at once, where the terminal knows how, and only what has changed.
    pub(super) fn draw(&mut self, draw: impl FnOnce(&mut Frame)) -> io::Result<()> {
        queue!(self.0.backend_mut(), BeginSynchronizedUpdate)?;
        self.0.draw(draw)?;
        queue!(self.0.backend_mut(), EndSynchronizedUpdate)?;
        Write::flush(self.0.backend_mut())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

struct Restore;

impl Drop for Restore {
    fn drop(&mut self) {
        restore();
    }
}

/// Every step is tried: a terminal that is half gone gets what it still takes.
fn restore() {
    let mut out = io::stdout();
    let _ = execute!(out, EndSynchronizedUpdate, LeaveAlternateScreen, Show);
    let _ = disable_raw_mode();
}

pub(super) fn failed(error: &io::Error) -> Failure {
    Failure::Refused(format!("the terminal does not do as it is told: {error}"))
}

/// Reads keys on a thread of its own until the terminal or the receiver is gone. Fails where there can
/// be no such thread.
pub(super) fn keys() -> io::Result<mpsc::Receiver<Event>> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    std::thread::Builder::new().name("keys".into()).spawn(move || {
        while let Ok(event) = event::read() {
            let told = match event {
                TerminalEvent::Key(key) if key.kind != KeyEventKind::Release => {
                    key_of(key).map(Event::Key)
                }
                TerminalEvent::Resize(_, rows) => Some(Event::Resized(rows)),
                _ => None,
            };
            if told.is_some_and(|told| sender.blocking_send(told).is_err()) {
                return;
            }
        }
    })?;
    Ok(receiver)
}

fn key_of(key: KeyEvent) -> Option<Key> {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    Some(match key.code {
        KeyCode::Char('c') if control => Key::Interrupt,
        KeyCode::Char(_) if control => return None,
        KeyCode::Char(c) => Key::Char(c),
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc => Key::Escape,
        KeyCode::Backspace => Key::Backspace,
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        _ => return None,
    })
}

#[cfg(test)]
#[path = "terminal/tests.rs"]
mod tests;
