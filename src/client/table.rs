//! Tables: rows and columns in, lines that fit a terminal's width out.
//!
//! Where they do not fit, the widest column that may shrink does, down to its least width; then the
//! columns that matter least are left out.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Between two columns.
const GAP: usize = 2;

/// How a cell stands out, where there are colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    /// As everything.
    #[default]
    Plain,
    /// All is well.
    Good,
    /// Look here.
    Warn,
    /// Something is wrong.
    Bad,
    /// Matters less.
    Dim,
}

impl Tone {
    /// `SGR` parameters; empty for plain.
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Good => "32",
            Self::Warn => "33",
            Self::Bad => "31",
            Self::Dim => "2",
        }
    }

    /// `text` in this tone, where there are colours.
    pub fn paint(self, text: &str, colours: bool) -> String {
        match self.code() {
            "" => text.to_owned(),
            _ if !colours => text.to_owned(),
            code => format!("\x1b[{code}m{text}\x1b[0m"),
        }
    }
}

/// One cell. Control characters in it do not reach the terminal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    /// What it says.
    pub text: String,
    /// How it stands out.
    pub tone: Tone,
}

impl Cell {
    /// In a tone.
    pub fn new(text: impl AsRef<str>, tone: Tone) -> Self {
        Self { text: super::units::plain(text.as_ref()), tone }
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::new(text, Tone::Plain)
    }
}

/// One column.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Above it.
    pub title: &'static str,
    /// Numbers stand to the right.
    pub right: bool,
    /// What it may shrink to; 0: it does not shrink.
    pub least: usize,
    /// The highest is left out first; 0 never is.
    pub rank: u8,
}

impl Column {
    /// Text, that never goes.
    pub const fn text(title: &'static str) -> Self {
        Self { title, right: false, least: 0, rank: 0 }
    }

    /// A number, that never goes.
    pub const fn number(title: &'static str) -> Self {
        Self { title, right: true, least: 0, rank: 0 }
    }

    /// The same, that may shrink to this.
    #[must_use]
    pub const fn least(self, least: usize) -> Self {
        Self { least, ..self }
    }

    /// The same, that may be left out.
    #[must_use]
    pub const fn rank(self, rank: u8) -> Self {
        Self { rank, ..self }
    }
}

/// The title line and a line for each row, at most `width` wide where there is one.
pub fn lines(
    columns: &[Column],
    rows: &[Vec<Cell>],
    width: Option<usize>,
    colours: bool,
) -> Vec<String> {
    let widths = widths(columns, rows, width.unwrap_or(usize::MAX));
    let titles: Vec<Cell> = columns.iter().map(|c| Cell::new(c.title, Tone::Dim)).collect();
    let limit = width.unwrap_or(usize::MAX);
    std::iter::once(&titles)
        .chain(rows)
        .map(|row| line(columns, row, &widths, colours, limit))
        .collect()
}

/// A width for each column; `None`: it is left out. The first column always stays.
pub fn widths(columns: &[Column], rows: &[Vec<Cell>], most: usize) -> Vec<Option<usize>> {
    let natural = |index: usize, column: &Column| {
        let cells = rows.iter().filter_map(|row| row.get(index)).map(|cell| cell.text.width());
        cells.max().unwrap_or(0).max(column.title.width())
    };
    let mut widths: Vec<_> = columns.iter().enumerate().map(|(i, c)| Some(natural(i, c))).collect();
    while total(&widths) > most && shrink(columns, &mut widths) {}
    widths
}

fn total(widths: &[Option<usize>]) -> usize {
    let shown: Vec<usize> = widths.iter().flatten().copied().collect();
    shown.iter().sum::<usize>() + GAP * shown.len().saturating_sub(1)
}

/// Makes it narrower by one, or by a column; `false` when nothing more can be done.
fn shrink(columns: &[Column], widths: &mut [Option<usize>]) -> bool {
    let can = |i: &usize| {
        let least = columns[*i].least;
        least > 0 && widths[*i].is_some_and(|width| width > least)
    };
    if let Some(widest) = (0..columns.len()).filter(can).max_by_key(|i| widths[*i]) {
        widths[widest] = widths[widest].map(|width| width - 1);
        return true;
    }
    let least = (1..columns.len())
        .filter(|i| widths[*i].is_some() && columns[*i].rank > 0)
        .max_by_key(|i| columns[*i].rank);
    least.map(|index| widths[index] = None).is_some()
}

fn line(
    columns: &[Column],
    row: &[Cell],
    widths: &[Option<usize>],
    colours: bool,
    limit: usize,
) -> String {
    let mut line = String::new();
    let mut used = 0;
    for ((column, cell), width) in columns.iter().zip(row).zip(widths) {
        let Some(width) = *width else { continue };
        let gap = if used == 0 { 0 } else { GAP };
        let room = limit.saturating_sub(used + gap).min(width);
        if room == 0 {
            break;
        }
        let text = fit(&cell.text, room);
        let pad = " ".repeat(room - text.width());
        let text = cell.tone.paint(&text, colours);
        line.push_str(&" ".repeat(gap));
        line.push_str(&if column.right { pad + &text } else { text + &pad });
        used += gap + room;
    }
    line.truncate(line.trim_end().len());
    line
}

/// `text` in at most `width` columns of a terminal, with an ellipsis where some of it is missing.
pub fn fit(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut used = 1;
    let kept = text.chars().take_while(|c| {
        used += c.width().unwrap_or(0);
        used <= width
    });
    let mut short: String = kept.collect();
    if width > 0 {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const COLUMNS: [Column; 3] = [
        Column::text("NAME").least(6),
        Column::number("CPU"),
        Column::text("MODEL").least(5).rank(1),
    ];

    fn row(name: &str, cpu: &str, model: &str) -> Vec<Cell> {
        vec![name.into(), cpu.into(), model.into()]
    }

    #[test]
    fn numbers_stand_to_the_right_and_what_is_too_long_is_cut() {
        let rows = [row("a/b", "5%", "m"), row("hive/group/one", "105%", "模型模型")];
        let whole = lines(&COLUMNS, &rows, None, false);
        assert_eq!(whole[1], "a/b               5%  m");
        assert_eq!(whole[2], "hive/group/one  105%  模型模型");
        let narrow = lines(&COLUMNS, &rows, Some(20), false);
        assert_eq!(narrow[2], "hive/…  105%  模型…");
        let tiny = lines(&COLUMNS, &rows, Some(12), false);
        assert_eq!(tiny[2], "hive/…  105%");
    }

    #[test]
    fn colours_are_there_only_when_asked_for() {
        let rows = [vec![Cell::new("x", Tone::Bad), "1".into(), "m".into()]];
        assert!(lines(&COLUMNS, &rows, None, true)[1].contains("\x1b[31mx\x1b[0m"));
        assert!(!lines(&COLUMNS, &rows, None, false).concat().contains('\x1b'));
    }

    proptest! {
        #[test]
        fn no_line_is_wider_than_the_terminal(
            rows in prop::collection::vec(("(?s).{0,30}", "[0-9]{0,8}", ".{0,30}"), 0..6),
            width in 1_usize..90,
        ) {
            let rows: Vec<_> = rows.iter().map(|(a, b, c)| row(a, b, c)).collect();
            for line in lines(&COLUMNS, &rows, Some(width), false) {
                prop_assert!(line.width() <= width, "{line:?} > {width}");
            }
        }
    }
}
