//! Metrics sources: one file each, all alike. A source answers one question: what did each pod of both versions count up
//! to one instant? Differences of two answers are windows.
