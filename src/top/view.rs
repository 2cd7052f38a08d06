//! The state as a picture. Only rows that are visible are made.

use super::{
    fleet::Fleet,
    order::{SORTS, Sort},
    state::{Link, Page, State},
};
use crate::client::{
    details,
    model::Worker,
    table::{Tone, fit},
    units::{NONE, counted, mb, or_none, percent, plain, seconds},
    workers::{gpu_cells, requests, state_cell},
};
use ratatui::{
    Frame,
    layout::{Alignment, Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Text},
    widgets::{Block, Clear, Paragraph, Row, Table},
};
use std::time::Instant;
use unicode_width::UnicodeWidthStr;

/// The widest that a name gets.
const NAME_MAX: usize = 44;

/// Draws all of it.
pub(super) fn draw(frame: &mut Frame, state: &State, colours: bool, now: Instant) {
    let lost = u16::from(matches!(state.link, Link::Lost { .. }));
    let rows = [1, lost, 0, 1].map(Constraint::Length);
    let rows = [rows[0], rows[1], Constraint::Min(1), rows[3]];
    let [head, banner, body, foot] = Layout::vertical(rows).areas(frame.area());
    frame.render_widget(header(state), head);
    if lost > 0 {
        frame.render_widget(banner_of(state, colours, now), banner);
    }
    match state.page {
        Page::List => list(frame, state, colours, body),
        Page::Detail => detail(frame, state, body),
        Page::Logs => log(frame, state, body),
    }
    frame.render_widget(footer(state), foot);
    if state.help {
        help(frame, body);
    }
}

fn header(state: &State) -> Line<'static> {
    let link = match state.link {
        Link::Connecting => "connecting",
        Link::Live => "live",
        Link::Lost { .. } => "LOST",
    };
    let text = format!("rbee top  {}  {link}  {}", plain(&state.url), counts(&state.fleet));
    Line::from(text).style(Style::new().add_modifier(Modifier::BOLD))
}

/// `2 hives, 5 workers: 3 ready, 1 failed, 2 idle`
fn counts(fleet: &Fleet) -> String {
    let is = |state: &str| {
        fleet.workers().filter(|worker| worker.state.as_deref() == Some(state)).count()
    };
    let idle = fleet.workers().filter(|worker| worker.idle == Some(true)).count();
    let mut text = format!(
        "{}, {}: {} ready, {idle} idle",
        counted(fleet.hives().count(), "hive"),
        counted(fleet.workers().count(), "worker"),
        is("ready")
    );
    for state in ["failed", "backoff"] {
        match is(state) {
            0 => {}
            n => text += &format!(", {n} {state}"),
        }
    }
    let unwell = fleet.hives().filter(|h| h.freshness.as_deref().is_some_and(|f| f != "healthy"));
    for hive in unwell {
        text +=
            &format!(", hive {} {}", plain(&hive.id), hive.freshness.as_deref().unwrap_or(NONE));
    }
    text
}

fn banner_of(state: &State, colours: bool, now: Instant) -> Line<'static> {
    let Link::Lost { since, why, retry_at } = &state.link else { return Line::default() };
    let age = seconds(now.saturating_duration_since(*since).as_secs());
    let wait = seconds(retry_at.saturating_duration_since(now).as_secs());
    let text = format!("figures are old: no stream for {age}, next try in {wait}: {}", plain(why));
    let style = if colours {
        Style::new().fg(Color::White).bg(Color::Red)
    } else {
        Style::new().add_modifier(Modifier::REVERSED)
    };
    Line::from(text).style(style)
}

/// Title, width, the width of the terminal from which it is shown, and what it is sorted by.
const COLUMNS: [(&str, u16, u16, Option<Sort>); 11] = [
    ("STATE", 9, 0, Some(Sort::State)),
    ("MODEL", 0, 60, Some(Sort::Model)),
    ("USE", 4, 70, None),
    ("CPU", 6, 30, Some(Sort::Cpu)),
    ("RAM", 7, 40, Some(Sort::Ram)),
    ("GPU", 5, 80, Some(Sort::Gpu)),
    ("VRAM", 12, 90, Some(Sort::Vram)),
    ("REQ", 8, 100, Some(Sort::Requests)),
    ("RST", 4, 110, Some(Sort::Restarts)),
    ("UP", 7, 120, Some(Sort::Uptime)),
    ("PID", 8, 130, None),
];

