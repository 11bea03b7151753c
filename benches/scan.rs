//! Scans of a tree of 20,000 files in 400 directories, with a warm page cache: what the state
//! saves at each fidelity: `cargo bench --bench scan`. Entries a second are the figure to watch.

#![allow(clippy::unwrap_used)] // A benchmark that unwraps has said what it expects.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use cutover::events::{Cancel, Side, Silent};
use cutover::filter::Rules;
use cutover::fs::Dir;
use cutover::manifest::links::Links;
use cutover::manifest::listing::{Lister, SizeLimits};
use cutover::manifest::owners::KeepOwners;
use cutover::manifest::record::RecordRules;
use cutover::manifest::scan::{Scan, ScanOptions, scan};
use cutover::manifest::state::State;
use cutover::options::Fidelity;
use divan::Bencher;
use divan::counter::ItemsCount;
use tempfile::TempDir;

const DIRS: usize = 400;
const FILES_PER_DIR: usize = 50;
const FILE_BYTES: usize = 1024;

/// Holds the state's directory, which is found through the environment only.
const HOME: &str = "CUTOVER_BENCH_HOME";

fn main() {
    if std::env::var_os(HOME).is_some() {
        return divan::main();
    }
    // The user's own state stays as it is: once more, with a home that goes afterwards.
    let home = TempDir::with_prefix("cutover-bench-").unwrap();
    make_tree(&home.path().join("tree"));
    let status = Command::new(std::env::current_exe().unwrap())
        .arg0("scan")
        .args(std::env::args_os().skip(1))
        .env(HOME, home.path())
        .env("XDG_STATE_HOME", home.path().join("state"))
        .status();
    assert!(status.unwrap().success());
}

fn make_tree(root: &Path) {
    for dir in 0..DIRS {
        let path = root.join(format!("group-{:02}/dir-{dir:03}", dir / 20));
        fs::create_dir_all(&path).unwrap();
        for number in 0..FILES_PER_DIR {
            let byte = (dir + number) as u8;
            fs::write(
                path.join(format!("file-{number:04}.dat")),
                [byte; FILE_BYTES],
            )
            .unwrap();
        }
    }
    // What has just changed is not trusted.
    sleep(Duration::from_millis(50));
}

/// What is compared.
#[derive(Clone, Copy, Debug)]
enum Depth {
    /// What one `statx` says.
    Plain,
    /// Extended attributes and ACLs too.
    Full,
    /// Content too.
    Content,
}

impl Depth {
    fn rules(self) -> RecordRules {
        let all = Fidelity::default();
        let fidelity = match self {
            Depth::Plain => Fidelity {
                xattrs: false,
                acls: false,
                ..all
            },
            Depth::Full | Depth::Content => all,
        };
        RecordRules {
            fidelity,
            granularity_ns: 1,
            content: matches!(self, Depth::Content),
        }
    }
}

const DEPTHS: [Depth; 3] = [Depth::Plain, Depth::Full, Depth::Content];

fn scan_with(depth: Depth, threads: usize, state: Option<&State>) -> Scan {
    let tree = Path::new(&std::env::var_os(HOME).unwrap()).join("tree");
    let root = Dir::open_root(&tree).unwrap();
    let (links, filter, cancel) = (Links::default(), Rules::parse(&[]).unwrap(), Cancel::new());
    let lister = Lister {
        root: &root,
        rules: depth.rules(),
        filter: &filter,
        sizes: SizeLimits::default(),
        side: Side::Source,
        owners: &KeepOwners,
        modes: &|_, mode| mode,
        fake_super: false,
        only: None,
        links: &links,
        state,
        rehash: false,
        lost: None,
        cancel: &cancel,
    };
    let options = ScanOptions {
        threads,
        one_file_system: false,
        sink: None,
        mark: None,
    };
    scan(&lister, options, &Silent).unwrap()
}

fn entries() -> ItemsCount {
    ItemsCount::new(DIRS * FILES_PER_DIR)
}

#[divan::bench(sample_count = 20, args = DEPTHS)]
fn without_state(bencher: Bencher<'_, '_>, depth: Depth) {
    bencher
        .counter(entries())
        .bench(|| scan_with(depth, 2, None));
}

#[divan::bench(sample_count = 20, args = DEPTHS)]
fn with_state(bencher: Bencher<'_, '_>, depth: Depth) {
    let home = std::env::var_os(HOME).unwrap();
    let state = State::open(&Path::new(&home).join("tree")).unwrap();
    let learnt = scan_with(depth, 2, Some(&state)).update;
    state.store(learnt, &[]).unwrap();
    bencher
        .counter(entries())
        .bench(|| scan_with(depth, 2, Some(&state)));
}

#[divan::bench(sample_count = 20, args = [1, 2, 4])]
fn by_threads(bencher: Bencher<'_, '_>, threads: usize) {
    bencher
        .counter(entries())
        .bench(|| scan_with(Depth::Plain, threads, None));
}
