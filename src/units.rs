//! Amounts as people write them, on the command line and in plans: sizes with rsync's suffixes, rates,
//! durations; and numbers of things as they read them. Errors are sentences to be put after what was wrong.

use std::time::Duration;

/// Decimal places of a fraction that count; a petabyte has no more.
const MAX_PLACES: usize = 18;

/// Parses a size in bytes, as rsync writes it: `1.5m`, `2GiB`, `10kb`, `1g-1`.
///
/// A single letter or `KiB` means units of 1024, `KB` units of 1000; `+1` and `-1` at the end
/// move the result by a byte.
pub fn parse_size(text: &str) -> Result<u64, String> {
    parse_amount(text, 1)
}

/// Parses a rate in bytes a second, as rsync's `--bwlimit`: a plain number is in KiB; 0 means
/// no limit.
pub fn parse_rate(text: &str) -> Result<u64, String> {
    parse_amount(text, 1024)
}

/// Parses a time: seconds, or a whole number with `s`, `m`, `h` or `d`. At least one second.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    parse_seconds(text, "s, m, h or d", "90s or 10m")
}

/// A time of whole seconds; `units` and `example` are what may be written in its place.
fn parse_seconds(text: &str, units: &str, example: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits
        .parse()
        .map_err(|_| format!("give a whole number with {units}, like {example}"))?;
    let unit = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        unit => return Err(format!("{unit:?} is no unit: use {units}")),
    };
    match number.checked_mul(unit) {
        None => Err("it is too long".to_owned()),
        Some(0) => Err("it must be at least one second".to_owned()),
        Some(secs) => Ok(Duration::from_secs(secs)),
    }
}

/// Parses a pause: milliseconds (`500ms`), or what [`parse_duration`] takes.
pub fn parse_pause(text: &str) -> Result<Duration, String> {
    let (units, example) = ("ms, s, m, h or d", "500ms or 10s");
    match text.strip_suffix("ms").map(str::parse) {
        None => parse_seconds(text, units, example),
        Some(Ok(0)) => Err("it must be at least one millisecond".to_owned()),
        Some(Ok(ms)) => Ok(Duration::from_millis(ms)),
        Some(Err(_)) => Err(format!("give a whole number with {units}, like {example}")),
    }
}

fn parse_amount(text: &str, default_unit: u64) -> Result<u64, String> {
    let (number, offset) = match text {
        _ if text.ends_with("+1") => (&text[..text.len() - 2], 1),
        _ if text.ends_with("-1") => (&text[..text.len() - 2], -1),
        _ => (text, 0),
    };
    let digits = number.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let decimal = parse_decimal(digits)?;
    let unit = parse_unit(&number[digits.len()..], default_unit)?;
    let amount = decimal
        .scaled(unit)
        .checked_add(offset)
        .filter(|&amount| amount >= 0)
        .ok_or("it is less than nothing")?;
    u64::try_from(amount).map_err(|_| "it is larger than 16 EiB".to_owned())
}

fn parse_unit(suffix: &str, default_unit: u64) -> Result<u64, String> {
    let suffix = suffix.to_ascii_lowercase();
    if suffix.is_empty() {
        return Ok(default_unit);
    }
    let power = ["b", "k", "m", "g", "t", "p"]
        .iter()
        .position(|letter| suffix.starts_with(letter));
    let (power, rest) = match power {
        Some(power) => (power as u32, &suffix[1..]),
        None => (0, "?"),
    };
    match (power, rest) {
        (_, "") | (1.., "ib") => Ok(1024_u64.pow(power)),
        (1.., "b") => Ok(1000_u64.pow(power)),
        _ => Err(format!(
            "{suffix:?} is no unit: use B, K, M, G, T or P (of 1024), or KB, MB, ... (of 1000)"
        )),
    }
}

/// A decimal number without rounding: `digits / 10^places`.
struct Decimal {
    digits: i128,
    places: u32,
}

