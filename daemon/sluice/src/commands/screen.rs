//! Where answers go: stdout, as text for people or JSON for programs.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;
use sluice_wire::view::RolloutView;

use crate::picture::{Board, clean, colour_wanted, terminal_size};

const USUAL_WIDTH: usize = 120;

pub struct Screen {
    out: Box<dyn Write + Send>,
    json: bool,
    width: usize,
    colour: bool,
}

impl std::fmt::Debug for Screen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Screen").field("json", &self.json).field("width", &self.width).finish_non_exhaustive()
    }
}

impl Screen {
    pub fn stdout(json: bool) -> Screen {
        let terminal = io::stdout().is_terminal();
        let width = if terminal { terminal_size().0 } else { USUAL_WIDTH };
        Screen { out: Box::new(io::stdout()), json, width, colour: terminal && colour_wanted() }
    }

    pub fn json(&self) -> bool {
        self.json
    }

    pub fn width(&self) -> usize {
        self.width
    }

    /// One line; whatever could move the cursor is taken out.
    pub fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{}", clean(text))?;
        self.out.flush()
    }

    /// Our own text as it is: a picture, a man page.
    pub fn text(&mut self, text: &str) -> io::Result<()> {
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    /// One line of JSON.
    pub fn value(&mut self, value: &impl Serialize) -> io::Result<()> {
        let text = serde_json::to_string(value)?;
        writeln!(self.out, "{text}")?;
        self.out.flush()
    }

    pub fn board(&mut self, views: &[RolloutView], shape: impl Fn(Board<'_>) -> Board<'_>) -> io::Result<()> {
        let board = shape(Board::new(views).width(self.width).colour(self.colour));
        self.text(&board.draw())
    }
}
