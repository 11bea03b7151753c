//! Short words for what the tests of bundles do.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::lab::Lab;
use crate::common::prerequisites::need;
use crate::common::run::Invocation;

/// `cutover bundle WORDS`.
pub fn bundle<A: AsRef<OsStr>>(lab: &Lab, words: impl IntoIterator<Item = A>) -> Invocation {
    lab.cutover(["bundle"]).args(words)
}

/// `cutover bundle create OPTIONS SRC -o FILE`, with the file that is then there.
pub fn create(lab: &Lab, options: &[&str]) -> (Invocation, PathBuf) {
    let file = lab.path("bundle");
    (create_at(lab, options, &file), file)
}

/// `cutover bundle create OPTIONS SRC -o FILE`.
pub fn create_at(lab: &Lab, options: &[&str], file: &Path) -> Invocation {
    bundle(lab, ["create"])
        .args(options)
        .args([&lab.src])
        .args(["-o"])
        .args([file])
}

/// A plain bundle of the source, whatever is in it.
pub fn plain(lab: &Lab) -> PathBuf {
    let (run, file) = create(lab, &["--plaintext", "--force"]);
    run.ok();
    file
}

/// `cutover bundle verify FILE`.
pub fn verify(lab: &Lab, file: &Path) -> Invocation {
    bundle(lab, ["verify"]).args([file])
}

/// `cutover bundle restore FILE DST`.
pub fn restore(lab: &Lab, file: &Path) -> Invocation {
    bundle(lab, ["restore"]).args([file, &lab.dst])
}

/// Where the source goes when it is restored.
pub fn restored(lab: &Lab) -> PathBuf {
    lab.dst.join("src")
}

/// A key pair of age: the public key, and the file with the secret one.
pub fn key_pair(lab: &Lab, name: &str) -> (String, PathBuf) {
    need("age-keygen");
    let file = lab.path(name);
    let made = Command::new("age-keygen").arg("-o").arg(&file).output();
    assert!(made.unwrap().status.success());
    let text = fs::read_to_string(&file).unwrap();
    let public = text
        .lines()
        .find_map(|line| line.strip_prefix("# public key: "));
    (public.expect("age-keygen says it").to_owned(), file)
}

/// Runs a line of shell, which must succeed; `$1` and so on are `args`.
pub fn shell<A: AsRef<OsStr>>(line: &str, args: impl IntoIterator<Item = A>) -> String {
    let mut command = Command::new("bash");
    command
        .args(["-euo", "pipefail", "-c", line, "bash"])
        .args(args);
    let output = command.output().expect("bash starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{line}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
