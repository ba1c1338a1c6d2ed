//! Text for a terminal: colours where there is one, aligned tables, wrapped sentences, times.
//!
//! Everything is rendered into a `String` from a document and a [`Style`], so a screen can be
//! compared with a file. Whatever comes from outside (names, causes, outputs of scripts) passes
//! [`clean`], since a control character in it could otherwise drive the operator's terminal.

use std::io::IsTerminal;
use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// How wide a screen is made where nobody says.
const USUAL_WIDTH: usize = 100;

/// The narrowest terminal for which screens are made.
const NARROWEST: usize = 40;

/// What the output can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Style {
    /// Whether colours may be used.
    pub(crate) colour: bool,
    /// How many columns there are.
    pub(crate) width: usize,
    /// Whether what does not fit is cut. A file or a pipe gets everything: whoever searches it
    /// must find it.
    pub(crate) cut: bool,
}

impl Style {
    /// No colours, the usual width: what a file or a pipe gets.
    pub(crate) const PLAIN: Self = Self { colour: false, width: USUAL_WIDTH, cut: false };

    /// What standard output can show: colours on a terminal only, and not if `NO_COLOR` is set.
    pub(crate) fn of_stdout() -> Self {
        if !std::io::stdout().is_terminal() {
            return Self::PLAIN;
        }
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        Self {
            colour: !refused && !dumb,
            width: terminal_width().unwrap_or(USUAL_WIDTH),
            cut: true,
        }
    }

    /// `text` in the colour of its tone.
    pub(crate) fn paint(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Plain => return text.to_owned(),
            _ if !self.colour => return text.to_owned(),
            Tone::Good => "32",
            Tone::Warn => "33",
            Tone::Bad => "1;31",
            Tone::Dim => "2",
            Tone::Strong => "1",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// The width of the terminal on standard output.
fn terminal_width() -> Option<usize> {
    // SAFETY: `winsize` is plain data, and the ioctl writes to the one it is given only.
    let size = unsafe {
        let mut size: libc::winsize = std::mem::zeroed();
        (libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &mut size) == 0).then_some(size)
    }?;
    // A terminal that says 0 does not know; one that is narrower than this shows nothing anyway.
    (size.ws_col > 0).then_some(usize::from(size.ws_col).max(NARROWEST))
}

/// What a piece of text means; the colour follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    /// Nothing in particular.
    Plain,
    /// As it should be.
    Good,
    /// Worse than it should be.
    Warn,
    /// Needs a person.
    Bad,
    /// Less important.
    Dim,
    /// More important.
    Strong,
}

impl Tone {
    /// The tone of a status word.
    pub(crate) fn of_status(status: &str) -> Self {
        match status {
            "UP" | "RUNNING" | "up" | "stable" | "Stable" | "fine" | "ONLINE" | "arrived"
            | "approved" | "closed" => Self::Good,
            "DOWN" | "INVALID" | "DISCONNECTED" | "down" | "error" | "Disabled" | "failed"
            | "ERROR" | "FAILED" => Self::Bad,
            "informational" | "notice" => Self::Plain,
            _ => Self::Warn,
        }
    }
}

/// One cell of a table.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A text with a tone.
    pub(crate) fn toned(text: impl ToString, tone: Tone) -> Self {
        Self { text: clean(&text.to_string()), tone }
    }

    /// A status, in the colour that it has.
    pub(crate) fn status(status: impl ToString) -> Self {
        let text = status.to_string();
        let tone = Tone::of_status(&text);
        Self::toned(text, tone)
    }
}

impl<T: ToString> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::toned(text, Tone::Plain)
    }
}

/// Below so many columns nothing is cut: there would be too little left.
const NARROW: usize = 60;

/// The least that is left to a last column that is wrapped.
const LEAST: usize = 20;

/// The least that is left to a last column that is cut, if it has as much.
const LEAST_CUT: usize = 12;

