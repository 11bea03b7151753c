//! Plans to begin with.

use crate::common::lab::{Lab, text_of};

#[test]
fn every_preset_begins_a_plan_that_loads() {
    let lab = Lab::with_source("f a 'x'");
    let list = lab.cutover(["plan", "init", "--list"]).ok().stdout;
    let presets: Vec<_> = list.lines().filter(|line| !line.starts_with(' ')).collect();
    assert_eq!(presets.len(), 5, "{list}");
    for preset in presets {
        let name = preset.split(' ').next().unwrap();
        let needed = match name {
            "systemd-service" => &["--set", "unit=app.service", "--set", "path=/srv/app"][..],
            "postgres" => &["--set", "version=15"],
            _ => &[],
        };
        let file = lab.path(&format!("{name}.toml"));
        let init = lab.cutover(["plan", "init", "--preset", name]).args(needed);
        init.args(["-o".as_ref(), file.as_os_str()]).ok();
        // Whether its hosts have such a service is another matter: it was read.
        let outcome = lab.cutover(["plan", "check"]).args([&file]).run();
        assert_ne!(outcome.status.code(), Some(2), "{outcome}");
        assert!(text_of(&file).contains("\n#"), "it has comments");
    }
}

#[test]
fn without_a_preset_a_generic_plan_is_written() {
    let lab = Lab::new();
    let plan = lab
        .cutover(["plan", "init", "--set", "path=/srv/thing"])
        .ok()
        .stdout;
    assert!(plan.contains("path = \"/srv/thing\""), "{plan}");
    assert!(plan.contains("# [[hook]]"), "{plan}");
}

#[test]
fn a_file_that_is_there_is_not_written_over() {
    let lab = Lab::new();
    let file = lab.path("plan.toml");
    std::fs::write(&file, "precious").unwrap();
    let outcome = lab.cutover(["plan", "init", "-o"]).args([&file]).code(2);
    outcome.says("is there already");
    assert_eq!(text_of(&file), "precious");
}

#[test]
fn wrong_settings_are_told() {
    let lab = Lab::new();
    for (args, words) in [
        (&["--preset", "aipo"][..], "did you mean aipro?"),
        (
            &["--preset", "aipro", "--set", "profil=x"],
            "did you mean profile?",
        ),
        (
            &["--preset", "systemd-service"],
            "needs --set unit=...: the unit",
        ),
        (&["--set", "path"], "write VARIABLE=VALUE"),
        (&["--set", "path=relative"], "is not absolute"),
    ] {
        lab.cutover(["plan", "init"]).args(args).code(2).says(words);
    }
}

#[test]
fn the_schema_is_printed() {
    let lab = Lab::new();
    let schema = lab.cutover(["plan", "schema"]).ok().stdout;
    let schema: serde_json::Value = serde_json::from_str(&schema).unwrap();
    assert_eq!(schema["title"], "Plan");
}
