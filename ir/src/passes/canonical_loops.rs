//! `canonical-loops`: loops get the shape that passes over loops ask for.
//!
//! *Does*: gives each natural loop a block before it that does nothing but enter it, one branch that goes back, and on each edge
//! that leaves it a block of its own. [`crate::passes::facts::trip_count`] counts the rounds of such loops. Blocks that only
//! jump on are what this makes and what [`super::simplify_cfg`] takes away again: whoever asks for the shape comes next.
//! *Requires*: every block is reachable. *Ensures*: one preheader, one way back, and exits with one predecessor for every loop but one that
//! the entry is the header of.
//! *Preserves*: equality of [`crate::Outcome`].
//! *After*: LLVM's loop-simplify.
//!
//! ```text
//! brif v0, block1(v1), block2; block1(v2): …; brif v3, block1(v4), block2; block2: stop
//!     →   brif v0, block3(v1), block2; block3(v5): jump block1(v5); block1(v2): …; brif v3, block1(v4), block4; block4: jump block2
//! ```

use cranelift_entity::SecondaryMap;

use crate::cfg::{Cfg, Loop};
use crate::entities::{Block, Value};
use crate::function::{BlockCall, Function};
use crate::passes::Context;
use crate::passes::edit::new_jump;

/// Runs the pass.
pub fn run(func: &mut Function, _cx: &mut Context) -> bool {
    let cfg = Cfg::new(func);
    if cfg.loops().is_empty() {
        return false;
    }
    let changed = own_exits(func, &cfg);
    // What leaves one loop may be what goes back in another.
    let cfg = if changed { Cfg::new(func) } else { cfg };
    let mut made = Made::default();
    for each in cfg.loops() {
        one_way_in(func, &cfg, each, &mut made);
        one_way_back(func, each, &mut made);
    }
    made.apply(func) | changed
}

/// Which loops are around which blocks, in constant time.
pub(super) struct Nesting {
    /// For each loop the numbers of the loops in it, itself included: they follow each other in a walk of the tree of loops.
    spans: Vec<(u32, u32)>,
}

impl Nesting {
    pub(super) fn new(cfg: &Cfg) -> Self {
        let loops = cfg.loops();
        let mut children: Vec<Vec<usize>> = vec![Vec::new(); loops.len()];
        let mut spans = vec![(0, 0); loops.len()];
        let mut stack: Vec<(usize, bool)> = Vec::new();
        for (at, each) in loops.iter().enumerate() {
            match each.parent {
                Some(parent) => children[parent].push(at),
                None => stack.push((at, false)),
            }
        }
        let mut next = 0;
        while let Some((at, done)) = stack.pop() {
            if done {
                spans[at].1 = next;
                continue;
            }
            spans[at].0 = next;
            next += 1;
            stack.push((at, true));
            stack.extend(children[at].iter().map(|&child| (child, false)));
        }
        Self { spans }
    }

    /// Whether a block is in a loop.
    pub(super) fn contains(&self, cfg: &Cfg, at: usize, block: Block) -> bool {
        let (from, to) = self.spans[at];
        cfg.innermost_loop(block).is_some_and(|inner| (from..to).contains(&self.spans[inner].0))
    }
}

/// Puts a block on every edge that leaves a loop, unless there is one.
fn own_exits(func: &mut Function, cfg: &Cfg) -> bool {
    let nesting = Nesting::new(cfg);
    let mut made = Made::default();
    for &block in cfg.reverse_postorder() {
        let (Some(inst), Some(inside)) = (func.terminator(block), cfg.innermost_loop(block)) else { continue };
        for at in 0..func.insts[inst].targets.len() {
            let target = &func.insts[inst].targets[at];
            let is_alone = cfg.preds(target.block).len() == 1 && target.args.is_empty();
            if is_alone || nesting.contains(cfg, inside, target.block) {
                continue;
            }
            let exit = func.blocks.push(Default::default());
            let call = BlockCall { block: exit, args: Vec::new() };
            let target = std::mem::replace(&mut func.insts[inst].targets[at], call);
            let pc = func.insts[inst].pc;
            let jump = new_jump(func, target, pc);
            func.blocks[exit].insts.push(jump);
            made.behind[block].push(exit);
            made.any = true;
        }
    }
    made.apply(func)
}

/// New blocks, and where they go: one pass over the layout puts in all of them.
#[derive(Default)]
struct Made {
    before: SecondaryMap<Block, Vec<Block>>,
    behind: SecondaryMap<Block, Vec<Block>>,
    any: bool,
}

impl Made {
    fn apply(mut self, func: &mut Function) -> bool {
        if self.any {
            let mut layout = Vec::with_capacity(func.layout.len());
            for &block in &func.layout {
                layout.append(&mut self.before[block]);
                layout.push(block);
                layout.append(&mut self.behind[block]);
            }
            func.layout = layout;
        }
        self.any
    }
}

/// Makes a block with the parameters of `header`, which only jumps to it, and sends the branches of these blocks there.
fn gather(func: &mut Function, header: Block, from: &[Block]) -> Block {
    let block = func.blocks.push(Default::default());
    let types: Vec<_> = func.blocks[header].params.iter().map(|&param| func.ty(param)).collect();
    let args: Vec<Value> = types.into_iter().map(|ty| func.append_param(block, ty)).collect();
    let jump = new_jump(func, BlockCall { block: header, args }, None);
    func.blocks[block].insts.push(jump);
    for &pred in from {
        let Some(inst) = func.terminator(pred) else { continue };
        for target in func.insts[inst].targets.iter_mut().filter(|target| target.block == header) {
            target.block = block;
        }
    }
    block
}

fn one_way_in(func: &mut Function, cfg: &Cfg, each: &Loop, made: &mut Made) {
    let outside: Vec<Block> =
        cfg.preds(each.header).iter().copied().filter(|&pred| !cfg.dominates(each.header, pred)).collect();
    // The entry has no predecessor that could be a preheader, and must stay first.
    if func.entry() == Some(each.header) || matches!(outside[..], [only] if cfg.succs(only).len() == 1) {
        return;
    }
    let block = gather(func, each.header, &outside);
    made.before[each.header].push(block);
    made.any = true;
}

fn one_way_back(func: &mut Function, each: &Loop, made: &mut Made) {
    let edges = |latch: &Block| func.targets(*latch).iter().filter(|target| target.block == each.header).count();
    if each.latches.iter().map(edges).sum::<usize>() == 1 {
        return;
    }
    let block = gather(func, each.header, &each.latches);
    // Behind the last block of the loop, for people.
    made.behind[each.blocks.last().copied().unwrap_or(each.header)].push(block);
    made.any = true;
}