/// A table: a heading, rows, columns as wide as their widest cell, the last one cut to fit or wrapped. Where
/// the terminal is too narrow for that, each row is a paragraph of its own, in which names stand beside values.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    heading: Vec<Cell>,
    rows: Vec<Vec<Cell>>,
    wraps: bool,
}

impl Table {
    /// A table with these columns.
    pub(crate) fn new(heading: &[&str]) -> Self {
        let heading = heading.iter().map(|text| Cell::toned(text, Tone::Dim)).collect();
        Self { heading, rows: Vec::new(), wraps: false }
    }

    /// What the last column says is wrapped where it does not fit, and never cut: for reasons.
    pub(crate) fn wrapping(self) -> Self {
        Self { wraps: true, ..self }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// Adds a column heading at the end.
    pub(crate) fn column(&mut self, heading: &str) {
        self.heading.push(Cell::toned(heading, Tone::Dim));
    }

    /// The table as text, every line indented by `indent`.
    pub(crate) fn render(&self, style: Style, indent: usize) -> String {
        let widths = self.widths();
        let mut text = String::new();
        if style.cut && self.is_too_wide(&widths, style, indent) {
            let rows = self.rows.iter().map(|row| self.paragraph(row, style, indent));
            return rows.collect();
        }
        for row in std::iter::once(&self.heading).chain(&self.rows) {
            text.push_str(&line(row, &widths, style, indent, self.wraps));
            text.push('\n');
        }
        text
    }

    /// Whether nothing readable would be left of the last column.
    fn is_too_wide(&self, widths: &[usize], style: Style, indent: usize) -> bool {
        let Some((last, others)) = widths.split_last() else { return false };
        // Of what would be cut to nothing much anyway, nothing is cut.
        let least = match self.wraps {
            true => LEAST,
            false if style.width < NARROW => *last,
            false => LEAST_CUT,
        };
        let beside: usize = others.iter().map(|width| width + 2).sum();
        indent + beside + (*last).min(least) > style.width
    }

    /// A row in lines that fit: each value after the name of its column.
    fn paragraph(&self, row: &[Cell], style: Style, indent: usize) -> String {
        let blanks = " ".repeat(indent);
        let deeper = indent + 2;
        let room = style.width.saturating_sub(deeper);
        let (mut text, mut used) = (blanks.clone(), indent);
        for (heading, cell) in self.heading.iter().zip(row) {
            let (name, value) = (heading.text.trim(), cell.text.trim());
            if value.is_empty() {
                continue;
            }
            let named = if name.is_empty() { 0 } else { name.chars().count() + 1 };
            let length = named + value.chars().count();
            let gap = if used > indent { 2 } else { 0 };
            if gap > 0 && used + gap + length > style.width {
                text.push_str(&format!("\n{:deeper$}", ""));
                used = deeper;
            } else {
                text.push_str(&" ".repeat(gap));
                used += gap;
            }
            if !name.is_empty() {
                text.push_str(&format!("{} ", style.paint(Tone::Dim, name)));
            }
            let lines = fold(value, style.width.saturating_sub(used + named), room);
            used = match lines.split_last() {
                Some((last, [])) => used + named + last.chars().count(),
                Some((last, _)) => deeper + last.chars().count(),
                None => used + named,
            };
            let painted: Vec<String> =
                lines.iter().map(|line| style.paint(cell.tone, line)).collect();
            text.push_str(&painted.join(&format!("\n{:deeper$}", "")));
        }
        text.push('\n');
        text
    }

    fn widths(&self) -> Vec<usize> {
        let mut widths = vec![0; self.heading.len()];
        for row in std::iter::once(&self.heading).chain(&self.rows) {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.text.chars().count());
            }
        }
        widths
    }
}

