//! A destination that asks for what it was not told of: filters hide from it what they leave out.

#![allow(clippy::unwrap_used, unreachable_pub)]

#[path = "common/mod.rs"]
#[allow(dead_code, reason = "only the corner is needed here")]
mod common;

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use cutover::events::Side;
use cutover::manifest::record::RecordRules;
use cutover::options::{RuleText, SyncOptions};
use cutover::path::RelPath;
use cutover::protocol::frame::{
    FrameKind, HEADER, decode, decode_message, encode_message, parse_header,
};
use cutover::protocol::message::{
    DestinationHello, FromDestination, FromSource, Mode, Open, OpenSession, OwnerQuery, OwnerReply,
    Want,
};

use common::lab::Lab;
use common::run::BINARY;

/// An agent that serves a source, and a destination's end of the wire to it.
struct Source {
    agent: Child,
    to: ChildStdin,
    from: ChildStdout,
}

impl Source {
    fn open(lab: &Lab, options: SyncOptions) -> Source {
        let mut command = Command::new(BINARY);
        lab.isolate(command.arg("agent"), "far");
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut agent = piped.spawn().unwrap();
        let (to, from) = (agent.stdin.take().unwrap(), agent.stdout.take().unwrap());
        let mut source = Source { agent, to, from };
        source.skip_preamble();
        source.say(&Open::Session(Box::new(OpenSession {
            side: Side::Source,
            root: lab.src.as_os_str().as_encoded_bytes().to_vec(),
            sudo: false,
            options,
            mode: Mode::Sync,
        })));
        source
    }

    fn skip_preamble(&mut self) {
        let mut byte = [0];
        while byte != *b"\n" {
            self.from.read_exact(&mut byte).unwrap();
        }
    }

    fn say(&mut self, message: &impl serde::Serialize) {
        self.to
            .write_all(&encode_message(message).unwrap())
            .unwrap();
    }

    fn greet(&mut self, options: &SyncOptions, empty: bool) {
        self.say(&FromDestination::Hello(DestinationHello {
            rules: RecordRules {
                fidelity: options.fidelity,
                granularity_ns: 1,
                content: false,
            },
            single: None,
            empty,
            content: true,
            owners: Vec::new(),
        }));
    }

    /// All that the source says until it has ended so many streams and given so many answers that
    /// tell nothing.
    fn overhear(&mut self, mut streams: usize, mut answers: usize) -> Vec<u8> {
        let mut heard = Vec::new();
        while streams + answers > 0 {
            let mut header = [0; HEADER];
            self.from.read_exact(&mut header).unwrap();
            let (len, kind) = parse_header(header).unwrap();
            let mut body = vec![0; len];
            self.from.read_exact(&mut body).unwrap();
            let frame = decode(kind, body).unwrap();
            heard.extend_from_slice(&frame.body);
            if frame.kind != FrameKind::Message {
                continue;
            }
            match decode_message(&frame.body).unwrap() {
                FromSource::Owners(queries) => {
                    let reply = |query: &OwnerQuery| OwnerReply {
                        id: query.id,
                        held: true,
                    };
                    let replies = queries.iter().map(reply).collect();
                    self.say(&FromDestination::Owners(replies));
                }
                FromSource::Hash { path, hash } => {
                    assert_eq!(hash, None, "{path}");
                    answers -= 1;
                }
                FromSource::Unsent { .. } => answers -= 1,
                FromSource::Streamed(_) => streams -= 1,
                _ => {}
            }
        }
        heard
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        let _ = self.agent.kill();
        let _ = self.agent.wait();
    }
}

#[test]
fn what_filters_hide_cannot_be_asked_for() {
    let path = |text: &str| RelPath::new(text.as_bytes()).unwrap();
    for empty in [true, false] {
        let lab = Lab::with_source("f open/a 'x'\n f secret/inner/key 'hidden-content'");
        let mut options = SyncOptions::default();
        options.selection.rules = vec![RuleText(b"- secret/".to_vec())];
        let mut source = Source::open(&lab, options.clone());
        source.greet(&options, empty);
        source.say(&FromDestination::Hash(vec![path("secret/inner/key")]));
        source.say(&FromDestination::Want(Want {
            path: path("secret/inner/key"),
            basis: None,
        }));
        source.say(&FromDestination::Stream {
            dirs: vec![path("secret"), path("secret/inner")],
            content: true,
        });
        // Each of the four is answered as if it were not there.
        let heard = source.overhear(2 + usize::from(empty), 4);
        let holds = |text: &[u8]| heard.windows(text.len()).any(|window| window == text);
        assert!(!holds(b"hidden-content"), "empty: {empty}");
    }
}
