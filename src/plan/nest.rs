//! Which roots lie within others: what is synced with another is not synced again, and what is
//! within another on one side only would be deleted, or copied to two places.

use crate::error::{Error, Result};
use crate::events::{Both, Side};
use crate::filter::Rules;
use crate::path::RelPath;

/// A root, as far as it matters where it lies.
pub(super) struct Placed<'a> {
    pub(super) name: &'a str,
    pub(super) places: Both<Place>,
    /// It takes part; one that is left out holds nothing and is held by nothing.
    pub(super) present: bool,
    pub(super) rules: Rules,
    /// It has filters that other roots have not.
    pub(super) has_own_filters: bool,
}

/// Where a root is on one side.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// As it is called.
    pub(super) path: String,
    /// Without symlinks, whether or not anything is there.
    pub(super) canonical: String,
}

/// For each root the outermost one that it is synced with.
pub(super) fn holders(roots: &[Placed<'_>]) -> Result<Vec<Option<usize>>> {
    let mut holders = vec![None; roots.len()];
    for (inner, root) in roots.iter().enumerate() {
        for (outer, other) in roots.iter().enumerate() {
            if inner == outer || !(root.present && other.present) {
                continue;
            }
            let wider = |held: usize| {
                let length = |n: usize| roots[n].places.source.canonical.len();
                length(outer) < length(held)
            };
            if holds(other, root)? && holders[inner].is_none_or(wider) {
                holders[inner] = Some(outer);
            }
        }
    }
    Ok(holders)
}

/// Whether `inner` is synced with `outer`.
fn holds(outer: &Placed<'_>, inner: &Placed<'_>) -> Result<bool> {
    let source = below(&outer.places.source, &inner.places.source);
    let destination = below(&outer.places.destination, &inner.places.destination);
    for (rel, side) in [(&source, Side::Source), (&destination, Side::Destination)] {
        if rel.as_deref() == Some("") {
            return Err(Error::Usage(format!(
                "roots {} and {} are the same directory at the {}, {}: name it once",
                outer.name,
                inner.name,
                side.noun(),
                inner.places.of(side).path,
            )));
        }
    }
    // What the outer root leaves out is synced by itself, wherever it lies.
    let taken = |rel: Option<String>| rel.filter(|rel| !leaves_out(&outer.rules, rel));
    match (taken(source), taken(destination)) {
        (None, None) => Ok(false),
        (Some(source), Some(destination)) if source == destination => {
            if inner.has_own_filters {
                return Err(own_filters(outer, inner, &source));
            }
            Ok(true)
        }
        (source, _) => Err(elsewhere(outer, inner, source.is_some())),
    }
}

fn own_filters(outer: &Placed<'_>, inner: &Placed<'_>, rel: &str) -> Error {
    let (outer, inner) = (outer.name, inner.name);
    Error::Usage(format!(
        "root {inner} lies within root {outer} and is synced with it, so its filters are not \
         heeded: move them to {outer}, or leave {inner} out there with the filter \"- /{rel}/\""
    ))
}

fn elsewhere(outer: &Placed<'_>, inner: &Placed<'_>, is_at_source: bool) -> Error {
    let side = match is_at_source {
        true => Side::Source,
        false => Side::Destination,
    };
    let places = |side: Side| {
        let place = inner.places.of(side);
        match place.path == place.canonical {
            true => place.path.clone(),
            false => format!("{} (which is {})", place.path, place.canonical),
        }
    };
    Error::Usage(format!(
        "root {} lies within root {} at the {}, and not in the same place at the other end: it is \
         {} at the source and {} at the destination; give it a `path` and a `destination` that \
         lie alike, without symlinks, or leave it out of {} by a filter",
        inner.name,
        outer.name,
        side.noun(),
        places(Side::Source),
        places(Side::Destination),
        outer.name,
    ))
}

/// Where `inner` is below `outer`; empty where they are the same.
fn below(outer: &Place, inner: &Place) -> Option<String> {
    let rest = inner.canonical.strip_prefix(&outer.canonical)?;
    match rest.strip_prefix('/') {
        Some(rel) => Some(rel.to_owned()),
        None => rest.is_empty().then(String::new),
    }
}

fn leaves_out(rules: &Rules, rel: &str) -> bool {
    RelPath::new(rel.as_bytes()).is_ok_and(|rel| {
        rules
            .explain(&rel, true, Side::Source)
            .verdict
            .is_excluded()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::parse_filter_arg;

    fn place(path: &str) -> Place {
        Place {
            path: path.into(),
            canonical: path.into(),
        }
    }

    fn root<'a>(name: &'a str, source: &str, destination: &str) -> Placed<'a> {
        Placed {
            name,
            places: Both {
                source: place(source),
                destination: place(destination),
            },
            present: true,
            rules: Rules::parse(&[]).unwrap(),
            has_own_filters: false,
        }
    }

    fn leaving_out<'a>(filter: &str, root: Placed<'a>) -> Placed<'a> {
        let rules = parse_filter_arg(filter.as_bytes()).unwrap();
        Placed {
            rules: Rules::parse(&rules).unwrap(),
            ..root
        }
    }

    #[test]
    fn a_root_within_another_is_held_by_the_outermost() {
        let roots = [
            root("deep", "/s/a/b", "/d/a/b"),
            root("mid", "/s/a", "/d/a"),
            root("top", "/s", "/d"),
            root("other", "/sa", "/da"),
        ];
        assert_eq!(holders(&roots).unwrap(), [Some(2), Some(2), None, None]);
    }

    #[test]
    fn a_root_that_the_outer_one_leaves_out_is_synced_by_itself() {
        let roots = [
            leaving_out("- /work/", root("state", "/s", "/d")),
            root("work", "/s/work", "/d/work"),
        ];
        assert_eq!(holders(&roots).unwrap(), [None, None]);
        // Then it may lie elsewhere as well.
        let roots = [
            leaving_out("- /work/", root("state", "/s", "/d")),
            root("work", "/s/work", "/elsewhere"),
        ];
        assert_eq!(holders(&roots).unwrap(), [None, None]);
    }

    #[test]
    fn a_root_that_lies_within_another_on_one_side_only_is_refused() {
        for (source, destination) in [
            ("/s/work", "/work"),
            ("/work", "/d/work"),
            ("/s/work", "/d/other"),
        ] {
            let roots = [root("state", "/s", "/d"), root("work", source, destination)];
            let err = holders(&roots).unwrap_err().to_string();
            assert!(err.contains("root work lies within root state"), "{err}");
        }
    }

    #[test]
    fn a_symlink_out_of_the_outer_root_is_seen_through() {
        let mut work = root("work", "/s/work", "/d/work");
        work.places.source.canonical = "/data/work".into();
        let err = holders(&[root("state", "/s", "/d"), work])
            .unwrap_err()
            .to_string();
        assert!(err.contains("/s/work (which is /data/work)"), "{err}");
    }

    #[test]
    fn one_directory_is_one_root() {
        for (source, destination) in [("/s", "/e"), ("/t", "/d")] {
            let roots = [root("a", "/s", "/d"), root("b", source, destination)];
            let err = holders(&roots).unwrap_err().to_string();
            assert!(err.contains("are the same directory"), "{err}");
        }
    }

    #[test]
    fn filters_that_would_not_be_heeded_are_refused() {
        let mut work = root("work", "/s/work", "/d/work");
        work.has_own_filters = true;
        let err = holders(&[root("state", "/s", "/d"), work])
            .unwrap_err()
            .to_string();
        assert!(
            err.contains("leave work out there with the filter \"- /work/\""),
            "{err}"
        );
    }

    #[test]
    fn a_root_that_is_left_out_is_not_held() {
        let mut work = root("work", "/s/work", "/elsewhere");
        work.present = false;
        assert_eq!(
            holders(&[root("state", "/s", "/d"), work]).unwrap(),
            [None, None]
        );
    }
}
