//! Regions: single-entry acyclic parts of the control-flow graph, each of which becomes one circuit.
//!
//! A region is named by its root. Every block belongs to the region of its predecessors unless it is a root itself:
//! roots are the entry, the halt block, loop headers, blocks to which a cycle with several entries goes back, blocks that leave a
//! loop, expensive branch targets, blocks of very many rows and what follows them, and blocks whose predecessors lie in
//! different regions. Unprovable blocks belong to no region: a branch to one is a constraint of the region it leaves.
//!
//! [`check`] states the shape and finds every violation of it.

use cranelift_entity::{EntityRef, PrimaryMap, SecondaryMap, entity_impl, packed_option::PackedOption};
use zvm_ir::cfg::Cfg;
use zvm_ir::{Block, BlockCall, Function, Opcode};

use crate::legalize::Legalized;

/// A region of a program, `region0`. Region 0 holds the entry.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Region(u32);
entity_impl!(Region, "region");

impl Region {
    /// The value of the label register while this region is the next to run. Zero is left to [`DONE`].
    pub fn label(self) -> u64 {
        self.index() as u64 + 1
    }
}

/// The label once the program has halted.
pub const DONE: u64 = 0;
/// The label of the region that holds the entry.
pub const ENTRY: u64 = 1;

/// A branch target becomes a region of its own when what it dominates costs more rows than this: less than a hash of data.
const BRANCH_ROWS: u64 = 384;
/// The same inside a loop, where every region of the body is in the plan anyway.
const LOOP_BRANCH_ROWS: u64 = 2048;
/// A block of more rows than this is a region of its own: a hash, in the main.
const ALONE_ROWS: u64 = 1 << 16;
/// An exit that costs no more rows than this does not count as an alternative worth leaving out of a plan.
const TRIVIAL_ROWS: u64 = 16;

/// A region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionData {
    /// The only block that is entered from outside.
    pub root: Block,
    /// All blocks, each after its predecessors in the region; the root first.
    pub blocks: Vec<Block>,
    /// The innermost loop depth of the root: how hot the region is without a profile.
    pub depth: u32,
}

/// Where a branch goes, seen from its region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// To a block of the same region.
    Inside(Block),
    /// To the root of a region (maybe the same one, around a loop).
    Enter(Region),
    /// To a block that no proof may reach.
    Unprovable(Block),
}

/// The regions of a program.
#[derive(Clone, Debug)]
pub struct Regions {
    /// The regions in reverse post-order of their roots.
    pub regions: PrimaryMap<Region, RegionData>,
    of: SecondaryMap<Block, PackedOption<Region>>,
    rooted: SecondaryMap<Block, bool>,
}

impl Regions {
    /// The region of `block`; `None` for unprovable blocks.
    pub fn of(&self, block: Block) -> Option<Region> {
        self.of[block].expand()
    }

    /// What a branch to `block` is, wherever it comes from. (A block that is not a root is only branched to from inside.)
    pub fn target(&self, block: Block) -> Target {
        match self.of(block) {
            None => Target::Unprovable(block),
            Some(region) if self.rooted[block] => Target::Enter(region),
            Some(_) => Target::Inside(block),
        }
    }

    /// The region that `block` is the root of.
    pub fn rooted_at(&self, block: Block) -> Option<Region> {
        self.of(block).filter(|_| self.rooted[block])
    }

    /// Every branch of `region`, in order: the block it leaves, its place among the targets of the terminator, the target.
    pub fn branches<'a>(
        &'a self,
        func: &'a Function,
        region: Region,
    ) -> impl Iterator<Item = (Block, usize, &'a BlockCall)> + 'a {
        self.regions[region]
            .blocks
            .iter()
            .flat_map(move |&block| func.targets(block).iter().enumerate().map(move |(at, call)| (block, at, call)))
    }
}

/// Forms regions. `rows` is the estimated number of rows of each block.
pub fn form(program: &Legalized, cfg: &Cfg, rows: &SecondaryMap<Block, u64>) -> Regions {
    let rooted = roots(program, cfg, rows);
    let mut regions = Regions { regions: PrimaryMap::new(), of: SecondaryMap::new(), rooted };
    for &block in cfg.reverse_postorder() {
        if program.unprovable.contains_key(&block) {
            continue;
        }
        // Predecessors come first, except along branches to headers, which are roots.
        let mut homes = cfg.preds(block).iter().map(|&pred| regions.of(pred));
        let first = homes.next().flatten();
        let region = match first {
            Some(region) if !regions.rooted[block] && homes.all(|home| home == first) => region,
            _ => {
                regions.rooted[block] = true;
                let depth = depth(cfg, block);
                regions.regions.push(RegionData { root: block, blocks: Vec::new(), depth })
            }
        };
        regions.of[block] = region.into();
        regions.regions[region].blocks.push(block);
    }
    regions
}

