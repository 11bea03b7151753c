//! How cost grows: scenarios of the comparison at several sizes, each on a stage of its own.

use std::path::Path;

use crate::data::Sizes;
use crate::scenario::{self, Outcome, Scenario};
use crate::stage::{Place, Stage};

/// A scenario at one size.
struct Point {
    scenario: Scenario,
    sizes: Sizes,
}

/// Little of everything that a point is not about.
const LITTLE: Sizes = Sizes {
    files: 20_000,
    small_files: 1000,
    big_mib: 1,
    levels: 2,
};

/// The large file, the two standbys of it and the one that is being written.
const COPIES: u64 = 4;

impl Point {
    /// What the disk must have room for, in bytes: holes and small files are left out.
    fn bytes(&self) -> u64 {
        COPIES * (self.sizes.big_mib << 20)
    }
}

/// More files, a larger file, deeper directories; `long` adds files that need minutes.
fn points(long: bool) -> Vec<Point> {
    let point = |name, sizes| Point {
        // On the disk, since not all sizes fit into memory, and with one peer, since cost is all.
        scenario: scenario::named(name)
            .on(Place::Disk)
            .against(scenario::PAIR),
        sizes,
    };
    let files = [10_000, 100_000, 1_000_000].map(|files| Sizes { files, ..LITTLE });
    let large = [1, 16, 256, 1024, 4096, 16_384];
    let large = &large[..if long { 6 } else { 4 }];
    let large = large.iter().map(|&big_mib| Sizes { big_mib, ..LITTLE });
    let deep = [1, 4, 16].map(|levels| Sizes { levels, ..LITTLE });
    let files = files.into_iter().map(|sizes| point("unchanged-ssh", sizes));
    let large = large.map(|sizes| point("big-edited-ssh", sizes));
    let deep = deep
        .into_iter()
        .map(|sizes| point("one-changed-50ms-ssh", sizes));
    files.chain(large).chain(deep).collect()
}

/// Measures every point that `takes` chooses and the disk has room for, in growing order.
pub(crate) fn measure(
    (disk, memory): (&Path, &Path),
    rounds: usize,
    long: bool,
    takes: impl Fn(&Scenario) -> bool,
    mut measured: impl FnMut(Outcome),
) {
    for point in points(long) {
        let free = rustix::fs::statvfs(disk).unwrap();
        let has_room = free.f_bavail * free.f_frsize > point.bytes();
        if !has_room {
            println!("no room for {} MiB", point.sizes.big_mib);
        }
        if has_room && takes(&point.scenario) {
            let stage = Stage::set(disk, memory, point.sizes);
            measured(scenario::measure(&point.scenario, &stage, rounds, false));
        }
    }
}
