//! A method for each errand, so that who asks gets the answer's own type. An agent that answers
//! another question, or not all of one, has broken the protocol.

use crate::error::{Error, Result};
use crate::path::RelPath;
use crate::protocol::errand::{
    Answer, Command, Comparison, Database, Errand, Exit, Expand, FenceMeans, GenerationsAnswer,
    GenerationsErrand, HostFacts, KeepMeans, Made, Marker, Measured, Mention, Occupants,
    OutputLine, Probe, Recovered, RootFacts, Shelved, ValueQuery,
};
use crate::retention::Rule;
use crate::session::Host;

/// Asks `$host` and takes the one kind of answer that the errand has.
macro_rules! ask {
    ($host:ident, $errand:expr, $answer:pat $(if $holds:expr)? => $value:expr) => {
        match $host.ask(&$errand, &mut |_| {})? {
            $answer $(if $holds)? => Ok($value),
            _ => Err($host.confused()),
        }
    };
}

impl Host {
    /// [`Errand::Expand`].
    pub fn expand(&mut self, expand: Expand) -> Result<Vec<Result<String, String>>> {
        let texts = expand.texts.len();
        ask!(self, Errand::Expand(expand), Answer::Expanded(found) if found.len() == texts => found)
    }

    /// [`Errand::Host`].
    pub fn facts(&mut self) -> Result<HostFacts> {
        ask!(self, Errand::Host, Answer::Host(facts) => facts)
    }

    /// [`Errand::Known`]: which of the users exist, and which of the groups.
    pub fn known(&mut self, users: &[String], groups: &[String]) -> Result<(Vec<bool>, Vec<bool>)> {
        let errand = Errand::Known {
            users: users.to_vec(),
            groups: groups.to_vec(),
        };
        let asked = (users.len(), groups.len());
        ask!(self, errand, Answer::Known { users, groups }
            if (users.len(), groups.len()) == asked => (users, groups))
    }

    /// [`Errand::Root`].
    pub fn root(&mut self, root: &str) -> Result<RootFacts> {
        ask!(self, Errand::Root(root.to_string()), Answer::Root(facts) => facts)
    }

    /// [`Errand::Measure`].
    pub fn measure(&mut self, root: &str) -> Result<Measured> {
        let root = root.to_string();
        ask!(self, Errand::Measure { root }, Answer::Measured(measured) => measured)
    }

    /// [`Errand::Glob`].
    pub fn glob(&mut self, patterns: &[String]) -> Result<Vec<String>> {
        ask!(self, Errand::Glob(patterns.to_vec()), Answer::Paths(paths) => paths)
    }

    /// [`Errand::Exposed`].
    pub fn exposed(&mut self, root: &str, secrets: &[String]) -> Result<Vec<String>> {
        let errand = Errand::Exposed {
            root: root.to_string(),
            secrets: secrets.to_vec(),
        };
        ask!(self, errand, Answer::Paths(paths) => paths)
    }

    /// [`Errand::Mentions`].
    pub fn mentions(&mut self, root: &str, paths: &[String]) -> Result<Vec<Mention>> {
        let errand = Errand::Mentions {
            root: root.to_string(),
            paths: paths.to_vec(),
        };
        ask!(self, errand, Answer::Mentions(mentions) => mentions)
    }

    /// [`Errand::Values`].
    pub fn values(
        &mut self,
        queries: Vec<ValueQuery>,
    ) -> Result<Vec<Result<Option<String>, String>>> {
        let asked = queries.len();
        ask!(self, Errand::Values(queries), Answer::Values(found) if found.len() == asked => found)
    }

    /// [`Errand::Occupants`].
    pub fn occupants(&mut self, roots: &[String]) -> Result<Occupants> {
        ask!(self, Errand::Occupants(roots.to_vec()), Answer::Occupants(occupants) => occupants)
    }

    /// [`Errand::Databases`].
    pub fn databases(&mut self, root: &str, check: bool) -> Result<Vec<Database>> {
        let root = root.to_string();
        ask!(self, Errand::Databases { root, check }, Answer::Databases(found) => found)
    }

    /// [`Errand::Run`]; `output` hears each line as it comes.
    pub fn run(&mut self, command: Command, output: &mut dyn FnMut(OutputLine)) -> Result<Exit> {
        match self.ask(&Errand::Run(command), output)? {
            Answer::Exited(exit) => Ok(exit),
            _ => Err(self.confused()),
        }
    }

