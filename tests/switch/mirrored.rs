//! A switch takes over from the mirror that kept its standby warm.

use std::path::Path;
use std::time::Duration;

use crate::common::run::Running;
use crate::site::Site;

/// Starts the mirror of a plan and waits until both sides have been the same once.
fn mirror(site: &Site, plan: &Path) -> Running {
    let mirror = ["mirror", "--settle=50ms", "--max-delay=300ms", "--plan"];
    let mut running = site.lab.cutover(mirror).args([plan]).spawn();
    running.wait_until("both sides agree", || {
        std::thread::sleep(Duration::from_millis(200));
        let status = site.lab.cutover(["status"]).args([plan]).run();
        status.stdout.contains("agreed") && status.stdout.contains("both ")
    });
    running
}

#[test]
fn a_switch_takes_over_from_the_mirror_which_stays_off() {
    let site = Site::with_gateway();
    let plan = site.plan("");
    let running = mirror(&site, &plan);

    let switched = site.cutover("switch", &plan).ok();
    switched.says("the mirror handed over");
    switched.says("The destination is the live side");
    let ended = running.wait();
    assert!(ended.status.success(), "{ended}");
    assert!(site.runs_on(&site.new) && !site.runs_on(&site.old));
    let marker = site.state(&site.new).join(".cutover-marker");
    assert!(!marker.exists(), "what lives is no standby");

    let again = site.lab.cutover(["mirror", "--plan"]).args([&plan]).code(5);
    again.says("was switched to");
}
