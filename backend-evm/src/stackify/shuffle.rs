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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Named {
    /// How many copies there must be at the end, those in the goal included, within `stack`.
    pub copies: u8,
    /// What making it costs, if it can be made.
    pub make: Option<u32>,
}

/// A rearrangement to plan.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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

/// Plans made before: schedules of one module repeat themselves.
pub(crate) type Plans = HashMap<(Problem, usize), Result<Vec<Step>, OutOfReach>>;

/// The named word that could not be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OutOfReach(pub Option<u8>);

impl Problem {
    /// The same problem without the slots at the bottom that no plan needs to touch.
    pub(crate) fn trimmed(mut self) -> Self {
        if !self.exact {
            let lowest = self.stack.iter().position(|&slot| slot >= FIRST || (slot == JUNK && self.junk_cost > 1));
            let cut = lowest.unwrap_or(self.stack.len()).min(self.stack.len().saturating_sub(self.goal.len() + 1));
            self.stack.drain(..cut);
            self.floor = self.floor.saturating_sub(cut);
        }
        self
    }

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
        (stack[start..] == self.goal[..] || (self.commutes && self.matches_exchanged(&stack[start..])))
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

    /// A lower bound of what is left to pay. Each missing copy costs a DUP or a making; and if nothing but those is
    /// emitted, the other words of the goal must be on top already, in order.
    fn bound(&self, stack: &[u8]) -> u32 {
        let mut bound = 0;
        let mut missing = 0;
        for (at, named) in self.named.iter().enumerate() {
            let have = Self::count(stack, at as u8 + FIRST);
            let lacks = usize::from(named.copies).saturating_sub(have);
            bound += lacks as u32 * named.make.map_or(self.move_cost, |make| make.min(self.move_cost));
            missing += lacks;
        }
        let there = self.goal.len().saturating_sub(missing);
        let in_place = stack.len().checked_sub(there).is_some_and(|start| {
            let top = &stack[start..];
            let exchanged = self.commutes && there + 1 >= self.goal.len();
            (start >= self.floor && (!self.exact || start == self.floor))
                && (top == &self.goal[..there] || (exchanged && self.matches_exchanged(top)))
        });
        if in_place { bound } else { bound + self.move_cost.min(self.pop_cost) }
    }

