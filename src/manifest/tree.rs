//! The tree of digests: one small node for each directory, nothing for each file.
//!
//! A directory's children are found all at once, so they lie side by side in the vector, sorted by
//! name; that is the whole index. Names share one arena. 20,000 directories cost about 2.5 MB.
//!
//! A tree that is kept is renewed directory by directory: children that change get a new block at the
//! end, and what lies idle then is cleared away when the renewed tree is finished.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

use crate::digest::Digest;
use crate::entry::Timestamp;
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
    /// Content bytes of the files directly in the directory.
    pub bytes: u64,
    /// Device and inode: whether it is still the same directory.
    pub inode: (u64, u64),
    /// Its ctime when its parent was read: of then is the record that its parent has of it.
    pub recorded: Timestamp,
    /// Entries in the directory and all beneath it, once the tree is finished.
    pub total_entries: u64,
    /// Content bytes of the files in the directory and all beneath it, once the tree is finished.
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
    /// It holds entries that do not take part (excluded, our own).
    pub hides_here: bool,
    /// It or something beneath it does, once the tree is finished: it cannot be moved whole.
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
    /// Some nodes are referred to by no directory any more, and some come before their parents.
    is_loose: bool,
    /// Some nodes are new and have not been summed up.
    is_grown: bool,
}

impl Default for Tree {
    /// A tree that is only a root.
    fn default() -> Tree {
        Tree {
            nodes: vec![Node::default()],
            names: Vec::new(),
            buckets: HashMap::new(),
            is_loose: false,
            is_grown: false,
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
        match buckets.is_empty() {
            true => self.buckets.remove(&id),
            false => self.buckets.insert(id, buckets),
        };
    }

    /// The digests of a huge directory's buckets, cut to 8 bytes: as many as a power of two. `None`
    /// where there is one bucket only, or they are not known.
    pub fn buckets(&self, id: NodeId) -> Option<&[u64]> {
        self.buckets.get(&id).map(|buckets| &**buckets)
    }

    /// Makes `subdirs`, which must be sorted by name, the subdirectories of `parent` in place of those
    /// it has. What is known of those that are the same directories as before stays. Returns the
    /// others, of which nothing is known, each with its place in `subdirs`.
    pub fn replace_children(
        &mut self,
        parent: NodeId,
        subdirs: &[(&Name, (u64, u64))],
    ) -> Vec<(NodeId, usize)> {
        let known: Vec<_> = subdirs
            .iter()
            .map(|(name, inode)| {
                let child = self.child(parent, name.as_bytes());
                child.filter(|&child| self.node(child).inode == *inode)
            })
            .collect();
        if known
            .iter()
            .eq(self.children(parent).map(Some).collect::<Vec<_>>().iter())
        {
            return Vec::new();
        }
        self.is_loose |= self.node(parent).child_count > 0;
        self.is_grown = true;
        let first = self.add_children(parent, subdirs.iter().map(|(name, _)| *name));
        let mut new = Vec::new();
        for (offset, (old, (_, inode))) in known.into_iter().zip(subdirs).enumerate() {
            let id = Tree::nth(first, offset);
            match old {
                Some(old) => self.move_node(old, id),
                None => {
                    self.node_mut(id).inode = *inode;
                    new.push((id, offset));
                }
            }
        }
        new
    }

    /// Forgets what is beneath a directory.
    pub fn drop_children(&mut self, id: NodeId) {
        self.is_loose |= self.node(id).child_count > 0;
        self.node_mut(id).child_count = 0;
    }

    fn move_node(&mut self, from: NodeId, to: NodeId) {
        let at = self.node(to);
        let (parent, name_start, name_len) = (at.parent, at.name_start, at.name_len);
        *self.node_mut(to) = Node {
            parent,
            name_start,
            name_len,
            ..self.node(from).clone()
        };
        for child in self.children(to) {
            self.node_mut(child).parent = to.0;
        }
        if let Some(buckets) = self.buckets.remove(&from) {
            self.buckets.insert(to, buckets);
        }
    }

    /// Computes deep digests and totals, bottom up. Children come after their parents, so one
    /// pass from the end suffices.
    pub fn finish(&mut self) {
        self.is_grown = false;
        for index in (0..self.nodes.len()).rev() {
            self.sum_up(index);
        }
    }

    /// Does what [`Tree::finish`] does after these directories were renewed, and touches only them
    /// and those above them where no directory came or went.
    pub fn finish_renewed<'a>(&mut self, changed: impl Iterator<Item = &'a RelPath>) {
        if std::mem::take(&mut self.is_loose) {
            self.tighten();
            return self.finish();
        }
        if self.is_grown {
            return self.finish();
        }
        let mut stale = BTreeSet::new();
        for path in changed {
            let Some(mut at) = self.find(path) else {
                continue;
            };
            let mut depth = path.components().count();
            while stale.insert((Reverse(depth), at)) && depth > 0 {
                at = NodeId(self.node(at).parent);
                depth -= 1;
            }
        }
        for (_, id) in stale {
            self.sum_up(id.0 as usize);
        }
    }

