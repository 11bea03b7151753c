use std::fs;
use std::path::Path;
use std::time::Duration;

use super::checks::TRY;
use super::*;
use crate::events::{Cancel, Silent};
use crate::options::RuleText;
use crate::plan::load_bytes;
use crate::protocol::errand::Probe;

/// The plan as it is on this machine, which is both of its hosts.
pub(in crate::plan) fn resolved(text: &str) -> Result<(Resolved, Hosts)> {
    let loaded = load_bytes(Path::new("test.toml"), text.as_bytes())?;
    let connection = RemoteOptions::default();
    let mut hosts = Hosts::reach(&loaded.plan, &connection, &Silent, &Cancel::new())?;
    let resolved = resolve(&loaded, &mut hosts)?;
    Ok((resolved, hosts))
}

/// A plan of one root in a new directory, `a` to `b`, and more text after it.
pub(in crate::plan) fn moving(more: &str) -> (tempfile::TempDir, Resolved, Hosts) {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("a")).unwrap();
    let text = format!(
        "name = \"move\"\n\
         [source]\nenv = {{ T = {0:?} }}\n[destination]\nenv = {{ T = {0:?} }}\n\
         [[root]]\nname = \"my-root\"\npath = \"${{T}}/a\"\ndestination = \"${{T}}/b\"\n{more}",
        dir.path().to_str().unwrap()
    );
    let (resolved, hosts) = resolved(&text).unwrap();
    (dir, resolved, hosts)
}

#[test]
fn paths_are_expanded_on_their_side() {
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        "name = \"x\"\n\
         [source]\nenv = {{ STATE = \"{0}/old/\" }}\n\
         [destination]\nenv = {{ HOME = \"{0}/new\" }}\n\
         [[root]]\nname = \"r\"\npath = \"${{STATE:-~/.state}}\"\n",
        dir.path().display()
    );
    let (resolved, _) = resolved(&text).unwrap();
    let [root] = &resolved.roots[..] else {
        panic!("one root");
    };
    assert_eq!(root.source, format!("{}/old", dir.path().display()));
    assert_eq!(
        root.destination,
        format!("{}/new/.state", dir.path().display())
    );
    assert!(root.present, "it is not optional");
    assert_eq!(root.facts.source.kind, RootKind::Missing);
}

#[test]
fn a_variable_that_is_not_set_is_told_with_its_host() {
    let text = "name = \"x\"\n[[root]]\nname = \"r\"\npath = \"${NO_SUCH_VARIABLE}/x\"\n";
    let err = resolved(text).err().unwrap().to_string();
    assert!(
        err.starts_with("cannot expand ${NO_SUCH_VARIABLE}/x on this machine: "),
        "{err}"
    );
}

#[test]
fn an_optional_root_that_is_missing_is_left_out() {
    let text = "name = \"x\"\n[[root]]\nname = \"r\"\npath = \"/nonexistent/r\"\noptional = true\n";
    let (resolved, _) = resolved(text).unwrap();
    assert!(!resolved.roots[0].present && !resolved.roots[0].is_synced());
}

#[test]
fn options_are_those_of_the_plan() {
    let (_dir, resolved, _) = moving(
        "filters = [\"- own\"]\n\
         [sync]\nfilters = [\"- all\"]\nmax-delete = \"30%\"\nbwlimit = \"1M\"\nchecksum = true\n\
         fsync = \"each\"\n[owner]\nchown = \"app:\"\nchmod = [\"D750\"]\n",
    );
    let options = &resolved.roots[0].options;
    let rules: Vec<_> = ["- own", "- all"].map(|rule| RuleText(rule.into())).into();
    assert_eq!(options.selection.rules, rules);
    let limit = DeleteLimit::Percent(30);
    assert_eq!(options.delete.unwrap().max, Some(limit));
    assert_eq!(options.keep.trash, Some(Trash::InRoot));
    assert_eq!(options.transfer.bandwidth_bytes_per_s, Some(1 << 20));
    assert_eq!(options.compare, Compare::Checksum);
    assert_eq!(options.write.fsync, Fsync::Each);
    assert_eq!(options.ownership.usermap, ["*:app"]);
    assert!(options.ownership.groupmap.is_empty());
    assert_eq!(options.chmod, ["D750"]);
}