fn list(frame: &mut Frame, state: &State, colours: bool, area: Rect) {
    let shown = state.shown();
    let height = usize::from(area.height.saturating_sub(1));
    let at = shown.iter().position(|worker| state.is_selected(worker)).unwrap_or(0);
    // The selected row is in the middle, but for the ends of the list.
    let first = at.saturating_sub(height / 2).min(shown.len().saturating_sub(height));
    let name = shown.iter().map(|worker| worker.name().to_string().width()).max().unwrap_or(6);
    let name = name.clamp(6, NAME_MAX.min(usize::from(area.width / 2).max(6)));
    let columns: Vec<_> = COLUMNS.iter().filter(|(_, _, from, _)| area.width >= *from).collect();
    let widths = std::iter::once(Constraint::Length(name as u16)).chain(columns.iter().map(
        |(_, width, ..)| if *width == 0 { Constraint::Fill(1) } else { Constraint::Length(*width) },
    ));
    let mark = |sort: Sort| {
        if state.sort == sort { if state.reversed { "▲" } else { "▼" } } else { "" }
    };
    let titles = std::iter::once(format!("WORKER{}", mark(Sort::Name))).chain(
        columns.iter().map(|(title, _, _, sort)| format!("{title}{}", sort.map_or("", mark))),
    );
    let titles = Row::new(titles).style(Style::new().add_modifier(Modifier::UNDERLINED));
    let rows = shown.iter().skip(first).take(height).map(|worker| {
        let cells = cells(worker, state, name);
        let picked = cells.into_iter().zip(kept(area.width)).filter(|(_, keep)| *keep);
        let row = Row::new(picked.map(|(cell, _)| cell));
        let style = style_of(state_cell(worker).tone, colours);
        row.style(if state.is_selected(worker) {
            style.add_modifier(Modifier::REVERSED)
        } else {
            style
        })
    });
    frame.render_widget(Table::new(rows, widths).header(titles).column_spacing(1), area);
    if shown.is_empty() {
        let text = match (&state.link, state.filter.is_empty()) {
            (Link::Connecting, _) => "",
            (_, true) => "no workers",
            (_, false) => "no worker matches the filter",
        };
        let middle = Rect { y: area.y + area.height / 2, height: 1.min(area.height), ..area };
        frame.render_widget(Paragraph::new(text).alignment(Alignment::Center), middle);
    }
}

/// Which cells a terminal of this width has room for, the name first.
fn kept(width: u16) -> impl Iterator<Item = bool> {
    std::iter::once(true).chain(COLUMNS.iter().map(move |(_, _, from, _)| width >= *from))
}

fn cells(worker: &Worker, state: &State, name: usize) -> Vec<Text<'static>> {
    let hive = worker.hive_id.as_ref().and_then(|id| state.fleet.hive(id));
    let source = hive.and_then(|hive| hive.node.gpu_source.as_deref());
    let (gpu, vram) = gpu_cells(worker, source);
    let right = |text: String| Text::from(text).alignment(Alignment::Right);
    vec![
        Text::from(fit(&plain(&worker.name().to_string()), name)),
        Text::from(state_cell(worker).text),
        Text::from(plain(worker.model.as_deref().unwrap_or(NONE))),
        Text::from(worker.activity().unwrap_or(NONE)),
        right(or_none(worker.cpu_pct, percent)),
        right(or_none(worker.working_set_mb.or(worker.rss_mb), mb)),
        right(gpu),
        right(vram),
        right(requests(worker)),
        right(or_none(worker.restarts, |n| n.to_string())),
        right(or_none(worker.uptime_s.filter(|_| worker.pid.is_some()), seconds)),
        right(or_none(worker.pid, |pid| pid.to_string())),
    ]
}

fn style_of(tone: Tone, colours: bool) -> Style {
    match tone {
        _ if !colours => Style::new(),
        Tone::Plain | Tone::Good => Style::new(),
        Tone::Warn => Style::new().fg(Color::Yellow),
        Tone::Bad => Style::new().fg(Color::Red),
        Tone::Dim => Style::new().add_modifier(Modifier::DIM),
    }
}

fn title(state: &State, what: &str) -> Block<'static> {
    let name = state.selected.as_ref().map_or_else(String::new, ToString::to_string);
    Block::bordered().title(format!(" {} {what} ", plain(&name)))
}

fn detail(frame: &mut Frame, state: &State, area: Rect) {
    let lines = match state.selected() {
        None => vec!["it is gone".to_owned()],
        Some(worker) => {
            let hive = worker.hive_id.as_ref().and_then(|id| state.fleet.hive(id));
            details::lines(worker, hive.and_then(|hive| hive.node.gpu_source.as_deref()))
        }
    };
    let skipped = state.scroll.min(lines.len().saturating_sub(1));
    let lines: Vec<Line> = lines.into_iter().skip(skipped).map(Line::from).collect();
    frame.render_widget(Paragraph::new(lines).block(title(state, "")), area);
}

