//! The tree of digests: one small node for each directory, nothing for each file.
//!
//! A directory's children are found all at once, so they lie side by side in the vector, sorted by
//! name and after their parent; that is the whole index. Names share one arena. 20,000 directories
//! cost about 2.5 MB.

use std::collections::HashMap;

use crate::digest::Digest;
use crate::manifest::record::deep_digest;
use crate::path::{Name, RelPath};

/// A directory's place in its [`Tree`]; the root is [`NodeId::ROOT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(u32);

impl NodeId {
    /// The root.
    pub const ROOT: NodeId = NodeId(0);
}

/// What is kept of one directory.
#[derive(Clone, Debug, Default)]
pub struct Node {
    parent: u32,
    first_child: u32,
    child_count: u32,
    name_start: u32,
    name_len: u8,
    /// What the digests cannot say.
    pub flags: NodeFlags,
    /// Entries directly in the directory.
    pub entries: u32,
    /// Entries in the directory and all beneath it, once the tree is finished.
    pub total_entries: u64,
    /// Content bytes of the files directly in the directory, then of all beneath it.
    pub total_bytes: u64,
    /// Over its own entries' records.
    pub shallow: Digest,
    /// Over its own and its subdirectories'.
    pub deep: Digest,
}

/// What the digests cannot say of a directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeFlags {
    /// It could not be read: what it holds is unknown, and nothing may be concluded from it.
    pub unreadable: bool,
    /// It holds entries that do not take part (excluded, our own): it cannot be moved whole.
    pub hides: bool,
    /// It holds hard-linked files.
    pub links: bool,
    /// Another filesystem is mounted on it, and it was not entered.
    pub elsewhere: bool,
}

/// All directories beneath a root.
#[derive(Clone, Debug)]
pub struct Tree {
    nodes: Vec<Node>,
    names: Vec<u8>,
    /// Of huge directories only.
    buckets: HashMap<NodeId, Box<[u64]>>,
}

impl Default for Tree {
    /// A tree that is only a root.
    fn default() -> Tree {
        Tree {
            nodes: vec![Node::default()],
            names: Vec::new(),
            buckets: HashMap::new(),
        }
    }
}

