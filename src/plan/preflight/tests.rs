//! The rules over what was seen of hosts, which is made up here: what is on this machine decides
//! nothing.

use super::gather::{Clock, People, RootSeen, Seen, Status};
use super::*;
use crate::plan::resolve::tests::moving;
use crate::protocol::errand::{
    Exit, HostFacts, Marker, MarkerRole, Measured, Mention, Occupant, Occupants, RootKind,
};

/// A plan of one root, and both hosts with nothing wrong: for tests to break one thing.
struct Scene {
    resolved: Resolved,
    seen: Both<Seen>,
    there: content::There,
    _dir: tempfile::TempDir,
}

impl Scene {
    fn new(more: &str) -> Scene {
        let (dir, mut resolved, _) = moving(more);
        let facts = &mut resolved.roots[0].facts;
        facts.source.names = 3;
        facts.source.owner = "root".to_owned();
        facts.source.group = "root".to_owned();
        facts.source.through_symlink = false;
        facts.destination.free_bytes = 1 << 30;
        facts.destination.free_inodes = Some(1000);
        facts.destination.writable = true;
        facts.destination.abilities = facts.source.abilities;
        let seen = Both {
            source: seen("old", &resolved),
            destination: seen("new", &resolved),
        };
        Scene {
            resolved,
            seen,
            there: content::There::default(),
            _dir: dir,
        }
    }

    fn findings(&self) -> Vec<Finding> {
        let view = View {
            resolved: &self.resolved,
            seen: &self.seen,
        };
        let mut findings = Findings::default();
        clocks(&view, &mut findings);
        people::judge(&view, &mut findings);
        roots::judge(&view, &mut findings);
        hold::judge(&view, &mut findings);
        space::judge(&view, &mut findings);
        service::judge(&view, &mut findings);
        expect::judge(&view, &mut findings);
        content::judge(&view, &self.there, &mut findings);
        findings.0
    }

    /// Fails unless exactly one row is not well, is of this verdict, and says this.
    #[track_caller]
    fn finds(&self, verdict: Verdict, words: &str) {
        let findings = self.findings();
        let wrong: Vec<_> = findings
            .iter()
            .filter(|row| row.verdict != Verdict::Ok)
            .collect();
        assert!(
            wrong.len() == 1 && wrong[0].verdict == verdict && wrong[0].message.contains(words),
            "{wrong:#?}"
        );
        assert!(
            wrong[0]
                .advice
                .as_ref()
                .is_some_and(|advice| !advice.is_empty())
        );
    }
}

fn seen(name: &str, resolved: &Resolved) -> Seen {
    let known = |names: Vec<&str>| {
        names
            .into_iter()
            .map(|name| (name.to_owned(), true))
            .collect()
    };
    Seen {
        name: name.to_owned(),
        facts: HostFacts {
            name: name.to_owned(),
            boot_id: name.to_owned(),
            clock_ms: 0,
            user: "root".to_owned(),
            uid: 0,
            home: "/root".to_owned(),
        },
        home: "/root".to_owned(),
        clock: Clock::default(),
        people: Ok(People {
            users: known(vec!["root", "app"]),
            groups: known(vec!["root", "app"]),
        }),
        roots: resolved.roots.iter().map(|_| root_seen()).collect(),
        status: None,
        unit: None,
        occupants: Some(Ok(Occupants {
            found: Vec::new(),
            hidden: 0,
        })),
        expected: resolved.plan.expects.iter().map(|_| None).collect(),
    }
}

fn root_seen() -> RootSeen {
    RootSeen {
        measured: Some(Ok(Measured {
            entries: 10,
            bytes: 1 << 20,
            longest_name_bytes: 20,
            case_pairs: Vec::new(),
            unreadable: Vec::new(),
            unreadable_entries: 0,
        })),
        marker: Some(Ok(None)),
        missing: Vec::new(),
        exposed: Some(Ok(Vec::new())),
        mentions: Some(Ok(Vec::new())),
    }
}

/// What was measured at the source.
fn measured(scene: &mut Scene) -> &mut Measured {
    scene.seen.source.roots[0]
        .measured
        .as_mut()
        .unwrap()
        .as_mut()
        .unwrap()
}

