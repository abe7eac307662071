//! Rearranging the stack: the cheapest sequence of DUP, SWAP, POP and PUSH found by a bounded search, or one that works.
//!
//! The planner sees small numbers instead of slots: [`JUNK`] may be dropped, [`OTHER`] must stay somewhere, and the
//! others are named by the goal.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

/// A slot whose word nobody needs.
pub(crate) const JUNK: u8 = 0;
/// A slot whose word is needed, but not in the goal.
pub(crate) const OTHER: u8 = 1;
/// The first number that names a slot of the goal.
pub(crate) const FIRST: u8 = 2;

/// One instruction of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    /// Copies the item at this depth, the top being 1.
    Dup(u8),
    /// Exchanges the top with the item this far below it.
    Swap(u8),
    /// Drops the top.
    Pop,
    /// Makes the named word on top, without taking it from the stack.
    Make(u8),
}

/// What a named word is to the planner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Named {
    /// How many copies there must be at the end, those in the goal included, within `stack`.
    pub copies: u8,
    /// What making it costs, if it can be made.
    pub make: Option<u32>,
}

/// A rearrangement to plan.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    /// The stack from the bottom to the top, or as much of its top as matters.
    pub stack: Vec<u8>,
    /// The slots below this index may be copied, not moved.
    pub floor: usize,
    /// What must be on top at the end, from the bottom to the top.
    pub goal: Vec<u8>,
    /// Whether the goal must start exactly at `floor`.
    pub exact: bool,
    /// Whether the two topmost words of the goal may be exchanged.
    pub commutes: bool,
    /// The named words, `FIRST` first.
    pub named: Vec<Named>,
    /// What each dropped word left on the stack costs later.
    pub junk_cost: u32,
    /// The deepest item that DUP reaches.
    pub reach: usize,
    /// Costs of DUP or SWAP, and of POP.
    pub move_cost: u32,
    /// The cost of POP.
    pub pop_cost: u32,
}

/// The named word that could not be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OutOfReach(pub Option<u8>);

impl Problem {
    fn named(&self, id: u8) -> Option<&Named> {
        id.checked_sub(FIRST).and_then(|at| self.named.get(usize::from(at)))
    }

    fn count(stack: &[u8], id: u8) -> usize {
        stack.iter().filter(|&&slot| slot == id).count()
    }

    /// Copies of `id` beyond those needed at the end.
    fn surplus(&self, stack: &[u8], id: u8) -> bool {
        match self.named(id) {
            Some(named) => Self::count(stack, id) > usize::from(named.copies),
            None => id == JUNK,
        }
    }

    fn is_goal(&self, stack: &[u8]) -> bool {
        let Some(start) = stack.len().checked_sub(self.goal.len()) else { return false };
        if start < self.floor || (self.exact && start != self.floor) {
            return false;
        }
        let mut found = stack[start..] == self.goal[..];
        if !found && self.commutes && self.goal.len() >= 2 {
            let mut swapped = self.goal.clone();
            let last = swapped.len() - 1;
            swapped.swap(last, last - 1);
            found = stack[start..] == swapped[..];
        }
        found
            && self
                .named
                .iter()
                .enumerate()
                .all(|(at, named)| Self::count(stack, at as u8 + FIRST) >= usize::from(named.copies))
    }

    fn step_cost(&self, step: Step) -> u32 {
        match step {
            Step::Dup(_) | Step::Swap(_) => self.move_cost,
            Step::Pop => self.pop_cost,
            Step::Make(id) => self.named(id).and_then(|named| named.make).unwrap_or(u32::MAX / 4),
        }
    }

    /// A lower bound of what is left to pay: each missing copy costs a DUP or a making.
    fn bound(&self, stack: &[u8]) -> u32 {
        let mut bound = 0;
        for (at, named) in self.named.iter().enumerate() {
            let have = Self::count(stack, at as u8 + FIRST);
            let missing = usize::from(named.copies).saturating_sub(have) as u32;
            bound += missing * named.make.map_or(self.move_cost, |make| make.min(self.move_cost));
        }
        bound
    }

    fn junk(&self, stack: &[u8]) -> u32 {
        let mut junk = Self::count(&stack[self.floor.min(stack.len())..], JUNK);
        for (at, named) in self.named.iter().enumerate() {
            junk += Self::count(stack, at as u8 + FIRST).saturating_sub(usize::from(named.copies));
        }
        junk as u32
    }

