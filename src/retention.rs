//! How long former states are kept and how many of them: rules like `24h:1h,7d:1d`. Nothing here
//! knows what a state is, only when it was made.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::units::parse_duration;

/// The most that a rule may keep at a time: they are told in one message, and each costs the
/// filesystem a directory for every one of the root's.
const MOST_KEPT: u64 = 1000;

/// What is kept: for each span of time that reaches back from now, one in every step of it.
///
/// Steps are counted from 1970, so that a day's step is a day in UTC, and of each the newest stays,
/// as with borg and restic. Whatever falls into a step today falls into the same one tomorrow:
/// pruning often or seldom leaves the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rule {
    /// The shortest first, which has the shortest step.
    spans: Vec<Span>,
}

/// One of a rule's spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    within: Duration,
    step: Duration,
}

impl Rule {
    /// Whether another one is to be made, when some were made at these times: none is younger than
    /// the shortest step. One of the future, of a clock that was wrong, counts if it is as near.
    pub fn is_due(&self, made: &[SystemTime], now: SystemTime) -> bool {
        let step = self.spans.first().map_or(Duration::ZERO, |span| span.step);
        made.iter().all(|&at| {
            let distance = now.duration_since(at).or_else(|_| at.duration_since(now));
            distance.unwrap_or_default() >= step
        })
    }

    /// Which of those made at these times go, as indices in ascending order. The newest never does.
    pub fn prune(&self, made: &[SystemTime], now: SystemTime) -> Vec<usize> {
        let mut stays = vec![false; made.len()];
        for span in &self.spans {
            let mut newest = BTreeMap::new();
            for (at, index) in made.iter().zip(0..) {
                // One of the future has no age.
                if now.duration_since(*at).unwrap_or_default() <= span.within {
                    let best = newest.entry(span.slot(*at)).or_insert((*at, index));
                    *best = (*best).max((*at, index));
                }
            }
            for (_, index) in newest.into_values() {
                stays[index] = true;
            }
        }
        if let Some((_, newest)) = made.iter().zip(0..).max() {
            stays[newest] = true;
        }
        let goes = (0..made.len()).filter(|&index| !stays[index]);
        goes.collect()
    }
}

impl Span {
    /// Which step a time falls into.
    fn slot(&self, at: SystemTime) -> u64 {
        let since_epoch = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        since_epoch.as_secs() / self.step.as_secs()
    }

    fn parse(text: &str) -> Result<Span, String> {
        let (within, step) = text
            .split_once(':')
            .ok_or_else(|| format!("{text:?} is no span with its step, like 24h:1h"))?;
        let duration = |text: &str| {
            parse_duration(text.trim()).map_err(|why| format!("{text:?} is no time: {why}"))
        };
        let (within, step) = (duration(within)?, duration(step)?);
        match step <= within {
            true => Ok(Span { within, step }),
            false => Err(format!("{text:?} has a step that is longer than its span")),
        }
    }

    /// How many fall into it at most.
    fn most(&self) -> u64 {
        self.within.as_secs() / self.step.as_secs()
    }
}

impl FromStr for Rule {
    type Err = String;

    /// Reads `SPAN:STEP` with commas between them, in any order.
    fn from_str(text: &str) -> Result<Rule, String> {
        let spans = text.split(',').map(|part| Span::parse(part.trim()));
        let mut spans = spans.collect::<Result<Vec<_>, _>>()?;
        spans.sort_by_key(|span| span.within);
        for pair in spans.windows(2) {
            let [short, long] = [pair[0], pair[1]];
            if short.within == long.within || short.step >= long.step {
                return Err(format!(
                    "{short} and {long} do not go together: the longer span needs the longer step"
                ));
            }
        }
        let most = spans
            .iter()
            .fold(0, |sum: u64, span| sum.saturating_add(span.most()));
        match most <= MOST_KEPT {
            true => Ok(Rule { spans }),
            false => Err(format!(
                "it would keep {most}, and {MOST_KEPT} is the most: make the steps longer"
            )),
        }
    }
}

impl TryFrom<String> for Rule {
    type Error = String;

    fn try_from(text: String) -> Result<Rule, String> {
        text.parse()
    }
}