#[test]
fn a_side_has_its_own_command_or_the_services_or_its_units() {
    let (_dir, resolved, _) = moving(
        "[service]\nunit = \"app.service\"\nuser-unit = true\nstop = [\"app\", \"stop\"]\n\
         source.stop = [\"old-app\", \"stop\"]\ndestination.unit = \"new-app.service\"\n",
    );
    let words = |verb, side| resolved.action(verb, side).map(|command| command.words);
    assert_eq!(
        words(Verb::Stop, Side::Source).unwrap(),
        ["old-app", "stop"]
    );
    assert_eq!(
        words(Verb::Stop, Side::Destination).unwrap(),
        ["app", "stop"]
    );
    let status = words(Verb::Status, Side::Source).unwrap();
    assert_eq!(status, ["systemctl", "--user", "is-active", "app.service"]);
    let start = words(Verb::Start, Side::Destination).unwrap();
    assert_eq!(start, ["systemctl", "--user", "start", "new-app.service"]);
    assert_eq!(words(Verb::Doctor, Side::Source), None);
}

#[test]
fn commands_are_told_of_the_plan_and_its_roots() {
    let (dir, resolved, _) = moving(
        "[[hook]]\nwhen = \"after-stop\"\non = \"source\"\n\
         run = { command = [\"x\"], dir = \"${CUTOVER_ROOT_MY_ROOT}/sub\", env = { T = \"mine\" } }\n",
    );
    let hooks = resolved.hooks(When::AfterStop);
    let (side, command) = &hooks[0];
    assert_eq!(*side, Side::Source);
    let path = format!("{}/a", dir.path().display());
    assert_eq!(command.dir, Some(format!("{path}/sub")));
    let env: BTreeMap<_, _> = command.env.iter().cloned().collect();
    assert_eq!(env["CUTOVER_PLAN"], "move");
    assert_eq!(env["CUTOVER_SIDE"], "source");
    assert_eq!(env["CUTOVER_ROOT"], path);
    assert_eq!(env["CUTOVER_ROOT_MY_ROOT"], path);
    assert_eq!(env["T"], "mine", "the command's own variables come first");
    assert!(resolved.hooks(When::BeforeStop).is_empty());
}

#[test]
fn checks_are_ready_to_be_tried() {
    let (dir, resolved, _) = moving(
        "[service]\nuser = \"app\"\n\
         [[check]]\nkind = \"file\"\nname = \"f\"\npath = \"${CUTOVER_ROOT}/x\"\nmode = \"0640\"\n\
         [[check]]\nkind = \"readable-as\"\nname = \"r\"\n\
         [[check]]\nkind = \"http\"\nname = \"h\"\nurl = \"http://x\"\nwithin = \"2m\"\n",
    );
    let checks = resolved.checks();
    let root = format!("{}/b", dir.path().display());
    let file = Probe::File {
        path: format!("{root}/x"),
        exists: true,
        owner: None,
        group: None,
        mode: Some(0o640),
        contains: None,
    };
    assert_eq!(checks[0].what, Tried::Probe(file));
    assert_eq!(checks[0].within, Duration::ZERO);
    let user = "app".to_owned();
    assert_eq!(
        checks[1].what,
        Tried::Probe(Probe::ReadableAs { root, user })
    );
    assert_eq!(checks[2].within, Duration::from_secs(120));
    assert!(
        matches!(&checks[2].what, Tried::Probe(Probe::Http { timeout, .. }) if *timeout == TRY)
    );
}

#[test]
fn a_job_leads_to_the_hosts_of_the_plan() {
    let (_dir, mut resolved, _) = moving("");
    resolved.hosts.destination = Location::parse("me@there:".as_ref()).unwrap();
    let job = resolved.job(&resolved.roots[0], Mode::Verify);
    let path = &resolved.roots[0].destination;
    assert_eq!(job.destination.to_string(), format!("me@there:{path}"));
    assert!(matches!(job.source, Location::Local(_)));
}
