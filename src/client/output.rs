//! Where a command's answer goes. A reader that has gone is no error: it has what it wanted.

use super::Failure;
use std::io::{self, ErrorKind, IsTerminal, Write};

/// Standard output, and what it can show.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// Columns of the terminal; `None` where it is none, and nothing is cut.
    pub width: Option<usize>,
    /// Whether to colour.
    pub colours: bool,
}

impl Output {
    /// As it is now.
    pub fn detect() -> Self {
        let terminal = io::stdout().is_terminal();
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        let size = rustix::termios::tcgetwinsize(io::stdout()).ok();
        let width = size.map(|size| usize::from(size.ws_col)).filter(|width| *width > 0);
        Self { width: width.filter(|_| terminal), colours: terminal && !plain }
    }

    /// These lines.
    pub fn lines(&self, lines: &[String]) -> Result<(), Failure> {
        let mut text = lines.join("\n");
        text.push('\n');
        self.text(&text)
    }

    /// What an API answered, as it is, with a newline at its end.
    pub fn json(&self, text: &str) -> Result<(), Failure> {
        self.text(&format!("{}\n", text.trim_end()))
    }

    /// As it is.
    pub fn text(&self, text: &str) -> Result<(), Failure> {
        self.bytes(text.as_bytes()).map(|_| ())
    }

    /// As they are; `false` when nobody reads any more.
    pub fn bytes(&self, bytes: &[u8]) -> Result<bool, Failure> {
        let mut stdout = io::stdout().lock();
        match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
            Err(error) => Err(Failure::Refused(format!("cannot write the output: {error}"))),
        }
    }
}