    /// [`Errand::Check`].
    pub fn check(&mut self, probe: Probe) -> Result<Result<String, String>> {
        ask!(self, Errand::Check(probe), Answer::Checked(found) => found)
    }

    /// [`Errand::Keep`]: how it was kept, and how many entries.
    pub fn keep(&mut self, root: &str, id: &str, means: KeepMeans) -> Result<(KeepMeans, u64)> {
        let errand = Errand::Keep {
            root: root.to_string(),
            id: id.to_string(),
            means,
        };
        ask!(self, errand, Answer::Kept { means, entries } => (means, entries))
    }

    /// [`Errand::Restore`]: how many entries are as they were kept, and which are not.
    pub fn restore(&mut self, root: &str, id: &str) -> Result<(u64, Vec<String>)> {
        let errand = Errand::Restore {
            root: root.to_string(),
            id: id.to_string(),
        };
        ask!(self, errand, Answer::Restored { entries, differing } => (entries, differing))
    }

    /// [`Errand::Forget`].
    pub fn forget(&mut self, root: &str, id: &str) -> Result<()> {
        let errand = Errand::Forget {
            root: root.to_string(),
            id: id.to_string(),
        };
        ask!(self, errand, Answer::Done => ())
    }

    /// [`Errand::Discard`].
    pub fn discard(&mut self, root: &str, names: &[String]) -> Result<()> {
        let errand = Errand::Discard {
            root: root.to_string(),
            names: names.to_vec(),
        };
        ask!(self, errand, Answer::Done => ())
    }

    /// [`Errand::ReadMarker`].
    pub fn read_marker(&mut self, root: &str) -> Result<Option<Marker>> {
        ask!(self, Errand::ReadMarker(root.to_string()), Answer::Marker(marker) => marker)
    }

    /// [`Errand::SetMarker`].
    pub fn set_marker(&mut self, root: &str, marker: Option<Marker>) -> Result<()> {
        let root = root.to_string();
        ask!(self, Errand::SetMarker { root, marker }, Answer::Done => ())
    }

    /// [`Errand::Fence`].
    pub fn fence(&mut self, root: &str, how: FenceMeans, on: bool) -> Result<()> {
        let root = root.to_string();
        ask!(self, Errand::Fence { root, how, on }, Answer::Done => ())
    }

    /// [`GenerationsErrand::Make`].
    pub fn make_generation(&mut self, root: &str, rule: &Rule) -> Result<Option<Made>> {
        let errand = Errand::Generations(GenerationsErrand::Make {
            root: root.to_string(),
            rule: rule.clone(),
        });
        ask!(self, errand, Answer::Generations(GenerationsAnswer::Made(made)) => made)
    }

    /// [`GenerationsErrand::List`].
    pub fn generations(&mut self, root: &str) -> Result<Shelved> {
        let root = root.to_string();
        let errand = Errand::Generations(GenerationsErrand::List { root });
        ask!(self, errand, Answer::Generations(GenerationsAnswer::Listed(shelved)) => shelved)
    }

    /// [`GenerationsErrand::Compare`].
    pub fn compare_generation(
        &mut self,
        root: &str,
        id: &str,
        with: Option<&str>,
    ) -> Result<Comparison> {
        let errand = Errand::Generations(GenerationsErrand::Compare {
            root: root.to_string(),
            id: id.to_string(),
            with: with.map(str::to_string),
        });
        ask!(self, errand, Answer::Generations(GenerationsAnswer::Compared(found)) => found)
    }

    /// [`GenerationsErrand::Restore`].
    pub fn restore_generation(
        &mut self,
        root: &str,
        id: &str,
        paths: &[RelPath],
        to: Option<&str>,
    ) -> Result<Recovered> {
        let errand = Errand::Generations(GenerationsErrand::Restore {
            root: root.to_string(),
            id: id.to_string(),
            paths: paths.to_vec(),
            to: to.map(str::to_string),
        });
        ask!(self, errand, Answer::Generations(GenerationsAnswer::Restored(done)) => done)
    }

    fn confused(&self) -> Error {
        Error::protocol(format!("{} answered another question", self.name))
    }
}
