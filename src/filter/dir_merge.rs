//! Rules that stand in the tree: per-directory rule files, and what of them holds in a directory
//! beneath. Reads nothing; the scan that finds such a file hands its content over.

use std::sync::Arc;

use crate::path::{RelPath, escape};

use super::read::statements;
use super::syntax::{Defaults, FilterError, MergeLine, Sides, Statement};
use super::{Rule, Rules};

/// A per-directory rule file, as a `dir-merge` rule names it.
#[derive(Debug)]
pub(super) struct DirMerge {
    file: Vec<u8>,
    defaults: Defaults,
    inherited: bool,
}

/// The rules of one directory's file, and of those above it.
#[derive(Debug)]
pub(super) struct Layer {
    rules: Vec<Rule>,
    above: Option<Arc<Layer>>,
}

impl DirMerge {
    /// Checks that `line` names a file in each directory. A leading slash, which makes rsync look
    /// above the root of the transfer too, is taken and means nothing: what is above the root
    /// is not part of a tree.
    pub(super) fn new(text: &[u8], line: &MergeLine) -> Result<DirMerge, FilterError> {
        let file = line.file.strip_prefix(b"/").unwrap_or(&line.file);
        if crate::path::Name::new(file).is_err() {
            return Err(FilterError::rule(
                text,
                "does not name a file that each directory can have",
                "write a plain name, or `. FILE` to read one file at the start",
            ));
        }
        Ok(DirMerge {
            file: file.to_vec(),
            defaults: line.defaults,
            inherited: line.inherited,
        })
    }

    pub(super) fn file(&self) -> &[u8] {
        &self.file
    }
}

impl Layer {
    /// The rules from `innermost` to the root's.
    pub(super) fn rules_outwards(innermost: Option<&Layer>) -> impl Iterator<Item = &Rule> {
        std::iter::successors(innermost, |layer| layer.above.as_deref())
            .flat_map(|layer| &layer.rules)
    }
}

impl Drop for Layer {
    /// Lets go of the layers above one after the other: a tree may be deeper than the stack.
    fn drop(&mut self) {
        let mut above = self.above.take();
        while let Some(mut layer) = above.and_then(Arc::into_inner) {
            above = layer.above.take();
        }
    }
}

impl Rules {
    /// The names of per-directory rule files, in the order in which [`enter`](Self::enter) wants
    /// their contents.
    pub fn dir_merge_files(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.dir_merges.iter().map(DirMerge::file)
    }

    /// The rules for the entries of `dir`, made from those of its parent (for the root: from
    /// what [`parse`](Self::parse) gave) and the contents of the files that `dir` has.
    ///
    /// `contents` has one place for each of [`dir_merge_files`](Self::dir_merge_files); missing
    /// places are files that are not there. To be called for each directory when there are such
    /// files, since some rules end with the directory they stand in.
    pub fn enter(&self, dir: &RelPath, contents: &[Option<Vec<u8>>]) -> Result<Rules, FilterError> {
        let mut entered = self.clone();
        for (index, dir_merge) in self.dir_merges.iter().enumerate() {
            let above = self.layers[index].clone().filter(|_| dir_merge.inherited);
            entered.layers[index] = match contents.get(index) {
                Some(Some(content)) => {
                    let layer = parse_layer(dir_merge, dir, content, above)?;
                    entered.sided |= layer.rules.iter().any(|rule| rule.sides != Sides::Unsaid);
                    Some(Arc::new(layer))
                }
                _ => above,
            };
        }
        Ok(entered)
    }
}

fn parse_layer(
    dir_merge: &DirMerge,
    dir: &RelPath,
    content: &[u8],
    above: Option<Arc<Layer>>,
) -> Result<Layer, FilterError> {
    let shown: Arc<str> = if dir.is_root() {
        escape(&dir_merge.file).into()
    } else {
        format!("{dir}/{}", escape(&dir_merge.file)).into()
    };
    let mut layer = Layer {
        rules: Vec::new(),
        above,
    };
    for statement in statements(content, dir_merge.defaults, super::read::Separator::Line) {
        let (number, statement) = statement.map_err(|(number, err)| err.at(&shown, number))?;
        match statement {
            Statement::Nothing => {}
            Statement::Clear => {
                layer.rules.clear();
                layer.above = None;
            }
            Statement::Rule(line) => {
                let file = Some(Arc::clone(&shown));
                layer
                    .rules
                    .push(Rule::new(&line, number, dir.as_bytes(), file));
            }
            Statement::Merge(line) | Statement::DirMerge(line) => {
                return Err(refuse_nested(&line.file).at(&shown, number));
            }
            Statement::CvsExcludes(_) => {
                return Err(refuse_nested(b"-C").at(&shown, number));
            }
        }
    }
    Ok(layer)
}

/// A file in the tree may come from anyone, so it cannot name others to be read.
fn refuse_nested(what: &[u8]) -> FilterError {
    FilterError::rule(
        what,
        "reads further rules from within a per-directory file",
        "give it on the command line with --filter",
    )
}
