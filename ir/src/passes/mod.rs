//! The optimiser: passes over the IR, and the pipeline that is the order in which they run.
//!
//! Every pass is a function in its own file, whose header says what it does, requires, ensures and preserves. The
//! pipeline is the constant [`PIPELINE`]; a test checks that each pass finds what it requires. [`optimize`] runs it, and
//! can stop after a number of applications (to find by bisection the one that broke a program), show the module around
//! each pass, and verify it after each.

pub mod bound_addresses;
pub mod canonical_loops;
pub mod dce;
pub mod dead_functions;
pub mod dead_stores;
pub mod dispatch;
pub mod duplicate_exits;
pub mod fold;
pub mod forward_memory;
pub mod forward_storage;
pub mod gvn;
pub mod inline;
pub mod licm;
pub mod lower_copies;
pub mod narrow;
pub mod pre;
pub mod promote_memory;
pub mod redundant_params;
pub mod simplify_cfg;
pub mod sink;
pub mod sink_stores;
pub mod tail_merge;
pub mod unroll;

pub(crate) mod edit;
mod facts;
mod memory;

use cranelift_entity::{PrimaryMap, SecondaryMap};

use crate::cfg::{CallGraph, Cfg};
use crate::cost::{CostModel, Gas, Rows};
use crate::entities::{Data, Func};
use crate::function::{Function, Module};
use crate::passes::memory::known::Known;
use crate::passes::memory::summary::Summary;
use crate::types::Type;
use crate::verify::{VerifyError, verify};

/// Whom the pipeline serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Goal {
    /// Little gas and little code.
    #[default]
    Evm,
    /// Few constraints: functions are inlined as far as the budget goes, so that memory and widths are seen whole.
    Circuit,
}

/// A property of a module that passes establish, need or destroy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Property {
    /// Every block is reachable.
    Reachable,
    /// Branches on constants are jumps, and chains of blocks are merged.
    SimpleCfg,
    /// No block parameter is the same value on every branch.
    NoRedundantParams,
    /// Pure instructions on constants are constants; identities are applied.
    Folded,
    /// Equal pure instructions are one where one dominates the other.
    Numbered,
    /// Calls worth inlining are inlined.
    Inlined,
    /// What an access to memory says about its address, a `bound` says.
    Bounded,
    /// Memory at known addresses is in SSA values.
    Promoted,
    /// Loops have a preheader, one way back, and exits of their own.
    CanonicalLoops,
    /// Values have the narrowest width that is proved.
    Narrowed,
    /// Nothing without effect is left unused.
    NoDeadCode,
}

/// What a pass runs on.
#[derive(Clone, Copy, Debug)]
pub enum Run {
    /// Each function by itself; the answer is whether it changed.
    Function(fn(&mut Function, &mut Context) -> bool),
    /// The module; the answer is whether it changed.
    Module(fn(&mut Module, &mut Context) -> bool),
}

/// A pass and its contract.
#[derive(Clone, Copy, Debug)]
pub struct Pass {
    /// The name, that of its file with hyphens.
    pub name: &'static str,
    /// The function.
    pub run: Run,
    /// What must hold before.
    pub requires: &'static [Property],
    /// What holds after.
    pub ensures: &'static [Property],
    /// What may no longer hold after.
    pub breaks: &'static [Property],
    /// Whether it asks what calls do to memory, which takes a look at all functions first.
    pub memory: bool,
}

use Property::{
    Bounded, CanonicalLoops, Folded, Inlined, Narrowed, NoDeadCode, NoRedundantParams, Numbered, Promoted, Reachable,
    SimpleCfg,
};

