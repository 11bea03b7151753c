//! How much a mirror may send at which hour: `--bwlimit` as a timetable, in the notation of rclone.

use crate::units::parse_rate;

const MINUTES_A_DAY: u16 = 24 * 60;

const WEEKDAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// A limit for each moment of the week.
///
/// ```
/// use cutover::mirror::schedule::Schedule;
///
/// let schedule: Schedule = "Mon-08:00,2M Mon-18:00,off".parse().unwrap();
/// let monday = [(8 * 60, Some(2 << 20)), (18 * 60, None)];
/// assert_eq!(schedule.by_minute(), monday);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// What holds from a minute of the week on, until the next: in their order, at least one.
    points: Vec<(u16, Option<u64>)>,
}

impl Schedule {
    /// What holds from which minute of the week on, in their order.
    pub fn by_minute(&self) -> Vec<(u16, Option<u64>)> {
        self.points.clone()
    }
}

impl std::str::FromStr for Schedule {
    type Err = String;

    /// Parses a rate that always holds, or `HH:MM,RATE` and `Day-HH:MM,RATE` with spaces between
    /// them. A rate is as for [`parse_rate`]; `off` and `0` are no limit.
    fn from_str(text: &str) -> Result<Schedule, String> {
        if !text.contains(',') {
            return Ok(Schedule {
                points: vec![(0, parse_limit(text.trim())?)],
            });
        }
        let mut points = Vec::new();
        for word in text.split_whitespace() {
            let (when, rate) = word.split_once(',').ok_or_else(|| {
                format!("{word:?} has no rate: write HH:MM,RATE, like 08:00,2M 18:00,off")
            })?;
            let limit = parse_limit(rate)?;
            points.extend(parse_times(when)?.into_iter().map(|at| (at, limit)));
        }
        points.sort_unstable_by_key(|(from, _)| *from);
        if let Some(pair) = points.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            let minute = pair[0].0 % MINUTES_A_DAY;
            return Err(format!(
                "{:02}:{:02} is there twice",
                minute / 60,
                minute % 60
            ));
        }
        match points.is_empty() {
            true => Err("write HH:MM,RATE, like 08:00,2M 18:00,off".to_owned()),
            false => Ok(Schedule { points }),
        }
    }
}

fn parse_limit(text: &str) -> Result<Option<u64>, String> {
    match text {
        "off" => Ok(None),
        rate => Ok(Some(parse_rate(rate)?).filter(|rate| *rate > 0)),
    }
}

/// The minutes of the week that a time means: one with a day, seven without.
fn parse_times(text: &str) -> Result<Vec<u16>, String> {
    let (days, time) = match text.split_once('-') {
        None => (0..7, text),
        Some((day, time)) => {
            let day = parse_weekday(day)?;
            (day..day + 1, time)
        }
    };
    let minute = parse_time(time).ok_or_else(|| format!("{time:?} is no time: write HH:MM"))?;
    Ok(days.map(|day| day * MINUTES_A_DAY + minute).collect())
}

fn parse_weekday(text: &str) -> Result<u16, String> {
    let lower = text.to_ascii_lowercase();
    WEEKDAYS
        .iter()
        .position(|day| *day == lower)
        .map(|at| at as u16)
        .ok_or_else(|| format!("{text:?} is no day: write Mon, Tue, Wed, Thu, Fri, Sat or Sun"))
}

fn parse_time(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let digits = |text: &str| text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(hour) || !digits(minute) {
        return None;
    }
    let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
    (hour < 24 && minute < 60).then_some(hour * 60 + minute)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Mirroring;

    fn at(schedule: &str, weekday: u16, time: &str) -> Option<u64> {
        let schedule: Schedule = schedule.parse().unwrap();
        let mirroring = Mirroring {
            bandwidth_by_minute: schedule.by_minute(),
            ..Mirroring::default()
        };
        let minute = weekday * MINUTES_A_DAY + parse_time(time).unwrap();
        mirroring.bandwidth(minute, Some(7))
    }

    #[test]
    fn a_limit_holds_until_the_next() {
        let day = "08:00,2M 12:00,500 18:00,off";
        for (time, limit) in [
            ("00:00", None),
            ("07:59", None),
            ("08:00", Some(2 << 20)),
            ("11:59", Some(2 << 20)),
            ("12:00", Some(500 << 10)),
            ("17:59", Some(500 << 10)),
            ("18:00", None),
            ("23:59", None),
        ] {
            for weekday in [0, 3, 6] {
                assert_eq!(at(day, weekday, time), limit, "{weekday} {time}");
            }
        }
    }

    #[test]
    fn a_limit_of_the_evening_holds_over_midnight() {
        let night = "22:00,1M 06:00,off";
        for weekday in [0, 6] {
            assert_eq!(at(night, weekday, "23:00"), Some(1 << 20));
            assert_eq!(at(night, weekday, "05:59"), Some(1 << 20));
            assert_eq!(at(night, weekday, "06:00"), None);
        }
    }

    #[test]
    fn a_week_has_days_of_its_own() {
        let week = "Mon-08:00,1M Fri-18:00,off sun-20:00,2M";
        assert_eq!(at(week, 0, "07:59"), Some(2 << 20));
        assert_eq!(at(week, 0, "08:00"), Some(1 << 20));
        assert_eq!(at(week, 2, "03:00"), Some(1 << 20));
        assert_eq!(at(week, 5, "12:00"), None);
        assert_eq!(at(week, 6, "23:00"), Some(2 << 20));
    }

    #[test]
    fn a_rate_alone_always_holds() {
        assert_eq!(at("2M", 4, "12:34"), Some(2 << 20));
        assert_eq!(at("0", 4, "12:34"), None);
        assert_eq!(at("off", 4, "12:34"), None);
        assert_eq!(at("10:00,1M", 4, "09:59"), Some(1 << 20));
    }

    #[test]
    fn what_is_no_timetable_is_refused() {
        for text in [
            "",
            " ",
            ",",
            "08:00,",
            "08:00,x",
            "8:00,1M",
            "24:00,1M",
            "08:60,1M",
            "08:00,1M 08:00,2M",
            "08:00,1M Mon-08:00,2M",
            "Day-08:00,1M",
            "08:00,1M 2M",
            "08:00-18:00=2M",
        ] {
            assert!(text.parse::<Schedule>().is_err(), "{text:?}");
        }
    }
}
