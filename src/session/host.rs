//! A host that does errands for a plan: this machine, or another one through an agent that stays
//! for as long as the handle is held. Errands are run one after the other.

mod typed;

use crate::error::{Error, RemoteError, Result};
use crate::events::{Cancel, Observer};
use crate::host;
use crate::options::Compress;
use crate::protocol::conn::{Inbox, Outbox, run_writer};
use crate::protocol::errand::{Answer, Errand, OutputLine, Report};
use crate::protocol::frame::{FrameKind, decode_message};
use crate::protocol::message::Open;
use crate::session::agent::send_open;
use crate::transport::{Link, LinkGuard, LinkReader, RemoteOptions, RemotePath, Whose, open_agent};

/// Who runs errands. Dropped without [`Host::finish`], it lets go of the agent, which ends by
/// itself and with it whatever it was running.
pub struct Host {
    name: String,
    place: Place,
}

enum Place {
    Here(Cancel),
    Far(Far),
}

/// A link to an agent, kept alive by a thread that writes to it.
struct Far {
    inbox: Inbox<LinkReader>,
    outbox: Outbox,
    /// `None` once the agent is gone.
    guard: Option<Box<dyn LinkGuard>>,
    cancel: Cancel,
}

impl Host {
    /// This machine.
    pub fn here() -> Host {
        Host::here_until(&Cancel::new())
    }

    /// This machine, where what is being run ends once `cancel` says so.
    pub fn here_until(cancel: &Cancel) -> Host {
        Host {
            name: "this machine".to_string(),
            place: Place::Here(cancel.clone()),
        }
    }

    /// Another machine. What is being run there ends once `cancel` says so, or this process does.
    ///
    /// # Errors
    ///
    /// Those of [`open_agent`].
    pub fn reach(
        remote: &RemotePath,
        options: &RemoteOptions,
        observer: &dyn Observer,
        cancel: &Cancel,
    ) -> Result<Host> {
        let mut link = open_agent(remote, options, observer, cancel)?;
        let sudo = options.sudo;
        send_open(&mut link, &Open::Errands { sudo })?;
        let name = match (remote.destination(), &options.shell) {
            (empty, Some(shell)) if empty.is_empty() => shell.clone(),
            (destination, _) => destination,
        };
        Ok(Host {
            name,
            place: Place::Far(Far::start(link, cancel)),
        })
    }

    /// What messages call it: `this machine`, or `user@host`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs one errand; `output` hears each line that a command writes as it comes.
    ///
    /// # Errors
    ///
    /// What the errand failed of, with the host's name where that is another; then the host can be
    /// asked again. [`Error::Interrupted`] soon after it was asked for and [`Error::Connection`]
    /// are final: every later call fails.
    pub fn ask(&mut self, errand: &Errand, output: &mut dyn FnMut(OutputLine)) -> Result<Answer> {
        match &mut self.place {
            Place::Here(cancel) => host::run(errand, Whose::Own, cancel, output),
            Place::Far(far) => match far.ask(errand, output) {
                Err(Error::Remote(err)) => Err(Error::Remote(RemoteError {
                    message: format!("{}: {}", self.name, err.message),
                    ..err
                })),
                answer => answer,
            },
        }
    }

    /// Lets the agent go and waits for its end.
    ///
    /// # Errors
    ///
    /// Those of [`LinkGuard::finish`].
    pub fn finish(self) -> Result<()> {
        match self.place {
            Place::Here(_) => Ok(()),
            Place::Far(far) => far.finish(),
        }
    }
}

impl Far {
    fn start(link: Link, cancel: &Cancel) -> Far {
        let Link {
            reader,
            mut writer,
            guard,
        } = link;
        let outbox = Outbox::new(u64::MAX);
        let (queue, stop) = (outbox.clone(), cancel.clone());
        // Not waited for: it ends with the outbox, and a stream that is stuck ends with the guard.
        std::thread::spawn(move || run_writer(&queue, &mut writer, Compress::Auto, &stop));
        Far {
            inbox: Inbox::new(reader, cancel.clone(), Default::default()),
            outbox,
            guard: Some(guard),
            cancel: cancel.clone(),
        }
    }

    fn ask(&mut self, errand: &Errand, output: &mut dyn FnMut(OutputLine)) -> Result<Answer> {
        match self.exchange(errand, output) {
            Err(err @ (Error::Connection(_) | Error::Protocol(_) | Error::Interrupted)) => {
                Err(self.give_up(err))
            }
            outcome => outcome,
        }
    }

    fn exchange(&mut self, errand: &Errand, output: &mut dyn FnMut(OutputLine)) -> Result<Answer> {
        self.outbox.say(errand)?;
        while let Some(frame) = self.inbox.receive()? {
            if frame.kind != FrameKind::Message {
                return Err(Error::protocol("content where a report was meant"));
            }
            match decode_message(&frame.body)? {
                Report::Output(line) => output(line),
                Report::Answer(answer) => return Ok(*answer),
                Report::Failed(err) => return Err(Error::Remote(err)),
            }
        }
        Err(Error::Connection(
            "the agent ended before it answered".to_string(),
        ))
    }

    /// Ends what is left of the link. The agent's own last words say more than a broken pipe.
    fn give_up(&mut self, err: Error) -> Error {
        self.outbox.break_off();
        let Some(mut guard) = self.guard.take() else {
            return err;
        };
        match err {
            Error::Connection(message) if !self.cancel.is_cancelled() => match guard.finish() {
                Err(cause) => cause,
                Ok(()) => Error::Connection(message),
            },
            err => {
                guard.abort();
                // What the agent says of it, and what breaks first, are echoes.
                self.cancel.check().err().unwrap_or(err)
            }
        }
    }

    fn finish(mut self) -> Result<()> {
        self.outbox.close();
        match self.guard.take() {
            Some(guard) => guard.finish(),
            None => Ok(()),
        }
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        self.outbox.break_off();
    }
}