const SIMPLIFY_CFG: Pass = Pass {
    name: "simplify-cfg",
    run: Run::Function(simplify_cfg::run),
    requires: &[],
    ensures: &[Reachable, SimpleCfg],
    breaks: &[CanonicalLoops, NoRedundantParams, Numbered, NoDeadCode],
    memory: false,
};
const REDUNDANT_PARAMS: Pass = Pass {
    name: "redundant-params",
    run: Run::Function(redundant_params::run),
    requires: &[Reachable],
    ensures: &[NoRedundantParams],
    breaks: &[CanonicalLoops, Folded, Numbered, NoDeadCode],
    memory: false,
};
const FOLD: Pass = Pass {
    name: "fold",
    run: Run::Function(fold::run),
    requires: &[Reachable],
    ensures: &[Folded],
    breaks: &[CanonicalLoops, SimpleCfg, NoRedundantParams, Numbered, NoDeadCode],
    memory: false,
};
const GVN: Pass = Pass {
    name: "gvn",
    run: Run::Function(gvn::run),
    requires: &[Reachable],
    ensures: &[Numbered],
    breaks: &[NoRedundantParams, Folded, NoDeadCode],
    memory: false,
};
const DCE: Pass = Pass {
    name: "dce",
    run: Run::Function(dce::run),
    requires: &[Reachable],
    ensures: &[NoDeadCode],
    breaks: &[],
    memory: false,
};
const INLINE: Pass = Pass {
    name: "inline",
    run: Run::Module(inline::run),
    requires: &[],
    ensures: &[Inlined],
    breaks: &[
        CanonicalLoops,
        Reachable,
        SimpleCfg,
        NoRedundantParams,
        Folded,
        Numbered,
        Promoted,
        Narrowed,
        NoDeadCode,
    ],
    memory: false,
};
const DEAD_FUNCTIONS: Pass = Pass {
    name: "dead-functions",
    run: Run::Module(dead_functions::run),
    requires: &[],
    ensures: &[],
    breaks: &[],
    memory: false,
};
const BOUND_ADDRESSES: Pass = Pass {
    name: "bound-addresses",
    run: Run::Function(bound_addresses::run),
    requires: &[Reachable],
    ensures: &[Bounded],
    breaks: &[Folded, Numbered, NoDeadCode],
    memory: false,
};
const PROMOTE_MEMORY: Pass = Pass {
    name: "promote-memory",
    run: Run::Function(promote_memory::run),
    requires: &[Reachable, NoRedundantParams, Inlined],
    ensures: &[Promoted],
    breaks: &[CanonicalLoops, SimpleCfg, NoRedundantParams, Folded, Numbered, NoDeadCode],
    memory: true,
};
const FORWARD_MEMORY: Pass = Pass {
    name: "forward-memory",
    run: Run::Function(forward_memory::run),
    requires: &[Reachable],
    ensures: &[],
    breaks: &[NoRedundantParams, Folded, Numbered, NoDeadCode],
    memory: true,
};
const FORWARD_STORAGE: Pass = Pass {
    name: "forward-storage",
    run: Run::Function(forward_storage::run),
    requires: &[Reachable, Numbered],
    ensures: &[],
    breaks: &[NoRedundantParams, Folded, Numbered, NoDeadCode],
    memory: false,
};
const DEAD_STORES: Pass = Pass {
    name: "dead-stores",
    run: Run::Module(dead_stores::run),
    requires: &[Reachable],
    ensures: &[],
    breaks: &[NoDeadCode],
    memory: true,
};
const DUPLICATE_EXITS: Pass = Pass {
    name: "duplicate-exits",
    run: Run::Function(duplicate_exits::run),
    requires: &[Reachable],
    ensures: &[],
    breaks: &[CanonicalLoops, NoRedundantParams, Folded, Numbered, NoDeadCode],
    memory: false,
};
const SINK: Pass = Pass {
    name: "sink",
    run: Run::Function(sink::run),
    requires: &[Reachable],
    ensures: &[],
    breaks: &[Numbered],
    memory: false,
};
const SINK_STORES: Pass = Pass {
    name: "sink-stores",
    run: Run::Function(sink_stores::run),
    requires: &[Reachable],
    ensures: &[],
    breaks: &[],
    memory: true,
};
const NARROW: Pass = Pass {
    name: "narrow",
    run: Run::Function(narrow::run),
    requires: &[Reachable, Numbered],
    ensures: &[Narrowed],
    breaks: &[CanonicalLoops, SimpleCfg, NoRedundantParams, Folded, Numbered, NoDeadCode],
    memory: false,
};
const DISPATCH: Pass = Pass {
    name: "dispatch",
    run: Run::Function(dispatch::run),
    requires: &[Reachable],
    ensures: &[],
    breaks: &[CanonicalLoops, SimpleCfg, NoRedundantParams, Folded, Numbered, NoDeadCode],
    memory: false,
};
const LOWER_COPIES: Pass = Pass {
    name: "lower-copies",
    run: Run::Function(lower_copies::run),
    requires: &[Reachable, Bounded],
    ensures: &[],
    breaks: &[CanonicalLoops, SimpleCfg, NoRedundantParams, Folded, Numbered, Narrowed, NoDeadCode],
    memory: false,
};
const LICM: Pass = Pass {
    name: "licm",
    run: Run::Function(licm::run),
    requires: &[Reachable],
    ensures: &[],
    breaks: &[],
    memory: false,
};
const CANONICAL_LOOPS: Pass = Pass {
    name: "canonical-loops",
    run: Run::Function(canonical_loops::run),
    requires: &[Reachable],
    ensures: &[CanonicalLoops],
    breaks: &[SimpleCfg, NoRedundantParams],
    memory: false,
};
const UNROLL: Pass = Pass {
    name: "unroll",
    run: Run::Function(unroll::run),
    requires: &[Reachable, CanonicalLoops],
    ensures: &[],
    breaks: &[SimpleCfg, NoRedundantParams, Folded, Numbered, NoDeadCode],
    memory: false,
};
const PRE: Pass = Pass {
    name: "pre",
    run: Run::Function(pre::run),
    requires: &[Reachable, Numbered],
    ensures: &[],
    breaks: &[SimpleCfg, NoRedundantParams, CanonicalLoops, Folded, Numbered, NoDeadCode],
    memory: false,
};
const TAIL_MERGE: Pass = Pass {
    name: "tail-merge",
    run: Run::Function(tail_merge::run),
    requires: &[Reachable, Numbered],
    ensures: &[],
    breaks: &[SimpleCfg, NoRedundantParams, CanonicalLoops, Folded, Numbered, NoDeadCode],
    memory: false,
};