/// One line of a table, without blanks at its end.
fn line(row: &[Cell], widths: &[usize], style: Style, indent: usize, wraps: bool) -> String {
    let mut text = " ".repeat(indent);
    let mut used = indent;
    for (place, (cell, width)) in row.iter().zip(widths).enumerate() {
        let last = place + 1 == row.len();
        let room = style.width.saturating_sub(used);
        let shown = match (last && style.cut, wraps) {
            (true, true) => wrap(&cell.text, room.max(LEAST), 0),
            (true, false) => cut(&cell.text, room),
            (false, _) => cell.text.clone(),
        };
        let painted: Vec<String> =
            shown.split('\n').map(|shown| style.paint(cell.tone, shown)).collect();
        text.push_str(&painted.join(&format!("\n{:used$}", "")));
        if !last {
            let gap = (width + 2).saturating_sub(shown.chars().count());
            text.push_str(&" ".repeat(gap));
            used += width + 2;
        }
    }
    text.truncate(text.trim_end_matches(' ').len());
    text
}

/// `text` in lines, of which the first has `first` columns and the others `width`. A word that is longer than
/// a line goes on in the next one.
fn fold(text: &str, first: usize, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let mut letters: Vec<char> = word.chars().collect();
        while !letters.is_empty() {
            let room = if lines.len() == 1 { first } else { width }.max(1);
            let Some(line) = lines.last_mut() else { break };
            let used = line.chars().count();
            let blank = usize::from(used > 0);
            if used + blank + letters.len() <= room {
                line.push_str(&" ".repeat(blank));
                line.extend(letters.drain(..));
            } else if used == 0 && letters.len() > width.max(room) {
                line.extend(letters.drain(..room));
                lines.push(String::new());
            } else {
                lines.push(String::new());
            }
        }
    }
    lines
}

/// `text`, cut to `width` columns with an ellipsis at its end.
fn cut(text: &str, width: usize) -> String {
    let width = width.max(8);
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut shown: String = text.chars().take(width - 1).collect();
    shown.push('…');
    shown
}

/// `text` without control characters: line ends become blanks, others are shown as `?`.
pub(crate) fn clean(text: &str) -> String {
    let shown = |c: char| match c {
        '\n' | '\r' | '\t' => ' ',
        c if c.is_control() => '?',
        c => c,
    };
    text.chars().map(shown).collect()
}

/// Several lines of foreign text, cleaned, each indented.
pub(crate) fn block(text: &str, indent: usize) -> String {
    let blanks = " ".repeat(indent);
    text.lines().map(|line| format!("{blanks}{}\n", clean(line))).collect()
}

/// `text` in lines of at most `width` columns; lines after the first are indented.
pub(crate) fn wrap(text: &str, width: usize, indent: usize) -> String {
    let mut lines = String::new();
    let mut used = 0;
    for word in clean(text).split(' ').filter(|word| !word.is_empty()) {
        let length = word.chars().count();
        if used > 0 && used + 1 + length > width {
            lines.push('\n');
            lines.push_str(&" ".repeat(indent));
            used = indent;
        } else if used > 0 {
            lines.push(' ');
            used += 1;
        }
        lines.push_str(word);
        used += length;
    }
    lines
}

/// A screen whose sentences are wrapped, too, where a terminal is narrower than they were written for.
pub(crate) fn fit(screen: &str, style: Style) -> String {
    if !style.cut || screen.lines().all(|line| columns(line) <= style.width) {
        return screen.to_owned();
    }
    let mut text = String::new();
    for line in screen.split_inclusive('\n') {
        let (line, end) = line.strip_suffix('\n').map_or((line, ""), |line| (line, "\n"));
        let own = line.len() - line.trim_start_matches(' ').len();
        let indent = (own + 2).min(style.width / 2);
        let mut used = 0;
        for (place, word) in line.split(' ').enumerate() {
            let length = columns(word);
            if used > own && length > 0 && used + 1 + length > style.width {
                text.truncate(text.trim_end_matches(' ').len());
                text.push_str(&format!("\n{:indent$}", ""));
                used = indent;
            } else if place > 0 {
                text.push(' ');
                used += 1;
            }
            text.push_str(word);
            used += length;
        }
        text.push_str(end);
    }
    text
}

