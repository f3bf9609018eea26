//! Boards on a terminal, one over the other.
//!
//! The second screen is used, so that resizing never leaves pieces behind and the terminal's own content comes back; the
//! last picture is printed on the first screen. No raw mode: Ctrl-C stays the shell's.

use std::io::{self, IsTerminal, Stdout, Write};

use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::terminal::{
    BeginSynchronizedUpdate, Clear, ClearType, EndSynchronizedUpdate, EnterAlternateScreen,
    LeaveAlternateScreen,
};
use crossterm::{execute, queue};
use sluice_wire::view::RolloutView;

use super::Board;

/// A terminal that shows boards. Dropped, it is as it was before.
pub struct Live<W: Write = Stdout> {
    out: W,
    size: fn() -> (usize, usize),
    colour: bool,
    footer: String,
    open: bool,
}

impl<W: Write> std::fmt::Debug for Live<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Live").field("open", &self.open).finish_non_exhaustive()
    }
}

impl Live<Stdout> {
    /// Nothing if stdout is no terminal (or a dumb one): then print lines.
    pub fn open(footer: &str) -> io::Result<Option<Live>> {
        let dumb = std::env::var("TERM").is_ok_and(|term| term == "dumb");
        if !io::stdout().is_terminal() || dumb {
            return Ok(None);
        }
        Live::on(io::stdout(), terminal_size, colour_wanted(), footer).map(Some)
    }
}

impl<W: Write> Live<W> {
    /// On anything that understands a terminal's sequences. `size`: columns and lines, asked for before each picture.
    pub fn on(mut out: W, size: fn() -> (usize, usize), colour: bool, footer: &str) -> io::Result<Live<W>> {
        execute!(out, EnterAlternateScreen, Hide)?;
        Ok(Live { out, size, colour, footer: footer.to_owned(), open: true })
    }

    /// Draws over the former picture.
    pub fn show(&mut self, views: &[RolloutView]) -> io::Result<()> {
        let (width, height) = (self.size)();
        let board = Board::new(views).width(width).height(height).colour(self.colour).footer(&self.footer);
        queue!(self.out, BeginSynchronizedUpdate, MoveTo(0, 0))?;
        for (number, line) in board.draw().lines().take(height).enumerate() {
            // A newline after the last line would scroll.
            if number > 0 {
                write!(self.out, "\r\n")?;
            }
            queue!(self.out, Clear(ClearType::CurrentLine))?;
            write!(self.out, "{line}")?;
        }
        queue!(self.out, Clear(ClearType::FromCursorDown), EndSynchronizedUpdate)?;
        self.out.flush()
    }

    /// Gives the terminal back and prints the last picture on it.
    pub fn close(mut self, views: &[RolloutView]) -> io::Result<()> {
        self.leave()?;
        let (width, _) = (self.size)();
        write!(self.out, "{}", Board::new(views).width(width).colour(self.colour).draw())?;
        self.out.flush()
    }

    fn leave(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.open) {
            execute!(self.out, LeaveAlternateScreen, Show)?;
        }
        Ok(())
    }
}

impl<W: Write> Drop for Live<W> {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing back.
        let _ = self.leave();
    }
}

/// Columns and lines; what a small terminal has if it does not say.
pub(crate) fn terminal_size() -> (usize, usize) {
    let (columns, lines) = crossterm::terminal::size().unwrap_or((80, 24));
    (usize::from(columns.max(20)), usize::from(lines.max(5)))
}

/// <https://no-color.org>
pub(crate) fn colour_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
