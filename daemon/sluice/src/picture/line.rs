//! One line of a picture: pieces with a tone, cut to a width. Text from outside becomes harmless here.

use unicode_width::UnicodeWidthChar;

/// What a piece means; colours say it again, never alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Faint,
    Strong,
    Good,
    Bad,
    Wary,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Line {
    pieces: Vec<(Tone, String)>,
}

impl Line {
    pub(super) fn new(tone: Tone, text: impl AsRef<str>) -> Line {
        Line::default().and(tone, text)
    }

    pub(super) fn and(mut self, tone: Tone, text: impl AsRef<str>) -> Line {
        self.pieces.push((tone, clean(text.as_ref())));
        self
    }

    /// Fills up with spaces to this column.
    pub(super) fn to(self, column: usize) -> Line {
        let missing = column.saturating_sub(self.columns());
        self.and(Tone::Plain, " ".repeat(missing))
    }

    pub(super) fn columns(&self) -> usize {
        self.pieces.iter().map(|(_, text)| columns(text)).sum()
    }

    /// Cut to `width` columns, without spaces at its end.
    pub(super) fn render(&self, width: usize, colour: bool) -> String {
        let (mut text, mut left) = (String::new(), width);
        let last =
            self.pieces.iter().rposition(|(_, text)| !text.trim_end().is_empty()).map_or(0, |last| last + 1);
        for (at, (tone, piece)) in self.pieces[..last].iter().enumerate() {
            let piece = if at + 1 == last { piece.trim_end() } else { piece };
            let shown = cut(piece, left);
            left -= columns(&shown).min(left);
            match tone.code().filter(|_| colour && !shown.is_empty()) {
                Some(code) => text.extend(["\x1b[", code, "m", &shown, "\x1b[0m"]),
                None => text.push_str(&shown),
            }
        }
        text
    }
}

impl Tone {
    fn code(self) -> Option<&'static str> {
        match self {
            Tone::Plain => None,
            Tone::Faint => Some("2"),
            Tone::Strong => Some("1"),
            Tone::Good => Some("32"),
            Tone::Bad => Some("31"),
            Tone::Wary => Some("33"),
        }
    }
}

/// Columns that a text takes.
pub(super) fn columns(text: &str) -> usize {
    text.chars().map(|c| c.width().unwrap_or(0)).sum()
}

/// One line without anything that could move the cursor, change colours or turn the direction of writing. Lines are
/// joined by `; `.
pub fn clean(text: &str) -> String {
    let harmless = |c: char| match c {
        '\r' | '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        c => c,
    };
    text.trim_end_matches('\n').replace('\n', "; ").chars().map(harmless).collect()
}

/// At most `width` columns; what was cut ends with an ellipsis.
pub(super) fn cut(text: &str, width: usize) -> String {
    if columns(text) <= width {
        return text.to_owned();
    }
    let mut left = width.saturating_sub(1);
    let mut shown: String = text
        .chars()
        .take_while(|c| {
            let needed = c.width().unwrap_or(0);
            let fits = needed <= left;
            left = left.saturating_sub(needed);
            fits
        })
        .collect();
    if width > 0 {
        shown.push('…');
    }
    shown
}

/// Lines of at most `width` columns, broken between words.
pub fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in clean(text).split_whitespace() {
        let room =
            lines.last().is_some_and(|line| line.is_empty() || columns(line) + 1 + columns(word) <= width);
        if !room {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}