/// How many columns a text takes: escape sequences take none.
fn columns(text: &str) -> usize {
    let mut inside = false;
    let shown = |letter: &char| {
        let hidden = inside || *letter == '\x1b';
        inside = hidden && *letter != 'm';
        !hidden
    };
    text.chars().filter(shown).count()
}

/// A time as short as it can be: `12:04:01Z` today, `2026-11-21 12:04:01Z` on another day.
pub(crate) fn clock(at: &str, now: &str) -> String {
    let (day, clock) = at.split_once('T').unwrap_or(("", at));
    let clock = clock.split(['.', 'Z']).next().unwrap_or_default();
    if day == "1970-01-01" {
        return "never".into();
    }
    if now.starts_with(day) { format!("{clock}Z") } else { format!("{day} {clock}Z") }
}

/// The time between two RFC 3339 times: `42 s`, `7 min`, `3 h`, `12 d`.
pub(crate) fn age(at: &str, now: &str) -> String {
    let parse = |text| OffsetDateTime::parse(text, &Rfc3339);
    let (Ok(at), Ok(now)) = (parse(at), parse(now)) else { return "?".into() };
    match (now - at).whole_seconds().max(0) {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

/// A duration of known length: `850 ms`, `28.2 s`, `12 min`.
pub(crate) fn millis(ms: u64) -> String {
    match ms {
        0..10_000 => format!("{ms} ms"),
        10_000..600_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        _ => format!("{} min", ms / 60_000),
    }
}

/// A length of time that somebody gave, as people write it: `200 ms`, `1.5 s`, `90 s`, `1 h`.
pub(crate) fn length(time: Duration) -> String {
    let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    for (unit, name) in [(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s")] {
        if ms >= unit && ms % unit == 0 {
            return format!("{} {name}", ms / unit);
        }
    }
    match ms {
        0..1_000 => format!("{ms} ms"),
        _ if ms % 100 == 0 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        _ => format!("{ms} ms"),
    }
}

/// `sentence` as it begins.
pub(crate) fn upper(sentence: &str) -> String {
    let mut letters = sentence.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// The present time as documents write it.
pub(crate) fn now() -> String {
    OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_aligned_and_cut() {
        let mut table = Table::new(&["NAME", "CAUSE"]);
        table.row(vec!["n1".into(), "a".into()]);
        table.row(vec!["a-long-name".into(), "word ".repeat(40).into()]);
        let style = Style { colour: false, width: 60, cut: true };
        let text = table.render(style, 2);
        assert!(text.starts_with("  NAME         CAUSE\n  n1           a\n  a-long-name  word"));
        assert!(text.lines().all(|line| line.chars().count() <= 60), "{text}");
        assert!(text.ends_with("…\n"));
    }

    /// Reasons are never cut: what does not fit goes on below, under its own column.
    #[test]
    fn reasons_are_wrapped() {
        let mut table = Table::new(&["GROUP", "BECAUSE"]).wrapping();
        table.row(vec!["web".into(), "n1 failed and n2 is the first that can".into()]);
        let style = Style { colour: false, width: 30, cut: true };
        assert_eq!(
            table.render(style, 0),
            "GROUP  BECAUSE\nweb    n1 failed and n2 is the\n       first that can\n"
        );
        assert_eq!(table.render(Style::PLAIN, 0).lines().count(), 2, "a pipe gets one line");
        let coloured = Style { colour: true, ..style };
        table.row(vec!["db".into(), Cell::toned("much too long for one line", Tone::Bad)]);
        assert!(table.render(coloured, 0).contains("\x1b[0m\n       \x1b[1;31m"));
    }

    /// Where columns have no room, names stand beside values, and nothing is lost.
    #[test]
    fn a_narrow_terminal_gets_paragraphs() {
        let mut table = Table::new(&["", "NODE", "HOST", "AGENT", "MANAGER", "ROLE", "FOR"]);
        let row = |mark: &str, name: &str| -> Vec<Cell> {
            let status = [Cell::status("UP"), Cell::status("RUNNING"), Cell::status("stable")];
            let ends = ["director".into(), "31 s".into()];
            [mark.into(), name.into()].into_iter().chain(status).chain(ends).collect()
        };
        table.row(row("*", "n1"));
        table.row(row("", "a-node-with-a-name-as-long-as-they-can-be-40"));
        let style = Style { colour: false, width: 40, cut: true };
        assert_eq!(
            table.render(style, 0),
            "*  NODE n1  HOST UP  AGENT RUNNING\n  MANAGER stable  ROLE director\n  FOR 31 s\n\
             NODE a-node-with-a-name-as-long-as-they-\n  can-be-40  HOST UP  AGENT RUNNING\n  \
             MANAGER stable  ROLE director\n  FOR 31 s\n"
        );
        assert!(table.render(Style { width: 100, ..style }, 0).starts_with("   NODE "));
        assert!(table.render(Style::PLAIN, 0).starts_with("   NODE "), "a pipe gets columns");
    }

    #[test]
    fn colours_do_not_move_columns() {
        let mut table = Table::new(&["HOST", "AGENT"]);
        table.row(vec![Cell::status("UP"), Cell::status("RUNNING")]);
        let coloured = table.render(Style { colour: true, width: 80, cut: true }, 0);
        assert!(coloured.contains("\x1b[32mUP\x1b[0m    \x1b[32mRUNNING"), "{coloured:?}");
    }

    #[test]
    fn foreign_text_cannot_drive_the_terminal() {
        assert_eq!(clean("a\x1b[2Jb\nc"), "a?[2Jb c");
        assert_eq!(block("x\x07\ny", 2), "  x?\n  y\n");
    }

    #[test]
    fn sentences_fit_a_narrow_terminal() {
        let style = Style { colour: true, width: 40, cut: true };
        let screen = "  - \x1b[1mone two three four five six\x1b[0m seven eight\nshort\n";
        assert_eq!(
            fit(screen, style),
            "  - \x1b[1mone two three four five six\x1b[0m seven\n    eight\nshort\n"
        );
        assert_eq!(fit(screen, Style::PLAIN), screen, "a pipe gets one line");
        assert_eq!(columns("a\x1b[1;31mb\x1b[0mc"), 3);
    }

    #[test]
    fn times_are_short() {
        let now = "2026-11-22T12:04:33.000Z";
        assert_eq!(clock("2026-11-22T12:04:01.020Z", now), "12:04:01Z");
        assert_eq!(clock("2026-11-21T12:04:01.020Z", now), "2026-11-21 12:04:01Z");
        assert_eq!(clock("1970-01-01T00:00:00.000Z", now), "never");
        assert_eq!(age("2026-11-22T12:04:01.020Z", now), "31 s");
        assert_eq!(age("2026-11-22T09:04:01.020Z", now), "3 h");
        assert_eq!(age("nonsense", now), "?");
    }

    #[test]
    fn lengths_are_as_people_write_them() {
        for (ms, text) in [
            (0, "0 ms"),
            (200, "200 ms"),
            (1_000, "1 s"),
            (1_500, "1.5 s"),
            (1_234, "1234 ms"),
            (45_000, "45 s"),
            (90_000, "90 s"),
            (120_000, "2 min"),
            (3_600_000, "1 h"),
            (172_800_000, "2 d"),
        ] {
            assert_eq!(length(Duration::from_millis(ms)), text);
        }
    }

    #[test]
    fn sentences_are_wrapped() {
        assert_eq!(wrap("one two three", 8, 2), "one two\n  three");
        assert_eq!(wrap("", 8, 2), "");
    }
}