/// The passes in the order in which they run.
pub const PIPELINE: &[Pass] = &[
    // What the frontend emits, cleaned function by function, so that inlining sees true sizes.
    SIMPLIFY_CFG,
    REDUNDANT_PARAMS,
    FOLD,
    GVN,
    // From here on accesses to memory may go: what they say about their addresses stays.
    BOUND_ADDRESSES,
    DCE,
    SIMPLIFY_CFG,
    DEAD_FUNCTIONS,
    INLINE,
    DEAD_FUNCTIONS,
    // Memory becomes values.
    SIMPLIFY_CFG,
    REDUNDANT_PARAMS,
    FOLD,
    SIMPLIFY_CFG,
    REDUNDANT_PARAMS,
    BOUND_ADDRESSES,
    PROMOTE_MEMORY,
    SIMPLIFY_CFG,
    REDUNDANT_PARAMS,
    FOLD,
    GVN,
    FORWARD_MEMORY,
    SIMPLIFY_CFG,
    FOLD,
    DEAD_STORES,
    DCE,
    // Widths, and what follows from them.
    SIMPLIFY_CFG,
    REDUNDANT_PARAMS,
    FOLD,
    GVN,
    NARROW,
    SIMPLIFY_CFG,
    REDUNDANT_PARAMS,
    // Branches are gone: more memory is known.
    DUPLICATE_EXITS,
    REDUNDANT_PARAMS,
    BOUND_ADDRESSES,
    PROMOTE_MEMORY,
    SIMPLIFY_CFG,
    REDUNDANT_PARAMS,
    FOLD,
    SIMPLIFY_CFG,
    FOLD,
    GVN,
    FORWARD_MEMORY,
    FOLD,
    GVN,
    FORWARD_STORAGE,
    FOLD,
    GVN,
    DEAD_STORES,
    SINK_STORES,
    DCE,
    SIMPLIFY_CFG,
    REDUNDANT_PARAMS,
    FOLD,
    SINK,
    GVN,
    DEAD_STORES,
    DCE,
    // What is copied after all is copied word by word.
    LOWER_COPIES,
    FOLD,
    GVN,
    NARROW,
    SIMPLIFY_CFG,
    REDUNDANT_PARAMS,
    FOLD,
    SIMPLIFY_CFG,
    // Short loops become their rounds, in which counters are constants.
    CANONICAL_LOOPS,
    UNROLL,
    SIMPLIFY_CFG,
    REDUNDANT_PARAMS,
    FOLD,
    SIMPLIFY_CFG,
    GVN,
    LICM,
    FOLD,
    SIMPLIFY_CFG,
    // The search for the function, when nothing can be learnt from it any more.
    DISPATCH,
    DCE,
    DEAD_STORES,
    SIMPLIFY_CFG,
    GVN,
    DCE,
    DEAD_FUNCTIONS,
];

