//! Several rollouts in one picture: in full as long as there is room, one a line otherwise.

use sluice_analyzers::Report;
use sluice_wire::view::RolloutView;

use super::line::{Line, Tone};
use super::{panel, table};

const USUAL_WIDTH: usize = 100;

/// What is to be drawn, and how.
#[derive(Debug, Clone)]
pub struct Board<'a> {
    views: &'a [RolloutView],
    width: usize,
    height: Option<usize>,
    colour: bool,
    table: bool,
    footer: Option<String>,
}

impl<'a> Board<'a> {
    pub fn new(views: &'a [RolloutView]) -> Board<'a> {
        Board { views, width: USUAL_WIDTH, height: None, colour: false, table: false, footer: None }
    }

    /// In columns; longer lines are cut.
    pub fn width(self, width: usize) -> Board<'a> {
        Board { width, ..self }
    }

    /// In lines; what does not fit in full is drawn one a line, and what does not fit then is counted.
    pub fn height(self, height: usize) -> Board<'a> {
        Board { height: Some(height), ..self }
    }

    pub fn colour(self, colour: bool) -> Board<'a> {
        Board { colour, ..self }
    }

    /// One a line, even if there is room.
    pub fn table(self) -> Board<'a> {
        Board { table: true, ..self }
    }

    /// A last line.
    pub fn footer(self, footer: impl Into<String>) -> Board<'a> {
        Board { footer: Some(footer.into()), ..self }
    }

    /// Every line ends with a newline and takes at most the width.
    pub fn draw(&self) -> String {
        let room = self
            .height
            .map_or(usize::MAX, |height| height.saturating_sub(usize::from(self.footer.is_some())));
        let mut lines =
            if self.views.is_empty() { vec![Line::new(Tone::Faint, "no rollouts")] } else { self.body(room) };
        if lines.len() > room {
            let hidden = lines.len() - room + 1;
            lines.truncate(room.saturating_sub(1));
            lines.push(Line::new(Tone::Faint, format!("… and {hidden} more")));
        }
        lines.extend(self.footer.as_ref().map(|footer| Line::new(Tone::Faint, footer)));
        lines.iter().map(|line| line.render(self.width, self.colour) + "\n").collect()
    }

    fn body(&self, room: usize) -> Vec<Line> {
        if !self.table {
            let panels: Vec<Vec<Line>> =
                self.views.iter().map(|view| panel::panel(view, self.width)).collect();
            let full = panels.join(&Line::default());
            if full.len() <= room {
                return full;
            }
        }
        table::table(self.views)
    }
}

/// The analyzers' report in a view, if there is one.
pub fn report(view: &RolloutView) -> Option<Report> {
    panel::report(view)
}
