//! The README's "Moving a service in ten minutes", followed to the letter.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::common::run::{BINARY, install};
use crate::site::Site;

/// The shell commands of a section of the README, but for those that install programs.
fn commands(section: &str) -> Vec<String> {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let text = fs::read_to_string(readme).unwrap();
    let start = text.find(&format!("## {section}\n")).unwrap();
    let text = &text[start + 3..];
    let text = &text[..text.find("\n## ").unwrap()];
    let blocks = text.split("```sh\n").skip(1);
    let lines = blocks.flat_map(|block| block.split("```").next().unwrap().lines());
    let is_install = |line: &&str| line.starts_with("cargo ") || line.starts_with("sudo ");
    lines
        .filter(|line| !is_install(line))
        .map(str::to_owned)
        .collect()
}

#[test]
fn moving_a_service_in_ten_minutes_works_as_it_is_written() {
    let site = Site::bare();
    // Here is the old machine; `localhost` leads to the new one.
    let home = site.lab.path("old-home");
    let bin = home.join("bin");
    fs::create_dir_all(&bin).unwrap();
    install(&site.old.home().join("bin/aipro"), &bin.join("aipro"));
    install(Path::new(BINARY), &bin.join("cutover"));
    install(Path::new(BINARY), &site.new.home().join("bin/cutover"));
    let config = site.lab.path("ssh_config");
    let text = fs::read_to_string(site.new.ssh_config()).unwrap();
    fs::write(
        &config,
        text.replace("Host cutover-test\n", "Host localhost\n"),
    )
    .unwrap();
    let ssh = format!(
        "#!/bin/sh\nexec /usr/bin/ssh -F {} \"$@\"\n",
        config.display()
    );
    let draft = site.lab.path("ssh");
    fs::write(&draft, ssh).unwrap();
    install(&draft, &bin.join("ssh"));

    let commands = commands("Moving a service in ten minutes");
    assert!(commands.len() > 8, "{commands:?}");
    for line in &commands {
        let output = Command::new("sh")
            .args(["-c", line])
            .current_dir(&home)
            .env_clear()
            .env("HOME", &home)
            .env("XDG_RUNTIME_DIR", &home)
            .env("AIPRO_PORT", site.port.to_string())
            .env("PATH", format!("{}:/usr/bin:/bin", bin.display()))
            .output()
            .unwrap();
        let said = [&output.stdout[..], &output.stderr[..]].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(output.status.success(), "{line}: {}\n{said}", output.status);
        println!("$ {line}\n{said}");
    }
    assert!(
        fs::read_to_string(home.join("report.html"))
            .unwrap()
            .contains("switched")
    );
    let stop = Command::new(bin.join("aipro"))
        .args(["gateway", "stop"])
        .env("HOME", &home)
        .status();
    assert!(stop.unwrap().success());
}
