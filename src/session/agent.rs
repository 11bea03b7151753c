//! The agent: what runs on another host, one end of a session or who does errands there, talked
//! to over standard input and output.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::events::{Cancel, Side, Silent};
use crate::protocol::frame::{
    FrameKind, HEADER, decode, decode_message, encode_message, parse_header,
};
use crate::protocol::message::{Open, OpenSession};
use crate::session::destination::DestinationRole;
use crate::session::errands;
use crate::session::rounds;
use crate::session::source::{SourceKind, SourceRole};
use crate::transport::{Link, Whose, accept, expand_home, sweep_agents};

/// Serves one session, or errands, on standard input and output. Returns the exit code.
pub fn serve_agent() -> u8 {
    let cancel = Cancel::new();
    for signal in [
        signal_hook::consts::SIGTERM,
        signal_hook::consts::SIGHUP,
        signal_hook::consts::SIGINT,
    ] {
        // Without the handler the signal ends the process, which is as safe, only less tidy.
        let _ = signal_hook::flag::register(signal, cancel.flag());
    }
    match serve(&cancel) {
        Ok(()) => 0,
        Err(err) => {
            eprintln!("cutover agent: {err}");
            err.class().exit_code()
        }
    }
}

fn serve(cancel: &Cancel) -> Result<()> {
    let mut link = accept().map_err(|err| Error::Connection(format!("cannot start: {err}")))?;
    sweep_agents();
    match read_open(&mut link)? {
        Open::Session(open) => serve_session(&open, link, cancel),
        Open::Rounds(open, mirroring) => {
            let root = root_of(&open);
            told(rounds::serve(&open, &mirroring, root, link, cancel))
        }
        Open::Errands { sudo } => errands::serve(link, whose(sudo), cancel),
    }
}

fn whose(sudo: bool) -> Whose {
    match sudo {
        true => Whose::Caller,
        false => Whose::Own,
    }
}

fn root_of(open: &OpenSession) -> PathBuf {
    PathBuf::from(OsString::from_vec(expand_home(
        &open.root,
        whose(open.sudo),
    )))
}

fn serve_session(open: &OpenSession, link: Link, cancel: &Cancel) -> Result<()> {
    let root = root_of(open);
    let Link { reader, writer, .. } = link;
    told(match open.side {
        Side::Source => source_role(open, &root, cancel).run(reader, writer),
        Side::Destination => destination_role(open, &root, cancel).run(reader, writer),
    })
}

/// What is left to say here once an end is over.
fn told<T>(outcome: Result<T>) -> Result<()> {
    match outcome {
        // The other end has been told already, and says it better there.
        Ok(_) | Err(Error::Remote(_)) => Ok(()),
        Err(err) => Err(err),
    }
}

pub(super) fn source_role<'a>(
    open: &'a OpenSession,
    root: &'a Path,
    cancel: &'a Cancel,
) -> SourceRole<'a> {
    SourceRole {
        root,
        kind: SourceKind::of(root, open.mode),
        options: &open.options,
        mode: open.mode,
        observer: &Silent,
        cancel,
        forwards: true,
    }
}

pub(super) fn destination_role<'a>(
    open: &'a OpenSession,
    root: &'a Path,
    cancel: &'a Cancel,
) -> DestinationRole<'a> {
    DestinationRole {
        root,
        options: &open.options,
        mode: open.mode,
        observer: &Silent,
        cancel,
        forwards: true,
        local_source: None,
    }
}

/// Tells an agent what it shall be.
pub(super) fn send_open(link: &mut Link, open: &Open) -> Result<()> {
    let frame = encode_message(open)?;
    link.writer
        .write_all(&frame)
        .map_err(|err| Error::Connection(format!("cannot talk to the agent: {err}")))
}

fn read_open(link: &mut Link) -> Result<Open> {
    let lost = |err| Error::Connection(format!("no request came: {err}"));
    let mut header = [0; HEADER];
    link.reader.read_exact(&mut header).map_err(lost)?;
    let (len, kind) = parse_header(header)?;
    let mut body = vec![0; len];
    link.reader.read_exact(&mut body).map_err(lost)?;
    let frame = decode(kind, body)?;
    if frame.kind != FrameKind::Message {
        return Err(Error::protocol("content before the request"));
    }
    decode_message(&frame.body)
}