    /// Whether `top` starts the goal with its two topmost words exchanged.
    fn matches_exchanged(&self, top: &[u8]) -> bool {
        let Some(last) = self.goal.len().checked_sub(1).filter(|&last| last >= 1) else { return false };
        top.iter().enumerate().all(|(at, &have)| {
            let from = if at == last {
                last - 1
            } else if at == last - 1 {
                last
            } else {
                at
            };
            self.goal.get(from) == Some(&have)
        })
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
            let at = len - 1 - below;
            if stack[at] != top && self.worth_swapping(stack, at, top) {
                out.push(Step::Swap(below as u8));
            }
        }
    }

    /// Whether exchanging the top with slot `at` can be part of a good plan: the slot holds what the goal wants or what can
    /// be dropped, or lies where the goal will be. In an exact goal, what is in its place stays there.
    fn worth_swapping(&self, stack: &[u8], at: usize, top: u8) -> bool {
        let id = stack[at];
        if self.exact {
            return self.goal.get(at - self.floor.min(at)) != Some(&id);
        }
        let near = stack.len() - at <= self.goal.len() + 1;
        id >= FIRST || (top >= FIRST && near) || (id == JUNK && self.junk_cost > 1)
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
        let greedy = if self.exact { self.greedy_exact(self.floor) } else { self.cheapest_greedy() };
        let searchable = self.stack.len() + self.goal.len() < State::CAPACITY && self.named.len() < State::CAPACITY;
        if budget == 0 || !searchable {
            return greedy;
        }
        let limit = greedy.as_ref().ok().map(|steps| self.total(steps));
        if limit.is_some_and(|limit| limit <= self.bound(&self.stack)) {
            return greedy;
        }
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
            state: State,
            cost: u32,
            from: usize,
            step: Step,
        }
        let start = State::new(&self.stack);
        let mut nodes = vec![Node { state: start, cost: 0, from: usize::MAX, step: Step::Pop }];
        let mut known: HashMap<State, u32> = HashMap::from([(start, 0)]);
        // Of equal estimates the newest comes first: it is the furthest on its way.
        let mut queue = BinaryHeap::from([(Reverse(self.bound(&self.stack)), 0usize)]);
        let mut best: Option<(u32, usize)> = limit.map(|limit| (limit, usize::MAX));
        let mut steps = Vec::new();
        let mut expanded = 0;
        while let Some((Reverse(estimate), at)) = queue.pop() {
            if best.is_some_and(|(cost, _)| estimate >= cost) || expanded >= budget {
                break;
            }
            let (state, spent) = (nodes[at].state, nodes[at].cost);
            if known.get(&state).is_some_and(|&cost| cost < spent) {
                continue;
            }
            expanded += 1;
            self.steps(state.slots(), &mut steps);
            for &step in &steps {
                let Some(next) = state.after(step) else { continue };
                let cost = spent + self.step_cost(step);
                let estimate = cost + self.bound(next.slots());
                if best.is_some_and(|(limit, _)| estimate >= limit) || known.get(&next).is_some_and(|&old| old <= cost)
                {
                    continue;
                }
                known.insert(next, cost);
                if self.is_goal(next.slots()) {
                    let total = cost + self.junk_cost * self.junk(next.slots());
                    if best.is_none_or(|(limit, _)| total < limit) {
                        best = Some((total, nodes.len()));
                    }
                }
                queue.push((Reverse(estimate), nodes.len()));
                nodes.push(Node { state: next, cost, from: at, step });
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

    /// Copies every word of the goal, or uses up the words on top that may go, whichever is cheaper.
    fn cheapest_greedy(&self) -> Result<Vec<Step>, OutOfReach> {
        let mut best = self.greedy_top();
        let len = self.stack.len();
        for base in (self.floor.max(len.saturating_sub(self.goal.len() + 2))..len).rev() {
            // A word that must stay somewhere is not used up.
            if self.stack[base] == OTHER {
                break;
            }
            let Ok(steps) = self.greedy_exact(base) else { continue };
            let mut stack = self.stack.clone();
            steps.iter().for_each(|&step| Self::apply(&mut stack, step, |id| id));
            let cheaper = best.as_ref().map_or(true, |known| self.total(&steps) < self.total(known));
            if self.is_goal(&stack) && cheaper {
                best = Ok(steps);
            }
        }
        best
    }

    /// Drops what is not needed, copies or makes what is missing, and sorts what is left by cycles, so that the goal starts at
    /// `floor`.
    fn greedy_exact(&self, floor: usize) -> Result<Vec<Step>, OutOfReach> {
        let mut stack = self.stack.clone();
        let mut steps = Vec::new();
        let want = |at: usize| at.checked_sub(floor).and_then(|at| self.goal.get(at)).copied();
        let bound = 8 * (stack.len() + self.goal.len()) + 16;
        let done = |stack: &[u8]| {
            if floor == self.floor && self.exact {
                self.is_goal(stack)
            } else {
                stack.get(floor..) == Some(&self.goal[..])
            }
        };
        while !done(&stack) {
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

/// A stack of the search: small and without allocation.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct State {
    slots: [u8; Self::CAPACITY],
    len: u8,
}

impl State {
    const CAPACITY: usize = 40;

    fn new(stack: &[u8]) -> Self {
        let mut slots = [0; Self::CAPACITY];
        let len = stack.len().min(Self::CAPACITY);
        slots[..len].copy_from_slice(&stack[..len]);
        Self { slots, len: len as u8 }
    }

    fn slots(&self) -> &[u8] {
        &self.slots[..usize::from(self.len)]
    }

    fn after(mut self, step: Step) -> Option<Self> {
        let len = usize::from(self.len);
        match step {
            Step::Dup(depth) => {
                *self.slots.get_mut(len)? = *self.slots.get(len.checked_sub(usize::from(depth))?)?;
                self.len += 1;
            }
            Step::Make(id) => {
                *self.slots.get_mut(len)? = id;
                self.len += 1;
            }
            Step::Swap(below) => self.slots.swap(len.checked_sub(1 + usize::from(below))?, len - 1),
            Step::Pop => {
                *self.slots.get_mut(len.checked_sub(1)?)? = 0;
                self.len -= 1;
            }
        }
        Some(self)
    }
}