fn depth(cfg: &Cfg, block: Block) -> u32 {
    let mut depth = 0;
    let mut inner = cfg.innermost_loop(block);
    while let Some(index) = inner {
        depth += 1;
        inner = cfg.loops().get(index).and_then(|lp| lp.parent);
    }
    depth
}

fn roots(program: &Legalized, cfg: &Cfg, rows: &SecondaryMap<Block, u64>) -> SecondaryMap<Block, bool> {
    let mut rooted: SecondaryMap<Block, bool> = SecondaryMap::new();
    let mut leaves: SecondaryMap<Block, bool> = SecondaryMap::new();
    if let Some(entry) = program.func.entry() {
        rooted[entry] = true;
    }
    if let Some(halt) = program.halt {
        rooted[halt] = true;
    }
    for lp in cfg.loops() {
        rooted[lp.header] = true;
        for &block in &lp.blocks {
            for &succ in cfg.succs(block) {
                leaves[succ] |= !lp.blocks.contains(&succ);
            }
        }
    }
    for cycle in cfg.irreducible() {
        for &block in cycle {
            for &succ in cfg.succs(block) {
                let inside = cycle.contains(&succ);
                leaves[succ] |= !inside;
                // Every cycle goes back somewhere in the order in which regions are formed.
                rooted[succ] |= inside && cfg.position(succ) <= cfg.position(block);
            }
        }
    }
    for &block in cfg.reverse_postorder() {
        if rows[block] > ALONE_ROWS {
            rooted[block] = true;
            for &succ in cfg.succs(block) {
                rooted[succ] = true;
            }
        }
    }
    // What each block and the blocks below it in the dominator tree cost, up to other roots; children come first.
    let mut size = rows.clone();
    for &block in cfg.reverse_postorder().iter().rev() {
        for &child in cfg.dominated_children(block) {
            if rooted[child] || program.unprovable.contains_key(&child) {
                continue;
            }
            if leaves[child] && !is_plain_exit(program, cfg, child) || is_costly_branch(program, cfg, &size, child) {
                rooted[child] = true;
            } else {
                size[block] += size[child];
            }
        }
    }
    rooted
}

/// Whether `block` computes nothing and ends in the halt block, so that it costs a region next to nothing.
fn is_plain_exit(program: &Legalized, cfg: &Cfg, block: Block) -> bool {
    let func = &program.func;
    func.blocks[block].insts.iter().all(|&inst| matches!(func.insts[inst].opcode, Opcode::Iconst | Opcode::Jump))
        && cfg.succs(block).iter().all(|&succ| Some(succ) == program.halt)
}

/// Whether a plan could gain by leaving out `block` and what it dominates.
fn is_costly_branch(program: &Legalized, cfg: &Cfg, size: &SecondaryMap<Block, u64>, block: Block) -> bool {
    let [pred] = cfg.preds(block) else { return false };
    let [then, otherwise] = cfg.succs(*pred) else { return false };
    let sibling = if *then == block { *otherwise } else { *then };
    let is_exit = program.unprovable.contains_key(&sibling)
        || size[sibling] <= TRIVIAL_ROWS && cfg.succs(sibling).iter().all(|&succ| Some(succ) == program.halt);
    let limit = if cfg.innermost_loop(block).is_some() { LOOP_BRANCH_ROWS } else { BRANCH_ROWS };
    !is_exit && size[block] > limit
}

/// A violation of the shape of regions.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegionError {
    /// A reachable provable block lies in no region, or in two.
    #[error("{0} must lie in exactly one region")]
    Membership(Block),
    /// A region is entered at a block that is not its root.
    #[error("{from} enters a region at {to}, which is not its root")]
    Entry {
        /// The block that branches.
        from: Block,
        /// Where it goes.
        to: Block,
    },
    /// A block of a region does not come after its predecessors.
    #[error("{0} does not come after its predecessors in the region")]
    Order(Block),
    /// An unprovable block lies in a region.
    #[error("{0} is unprovable and must lie in no region")]
    Unprovable(Block),
}