    fn steps(&self, stack: &[u8], out: &mut Vec<Step>) {
        out.clear();
        let len = stack.len();
        let free = len.saturating_sub(self.floor);
        let Some(&top) = stack.last() else {
            self.makings(stack, out);
            return;
        };
        if free > 0 && self.surplus(stack, top) {
            out.push(Step::Pop);
        }
        let mut copied: u64 = 0;
        for depth in 1..=len.min(self.reach) {
            let id = stack[len - depth];
            if let Some(named) = self.named(id)
                && copied >> id & 1 == 0
                && Self::count(stack, id) <= usize::from(named.copies)
            {
                copied |= 1 << id;
                out.push(Step::Dup(depth as u8));
            }
        }
        self.makings(stack, out);
        for below in 1..=free.saturating_sub(1).min(self.reach) {
            let id = stack[len - 1 - below];
            let useful = id != top && (self.exact || id >= FIRST || top >= FIRST || (id == JUNK && self.junk_cost > 0));
            if useful {
                out.push(Step::Swap(below as u8));
            }
        }
    }

    fn makings(&self, stack: &[u8], out: &mut Vec<Step>) {
        for (at, named) in self.named.iter().enumerate() {
            let id = at as u8 + FIRST;
            if named.make.is_some() && Self::count(stack, id) <= usize::from(named.copies) {
                out.push(Step::Make(id));
            }
        }
    }

    /// The effect of a step on a stack.
    pub(crate) fn apply<T: Copy>(stack: &mut Vec<T>, step: Step, make: impl Fn(u8) -> T) {
        let len = stack.len();
        match step {
            Step::Dup(depth) => {
                if let Some(&slot) = len.checked_sub(usize::from(depth)).and_then(|at| stack.get(at)) {
                    stack.push(slot);
                }
            }
            Step::Swap(below) => {
                if let Some(at) = len.checked_sub(1 + usize::from(below)) {
                    stack.swap(at, len - 1);
                }
            }
            Step::Pop => drop(stack.pop()),
            Step::Make(id) => stack.push(make(id)),
        }
    }

    /// Plans the rearrangement: by search within `budget` expanded states, otherwise greedily.
    pub(crate) fn solve(&self, budget: usize) -> Result<Vec<Step>, OutOfReach> {
        if self.is_goal(&self.stack) {
            return Ok(Vec::new());
        }
        let greedy = if self.exact { self.greedy_exact() } else { self.greedy_top() };
        if budget == 0 || self.named.len() > 60 {
            return greedy;
        }
        let limit = greedy.as_ref().ok().map(|steps| self.total(steps));
        match self.search(budget, limit) {
            Some(steps) => Ok(steps),
            None => greedy,
        }
    }

    fn total(&self, steps: &[Step]) -> u32 {
        let mut stack = self.stack.clone();
        let mut cost = 0;
        for &step in steps {
            cost += self.step_cost(step);
            Self::apply(&mut stack, step, |id| id);
        }
        cost + self.junk_cost * self.junk(&stack)
    }