    /// Builds the tree anew without what no directory refers to any more.
    fn tighten(&mut self) {
        let old = std::mem::take(self);
        self.nodes[0] = Node {
            child_count: 0,
            ..old.nodes[0].clone()
        };
        let mut ids = vec![NodeId::ROOT];
        // A block of children is copied when its parent is met: parents come before them.
        let mut at = 0;
        while at < ids.len() {
            let (here, there) = (NodeId(at as u32), ids[at]);
            let first = self.nodes.len() as u32;
            for child in old.children(there) {
                let name_start = self.names.len() as u32;
                self.names.extend_from_slice(old.name(child));
                self.nodes.push(Node {
                    parent: here.0,
                    name_start,
                    ..old.node(child).clone()
                });
                ids.push(child);
            }
            let node = self.node_mut(here);
            node.first_child = first;
            node.child_count = old.node(there).child_count;
            if let Some(buckets) = old.buckets.get(&there) {
                self.buckets.insert(here, buckets.clone());
            }
            at += 1;
        }
    }

    /// Computes one directory's deep digest and totals from those of its children.
    fn sum_up(&mut self, index: usize) {
        let node = &self.nodes[index];
        let first = node.first_child as usize;
        let children = &self.nodes[first..first + node.child_count as usize];
        let deep = deep_digest(node.shallow, children.iter().map(|child| child.deep));
        let mut entries = u64::from(node.entries);
        let mut bytes = node.bytes;
        let mut hides = node.flags.hides_here;
        for child in children {
            entries += child.total_entries;
            bytes += child.total_bytes;
            hides |= child.flags.hides;
        }
        let node = &mut self.nodes[index];
        node.deep = deep;
        node.total_entries = entries;
        node.total_bytes = bytes;
        node.flags.hides = hides;
    }

    /// The directories whose own entries are not what they are in `other`, of those that both have.
    pub fn differing(&self, other: &Tree) -> Vec<RelPath> {
        let mut found = Vec::new();
        let mut stack = vec![(NodeId::ROOT, NodeId::ROOT)];
        while let Some((ours, theirs)) = stack.pop() {
            let (a, b) = (self.node(ours), other.node(theirs));
            if a.deep == b.deep {
                continue;
            }
            if a.shallow != b.shallow {
                found.push(self.path(ours));
            }
            for child in self.children(ours) {
                let same = other.child(theirs, self.name(child));
                stack.extend(same.map(|same| (child, same)));
            }
        }
        found
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

    /// A tree with these directories, given by path; each path's bytes are its digest.
    fn grown(paths: &[&str]) -> Tree {
        let mut tree = Tree::default();
        let mut stack = vec![RelPath::root()];
        while let Some(dir) = stack.pop() {
            let id = tree.find(&dir).unwrap();
            tree.node_mut(id).shallow = Digest::of(dir.as_bytes());
            let below = below(paths, &dir);
            tree.replace_children(id, &with_inodes(&dir, &below));
            for name in &below {
                stack.push(dir.join(name));
            }
        }
        tree.is_loose = false;
        tree.tighten();
        tree.finish();
        tree
    }

    fn below(paths: &[&str], dir: &RelPath) -> Vec<Name> {
        let inside = |path: &&str| {
            let path = RelPath::new(path.as_bytes()).unwrap();
            (path.parent() == Some(dir.clone())).then(|| path.file_name().unwrap())
        };
        let mut names: Vec<_> = paths.iter().filter_map(inside).collect();
        names.sort();
        names
    }

    /// An inode for each path, so that a directory is the same one where its path is.
    fn with_inodes<'a>(dir: &RelPath, names: &'a [Name]) -> Vec<(&'a Name, (u64, u64))> {
        let inode = |name: &Name| {
            let hash = Digest::of(dir.join(name).as_bytes()).0;
            (1, u64::from_le_bytes(hash[..8].try_into().unwrap()))
        };
        names.iter().map(|name| (name, inode(name))).collect()
    }

