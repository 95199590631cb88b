//! A trie of n-grams.

use std::collections::HashMap;

/// Numbers the n-grams that are inserted. The node of an n-gram is a child of the node of its first `n - 1` tokens.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trie {
    children: HashMap<(u32, u32), u32>,
}

impl Trie {
    /// The empty n-gram.
    pub(crate) const ROOT: u32 = 0;

    /// The node of `node`'s n-gram followed by `token`, if it was inserted.
    pub(crate) fn child(&self, node: u32, token: u32) -> Option<u32> {
        self.children.get(&(node, token)).copied()
    }

    /// The same node, inserted if it is new. Nodes are numbered 1, 2, 3, ... in the order of their insertion.
    pub(crate) fn insert(&mut self, node: u32, token: u32) -> u32 {
        let next = u32::try_from(self.children.len() + 1).expect("fewer than 2^32 n-grams");
        *self.children.entry((node, token)).or_insert(next)
    }
}
