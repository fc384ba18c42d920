//! Operations and what has to be done before each, in the order in which they are thought of;
//! and the order in which they can be done.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap},
};

use super::{Operation, Step};

/// A place in the graph.
pub(super) type Node = usize;

#[derive(Debug, Default)]
pub(super) struct Graph {
    nodes: Vec<Draft>,
}

#[derive(Debug)]
struct Draft {
    operation: Operation,
    why: String,
    after: BTreeSet<Node>,
}

impl Graph {
    pub(super) fn add(&mut self, operation: Operation, why: &str, after: &[Node]) -> Node {
        self.nodes.push(Draft {
            operation,
            why: why.to_owned(),
            after: after.iter().copied().collect(),
        });
        self.nodes.len() - 1
    }

    /// `first` has to be done before `then`.
    pub(super) fn order(&mut self, first: Node, then: Node) {
        if let Some(draft) = self.nodes.get_mut(then).filter(|_| first != then) {
            draft.after.insert(first);
        }
    }

    /// The steps, each after those that it needs; as far as that leaves a choice, in the order in
    /// which they were added. What depends on nothing depends on all pulls.
    ///
    /// # Errors
    ///
    /// The services of operations that need each other.
    pub(super) fn finish(mut self) -> Result<Vec<Step>, Vec<String>> {
        let is_pull = |draft: &Draft| matches!(draft.operation, Operation::Pull { .. });
        let all = self.nodes.iter().enumerate();
        let pulls: BTreeSet<_> = all
            .filter(|(_, d)| is_pull(d))
            .map(|(node, _)| node)
            .collect();
        for draft in self.nodes.iter_mut().filter(|draft| !is_pull(draft)) {
            if draft.after.is_empty() {
                draft.after.clone_from(&pulls);
            }
        }
        let mut waiting: Vec<usize> = self.nodes.iter().map(|draft| draft.after.len()).collect();
        let mut followers = vec![Vec::new(); self.nodes.len()];
        for (node, draft) in self.nodes.iter().enumerate() {
            for first in &draft.after {
                followers[*first].push(node);
            }
        }
        let free = waiting.iter().enumerate().filter(|(_, count)| **count == 0);
        let mut ready: BinaryHeap<_> = free.map(|(node, _)| Reverse(node)).collect();
        let mut place = vec![None; self.nodes.len()];
        let mut order = Vec::with_capacity(self.nodes.len());
        while let Some(Reverse(node)) = ready.pop() {
            place[node] = Some(order.len());
            order.push(node);
            for follower in &followers[node] {
                waiting[*follower] -= 1;
                if waiting[*follower] == 0 {
                    ready.push(Reverse(*follower));
                }
            }
        }
        if order.len() < self.nodes.len() {
            let stuck = self
                .nodes
                .iter()
                .zip(&place)
                .filter(|(_, place)| place.is_none());
            let services: BTreeSet<_> = stuck
                .map(|(draft, _)| draft.operation.service().unwrap_or("networks").to_owned())
                .collect();
            return Err(services.into_iter().collect());
        }
        let step = |(id, node): (usize, Node)| {
            let draft = &self.nodes[node];
            let mut after: Vec<_> = draft
                .after
                .iter()
                .filter_map(|first| place[*first])
                .collect();
            after.sort_unstable();
            Step {
                id,
                after,
                operation: draft.operation.clone(),
                why: draft.why.clone(),
            }
        };
        Ok(order.into_iter().enumerate().map(step).collect())
    }
}