#[test]
fn where_nothing_is_wrong_every_row_is_ok() {
    let scene = Scene::new("[service]\nuser = \"app\"\n");
    let findings = scene.findings();
    assert!(
        findings.iter().all(|row| row.verdict == Verdict::Ok),
        "{findings:#?}"
    );
    assert!(findings.len() > 5, "{findings:#?}");
}

#[test]
fn clocks_that_differ_are_told_unless_the_answer_was_slow() {
    let mut scene = Scene::new("");
    scene.seen.destination.clock.ahead_ms = -5000;
    scene.finds(
        Verdict::Warning,
        "the destination's clock is 5.0 s behind the source's",
    );
    scene.seen.source.clock.doubt_ms = 4000;
    assert!(
        scene
            .findings()
            .iter()
            .all(|row| row.verdict == Verdict::Ok)
    );
}

#[test]
fn a_service_user_that_does_not_exist_is_in_the_way() {
    let mut scene = Scene::new("[service]\nuser = \"ghost\"\n");
    scene.finds(
        Verdict::Fail,
        "user ghost, who runs the service, does not exist",
    );
    scene.seen.destination.people = Err("no such database".to_owned());
    scene.finds(Verdict::Warning, "could not be looked at: no such database");
}

#[test]
fn an_owner_that_does_not_exist_there_is_told() {
    let mut scene = Scene::new("");
    scene.resolved.roots[0].facts.source.owner = "alice".to_owned();
    scene.finds(
        Verdict::Warning,
        "user alice, who owns root my-root, does not exist",
    );
}

#[test]
fn a_user_who_is_numbered_is_taken_for_whom_it_is() {
    let hook = "[owner]\nchown = \"1000:1000\"\n[[hook]]\nwhen = \"after-stop\"\non = \"source\"\n\
                run = { command = [\"x\"], user = \"1000\" }\n";
    let mut scene = Scene::new(hook);
    scene.seen.source.facts.uid = 1000;
    scene.seen.source.facts.user = "me".to_owned();
    // Nobody can be logged in as a number alone; entries can be given to one.
    scene.finds(
        Verdict::Fail,
        "user 1000, whom `hook after-stop` runs as, does not exist at the source",
    );
    if let Ok(people) = &mut scene.seen.source.people {
        people.users.insert("1000".to_owned(), true);
    }
    let findings = scene.findings();
    assert!(
        findings.iter().all(|row| row.verdict == Verdict::Ok),
        "{findings:#?}"
    );
}

#[test]
fn who_may_not_act_for_others_is_told() {
    let hook = "[[hook]]\nwhen = \"after-stop\"\non = \"source\"\n\
                run = { command = [\"x\"], user = \"app\" }\n";
    let mut scene = Scene::new(hook);
    scene.seen.source.facts.uid = 1000;
    scene.seen.source.facts.user = "me".to_owned();
    scene.finds(
        Verdict::Fail,
        "`hook after-stop` is to run as app at the source",
    );
    let mut scene = Scene::new("[owner]\nchown = \"app\"\n");
    scene.seen.destination.facts.uid = 1000;
    scene.seen.destination.facts.user = "me".to_owned();
    scene.finds(Verdict::Warning, "me may not give entries to others");
}

#[test]
fn what_is_at_the_ends_of_a_root_is_looked_at() {
    type Break = fn(&mut Scene);
    let cases: [(Break, Verdict, &str); 10] = [
        (
            |scene| scene.resolved.roots[0].facts.source.kind = RootKind::Missing,
            Verdict::Fail,
            "nothing is at",
        ),
        (
            |scene| scene.resolved.roots[0].facts.source.kind = RootKind::Other,
            Verdict::Fail,
            "is no directory",
        ),
        (
            |scene| scene.resolved.roots[0].facts.source.readable = false,
            Verdict::Fail,
            "cannot be read at the source",
        ),
        (
            |scene| scene.resolved.roots[0].facts.source.through_symlink = true,
            Verdict::Warning,
            "leads through a symlink",
        ),
        (
            |scene| scene.resolved.roots[0].facts.source.is_mount = true,
            Verdict::Warning,
            "a filesystem is mounted at",
        ),
        (
            |scene| scene.resolved.roots[0].facts.destination.kind = RootKind::Other,
            Verdict::Fail,
            "at the destination is no directory",
        ),
        (
            |scene| scene.resolved.roots[0].facts.destination.read_only = true,
            Verdict::Fail,
            "read-only filesystem",
        ),
        (
            |scene| scene.resolved.roots[0].facts.destination.writable = false,
            Verdict::Fail,
            "cannot be written",
        ),
        (
            |scene| {
                measured(scene).unreadable = vec!["keys/a".to_owned()];
                measured(scene).unreadable_entries = 12;
            },
            Verdict::Fail,
            "12 entries cannot be read at the source: keys/a, and 11 more",
        ),
        (
            |scene| {
                let facts = &mut scene.resolved.roots[0].facts;
                facts.destination.identity = facts.source.identity.clone();
            },
            Verdict::Fail,
            "source and destination are the same directory",
        ),
    ];
    for (break_it, verdict, words) in cases {
        let mut scene = Scene::new("");
        break_it(&mut scene);
        scene.finds(verdict, words);
    }
}

