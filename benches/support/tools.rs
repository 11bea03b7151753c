//! Programs that benchmarks call beside what they measure.

use std::path::Path;
use std::process::{Command, Stdio};

/// Copies exactly, with the one tool that is everywhere.
pub(crate) fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-aT").args([from, to]).status();
    assert!(status.unwrap().success(), "cp failed");
}

/// What a program prints; nothing where there is none.
pub(crate) fn says(program: &str, words: &str) -> String {
    let output = Command::new(program)
        .args(words.split(' '))
        .stderr(Stdio::null())
        .output();
    output.map_or_else(
        |_| String::new(),
        |output| String::from_utf8_lossy(&output.stdout).into_owned(),
    )
}

/// The first line that rsync would itemize, where there is an rsync to ask; `rules` are options.
pub(crate) fn listed_by_rsync(src: &Path, dst: &Path, rules: &[&str]) -> Option<String> {
    let output = Command::new("rsync")
        .args(["-aHAXni", "--delete"])
        .args(rules)
        .args([src.join(""), dst.join("")])
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().next().map(str::to_owned)
}
