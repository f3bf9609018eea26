//! Rollouts as a terminal shows them: steps, weights, and the evidence against its bars.
//!
//! [`Board`] is a pure function from views to text, so that pictures are tested as text; [`Live`] puts boards on a
//! terminal, one over the other, and leaves it as it was. Nothing here asks a daemon or a clock.
//!
//! Texts in a view come from other people. Whatever could move a cursor is taken out of them before they are shown.

mod bar;
mod board;
mod line;
mod live;
mod panel;
mod table;
#[cfg(test)]
mod tests;
mod words;

pub use board::{Board, report};
pub use line::{clean, wrapped};
pub use live::Live;
pub(crate) use live::{colour_wanted, terminal_size};
pub(crate) use panel::late;
pub use words::{clock, span, step, view_line, weight};

use sluice_wire::view::RolloutView;

/// One picture of all rollouts, in plain text, `width` columns wide, with as many lines as it takes.
pub fn draw(views: &[RolloutView], width: usize) -> String {
    Board::new(views).width(width).draw()
}
