//! `--nice` and `--ionice`: how they are written.

use crate::fs::IoPriority;

/// Parses a niceness, from -20 to 19.
pub fn parse_nice(text: &str) -> Result<i32, String> {
    match text.parse() {
        Ok(nice @ -20..=19) => Ok(nice),
        _ => Err("give a number from -20, before all others, to 19, after them".to_owned()),
    }
}

/// Parses `CLASS` or `CLASS:LEVEL` with the names and numbers of ionice(1).
pub fn parse_io_priority(text: &str) -> Result<IoPriority, String> {
    let (class, level) = match text.split_once(':') {
        None => (text, None),
        Some((class, level)) => (class, Some(parse_level(level)?)),
    };
    // The level that ionice(1) takes where none is given.
    let or_middle = level.unwrap_or(4);
    match class {
        "realtime" | "1" => Ok(IoPriority::RealTime(or_middle)),
        "best-effort" | "2" => Ok(IoPriority::BestEffort(or_middle)),
        "idle" | "3" if level.is_none() => Ok(IoPriority::Idle),
        "idle" | "3" => Err("idle has no levels".to_owned()),
        _ => Err(format!(
            "{class:?} is no class: use idle, best-effort or realtime, the latter two with a \
             level, like best-effort:7"
        )),
    }
}

fn parse_level(text: &str) -> Result<u8, String> {
    match text.parse() {
        Ok(level @ 0..=7) => Ok(level),
        _ => Err(format!("{text:?} is no level: use 0, the first, to 7")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::{set_io_priority, set_nice};

    #[test]
    fn classes_are_those_of_ionice() {
        for (text, priority) in [
            ("idle", IoPriority::Idle),
            ("3", IoPriority::Idle),
            ("best-effort", IoPriority::BestEffort(4)),
            ("2:7", IoPriority::BestEffort(7)),
            ("realtime:0", IoPriority::RealTime(0)),
        ] {
            assert_eq!(parse_io_priority(text), Ok(priority), "{text}");
        }
        for text in ["", "none", "idle:3", "best-effort:8", "best-effort:", "4"] {
            assert!(parse_io_priority(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_thread_and_what_it_starts_stand_back() {
        let seen = std::thread::spawn(|| {
            set_nice(19).unwrap();
            set_io_priority(IoPriority::Idle).unwrap();
            let run = |program: &str| {
                let output = std::process::Command::new(program).output().unwrap();
                String::from_utf8(output.stdout).unwrap()
            };
            (run("nice"), run("ionice"))
        });
        let (nice, ionice) = seen.join().unwrap();
        assert_eq!(nice.trim(), "19");
        assert_eq!(ionice.trim(), "idle");
        assert!(parse_nice("20").is_err() && parse_nice("x").is_err());
        assert_eq!(parse_nice("-20"), Ok(-20));
    }
}
