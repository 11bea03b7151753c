//! What SRC and DST mean: directories and single files, slashes, parents, symlinks to roots.

use crate::common::dump::{Dump, assert_same};
use crate::common::lab::{FAR, Lab, Route, text_of};

#[test]
fn trailing_slashes_change_nothing() {
    for (after_src, after_dst) in [("", ""), ("/", ""), ("", "/"), ("/", "/")] {
        let lab = Lab::with_source("f a 'x'\n f sub/b 'y'");
        let src = format!("{}{after_src}", lab.src.display());
        let dst = format!("{}{after_dst}", lab.dst.display());
        lab.cutover(["sync", &src, &dst]).ok();
        lab.assert_synced();
    }
}

#[test]
fn hidden_names_arrive() {
    let lab = Lab::with_source("f .env 'secret'\n f .config/.deep/.file 'x'\n f ... 'dots'");
    lab.sync(&[]).ok();
    lab.assert_synced();
}

#[test]
fn missing_parents_of_the_destination_are_made() {
    for route in Route::ALL {
        let mut lab = Lab::with_source("f a 'x'");
        lab.dst = lab.path("not/there/yet");
        lab.sync_via(route, &[]).ok();
        lab.assert_synced();
    }
}

#[test]
fn a_refused_run_makes_nothing() {
    for route in [Route::Local, Route::Push] {
        for (below, options, code) in [
            ("src/inner", &[][..], 5),
            ("src/missing/inner", &[], 5),
            ("src/inner", &["-n"], 5),
            ("missing/dst", &["--chown", "no-such-user"], 2),
            ("missing/dst", &["--usermap", "nonsense"], 2),
            ("missing/dst", &["--chmod", "nonsense"], 2),
            ("missing/dst", &["--filter", "nonsense"], 2),
            ("missing/dst", &["--trash=/proc"], 2),
        ] {
            let mut lab = Lab::with_source("f a 'x'");
            lab.dst = lab.path(below);
            lab.sync_via(route, options).code(code);
            assert_eq!(Dump::of(&lab.src).paths(), ["a"], "{options:?}");
            assert!(!lab.path("missing").exists(), "{options:?}");
        }
    }
}

#[test]
fn a_dry_run_makes_no_destination() {
    for route in Route::ALL {
        let mut lab = Lab::with_source("f a 'x'");
        lab.dst = lab.path("missing/dst");
        lab.sync_via(route, &["-n", "--trash"]).ok();
        assert!(!lab.path("missing").exists(), "{route:?}");
    }
}

#[test]
fn an_empty_source_makes_an_empty_destination() {
    let lab = Lab::with_source("m . 0710 @1500000000.5");
    lab.sync(&[]).ok();
    lab.assert_synced();
}

#[test]
fn the_roots_own_mode_and_time_arrive() {
    for route in Route::ALL {
        let lab = Lab::with_source("f a 'x'\n m . 0700 @1500000000.123456789");
        lab.destination("f a 'old' @1\n m . 0755");
        lab.sync_via(route, &[]).ok();
        lab.assert_synced();
    }
}

#[test]
fn a_single_file_takes_the_name_it_is_given() {
    for route in Route::ALL {
        let mut lab = Lab::with_source("f a 'content' 0640 @1600000000.5\n f other 'x'");
        lab.src = lab.src.join("a");
        lab.sync_via(route, &[]).ok();
        assert_same(&lab.src, &lab.dst);
        assert!(lab.dst.is_file());
    }
}

#[test]
fn a_single_file_can_be_copied_beside_itself() {
    for options in [&[][..], &["--checksum"]] {
        let mut lab = Lab::with_source("f a 'x' 0640 @5");
        (lab.src, lab.dst) = (lab.src.join("a"), lab.src.join("b"));
        let outcome = lab.sync(options).ok();
        assert_eq!(outcome.stderr, "", "{outcome}");
        assert_same(&lab.src, &lab.dst);
    }
}

#[test]
fn a_single_file_replaces_an_older_one() {
    let mut lab = Lab::with_source("f a 'new content' @1600000000");
    lab.destination("f b 'old' @1");
    (lab.src, lab.dst) = (lab.src.join("a"), lab.dst.join("b"));
    lab.sync(&[]).ok();
    assert_same(&lab.src, &lab.dst);
}

#[test]
fn a_single_file_goes_into_an_existing_directory() {
    for route in Route::ALL {
        let mut lab = Lab::with_source("f a 'content' @1600000000.5");
        lab.destination("f bystander 'stays'");
        lab.src = lab.src.join("a");
        lab.sync_via(route, &[]).ok();
        assert_same(&lab.src, &lab.dst.join("a"));
        assert_eq!(text_of(&lab.dst.join("bystander")), "stays");
    }
}

#[test]
fn roots_may_be_symlinks_to_directories() {
    let mut lab = Lab::with_source("f a 'x'");
    lab.destination("d .");
    for (link, target) in [("src-link", &lab.src), ("dst-link", &lab.dst)] {
        std::os::unix::fs::symlink(target, lab.path(link)).unwrap();
    }
    let real = (lab.src.clone(), lab.dst.clone());
    (lab.src, lab.dst) = (lab.path("src-link"), lab.path("dst-link"));
    lab.sync(&[]).ok();
    assert!(lab.dst.is_symlink(), "the link to the root was replaced");
    assert_same(&real.0, &real.1);
}

#[test]
fn a_path_with_a_colon_is_local_after_a_slash() {
    let lab = Lab::with_source("f a 'x'");
    let dst = lab.path("far:dst");
    lab.cutover(["sync", "src", "./far:dst"])
        .current_dir(&lab.path("."))
        .ok();
    assert_same(&lab.src, &dst);
}

#[test]
fn a_missing_source_fails_and_makes_nothing() {
    for route in Route::ALL {
        let lab = Lab::new();
        let outcome = lab.sync_via(route, &[]).code(3);
        outcome.says("src").says("No such file");
        assert!(!lab.dst.exists());
    }
}

#[test]
fn a_directory_does_not_replace_a_file_given_as_the_destination() {
    let mut lab = Lab::with_source("f a 'x'");
    lab.destination("f file 'precious'");
    lab.dst = lab.dst.join("file");
    let outcome = lab.sync(&[]).run();
    assert!(!outcome.status.success(), "{outcome}");
    assert_eq!(text_of(&lab.dst), "precious");
}

#[test]
fn a_far_path_is_taken_as_it_is() {
    // No shell on the way may split, expand or interpret it.
    let mut lab = Lab::with_source("f a 'x'");
    lab.dst = lab.path("it's $HOME; `a` *\tb");
    lab.cutover(["sync"])
        .args(lab.far_options())
        .args(Route::Push.endpoints(FAR, &lab.src, &lab.dst))
        .ok();
    lab.assert_synced();
}