    /// A* over stacks. A state is final at its cost plus that of the junk it leaves, so a goal is kept as a candidate and
    /// the search goes on while something cheaper is possible.
    fn search(&self, budget: usize, limit: Option<u32>) -> Option<Vec<Step>> {
        struct Node {
            stack: Vec<u8>,
            cost: u32,
            from: usize,
            step: Step,
        }
        let mut nodes = vec![Node { stack: self.stack.clone(), cost: 0, from: usize::MAX, step: Step::Pop }];
        let mut best_cost: HashMap<Vec<u8>, u32> = HashMap::from([(self.stack.clone(), 0)]);
        let mut queue = BinaryHeap::from([Reverse((self.bound(&self.stack), 0usize))]);
        let mut best: Option<(u32, usize)> = limit.map(|limit| (limit, usize::MAX));
        let mut steps = Vec::new();
        let mut expanded = 0;
        while let Some(Reverse((estimate, at))) = queue.pop() {
            if best.is_some_and(|(cost, _)| estimate >= cost) || expanded >= budget {
                break;
            }
            if best_cost.get(&nodes[at].stack).is_some_and(|&cost| cost < nodes[at].cost) {
                continue;
            }
            expanded += 1;
            self.steps(&nodes[at].stack, &mut steps);
            for &step in &steps {
                let mut stack = nodes[at].stack.clone();
                Self::apply(&mut stack, step, |id| id);
                let cost = nodes[at].cost + self.step_cost(step);
                if best_cost.get(&stack).is_some_and(|&known| known <= cost) {
                    continue;
                }
                let estimate = cost + self.bound(&stack);
                if best.is_some_and(|(limit, _)| estimate >= limit) {
                    continue;
                }
                best_cost.insert(stack.clone(), cost);
                if self.is_goal(&stack) {
                    let total = cost + self.junk_cost * self.junk(&stack);
                    if best.is_none_or(|(known, _)| total < known) {
                        best = Some((total, nodes.len()));
                    }
                }
                queue.push(Reverse((estimate, nodes.len())));
                nodes.push(Node { stack, cost, from: at, step });
            }
        }
        let (_, mut at) = best.filter(|&(_, at)| at != usize::MAX)?;
        let mut path = Vec::new();
        while nodes[at].from != usize::MAX {
            path.push(nodes[at].step);
            at = nodes[at].from;
        }
        path.reverse();
        Some(path)
    }

    /// Copies or makes every word of the goal, in order.
    fn greedy_top(&self) -> Result<Vec<Step>, OutOfReach> {
        let mut stack = self.stack.clone();
        let mut steps = Vec::new();
        for &want in &self.goal {
            let step = self.copy_or_make(&stack, want)?;
            steps.push(step);
            Self::apply(&mut stack, step, |id| id);
        }
        Ok(steps)
    }

    /// Drops what is not needed, copies or makes what is missing, and sorts what is left by cycles.
    fn greedy_exact(&self) -> Result<Vec<Step>, OutOfReach> {
        let mut stack = self.stack.clone();
        let mut steps = Vec::new();
        let floor = self.floor;
        let want = |at: usize| at.checked_sub(floor).and_then(|at| self.goal.get(at)).copied();
        let bound = 8 * (stack.len() + self.goal.len()) + 16;
        while !self.is_goal(&stack) {
            let len = stack.len();
            let have = |id: u8| Self::count(stack.get(floor..).unwrap_or_default(), id);
            let needed = |id: u8| Self::count(&self.goal, id);
            let below_top = floor..len.saturating_sub(1);
            let swap_to = |at: usize| {
                let below = len - 1 - at;
                let id = Some(stack[at]).filter(|&id| id >= FIRST);
                if below <= self.reach { Ok(Step::Swap(below as u8)) } else { Err(OutOfReach(id)) }
            };
            let top = stack.last().copied().filter(|_| len > floor);
            let step = if top.is_some_and(|id| have(id) > needed(id)) {
                Step::Pop
            } else if let Some(id) = top
                && want(len - 1) != Some(id)
                && let Some(at) = below_top.clone().find(|&at| want(at) == Some(id) && stack[at] != id)
            {
                swap_to(at)?
            } else if let Some(at) =
                below_top.clone().find(|&at| have(stack[at]) > needed(stack[at]) && want(at) != Some(stack[at]))
            {
                swap_to(at)?
            } else if let Some(missing) =
                want(len).into_iter().chain(self.goal.iter().copied()).find(|&id| have(id) < needed(id))
            {
                self.copy_or_make(&stack, missing)?
            } else if let Some(at) = below_top.clone().find(|&at| want(at) != Some(stack[at])) {
                swap_to(at)?
            } else {
                return Err(OutOfReach(None));
            };
            steps.push(step);
            Self::apply(&mut stack, step, |id| id);
            if steps.len() > bound {
                return Err(OutOfReach(None));
            }
        }
        Ok(steps)
    }

    fn copy_or_make(&self, stack: &[u8], id: u8) -> Result<Step, OutOfReach> {
        match stack.iter().rev().position(|&slot| slot == id) {
            Some(at) if at < self.reach => Ok(Step::Dup(at as u8 + 1)),
            _ if self.named(id).is_some_and(|named| named.make.is_some()) => Ok(Step::Make(id)),
            _ => Err(OutOfReach(Some(id).filter(|&id| id >= FIRST))),
        }
    }
}