/// Passes that run by name only, on what the pipeline leaves: in it they would change next to nothing (`docs/optimiser.md` has the
/// figures).
pub const BESIDE: &[Pass] = &[PRE, TAIL_MERGE];

/// Every pass once: those of the pipeline in the order in which they first run, then the others.
pub fn all() -> Vec<&'static Pass> {
    let mut passes: Vec<&Pass> = Vec::new();
    for pass in PIPELINE.iter().chain(BESIDE) {
        if passes.iter().all(|other| other.name != pass.name) {
            passes.push(pass);
        }
    }
    passes
}

/// The pass with this name.
pub fn find(name: &str) -> Option<&'static Pass> {
    PIPELINE.iter().chain(BESIDE).find(|pass| pass.name == name)
}

/// When an observer is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The pass is about to run.
    Before,
    /// The pass has run.
    After,
}

/// Called around each pass with its place in the pipeline.
pub type Observe<'a> = &'a mut dyn FnMut(Moment, usize, &Pass, &Module);

/// How to run the pipeline.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Whom it serves.
    pub goal: Goal,
    /// What code costs where it serves the EVM.
    pub gas: Gas,
    /// Stop after this many passes of the pipeline.
    pub passes: usize,
    /// Stop after this many applications of a pass to a function (or to the module): for bisection.
    pub applications: usize,
    /// Verify the module after each pass.
    pub verify: bool,
}

impl Default for Options {
    /// The whole pipeline, verified in debug builds.
    fn default() -> Self {
        Self {
            goal: Goal::Evm,
            gas: Gas::NEWEST,
            passes: usize::MAX,
            applications: usize::MAX,
            verify: cfg!(debug_assertions),
        }
    }
}

/// A pass broke the module. Always an error of the compiler.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("after the pass `{pass}` (number {number}), the module is not valid: {}", list(errors))]
pub struct BrokenModule {
    /// The pass.
    pub pass: &'static str,
    /// Its place in the pipeline.
    pub number: usize,
    /// What the verifier said.
    pub errors: Vec<VerifyError>,
}

