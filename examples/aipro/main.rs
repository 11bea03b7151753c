//! A small service with state, to try a switch with: `aipro`, a gateway that holds a database, a
//! lock and sessions, answers over HTTP, and is as easy to move wrongly as the real ones.
//!
//! ```text
//! aipro [--profile NAME] onboard            make the state and the workspace
//! aipro [--profile NAME] gateway start      start in the background; also run, stop, restart
//! aipro [--profile NAME] status             exit 0: it runs; 3: it does not
//! aipro [--profile NAME] doctor             apply migrations, repair what the config names
//! ```
//!
//! The state is `$AIPRO_STATE_DIR`, else `~/.aipro`, with a profile `~/.aipro-NAME`.

#![allow(clippy::unwrap_used)] // An example: what cannot happen here may end it.

mod gateway;
mod state;

use std::process::ExitCode;

use state::Place;

fn main() -> ExitCode {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    let profile = match words.first().map(String::as_str) {
        Some("--profile") if words.len() > 1 => {
            let name = words.remove(1);
            words.remove(0);
            Some(name)
        }
        _ => None,
    };
    let place = Place::find(profile);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["onboard"] => state::onboard(&place),
        ["gateway", "run"] => gateway::run(&place),
        ["gateway", "start"] => gateway::start(&place),
        ["gateway", "stop"] => gateway::stop(&place),
        ["gateway", "restart"] => gateway::stop(&place).and_then(|()| gateway::start(&place)),
        ["status"] => return gateway::status(&place),
        ["doctor"] => state::doctor(&place),
        _ => Err(
            "usage: aipro [--profile NAME] onboard | gateway run|start|stop|restart | \
                  status | doctor"
                .to_string(),
        ),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("aipro: {why}");
            ExitCode::FAILURE
        }
    }
}
