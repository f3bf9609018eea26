//! A bar of eighths.

const EIGHTHS: [char; 7] = ['▏', '▎', '▍', '▌', '▋', '▊', '▉'];

/// `share` (0 to 1, anything else is cut to it) of `width` columns; the rest is dotted.
pub(super) fn bar(share: f64, width: usize) -> String {
    let share = if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 };
    let eighths = (share * width as f64 * 8.0).round() as usize;
    let (full, part) = (eighths / 8, eighths % 8);
    let mut text = "█".repeat(full);
    if part > 0 {
        text.push(EIGHTHS[part - 1]);
    }
    text.push_str(&"·".repeat(width - full - usize::from(part > 0)));
    text
}

/// How much of a bar is reached: logarithms of evidence below 0 count as nothing.
pub(super) fn reached(log: f64, bar: f64) -> f64 {
    if bar > 0.0 { (log / bar).clamp(0.0, 1.0) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_has_always_its_width() {
        for share in [-1.0, 0.0, 0.01, 0.5, 0.999, 1.0, 7.0, f64::NAN] {
            assert_eq!(bar(share, 10).chars().count(), 10, "at {share}");
        }
        assert_eq!(bar(0.5, 4), "██··");
        assert_eq!(bar(0.3, 4), "█▎··");
    }
}