fn list(errors: &[VerifyError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Runs the pipeline on a verified module.
///
/// # Errors
/// When `options.verify` is set and a pass breaks the module.
pub fn optimize(module: &mut Module, options: &Options) -> Result<(), BrokenModule> {
    optimize_observed(module, options, &mut |_, _, _, _| {})
}

/// Runs the pipeline and shows the module before and after each pass to `observe`.
///
/// # Errors
/// As [`optimize`].
pub fn optimize_observed(module: &mut Module, options: &Options, observe: Observe<'_>) -> Result<(), BrokenModule> {
    let mut left = options.applications;
    for (number, pass) in PIPELINE.iter().enumerate().take(options.passes) {
        observe(Moment::Before, number, pass, module);
        apply_limited(pass, module, options, &mut left);
        if options.verify
            && let Err(errors) = verify(module)
        {
            return Err(BrokenModule { pass: pass.name, number, errors });
        }
        observe(Moment::After, number, pass, module);
    }
    if options.passes == 0 {
        return Ok(());
    }
    // The text reads from top to bottom: blocks in reverse post-order, numbers in the order of the text.
    for function in module.funcs.values_mut() {
        function.layout = Cfg::new(function).reverse_postorder().to_vec();
    }
    *module = module.compact();
    Ok(())
}

/// Applies one pass to a whole module; whether it changed.
pub fn apply(pass: &Pass, module: &mut Module, goal: Goal) -> bool {
    apply_limited(pass, module, &Options { goal, ..Options::default() }, &mut usize::MAX.clone())
}

fn apply_limited(pass: &Pass, module: &mut Module, options: &Options, left: &mut usize) -> bool {
    let mut cx = Context { gas: options.gas, ..Context::new(module, options.goal, pass.memory) };
    let mut changed = false;
    match pass.run {
        Run::Module(run) if *left > 0 => {
            *left -= 1;
            changed = run(module, &mut cx);
        }
        Run::Module(_) => {}
        Run::Function(run) => {
            for (func, function) in module.funcs.iter_mut() {
                if *left == 0 {
                    break;
                }
                *left -= 1;
                cx.starts_execution = cx.entry == Some(func);
                changed |= run(function, &mut cx);
            }
        }
    }
    changed
}

/// What a pass may know about the module around the function it works on.
#[derive(Clone, Debug)]
pub struct Context {
    goal: Goal,
    gas: Gas,
    observes_msize: bool,
    /// The entry, unless some function calls it.
    entry: Option<Func>,
    starts_execution: bool,
    params: SecondaryMap<Func, Vec<Type>>,
    summaries: SecondaryMap<Func, Option<Summary>>,
    data: PrimaryMap<Data, Vec<u8>>,
}

impl Context {
    /// What is known about the module as it is; with `memory`, memory is followed through its functions.
    pub fn new(module: &Module, goal: Goal, memory: bool) -> Self {
        let graph = CallGraph::new(module);
        let mut cx = Self {
            goal,
            gas: Gas::NEWEST,
            observes_msize: module.observes_msize(),
            entry: module.entry.filter(|&entry| graph.call_sites(entry) == 0),
            starts_execution: false,
            params: SecondaryMap::new(),
            summaries: SecondaryMap::new(),
            data: module.data.clone(),
        };
        for (func, function) in &module.funcs {
            cx.params[func] = function.param_types();
        }
        // Callees first; a recursive function stays unknown, also to itself.
        for func in graph.components().iter().flatten().copied() {
            if !graph.is_recursive(func) {
                cx.summaries[func] = Some(Summary::of(&module.funcs[func], &cx, memory && !cx.observes_msize));
            }
        }
        cx
    }

    /// Whom the pass serves.
    pub fn goal(&self) -> Goal {
        self.goal
    }

    /// What code costs for whom the pass serves.
    pub fn costs(&self) -> &dyn CostModel {
        match self.goal {
            Goal::Evm => &self.gas,
            Goal::Circuit => &Rows,
        }
    }

    /// Whether the module reads the size of memory, so that removing a read of memory could be seen.
    pub fn observes_msize(&self) -> bool {
        self.observes_msize
    }

    /// Whether the function is where execution starts, so that memory is all zero at its start.
    pub(crate) fn starts_execution(&self) -> bool {
        self.starts_execution
    }

    /// What memory holds when the function that is worked on starts.
    pub(crate) fn memory_at_start_here(&self) -> Known {
        if self.starts_execution { Known::fresh() } else { Known::nothing() }
    }

    /// What memory holds when a function starts.
    pub(crate) fn memory_at_start(&self, func: Func) -> Known {
        if self.entry == Some(func) { Known::fresh() } else { Known::nothing() }
    }

    /// The types of the parameters of a function.
    pub(crate) fn params(&self, func: Func) -> &[Type] {
        &self.params[func]
    }

    /// What a function does to memory.
    pub(crate) fn summary(&self, func: Func) -> &Summary {
        static UNKNOWN: std::sync::LazyLock<Summary> = std::sync::LazyLock::new(Summary::unknown);
        self.summaries[func].as_ref().unwrap_or(&UNKNOWN)
    }

    /// The bytes of a data segment.
    pub(crate) fn data(&self, data: Data) -> &[u8] {
        self.data.get(data).map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_pass_finds_what_it_requires() {
        let mut holds: BTreeSet<Property> = BTreeSet::new();
        for (number, pass) in PIPELINE.iter().enumerate() {
            for required in pass.requires {
                assert!(holds.contains(required), "pass {number} ({}) requires {required:?}", pass.name);
            }
            for broken in pass.breaks {
                holds.remove(broken);
            }
            holds.extend(pass.ensures);
        }
        for wanted in [SimpleCfg, Inlined, Bounded, Promoted, Narrowed, Numbered, NoDeadCode] {
            assert!(holds.contains(&wanted), "{wanted:?} does not hold at the end");
        }
        for pass in BESIDE {
            for required in pass.requires {
                assert!(holds.contains(required), "{} requires {required:?}", pass.name);
            }
        }
    }

    #[test]
    fn names_are_those_of_the_files() {
        for pass in all() {
            assert!(pass.name.chars().all(|c| c.is_ascii_lowercase() || c == '-'));
            assert_eq!(find(pass.name).map(|found| found.name), Some(pass.name));
        }
    }
}
