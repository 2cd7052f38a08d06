//! Figures as people read them.

/// What is not known.
pub const NONE: &str = "–";

/// `1 hive`, `2 hives`.
pub fn counted(n: usize, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

/// MiB: `512M`, `4.0G`, `1.5T`.
pub fn mb(mb: u64) -> String {
    const G: f64 = 1024.0;
    let value = mb as f64;
    if mb < 1000 {
        format!("{mb}M")
    } else if value < 1000.0 * G {
        scaled(value / G, 'G')
    } else {
        scaled(value / (G * G), 'T')
    }
}

/// Three digits at most, where that is enough.
fn scaled(value: f64, unit: char) -> String {
    if value < 99.95 { format!("{value:.1}{unit}") } else { format!("{value:.0}{unit}") }
}

/// Seconds: `42s`, `5m`, `3h07m`, `12d4h`.
pub fn seconds(s: u64) -> String {
    let (m, h, d) = (s / 60, s / 3600, s / 86_400);
    match s {
        0..60 => format!("{s}s"),
        60..3600 => format!("{m}m{:02}s", s % 60),
        3600..86_400 => format!("{h}h{:02}m", m % 60),
        _ => format!("{d}d{}h", h % 24),
    }
}

/// Milliseconds: `340ms` below a second, else as [`seconds`].
pub fn millis(ms: u64) -> String {
    if ms < 1000 { format!("{ms}ms") } else { seconds(ms / 1000) }
}

/// `45%`, and `0.3%` where a whole number would say nothing.
pub fn percent(value: f64) -> String {
    // A sum of nothing is -0.
    let value = value + 0.0;
    if value > 0.0 && value < 9.95 { format!("{value:.1}%") } else { format!("{value:.0}%") }
}

/// The figure, or that it is not known.
pub fn or_none<T>(value: Option<T>, show: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| NONE.to_owned(), show)
}

/// One line that no terminal takes for a command.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_of_a_thing_is_not_many() {
        assert_eq!([0, 1, 2].map(|n| counted(n, "hive")), ["0 hives", "1 hive", "2 hives"]);
    }

    #[test]
    fn figures_are_short() {
        assert_eq!(
            [0, 999, 1000, 4096, 102_400, 2_097_152].map(mb),
            ["0M", "999M", "1.0G", "4.0G", "100G", "2.0T"]
        );
        assert_eq!([5, 65, 11_220, 1_051_200].map(seconds), ["5s", "1m05s", "3h07m", "12d4h"]);
        assert_eq!([0.0, 0.26, 45.4, 1600.0].map(percent), ["0%", "0.3%", "45%", "1600%"]);
        assert_eq!(millis(340), "340ms");
        assert_eq!(or_none(None, seconds), "–");
    }

    proptest! {
        #[test]
        fn no_figure_is_wide(n in 0_u64..1 << 40, p in 0.0_f64..1e6) {
            prop_assert!(seconds(n).len() <= 12 && mb(n).len() <= 9 && percent(p).len() <= 9);
        }

        #[test]
        fn nothing_reaches_the_terminal_as_a_command(text in "(?s).{0,40}") {
            prop_assert!(!plain(&text).chars().any(char::is_control));
        }
    }
}
