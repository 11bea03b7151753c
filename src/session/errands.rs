//! The agent as who does errands: reads them one after the other, runs each, and says how it went.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, SyncSender};
use std::thread;

use crate::error::{Error, Result};
use crate::events::Cancel;
use crate::host;
use crate::options::Compress;
use crate::protocol::conn::{Inbox, Outbox, run_writer};
use crate::protocol::errand::{Errand, Report};
use crate::protocol::frame::{FrameKind, decode_message};
use crate::transport::{Link, LinkReader, Whose};

/// Serves errands until nobody asks any more.
///
/// Somebody listens all the time, so that an end of the input, or a minute without a heartbeat,
/// ends what is being run: whoever wanted it is gone.
pub(super) fn serve(link: Link, whose: Whose, cancel: &Cancel) -> Result<()> {
    let outbox = &Outbox::new(u64::MAX);
    let (sender, errands) = mpsc::sync_channel(1);
    let Link {
        reader, mut writer, ..
    } = link;
    thread::scope(|scope| {
        scope.spawn(move || run_writer(outbox, &mut writer, Compress::Auto, cancel));
        let listening = scope.spawn(move || {
            let ended = listen(reader, &sender, cancel);
            cancel.cancel();
            outbox.break_off();
            ended
        });
        for errand in errands {
            let report = run(&errand, whose, cancel, outbox);
            if let Err(err) = outbox.say(&report) {
                // Too long for a frame, or nobody is there: then this is not heard either.
                let _ = outbox.say(&Report::Failed(err.to_remote()));
            }
        }
        outbox.close();
        listening
            .join()
            .unwrap_or_else(|_| Err(Error::protocol("a reading thread panicked")))
    })
}

/// Hands on errands as they come, until the input ends.
fn listen(reader: LinkReader, errands: &SyncSender<Errand>, cancel: &Cancel) -> Result<()> {
    let mut inbox = Inbox::new(reader, cancel.clone(), Default::default());
    while let Some(frame) = inbox.receive()? {
        if frame.kind != FrameKind::Message {
            return Err(Error::protocol("content where an errand was meant"));
        }
        // Waiting for room would be not to listen.
        errands
            .try_send(decode_message(&frame.body)?)
            .map_err(|_| Error::protocol("errands without waiting for their answers"))?;
    }
    Ok(())
}

fn run(errand: &Errand, whose: Whose, cancel: &Cancel, outbox: &Outbox) -> Report {
    let mut output = |line| {
        // Nobody reads it any more: whoever listens has noticed, and ends the command.
        let _ = outbox.say_in_turn(&Report::Output(line));
    };
    let run = || host::run(errand, whose, cancel, &mut output);
    // A panic here would wait for a near side that waits for an answer.
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(answer)) => Report::Answer(Box::new(answer)),
        Ok(Err(err)) => Report::Failed(err.to_remote()),
        Err(_) => Report::Failed(Error::protocol("an errand panicked").to_remote()),
    }
}