impl From<Rule> for String {
    fn from(rule: Rule) -> String {
        rule.to_string()
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (span, number) in self.spans.iter().zip(0..) {
            let comma = if number == 0 { "" } else { "," };
            write!(f, "{comma}{span}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", amount(self.within), amount(self.step))
    }
}

/// A time as [`parse_duration`] reads it, in the largest unit that it is a whole number of: but a
/// single day is 24 hours, as people write it beside hours.
fn amount(time: Duration) -> String {
    let secs = time.as_secs();
    match secs {
        86_400 => "24h".to_string(),
        _ if secs.is_multiple_of(86_400) => format!("{}d", secs / 86_400),
        _ if secs.is_multiple_of(3600) => format!("{}h", secs / 3600),
        _ if secs.is_multiple_of(60) => format!("{}m", secs / 60),
        _ => format!("{secs}s"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn rule(text: &str) -> Rule {
        text.parse().unwrap()
    }

    fn at(secs: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(secs)
    }

    /// What is left of states made at these hours.
    fn left(rule: &Rule, hours: &[u64], now: u64) -> Vec<u64> {
        let made: Vec<_> = hours.iter().map(|hour| at(hour * 3600)).collect();
        let goes = rule.prune(&made, at(now * 3600));
        let stays = (0..hours.len()).filter(|index| !goes.contains(index));
        stays.map(|index| hours[index]).collect()
    }

    #[test]
    fn a_rule_is_written_as_it_is_read() {
        for text in ["24h:1h,7d:24h", "1h:10m", "90s:1s,1h:30m,31d:7d"] {
            assert_eq!(rule(text).to_string(), text);
        }
        assert_eq!(rule(" 7d:1d, 1d:60m ").to_string(), "24h:1h,7d:24h");
        let sent = postcard::to_stdvec(&rule("24h:1h,7d:1d")).unwrap();
        let read: Rule = postcard::from_bytes(&sent).unwrap();
        assert_eq!(read, rule("24h:1h,7d:1d"));
        let bad = postcard::to_stdvec("1h:0s").unwrap();
        assert!(postcard::from_bytes::<Rule>(&bad).is_err());
    }

    #[test]
    fn what_is_no_rule_is_refused_with_the_reason() {
        for (text, why) in [
            ("", "no span"),
            ("24h", "no span"),
            ("24h:1h,", "no span"),
            ("24h:x", "no time"),
            ("0h:1h", "at least one second"),
            ("1h:24h", "longer than its span"),
            ("24h:1h,1d:2h", "do not go together"),
            ("24h:1h,7d:30m", "do not go together"),
            ("365d:1s", "is the most"),
        ] {
            let err = text.parse::<Rule>().unwrap_err();
            assert!(err.contains(why), "{text}: {err}");
        }
    }

    #[test]
    fn one_is_due_when_the_shortest_step_has_passed() {
        let rule = rule("24h:1h,7d:1d");
        let now = at(1_000_000);
        assert!(rule.is_due(&[], now));
        assert!(!rule.is_due(&[at(1_000_000 - 3599)], now));
        assert!(rule.is_due(&[at(1_000_000 - 3600)], now));
        assert!(!rule.is_due(&[at(1_000_001)], now), "the clock went back");
        assert!(rule.is_due(&[at(9_000_000)], now), "it was far off once");
    }

    #[test]
    fn hours_become_days_and_days_go() {
        let rule = rule("24h:1h,3d:1d");
        let hours: Vec<u64> = (0..=240).collect();
        let expected: Vec<u64> = [191].into_iter().chain(215..=240).collect();
        assert_eq!(left(&rule, &hours, 240), expected);
    }

    #[test]
    fn the_newest_stays_however_old_it_is() {
        assert_eq!(left(&rule("24h:1h"), &[1, 2, 3], 10_000), [3]);
    }

    fn rules() -> impl Strategy<Value = Rule> {
        prop_oneof![
            Just("24h:1h,7d:1d"),
            Just("1h:5m,24h:1h,7d:1d"),
            Just("2d:1d"),
            Just("10m:1m")
        ]
        .prop_map(rule)
    }

    fn times() -> impl Strategy<Value = Vec<SystemTime>> {
        let one = (0_u64..12 * 86_400).prop_map(at);
        proptest::collection::vec(one, 0..120)
    }

    proptest! {
        #[test]
        fn pruning_keeps_the_newest_and_one_of_each_step_and_is_done_once(
            rule in rules(),
            made in times(),
            now in (0_u64..12 * 86_400).prop_map(at),
        ) {
            let goes: BTreeSet<usize> = rule.prune(&made, now).into_iter().collect();
            let kept: Vec<_> = (0..made.len())
                .filter(|index| !goes.contains(index))
                .map(|index| made[index])
                .collect();
            prop_assert_eq!(kept.iter().max(), made.iter().max());
            prop_assert!(rule.prune(&kept, now).is_empty());
            for span in &rule.spans {
                let slots = |times: &[SystemTime]| -> BTreeSet<u64> {
                    let young = |at: &&SystemTime| {
                        now.duration_since(**at).unwrap_or_default() <= span.within
                    };
                    times.iter().filter(young).map(|at| span.slot(*at)).collect()
                };
                prop_assert_eq!(slots(&kept), slots(&made));
            }
        }

        #[test]
        fn pruning_often_leaves_what_pruning_once_does(rule in rules(), made in times()) {
            let mut made = made;
            made.sort_unstable();
            let mut kept = Vec::new();
            for &at in &made {
                kept.push(at);
                for index in rule.prune(&kept, at).into_iter().rev() {
                    kept.remove(index);
                }
            }
            if let Some(&last) = made.last() {
                let goes = rule.prune(&made, last);
                let once: Vec<_> = (0..made.len())
                    .filter(|index| !goes.contains(index))
                    .map(|index| made[index])
                    .collect();
                kept.dedup();
                prop_assert!(once.iter().all(|at| kept.contains(at)));
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[0-9smhd:, ]{0,20}") {
            if let Ok(rule) = text.parse::<Rule>() {
                prop_assert_eq!(rule.to_string().parse::<Rule>(), Ok(rule));
            }
        }
    }
}