impl Tree {
    /// Adds the subdirectories of `parent`, which must be sorted by name and come only once.
    /// Returns the first one's id; the others follow it.
    pub fn add_children<'a>(
        &mut self,
        parent: NodeId,
        names: impl ExactSizeIterator<Item = &'a Name>,
    ) -> NodeId {
        let first = self.nodes.len() as u32;
        let node = &mut self.nodes[parent.0 as usize];
        node.first_child = first;
        node.child_count = names.len() as u32;
        for name in names {
            let name_start = self.names.len() as u32;
            self.names.extend_from_slice(name.as_bytes());
            self.nodes.push(Node {
                parent: parent.0,
                name_start,
                name_len: name.as_bytes().len() as u8,
                ..Node::default()
            });
        }
        NodeId(first)
    }

    /// The id `offset` places after `first`.
    pub fn nth(first: NodeId, offset: usize) -> NodeId {
        NodeId(first.0 + offset as u32)
    }

    /// What is kept of a directory.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }

    /// What is kept of a directory, to be filled by the scan.
    pub fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id.0 as usize]
    }

    /// Keeps the digests of a directory's buckets, where it has any.
    pub fn set_buckets(&mut self, id: NodeId, buckets: Box<[u64]>) {
        if !buckets.is_empty() {
            self.buckets.insert(id, buckets);
        }
    }

    /// The digests of a huge directory's buckets, cut to 8 bytes: as many as a power of two. `None`
    /// where there is one bucket only, or they are not known.
    pub fn buckets(&self, id: NodeId) -> Option<&[u64]> {
        self.buckets.get(&id).map(|buckets| &**buckets)
    }

    /// Computes deep digests and totals, bottom up. Children come after their parents, so one
    /// pass from the end suffices.
    pub fn finish(&mut self) {
        for index in (0..self.nodes.len()).rev() {
            let node = &self.nodes[index];
            let first = node.first_child as usize;
            let children = &self.nodes[first..first + node.child_count as usize];
            let deep = deep_digest(node.shallow, children.iter().map(|child| child.deep));
            let mut entries = u64::from(node.entries);
            let mut bytes = node.total_bytes;
            let mut flags = node.flags;
            for child in children {
                entries += child.total_entries;
                bytes += child.total_bytes;
                flags.hides |= child.flags.hides;
            }
            let node = &mut self.nodes[index];
            node.deep = deep;
            node.total_entries = entries;
            node.total_bytes = bytes;
            node.flags = flags;
        }
    }

    /// How many directories there are, the root included.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Always false: the root is always there.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// All directories.
    pub fn ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        (0..self.nodes.len() as u32).map(NodeId)
    }

    /// The subdirectories of a directory, sorted by name.
    pub fn children(&self, id: NodeId) -> impl ExactSizeIterator<Item = NodeId> + use<> {
        let node = self.node(id);
        (node.first_child..node.first_child + node.child_count).map(NodeId)
    }

    /// A directory's name bytes; empty for the root.
    pub fn name(&self, id: NodeId) -> &[u8] {
        let node = self.node(id);
        let start = node.name_start as usize;
        &self.names[start..start + usize::from(node.name_len)]
    }

    /// A directory's path.
    pub fn path(&self, id: NodeId) -> RelPath {
        let mut names = Vec::new();
        let mut at = id;
        while at != NodeId::ROOT {
            names.push(self.name(at));
            at = NodeId(self.node(at).parent);
        }
        names.reverse();
        RelPath::new(&names.join(&b'/')).unwrap_or_default()
    }

    /// The subdirectory of `parent` with this name.
    pub fn child(&self, parent: NodeId, name: &[u8]) -> Option<NodeId> {
        let node = self.node(parent);
        let first = node.first_child as usize;
        let children = &self.nodes[first..first + node.child_count as usize];
        let found = children.binary_search_by(|child| {
            let start = child.name_start as usize;
            self.names[start..start + usize::from(child.name_len)].cmp(name)
        });
        found.ok().map(|offset| NodeId((first + offset) as u32))
    }

    /// The directory at a path.
    pub fn find(&self, path: &RelPath) -> Option<NodeId> {
        path.components()
            .try_fold(NodeId::ROOT, |at, name| self.child(at, name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text.as_bytes()).unwrap()
    }

    fn sample() -> Tree {
        let mut tree = Tree::default();
        let (a, b) = (name("a"), name("b"));
        let first = tree.add_children(NodeId::ROOT, [&a, &b].into_iter());
        let c = name("c");
        let leaf = tree.add_children(Tree::nth(first, 1), [&c].into_iter());
        tree.node_mut(leaf).entries = 7;
        tree
    }

    #[test]
    fn a_path_finds_its_directory_and_back() {
        let mut tree = sample();
        tree.finish();
        let path = RelPath::new(b"b/c").unwrap();
        let id = tree.find(&path).unwrap();
        assert_eq!(tree.path(id), path);
        assert_eq!(tree.find(&RelPath::new(b"b/x").unwrap()), None);
        assert_eq!(tree.node(NodeId::ROOT).total_entries, 7);
    }

    #[test]
    fn a_change_far_below_changes_the_root() {
        let mut before = sample();
        let mut after = sample();
        let leaf = after.find(&RelPath::new(b"b/c").unwrap()).unwrap();
        after.node_mut(leaf).shallow = Digest::of(b"changed");
        before.finish();
        after.finish();
        assert_ne!(
            before.node(NodeId::ROOT).deep,
            after.node(NodeId::ROOT).deep
        );
        let sibling = RelPath::new(b"a").unwrap();
        assert_eq!(
            before.node(before.find(&sibling).unwrap()).deep,
            after.node(after.find(&sibling).unwrap()).deep
        );
    }
}
