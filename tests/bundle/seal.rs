//! Who can open a bundle, and who cannot.

use std::fs;
use std::io::{Read, Write};
use std::process::{Command, Stdio};

use crate::common::lab::Lab;
use crate::common::prerequisites::need;
use crate::common::run::BINARY;
use crate::kit::{bundle, create, key_pair, restore, restored, shell, verify};

#[test]
fn every_recipient_can_open_it_and_nobody_else() {
    let lab = Lab::with_source("f a 'secret text' 0600");
    let keys = ["one", "two", "stranger"].map(|name| key_pair(&lab, name));
    let list = lab.path("recipients");
    fs::write(&list, format!("# friends\n\n{}\n", keys[1].0)).unwrap();
    let (run, file) = create(&lab, &["--recipient", &keys[0].0]);
    run.args(["--recipients-file".as_ref(), list.as_os_str()])
        .ok();
    for (_, identity) in &keys[..2] {
        verify(&lab, &file)
            .args(["-i".as_ref(), identity.as_os_str()])
            .ok();
    }
    let stranger = keys[2].1.as_os_str();
    verify(&lab, &file)
        .args(["-i".as_ref(), stranger])
        .code(3)
        .says("none of the given keys opens it");
    verify(&lab, &file).code(3).says("--identity");
    let bytes = fs::read(&file).unwrap();
    assert!(bytes.starts_with(b"age-encryption.org/v1\n"));
}

#[test]
fn a_passphrase_opens_what_it_closed() {
    let lab = Lab::with_source("f a 'secret text' 0600");
    let phrase = |name: &str, text: &str| {
        let path = lab.path(name);
        fs::write(&path, text).unwrap();
        path.into_os_string().into_string().unwrap()
    };
    let right = phrase("right", "correct horse\nsecond line\n");
    let wrong = phrase("wrong", "incorrect horse\n");
    let (run, file) = create(&lab, &["--passphrase-file", &right]);
    run.ok();
    verify(&lab, &file).args(["--passphrase-file", &right]).ok();
    verify(&lab, &file)
        .args(["--passphrase-file", &wrong])
        .code(3)
        .says("does not open it");
    // There is no terminal in a test.
    verify(&lab, &file).code(2).says("--passphrase-file");
    restore(&lab, &file)
        .args(["--passphrase-file", &right])
        .ok();
    assert_eq!(fs::read(restored(&lab).join("a")).unwrap(), b"secret text");
    let empty = phrase("empty", "\n");
    create(&lab, &["--force", "--passphrase-file", &empty])
        .0
        .code(2)
        .says("empty");
}

/// Runs `cutover` on a terminal of its own, where each question is given its answer; returns its
/// exit code and what the terminal showed.
fn on_a_terminal(lab: &Lab, words: &str, answers: &[(&str, &str)]) -> (i32, String) {
    need("script");
    let mut command = Command::new("script");
    let line = format!("{BINARY} bundle {words}");
    command.args(["-qec", &line, "/dev/null"]);
    lab.isolate(&mut command, "near");
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    let (mut typed, mut shown) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut screen = Vec::new();
    for (question, answer) in answers {
        while !String::from_utf8_lossy(&screen).contains(question) {
            let mut byte = [0];
            let read = shown.read(&mut byte).unwrap();
            assert!(read > 0, "not asked for {question:?}: {screen:?}");
            screen.push(byte[0]);
        }
        writeln!(typed, "{answer}").unwrap();
    }
    shown.read_to_end(&mut screen).unwrap();
    let code = child.wait().unwrap().code().unwrap();
    (code, String::from_utf8_lossy(&screen).into_owned())
}

#[test]
fn an_interrupt_at_the_prompt_leaves_a_terminal_that_echoes() {
    let lab = Lab::with_source("f a 'secret text' 0600");
    let file = lab.path("bundle");
    let words = format!(
        "create --passphrase -o {} {}; echo code $?; stty -a",
        file.display(),
        lab.src.display()
    );
    let typed = [("Passphrase of the bundle: ", "hor\u{3}")];
    let (_, shown) = on_a_terminal(&lab, &words, &typed);
    assert!(shown.contains("code 130"), "{shown}");
    // Where a line of theirs ends depends on the terminal's width.
    let has = |mode: &str| shown.split_whitespace().any(|word| word == mode);
    assert!(has("echo") && has("isig"), "{shown}");
    assert!(!file.exists());
}

#[test]
fn a_passphrase_is_asked_for_twice_and_not_shown() {
    let lab = Lab::with_source("f a 'secret text' 0600");
    let file = lab.path("bundle");
    let (first, second) = ("Passphrase of the bundle: ", "The same again: ");
    let words = format!(
        "create --passphrase -o {} {}",
        file.display(),
        lab.src.display()
    );
    let typed = [(first, "horse"), (second, "horsf")];
    let (code, shown) = on_a_terminal(&lab, &words, &typed);
    assert_eq!(code, 2, "{shown}");
    assert!(shown.contains("not the same"), "{shown}");
    assert!(!file.exists());
    let typed = [(first, "horse"), (second, "horse")];
    let (code, shown) = on_a_terminal(&lab, &words, &typed);
    assert_eq!(code, 0, "{shown}");
    assert!(!shown.contains("horse"), "{shown}");
    let words = format!("verify {}", file.display());
    let (code, shown) = on_a_terminal(&lab, &words, &[("Passphrase of", "horse")]);
    assert_eq!(code, 0, "{shown}");
    assert!(shown.contains("sound"), "{shown}");
    assert!(!shown.contains("horse"), "{shown}");
}

#[test]
fn what_age_sealed_is_opened() {
    for tool in ["age", "zstd"] {
        need(tool);
    }
    let lab = Lab::with_source("f a 'text'");
    let (recipient, identity) = key_pair(&lab, "key");
    let (run, file) = create(&lab, &[]);
    run.ok();
    let sealed = lab.path("sealed");
    shell(
        "age -r \"$1\" -o \"$3\" \"$2\"",
        [recipient.as_ref(), file.as_os_str(), sealed.as_os_str()],
    );
    verify(&lab, &sealed)
        .args(["-i".as_ref(), identity.as_os_str()])
        .ok();
    let armored = lab.path("armored");
    shell(
        "age -a -r \"$1\" -o \"$3\" \"$2\"",
        [recipient.as_ref(), file.as_os_str(), armored.as_os_str()],
    );
    verify(&lab, &armored).code(3).says("written as text");
}

#[test]
fn keys_that_cannot_be_read_are_usage_errors() {
    let lab = Lab::with_source("f a 'x'");
    let said = |key: &str| create(&lab, &["--recipient", key]).0.code(2);
    said("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA").says("age-keygen");
    said("AGE-SECRET-KEY-1X").says("keep it to yourself");
    said("age1x").says("no public key");
    let file = lab.path("notes");
    fs::write(&file, "not a key\n").unwrap();
    let (run, _) = create(&lab, &["--recipients-file"]);
    let outcome = run.run();
    assert_eq!(outcome.status.code(), Some(2), "{outcome}");
    bundle(&lab, ["create", "--recipients-file"])
        .args([&file, &lab.src])
        .args(["-o", "x"])
        .code(2)
        .says("notes, line 1");
}