impl Decimal {
    /// The number times `unit`, cut to a whole.
    fn scaled(&self, unit: u64) -> i128 {
        // Where this saturates, at most 18 places are taken off 1.7e38, which leaves more than
        // any size holds: it is refused either way.
        self.digits.saturating_mul(i128::from(unit)) / 10_i128.pow(self.places)
    }
}

fn parse_decimal(text: &str) -> Result<Decimal, String> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_number = |half: &str| half.bytes().all(|b| b.is_ascii_digit());
    if !is_number(whole) || !is_number(fraction) || (whole.is_empty() && fraction.is_empty()) {
        return Err("give a number with a unit, like 500K or 1.5G".to_owned());
    }
    let fraction = &fraction[..fraction.len().min(MAX_PLACES)];
    Ok(Decimal {
        digits: format!("{whole}{fraction}")
            .parse()
            .map_err(|_| "it has too many digits".to_owned())?,
        places: fraction.len() as u32,
    })
}

/// A number with its noun.
pub fn counted(number: u64, one: &str, many: &str) -> String {
    match number {
        1 => format!("1 {one}"),
        _ => format!("{number} {many}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_rsyncs() {
        let cases = [
            ("0", 0),
            ("123", 123),
            ("7b", 7),
            ("1k", 1024),
            ("1K", 1024),
            ("1KiB", 1024),
            ("1kb", 1000),
            ("10m", 10 << 20),
            ("2GiB", 2 << 30),
            ("1T", 1 << 40),
            ("3p", 3 << 50),
            ("1.5m", 3 << 19),
            (".5k", 512),
            ("1.k", 1024),
            ("1.5mb-1", 1_499_999),
            ("2g+1", 2_147_483_649),
            ("8192P-1", 9_223_372_036_854_775_807),
            ("0.0000000000000000000001p", 0),
        ];
        for (text, bytes) in cases {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in [
            "",
            "k",
            ".",
            "x",
            "-1",
            "0-1",
            "1x",
            "1kk",
            "1bb",
            "1bib",
            "1 k",
            "1e3",
            "1k+2",
            "1.2.3",
            "-5",
            "ü",
            "5ü",
            "1.ü",
            "1.00000000000000000ü",
            "99999p",
            "99999999999999999999999999999999999999999999",
        ] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_plain_rate_is_in_kib() {
        assert_eq!(parse_rate("100"), Ok(102_400));
        assert_eq!(parse_rate("1.5m"), Ok(3 << 19));
        assert_eq!(parse_rate("0"), Ok(0));
    }

    #[test]
    fn what_is_no_amount_is_told_what_it_may_be() {
        for (said, part) in [
            (parse_size("abc").map(drop), "give a number with a unit"),
            (parse_size("1x").map(drop), "\"x\" is no unit: use B, K"),
            (parse_duration("abc").map(drop), "whole number with s, m"),
            (parse_duration("5x").map(drop), "\"x\" is no unit: use s, m"),
            (parse_pause("abc").map(drop), "whole number with ms, s, m"),
            (parse_pause("5x").map(drop), "\"x\" is no unit: use ms, s"),
        ] {
            let why = said.unwrap_err();
            assert!(why.contains(part), "{why}");
        }
    }

    #[test]
    fn durations_have_units_and_last() {
        let secs = |n| Ok(Duration::from_secs(n));
        assert_eq!(parse_duration("90"), secs(90));
        assert_eq!(parse_duration("90s"), secs(90));
        assert_eq!(parse_duration("10m"), secs(600));
        assert_eq!(parse_duration("2h"), secs(7200));
        assert_eq!(parse_duration("1d"), secs(86_400));
        assert_eq!(parse_pause("1500ms"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_pause("2s"), secs(2));
        assert!(parse_pause("0ms").is_err() && parse_pause("ms").is_err());
        for text in [
            "",
            "0",
            "0m",
            "m",
            "1w",
            "1.5h",
            "-1",
            "99999999999999999999d",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