#[test]
fn a_state_that_is_not_whole_is_refused() {
    let mut scene = Scene::new("required = [\"config.json\", \"keys/\"]\n");
    scene.seen.source.roots[0].missing = vec!["keys/".to_owned()];
    scene.finds(Verdict::Fail, "1 of 2 required names are missing in ");
}

#[test]
fn markers_of_a_switch_are_heeded() {
    let marker = |role, plan: &str| {
        Some(Ok(Some(Marker {
            role,
            plan: plan.to_owned(),
            other: "new:/srv".to_owned(),
            since_s: 0,
        })))
    };
    let mut scene = Scene::new("");
    scene.seen.source.roots[0].marker = marker(MarkerRole::Fenced, "move");
    scene.finds(
        Verdict::Fail,
        "was switched away from by plan move: the live one is new:/srv",
    );
    let mut scene = Scene::new("");
    scene.seen.destination.roots[0].marker = marker(MarkerRole::Fenced, "move");
    scene.finds(
        Verdict::Fail,
        "a sync would write over what the switch left",
    );
    let mut scene = Scene::new("");
    scene.seen.source.roots[0].marker = marker(MarkerRole::Standby, "move");
    scene.finds(Verdict::Warning, "is itself a standby");
    let mut scene = Scene::new("");
    scene.seen.destination.roots[0].marker = marker(MarkerRole::Standby, "other");
    scene.finds(Verdict::Warning, "by plan other");
    scene.seen.destination.roots[0].marker = marker(MarkerRole::Standby, "move");
    assert!(
        scene
            .findings()
            .iter()
            .all(|row| row.verdict == Verdict::Ok)
    );
}

#[test]
fn what_the_filesystem_cannot_hold_is_told() {
    let mut scene = Scene::new("");
    let facts = &mut scene.resolved.roots[0].facts;
    facts.source.abilities.acls = true;
    facts.destination.abilities.acls = false;
    scene.finds(Verdict::Warning, "cannot hold ACLs");
    let mut scene = Scene::new("");
    scene.resolved.roots[0]
        .facts
        .destination
        .abilities
        .name_bytes = 10;
    scene.finds(Verdict::Fail, "a name has 20 bytes");
    let mut scene = Scene::new("");
    measured(&mut scene).case_pairs = vec!["a/A".to_owned()];
    scene.resolved.roots[0]
        .facts
        .destination
        .abilities
        .case_sensitive = Some(false);
    scene.finds(
        Verdict::Fail,
        "makes one of names that differ by case alone: a/A",
    );
    scene.resolved.roots[0]
        .facts
        .destination
        .abilities
        .case_sensitive = None;
    scene.finds(Verdict::Warning, "differ by case alone");
}

#[test]
fn room_is_needed_for_what_is_not_there_yet() {
    let mut scene = Scene::new("");
    measured(&mut scene).bytes = 3 << 30;
    scene.finds(Verdict::Fail, "3.00 GiB more, and has 1.00 GiB free");
    let there = scene.seen.destination.roots[0]
        .measured
        .as_mut()
        .unwrap()
        .as_mut()
        .unwrap();
    there.bytes = 3 << 30;
    assert!(
        scene
            .findings()
            .iter()
            .all(|row| row.verdict == Verdict::Ok)
    );
    measured(&mut scene).entries = 5000;
    scene.finds(Verdict::Fail, "4,990 inodes more, and has 1,000 free");
}

