//! Spans of time and rates as they are written in a plan, read while the file is, so that an
//! impossible one is an error with its line.

use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::units::{parse_duration, parse_rate};

/// How long a command may take unless it says otherwise: a large service may need minutes to stop.
const COMMAND: Duration = Duration::from_secs(120);

/// How long a check is tried unless it says otherwise.
const CHECK: Duration = Duration::from_secs(30);

/// What the schema calls the form of a span of time.
pub(super) const SPAN: &str = "span";

/// What the schema calls the form of a rate.
pub(super) const RATE: &str = "rate";

/// A span of time: `"90s"`, `"10m"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    text: String,
    duration: Duration,
}

/// Bytes a second: `"20M"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ByteRate {
    text: String,
    bytes_per_s: u64,
}

impl Span {
    /// How long.
    pub fn duration(&self) -> Duration {
        self.duration
    }

    /// The limit of commands that name none.
    pub(super) fn command() -> Span {
        Span::of(COMMAND)
    }

    /// How long checks are tried that do not say.
    pub(super) fn check() -> Span {
        Span::of(CHECK)
    }

    fn of(duration: Duration) -> Span {
        Span {
            text: format!("{}s", duration.as_secs()),
            duration,
        }
    }
}

impl ByteRate {
    /// How many bytes a second; 0 is no limit.
    pub fn bytes_per_s(&self) -> u64 {
        self.bytes_per_s
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Span, D::Error> {
        let text = String::deserialize(deserializer)?;
        match parse_duration(&text) {
            Ok(duration) => Ok(Span { text, duration }),
            Err(why) => Err(D::Error::custom(format!(
                "{text:?} is no span of time: {why}"
            ))),
        }
    }
}

impl<'de> Deserialize<'de> for ByteRate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ByteRate, D::Error> {
        let text = String::deserialize(deserializer)?;
        match parse_rate(&text) {
            Ok(bytes_per_s) => Ok(ByteRate { text, bytes_per_s }),
            Err(why) => Err(D::Error::custom(format!("{text:?} is no rate: {why}"))),
        }
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl Serialize for ByteRate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl JsonSchema for Span {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Span".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "format": SPAN,
            "pattern": "^[0-9]+[smhd]?$",
            "description": "A span of time, at least a second: 90s, 10m, 2h."
        })
    }
}

impl JsonSchema for ByteRate {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ByteRate".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "format": RATE,
            "pattern": "^[0-9.]+[A-Za-z]*$",
            "description": "Bytes a second: 500K, 20M; a plain number is in KiB."
        })
    }
}
