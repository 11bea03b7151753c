//! How cost grows: scenarios of the comparison at several sizes.

use std::path::Path;

use crate::data::Sizes;
use crate::scenario::{self, Scenario};
use crate::stage::Place;

/// A scenario at one size.
pub(crate) struct Point {
    pub(crate) scenario: Scenario,
    pub(crate) sizes: Sizes,
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
    /// Whether a directory's filesystem has room for it; the little files are not counted.
    pub(crate) fn fits(&self, dir: &Path) -> bool {
        let there = rustix::fs::statvfs(dir).unwrap();
        there.f_bavail * there.f_frsize > COPIES * (self.sizes.big_mib << 20)
    }
}

/// More files, a larger file, deeper directories; `long` adds files that need minutes.
pub(crate) fn points(long: bool) -> Vec<Point> {
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
