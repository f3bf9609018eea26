//! Worlds that a story acts in.
pub struct World;
