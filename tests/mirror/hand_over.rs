//! A mirror that is asked to hand over, and what becomes of it where it cannot.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use cutover::mirror::status::RootStatus;
use cutover::mirror::{Ended, Mirror, MirrorRoot, SilentMirror};
use cutover::options::{Mirroring, SyncOptions};
use cutover::session::{Job, Mode};
use cutover::transport::Location;

use crate::common::lab::Lab;
use crate::common::tree::tree;

/// Mirrors `NAME` of the lab to `NAME-standby`.
fn root(lab: &Lab, name: &str, bandwidth_bytes_per_s: Option<u64>) -> MirrorRoot {
    let mut options = SyncOptions::default();
    options.transfer.bandwidth_bytes_per_s = bandwidth_bytes_per_s;
    MirrorRoot {
        name: name.into(),
        job: Job {
            source: Location::Local(lab.path(name)),
            destination: Location::Local(lab.path(&format!("{name}-standby"))),
            options,
            remote: Default::default(),
            mode: Mode::Sync,
        },
        mirroring: Mirroring {
            settle: Duration::from_millis(50),
            name: "pair".into(),
            source: name.into(),
            ..Mirroring::default()
        },
    }
}

#[test]
fn a_hand_over_that_took_too_long_leaves_all_roots_mirrored() {
    let lab = Lab::new();
    for name in ["swift", "slow"] {
        tree(&lab.path(name), "f a 'text'");
    }
    let roots = vec![root(&lab, "swift", None), root(&lab, "slow", Some(1 << 20))];
    let mirror = Mirror::new("pair", None, roots);
    let (requests, board) = (mirror.requests(), mirror.board());
    let run = thread::spawn(move || mirror.run(&SilentMirror));
    let wait_for = |what: &str, at: usize, is_so: &dyn Fn(&RootStatus) -> bool| {
        let began = Instant::now();
        while !is_so(&board.snapshot().roots[at]) {
            let status = board.snapshot();
            assert!(
                began.elapsed() < Duration::from_secs(30),
                "{what}: {status:#?}"
            );
            thread::sleep(Duration::from_millis(20));
        }
    };
    let agrees = |root: &RootStatus| root.agreed.is_some() && root.totals.rounds > 1;
    for (name, at) in [("swift", 0), ("slow", 1)] {
        wait_for("it begins", at, &|root| root.agreed.is_some());
        fs::write(lab.path(name).join("second"), "round").unwrap();
        wait_for("it agrees", at, &agrees);
    }

    tree(&lab.path("slow"), "f large random(12M)");
    wait_for("it is busy", 1, &|root| root.state.word() == "syncing");
    let marker = lab.path("swift-standby/.cutover-marker");
    let late = requests.drain(Duration::from_secs(3), || true);
    assert!(late.unwrap_err().contains("goes on"));
    fs::write(lab.path("swift/third"), "round").unwrap();
    let third = lab.path("swift-standby/third");
    wait_for("the swift one goes on", 0, &|_| third.exists());
    wait_for("it is a standby again", 0, &|_| marker.exists());

    requests.stop();
    assert_eq!(run.join().unwrap().unwrap(), Ended::Stopped);
}
