//! Follows one worker's log for the screen.

use super::state::Event;
use crate::client::Api;
use futures_util::StreamExt;
use tokio::sync::mpsc;

/// A line is shown up to here, bytes; no screen is wider.
const LINE_MAX: usize = 4096;

/// Ends with the log, or when it is aborted.
pub(super) async fn run(api: Api, path: String, events: mpsc::Sender<Event>) {
    let mut body = match api.open(&path, "text/plain").await {
        Ok(body) => body,
        Err(failure) => {
            let _ = events.send(Event::LogEnded(failure.to_string())).await;
            return;
        }
    };
    let mut lines = Lines::default();
    let why = loop {
        match body.next().await {
            Some(Ok(bytes)) => {
                let whole = lines.feed(&bytes);
                if !whole.is_empty() && events.send(Event::Logged(whole)).await.is_err() {
                    return;
                }
            }
            Some(Err(error)) => break format!("the log broke off: {error}"),
            None => break "the log has ended".to_owned(),
        }
    };
    let _ = events.send(Event::LogEnded(why)).await;
}

/// Cuts bytes into lines.
#[derive(Default)]
struct Lines(Vec<u8>);

impl Lines {
    fn feed(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut whole = Vec::new();
        for byte in bytes {
            match byte {
                b'\n' => whole.push(String::from_utf8_lossy(&std::mem::take(&mut self.0)).into()),
                _ if self.0.len() < LINE_MAX => self.0.push(*byte),
                _ => {}
            }
        }
        whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_and_not_endless() {
        let mut lines = Lines::default();
        assert_eq!(lines.feed(b"one\ntw"), ["one"]);
        assert_eq!(lines.feed(b"o\n\nx"), ["two", ""]);
        let long = lines.feed(&[vec![b'y'; 10_000], vec![b'\n']].concat());
        assert_eq!(long[0].len(), LINE_MAX);
    }
}