/// Checks regions against the function, without using how they were formed.
pub fn check(program: &Legalized, cfg: &Cfg, regions: &Regions) -> Vec<RegionError> {
    let mut errors = Vec::new();
    let mut place: SecondaryMap<Block, Option<(Region, usize)>> = SecondaryMap::new();
    for (region, data) in &regions.regions {
        for (at, &block) in data.blocks.iter().enumerate() {
            if program.unprovable.contains_key(&block) {
                errors.push(RegionError::Unprovable(block));
            }
            if place[block].replace((region, at)).is_some() {
                errors.push(RegionError::Membership(block));
            }
        }
        if data.blocks.first() != Some(&data.root) {
            errors.push(RegionError::Order(data.root));
        }
    }
    for &block in cfg.reverse_postorder().iter().filter(|block| !program.unprovable.contains_key(block)) {
        let Some((home, at)) = place[block] else {
            errors.push(RegionError::Membership(block));
            continue;
        };
        for &to in cfg.succs(block) {
            match place[to] {
                Some((region, _)) if regions.regions[region].root == to => {}
                Some((region, to_at)) if region == home && to_at > at => {}
                Some((region, _)) if region == home => errors.push(RegionError::Order(to)),
                Some(_) => errors.push(RegionError::Entry { from: block, to }),
                None => {}
            }
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::legalize::legalize;

    /// The regions of a program whose instructions all cost `rows`, as the roots with the blocks.
    fn regions(text: &str, rows: u64) -> (Legalized, Vec<Vec<Block>>) {
        let module = zvm_ir::parse(text).unwrap();
        assert_eq!(zvm_ir::verify(&module), Ok(()));
        let program = legalize(&module).unwrap();
        let cfg = Cfg::new(&program.func);
        let mut costs = SecondaryMap::new();
        for &block in &program.func.layout {
            costs[block] = rows * (program.func.blocks[block].insts.len() as u64 - 1);
        }
        let regions = form(&program, &cfg, &costs);
        assert_eq!(check(&program, &cfg, &regions), []);
        let blocks = regions.regions.values().map(|region| region.blocks.clone()).collect();
        (program, blocks)
    }

    const LOOP: &str = "zvm 1\nentry @main\nfunc @main() {\nblock0:\n v0: u1 = iconst 0\n v1: u256 = calldataload v0\n \
         jump block1(v1, v1)\nblock1(v2: u256, v3: u256):\n v4: u1 = iszero v2\n brif v4, block2, block3\nblock2:\n \
         return_words 32, v3\nblock3:\n v5: u1 = iconst 1\n v6: u256 = sub v2, v5\n v7: u256 = wadd v3, v3\n \
         jump block1(v6, v7)\n}\n";

    #[test]
    fn a_loop_is_a_region_and_keeps_exits_that_compute_nothing() {
        let (program, regions) = regions(LOOP, 1);
        assert_eq!(regions.len(), 3, "{}", program.func);
        assert_eq!(regions[1].len(), 3, "header, body, exit");
        let text = LOOP.replace("return_words 32, v3", "v8: u256 = wmul v3, v3\n return_words 32, v8");
        let (program, regions) = self::regions(&text, 1);
        assert_eq!(regions.len(), 4, "{}", program.func);
        assert_eq!(regions[1].len(), 2, "header and body");
    }

    #[test]
    fn expensive_arms_are_regions_cheap_ones_are_not() {
        let text = "zvm 1\nentry @main\nfunc @main() {\nblock0:\n v0: u1 = iconst 0\n v1: u256 = calldataload v0\n v2: u1 \
             = iszero v1\n brif v2, block1, block2\nblock1:\n v3: u256 = wmul v1, v1\n jump block3(v3)\nblock2:\n v4: u256 = \
             wadd v1, v1\n jump block3(v4)\nblock3(v5: u256):\n return_words 32, v5\n}\n";
        assert_eq!(regions(text, 1).1.len(), 2, "one region and the halt");
        assert_eq!(regions(text, 1000).1.len(), 5, "entry, two arms, the merge, the halt");
    }

    #[test]
    fn the_checker_sees_a_block_in_two_regions_and_a_wrong_entry() {
        let module = zvm_ir::parse(LOOP).unwrap();
        let program = legalize(&module).unwrap();
        let cfg = Cfg::new(&program.func);
        let mut regions = form(&program, &cfg, &SecondaryMap::new());
        let body = regions.regions[Region::new(1)].blocks[1];
        regions.regions[Region::new(0)].blocks.push(body);
        assert!(check(&program, &cfg, &regions).contains(&RegionError::Membership(body)));
        regions.regions[Region::new(1)].blocks.retain(|&block| block != body);
        assert!(
            check(&program, &cfg, &regions)
                .iter()
                .any(|error| matches!(error, RegionError::Entry { to, .. } if *to == body))
        );
    }
}
