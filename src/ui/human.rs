//! Numbers and texts for people: one way to write each, so that all lines agree.

use std::time::Duration;

use indicatif::{BinaryBytes, HumanCount};

use crate::path::escape;

/// `1,234,567`.
pub(super) fn count(n: u64) -> String {
    HumanCount(n).to_string()
}

/// `1 entry`, `1,234 entries`.
pub(super) fn entries(n: u64) -> String {
    counted(n, "entry", "entries")
}

/// The count with the noun in its number.
pub(super) fn counted(n: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(n), if n == 1 { one } else { many })
}

/// `512 B`, `1.20 GiB`: units of 1024, always named.
pub(super) fn bytes(n: u64) -> String {
    BinaryBytes(n).to_string()
}

/// `0.31 s`, `12.0 s`, `2 min 05 s`, `3 h 07 min`: as exact as anyone cares for at that length.
pub(super) fn elapsed(time: Duration) -> String {
    let secs = time.as_secs();
    match secs {
        0..=9 => format!("{:.2} s", time.as_secs_f64()),
        10..=59 => format!("{:.1} s", time.as_secs_f64()),
        60..=3599 => format!("{} min {:02} s", secs / 60, secs % 60),
        _ => format!("{} h {:02} min", secs / 3600, secs / 60 % 60),
    }
}

/// Makes a text safe to print that the other end may have written: its lines are kept, every
/// other control character is escaped, so that it cannot move the cursor.
pub fn printable(text: &str) -> String {
    let lines: Vec<_> = text.lines().map(|line| escape(line.as_bytes())).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_name_their_unit() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1024), "1.00 KiB");
        assert_eq!(bytes(3 << 30), "3.00 GiB");
    }

    #[test]
    fn one_is_singular() {
        assert_eq!(entries(0), "0 entries");
        assert_eq!(entries(1), "1 entry");
        assert_eq!(entries(1_234_567), "1,234,567 entries");
    }

    #[test]
    fn long_times_are_told_coarsely() {
        let ms = Duration::from_millis;
        assert_eq!(elapsed(ms(312)), "0.31 s");
        assert_eq!(elapsed(ms(12_040)), "12.0 s");
        assert_eq!(elapsed(ms(125_000)), "2 min 05 s");
        assert_eq!(elapsed(ms(11_220_000)), "3 h 07 min");
    }

    #[test]
    fn a_hostile_text_cannot_move_the_cursor() {
        assert_eq!(printable("one\x1b[2J\ntwo"), "one\\#033[2J\ntwo");
    }
}
