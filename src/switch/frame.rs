//! What of a plan a switch holds on to from its beginning, as its journal's first line has it.

use serde::{Deserialize, Serialize};

use crate::events::Side;
use crate::plan::model::{End, FenceOff};
use crate::plan::{Resolved, ResolvedRoot, Verb};

/// What a plan meant when the switch began, of which nothing may change on the way. The rest,
/// commands and checks, may be mended before it goes on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Frame {
    source: Way,
    destination: Way,
    /// How the source is fenced off, and so how that is undone.
    pub(super) fence: FenceOff,
    /// Whether there is anything to stop or start: without it, no side is "live" but by its data.
    is_service: bool,
    places: Vec<Place>,
}

/// What an end is reached by. Where a command leads there, it names the machine as much as a host
/// does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Way {
    host: Option<String>,
    shell: Option<String>,
}

/// Where a root was found. Once the source is fenced off by another name, it cannot be found any
/// more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Place {
    name: String,
    source: String,
    destination: String,
    held_by: Option<usize>,
    present: bool,
}

impl Frame {
    pub(super) fn of(resolved: &Resolved) -> Frame {
        let plan = &resolved.plan;
        let has = |verb| {
            let sides = [Side::Source, Side::Destination];
            sides
                .iter()
                .any(|side| resolved.action(verb, *side).is_some())
        };
        Frame {
            source: Way::of(&plan.source),
            destination: Way::of(&plan.destination),
            fence: plan.switch.fence,
            is_service: [Verb::Stop, Verb::Start, Verb::Status].into_iter().any(has),
            places: resolved.roots.iter().map(Place::of).collect(),
        }
    }

    /// Whether a plan still means the same hosts and roots.
    pub(super) fn is_of(&self, resolved: &Resolved) -> bool {
        let now = Frame::of(resolved);
        let named = |frame: &Frame| -> Vec<[String; 3]> {
            let names =
                |place: &Place| [&place.name, &place.source, &place.destination].map(Clone::clone);
            frame.places.iter().map(names).collect()
        };
        (&self.source, &self.destination) == (&now.source, &now.destination)
            && named(self) == named(&now)
    }

    /// Whether anything runs.
    pub(super) fn is_service(&self) -> bool {
        self.is_service
    }

    /// Makes of the roots what they were found to be when the switch began.
    pub(super) fn hold(&self, resolved: &mut Resolved) {
        for (root, place) in resolved.roots.iter_mut().zip(&self.places) {
            root.held_by = place.held_by;
            root.present = place.present;
        }
    }
}

impl Way {
    fn of(end: &End) -> Way {
        Way {
            host: end.host.clone(),
            shell: end.shell.clone(),
        }
    }
}

impl Place {
    fn of(root: &ResolvedRoot) -> Place {
        Place {
            name: root.name.clone(),
            source: root.source.clone(),
            destination: root.destination.clone(),
            held_by: root.held_by,
            present: root.present,
        }
    }
}
