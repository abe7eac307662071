//! The exact stage: what to do with programs that are not a compiler's. Instead of stages 3 and 4, every block is copied
//! for every stack it is reached with: its height, and the constants on it that matter.
//!
//! So heights are known exactly, and every jump whose target is a constant that travelled over the stack is resolved,
//! at the price of size: a loop that lets the stack grow becomes a thousand blocks. There are no functions.

use std::collections::{BTreeMap, HashMap, VecDeque};

use zvm_ir::{Pc, TrapCode, Word};

use crate::decode::{Code, CodeBlock};
use crate::effects::{Edge, Fact, Facts, Target, interpret};
use crate::error::LiftError;
use crate::expr::Arena;
use crate::heights::STACK_LIMIT;
use crate::plan::{Next, NodeId, Plan, PlanNode};
use crate::summaries::{Resolved, resolve};

/// More copies of blocks than this are given up.
const NODE_LIMIT: usize = 6_000;
/// More items of stacks than this, over all copies, are given up.
const ITEM_LIMIT: usize = 1_500_000;
/// From this many copies of one block on, only constants that are valid jump targets count.
const COPY_LIMIT: usize = 48;

/// A jump to an unknown value goes to every JUMPDEST of a program with at most this many.
const ANYWHERE_LIMIT: usize = 32;

/// Which constants on the stack tell copies apart, and what is done with jumps to unknown values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effort {
    /// Those that are valid jump targets; jumps to unknown values are refused.
    Labels,
    /// All, as long as they are few; jumps to unknown values are refused.
    Constants,
    /// All, as long as they are few; a jump to an unknown value compares it with every JUMPDEST there is, which is
    /// always right and seldom small.
    Anywhere,
}

/// The items of the stack, the top first; `None` for what is not known.
type State = Vec<Option<Word>>;

/// Copies blocks until every jump is resolved; the first that is not ends it.
pub(crate) fn plan(
    code: &Code,
    arena: &mut Arena,
    effort: Effort,
) -> Result<(Plan, BTreeMap<Pc, CodeBlock>), LiftError> {
    let mut copier =
        Copier { code, arena, effort, index: HashMap::new(), copies: HashMap::new(), items: 0, queue: VecDeque::new() };
    let mut blocks: BTreeMap<Pc, CodeBlock> = BTreeMap::new();
    let mut plan = Plan::default();
    plan.functions.insert(0, Vec::new());
    copier.node(0, Vec::new())?;
    while let Some((pc, state)) = copier.queue.pop_front() {
        let block = blocks.entry(pc).or_insert_with(|| code.block(pc));
        let known = |(slot, item): (usize, &Option<Word>)| item.map(|word| (slot as u32, Fact::Is(word)));
        let facts: Facts = state.iter().enumerate().filter_map(known).collect();
        let effect = interpret(code, block, &facts, copier.arena);
        let height = state.len() as i64;
        let lacks = effect.needs.iter().find(|(need, _)| i64::from(*need) > height);
        let exceeds = effect.grows.iter().find(|(grow, _)| height + i64::from(*grow) > STACK_LIMIT);
        let trap = match (lacks, exceeds) {
            (Some(&(_, pc)), _) => Some((TrapCode::StackUnderflow, pc)),
            (None, Some(&(_, pc))) => Some((TrapCode::StackOverflow, pc)),
            (None, None) => None,
        };
        let mut nexts = Vec::new();
        for edge in effect.end.edges() {
            if trap.is_some() {
                nexts.push(Next::Never);
                continue;
            }
            let mut resolved = resolve(code, copier.arena, edge.target);
            if matches!(resolved, Resolved::Entry(_) | Resolved::Unknown) && effort == Effort::Anywhere {
                let targets = code.jumpdests();
                if targets.len() <= ANYWHERE_LIMIT {
                    resolved = Resolved::Many(targets);
                }
            }
            let next = match resolved {
                Resolved::Block(to) => copier.goto(edge, to, height, &mut plan)?,
                Resolved::Many(targets) => {
                    let mut cases = Vec::new();
                    for to in targets {
                        cases.push((to, copier.goto(edge, to, height, &mut plan)?));
                    }
                    Next::Switch(cases, edge.pc)
                }
                Resolved::Bad => Next::Trap(TrapCode::BadJump, edge.pc),
                Resolved::Entry(_) | Resolved::Unknown => {
                    return Err(LiftError::Unresolved { jumps: vec![edge.pc] });
                }
            };
            nexts.push(next);
        }
        plan.nodes.push(PlanNode { pc, facts, owner: 0, effect, nexts, trap });
    }
    Ok((plan, blocks))
}

struct Copier<'a> {
    code: &'a Code,
    arena: &'a mut Arena,
    effort: Effort,
    index: HashMap<(Pc, State), NodeId>,
    /// How many copies of a block there are.
    copies: HashMap<Pc, usize>,
    items: usize,
    queue: VecDeque<(Pc, State)>,
}

impl Copier<'_> {
    fn node(&mut self, pc: Pc, state: State) -> Result<NodeId, LiftError> {
        if let Some(&node) = self.index.get(&(pc, state.clone())) {
            return Ok(node);
        }
        let node = self.index.len();
        self.items += state.len();
        if node >= NODE_LIMIT || self.items >= ITEM_LIMIT {
            return Err(LiftError::Budget { what: "copies of blocks", limit: NODE_LIMIT, pc });
        }
        *self.copies.entry(pc).or_default() += 1;
        self.index.insert((pc, state.clone()), node as NodeId);
        self.queue.push_back((pc, state));
        Ok(node as NodeId)
    }

    fn goto(&mut self, edge: &Edge, to: Pc, height: i64, plan: &mut Plan) -> Result<Next, LiftError> {
        let is_jump = matches!(edge.target, Target::Jump(_));
        if is_jump || self.code.inst(edge.pc).0.kind == crate::decode::Kind::Jumpi {
            plan.edges.insert((edge.pc, to));
        }
        let all = self.effort != Effort::Labels && self.copies.get(&to).copied().unwrap_or(0) < COPY_LIMIT;
        let items = u32::try_from(height + edge.stack.delta()).unwrap_or(0);
        let state = (0..items)
            .map(|slot| {
                let item = edge.stack.get(self.arena, slot);
                let word = self.arena.as_const(item)?;
                (all || self.code.jumpdest(&word).is_some()).then_some(word)
            })
            .collect();
        Ok(Next::Goto(self.node(to, state)?))
    }
}
