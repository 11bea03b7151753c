//! The trees of a plan: what it names on this host, with its filters and its secrets.

use std::path::{Path, PathBuf};

use super::source::BundleRoot;
use crate::error::{Error, Result};
use crate::events::{Cancel, Observer};
use crate::path::{Name, escape};
use crate::plan::model::{End, Plan, Service};
use crate::plan::{self, Hosts, Loaded, Resolved};
use crate::transport::RemoteOptions;

/// The roots of the plan in `file`, whose source must be this host. One that lies within another
/// comes with it, and one that is optional and missing does not come.
///
/// # Errors
///
/// Those of [`plan::load`] and [`plan::resolve`]; [`Error::Usage`] for a source on another host;
/// [`Error::Refused`] where something that the plan requires is missing.
pub fn roots_of_plan(
    file: &Path,
    observer: &dyn Observer,
    cancel: &Cancel,
) -> Result<Vec<BundleRoot>> {
    let loaded = plan::load(file)?;
    if !loaded.plan.source.is_here() {
        let host = loaded.plan.source.host.as_deref().unwrap_or("another user");
        return Err(Error::Usage(format!(
            "the source of the plan {} is {}: run cutover bundle there, with the plan",
            loaded.plan.name,
            escape(host.as_bytes())
        )));
    }
    let loaded = Loaded {
        plan: sources_of(loaded.plan),
        ..loaded
    };
    let mut hosts = Hosts::reach(&loaded.plan, &RemoteOptions::default(), observer, cancel)?;
    let resolved = plan::resolve(&loaded, &mut hosts)?;
    hosts.finish()?;
    refuse_missing(&resolved)?;
    bundle_roots(resolved)
}

/// The plan as far as a bundle needs it: its roots on this host, which stand for both ends, so
/// that nothing is asked of the destination.
fn sources_of(plan: Plan) -> Plan {
    let mut roots = plan.roots;
    for root in &mut roots {
        root.destination = None;
    }
    Plan {
        roots,
        destination: End {
            env: plan.source.env.clone(),
            ..End::default()
        },
        service: Service::default(),
        hooks: Vec::new(),
        expects: Vec::new(),
        checks: Vec::new(),
        ..plan
    }
}

fn refuse_missing(resolved: &Resolved) -> Result<()> {
    for (root, written) in resolved.roots.iter().zip(&resolved.plan.roots) {
        for name in written.required.iter().filter(|_| root.present) {
            let path = Path::new(&root.source).join(name);
            if path.symlink_metadata().is_err() {
                return Err(Error::Refused(format!(
                    "{} is missing, without which the root {} is not whole, as the plan says",
                    path.display(),
                    root.name
                )));
            }
        }
    }
    Ok(())
}

fn bundle_roots(resolved: Resolved) -> Result<Vec<BundleRoot>> {
    let written = &resolved.plan.roots;
    let mut bundled = Vec::new();
    for (at, root) in resolved.roots.iter().enumerate() {
        if !root.is_synced() {
            continue;
        }
        let within = resolved.roots.iter().zip(written);
        let within = within
            .enumerate()
            .filter(|(other, (inner, _))| *other == at || inner.held_by == Some(at));
        let secrets = within.flat_map(|(_, (_, written))| written.secrets.iter().cloned());
        bundled.push(BundleRoot {
            name: Name::new(root.name.as_bytes()).map_err(|err| Error::Usage(err.to_string()))?,
            path: PathBuf::from(&root.source),
            options: root.options.clone(),
            secrets: secrets.collect(),
        });
    }
    Ok(bundled)
}