#[test]
fn a_service_that_runs_there_already_is_in_the_way() {
    let ended = |exit| {
        Some(Ok(Status {
            exit,
            last_line: "sh: app: not found".to_owned(),
        }))
    };
    let mut scene = Scene::new("");
    scene.seen.source.status = ended(Exit::Code(0));
    scene.seen.destination.status = ended(Exit::Code(0));
    scene.finds(Verdict::Fail, "it runs on the destination already");
    scene.seen.destination.status = ended(Exit::Code(127));
    scene.finds(
        Verdict::Fail,
        "cannot be run on the destination: sh: app: not found",
    );
    scene.seen.destination.status = ended(Exit::Code(3));
    assert!(
        scene
            .findings()
            .iter()
            .all(|row| row.verdict == Verdict::Ok)
    );
    scene.seen.source.status = ended(Exit::Code(3));
    scene.finds(Verdict::Warning, "it does not run on the source");
}

#[test]
fn a_unit_that_is_not_installed_is_in_the_way() {
    let mut scene = Scene::new("");
    scene.seen.destination.unit = Some(Ok(Status {
        exit: Exit::Code(1),
        last_line: "No files found for app.service.".to_owned(),
    }));
    scene.finds(
        Verdict::Fail,
        "its unit is not there on the destination: No files found",
    );
}

#[test]
fn processes_in_the_roots_there_are_in_the_way() {
    let mut scene = Scene::new("");
    scene.seen.destination.occupants = Some(Ok(Occupants {
        found: vec![Occupant {
            pid: 7,
            command: "app serve".to_owned(),
            path: "/srv/b/db".to_owned(),
        }],
        hidden: 0,
    }));
    scene.finds(Verdict::Fail, "app serve (7): /srv/b/db");
}

#[test]
fn a_service_that_cannot_tell_whether_it_runs_is_told() {
    let scene = Scene::new("[service]\nstop = [\"app\", \"stop\"]\n");
    scene.finds(Verdict::Warning, "none that tells whether it runs");
}

#[test]
fn secrets_that_anyone_can_read_are_told_with_what_to_do() {
    let mut scene = Scene::new("");
    scene.seen.source.roots[0].exposed = Some(Ok(vec!["keys/a".to_owned()]));
    scene.finds(
        Verdict::Warning,
        "secrets that others than their owner can read: keys/a",
    );
    let findings = scene.findings();
    let advice = findings.iter().find_map(|row| row.advice.clone()).unwrap();
    assert!(advice.ends_with("/a/keys/a"), "{advice}");
}

#[test]
fn paths_that_lead_elsewhere_on_the_destination_are_told() {
    let mut scene = Scene::new("");
    let root = scene.resolved.roots[0].source.clone();
    let path = format!("{root}/work");
    scene.seen.source.roots[0].mentions = Some(Ok(vec![Mention {
        file: "config.json".to_owned(),
        line: 3,
        path: path.clone(),
        exists: true,
    }]));
    scene.finds(Verdict::Warning, &format!("config.json:3 names {path}"));
    scene.there = content::There::of([path]);
    scene.finds(Verdict::Fail, "lead to other data on the destination");
    // At the same path on both sides it means the same.
    scene.resolved.roots[0].destination = root;
    assert!(
        scene
            .findings()
            .iter()
            .all(|row| row.verdict == Verdict::Ok)
    );
}

#[test]
fn a_path_in_the_home_means_the_same_where_the_homes_do() {
    let mut scene = Scene::new("");
    scene.seen.source.roots[0].mentions = Some(Ok(vec![Mention {
        file: "config.json".to_owned(),
        line: 1,
        path: "/root/tool".to_owned(),
        exists: true,
    }]));
    scene.finds(Verdict::Warning, "names /root/tool");
    scene.there = content::There::of(["/root/tool".to_owned()]);
    assert!(
        scene
            .findings()
            .iter()
            .all(|row| row.verdict == Verdict::Ok)
    );
    scene.seen.destination.home = "/home/new".to_owned();
    scene.finds(Verdict::Fail, "names /root/tool");
}