fn log(frame: &mut Frame, state: &State, area: Rect) {
    let height = usize::from(area.height.saturating_sub(2));
    let end = state.log.len().saturating_sub(state.scroll);
    let first = end.saturating_sub(height);
    let lines =
        state.log.range(first..end).map(|line| Line::from(plain(&line.replace('\t', "    "))));
    let what = match (&state.log_ended, state.scroll) {
        (Some(why), _) => format!("log: {}", plain(why)),
        (None, 0) => "log, live".into(),
        (None, lines) => format!("log, {} up: End goes on", counted(lines, "line")),
    };
    frame.render_widget(Paragraph::new(lines.collect::<Vec<_>>()).block(title(state, &what)), area);
}

fn footer(state: &State) -> Line<'static> {
    if state.typing {
        return Line::from(format!(
            "filter: {}█  enter keeps it, escape clears it",
            plain(&state.filter)
        ));
    }
    let text = match state.page {
        Page::List => {
            let filter = match state.filter.as_str() {
                "" => String::new(),
                text => format!(": {}", plain(text)),
            };
            let sort = state.sort.title();
            format!(
                "q quit  ↑↓ move  enter detail  l logs  / filter{filter}  s sort: {sort}  r reverse  ? help"
            )
        }
        Page::Detail => "q quit  escape back  l logs  ↑↓ scroll  ? help".into(),
        Page::Logs => "q quit  escape back  ↑↓ PgUp PgDn scroll  End live  ? help".into(),
    };
    Line::from(text).style(Style::new().add_modifier(Modifier::REVERSED))
}

fn help(frame: &mut Frame, area: Rect) {
    let sorts: Vec<_> = SORTS.iter().map(|(_, key, title)| format!("{key} {title}")).collect();
    let lines = [
        "↑ ↓ PgUp PgDn Home End, k j   move".to_owned(),
        "enter                         the worker in full".into(),
        "l                             its log, live".into(),
        "/                             filter by name, model, state, idle or busy".into(),
        "s S r                         sort by the next, by the one before, reverse".into(),
        format!("sort by: {}", sorts[..5].join("  ")),
        format!("         {}", sorts[5..].join("  ")),
        "q, Ctrl-C                     quit".into(),
    ];
    let width = lines.iter().map(|line| line.width()).max().unwrap_or(0) as u16 + 2;
    let (width, height) = (width.min(area.width), (lines.len() as u16 + 2).min(area.height));
    let (x, y) = (area.x + (area.width - width) / 2, area.y + (area.height - height) / 2);
    let area = Rect { x, y, width, height };
    frame.render_widget(Clear, area);
    let lines: Vec<Line> = lines.into_iter().map(Line::from).collect();
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(" keys ")), area);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects")]
    use super::*;
    use crate::top::state::{Event, Key};
    use proptest::prelude::*;
    use ratatui::{Terminal, backend::TestBackend};
    use serde_json::json;
    use std::time::Duration;

    fn state(events: Vec<Event>) -> State {
        let worker = |n: u32| json!({"hive_id": "h", "group": "g", "instance": n.to_string(), "state": "ready", "cpu_pct": n, "gpu_util_pct": 0.0});
        let workers: Vec<_> = (0..50).map(worker).collect();
        let hive = json!({"id": "h", "node": {"gpu_source": "unknown"}});
        let told = json!({"type": "snapshot", "hives": [hive], "workers": workers});
        let told = Event::Told(Box::new(serde_json::from_value(told).unwrap()));
        let all = std::iter::once(told).chain(events);
        all.fold(State::new("u", ""), |state, event| state.next(event, Instant::now()).0)
    }

    fn picture(state: &State, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, state, true, Instant::now())).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn the_selected_row_is_always_on_the_screen_and_an_unknown_gpu_is_no_idle_one() {
        let state = state(vec![Event::Key(Key::End)]);
        let text = picture(&state, 100, 12);
        assert!(text.contains("h/g/9") && !text.contains("h/g/0 "), "{text}");
        assert!(text.contains('?') && text.contains("50 workers: 50 ready"), "{text}");
    }

    #[test]
    fn what_is_lost_is_said_and_what_was_known_stays() {
        let lost = Event::Lost { why: "refused".into(), retry_in: Duration::from_secs(1) };
        let text = picture(&state(vec![lost]), 100, 12);
        assert!(text.contains("figures are old") && text.contains("refused"), "{text}");
        assert!(text.contains("h/g/0"), "{text}");
    }

    proptest! {
        #[test]
        fn no_size_of_the_terminal_is_too_small(
            width in 1_u16..200, height in 1_u16..40,
            keys in prop::collection::vec(prop::sample::select(vec![
                Key::Enter, Key::Char('l'), Key::Char('?'), Key::Char('/'), Key::Escape, Key::End,
            ]), 0..4),
        ) {
            picture(&state(keys.into_iter().map(Event::Key).collect()), width, height);
        }
    }
}