    #[test]
    fn a_renewed_tree_is_as_one_that_was_never_another() {
        let before = ["a", "a/x", "a/x/deep", "b", "b/y", "c"];
        let after = ["a", "a/x", "a/x/deep", "aa", "b", "c", "c/z"];
        let mut tree = grown(&before);
        let mut changed = Vec::new();
        for dir in ["", "b", "c", "aa", "c/z"] {
            let dir = RelPath::new(dir.as_bytes()).unwrap();
            let id = tree.find(&dir).unwrap();
            let names = below(&after, &dir);
            for (new, offset) in tree.replace_children(id, &with_inodes(&dir, &names)) {
                let path = dir.join(&names[offset]);
                tree.node_mut(new).shallow = Digest::of(path.as_bytes());
            }
            changed.push(dir);
        }
        tree.finish_renewed(changed.iter());
        let fresh = grown(&after);
        assert_eq!(tree.node(NodeId::ROOT).deep, fresh.node(NodeId::ROOT).deep);
        let paths = |tree: &Tree| tree.ids().map(|id| tree.path(id)).collect::<BTreeSet<_>>();
        assert_eq!(paths(&tree), paths(&fresh), "nothing lies idle");
    }

    #[test]
    fn a_directory_where_none_was_before_counts() {
        let mut tree = grown(&["a", "b"]);
        let a = tree.find(&RelPath::new(b"a").unwrap()).unwrap();
        let names = [name("x")];
        let dir = RelPath::new(b"a").unwrap();
        for (new, _) in tree.replace_children(a, &with_inodes(&dir, &names)) {
            tree.node_mut(new).shallow = Digest::of(b"a/x");
        }
        tree.finish_renewed([dir].iter());
        let fresh = grown(&["a", "a/x", "b"]);
        assert_eq!(tree.node(NodeId::ROOT).deep, fresh.node(NodeId::ROOT).deep);
    }

    #[test]
    fn a_directory_that_is_another_under_its_old_name_is_new() {
        let mut tree = grown(&["a", "a/x"]);
        let a = name("a");
        let new = tree.replace_children(NodeId::ROOT, &[(&a, (1, 0))]);
        assert_eq!(new.len(), 1);
        assert_eq!(tree.children(new[0].0).len(), 0);
    }

    #[test]
    fn a_change_without_new_directories_sums_up_only_the_way_to_the_root() {
        let mut tree = grown(&["a", "a/x", "b"]);
        let path = RelPath::new(b"a/x").unwrap();
        let id = tree.find(&path).unwrap();
        tree.node_mut(id).shallow = Digest::of(b"changed");
        tree.node_mut(id).entries = 3;
        let mut whole = tree.clone();
        whole.finish();
        tree.finish_renewed([path].iter());
        let top = |tree: &Tree| {
            let node = tree.node(NodeId::ROOT);
            (node.deep, node.total_entries)
        };
        assert_eq!(top(&tree), top(&whole));
        assert_eq!(top(&tree).1, 3);
    }
}
