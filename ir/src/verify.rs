//! The verifier: collects every violation of the IR's rules.
//!
//! Checked of a module: the entry exists, has neither parameters nor results, does not return to a caller and is not
//! called; names are unique.
//! Checked of a function: it has an entry block, to which nobody branches; every block ends with its only terminator.
//! Checked of an instruction: operands, immediate and targets are as its row asks; immediates name things that exist;
//! result types follow the row's rule (a constant fits its type; `narrow`, `trunc`, `zext` go in their direction);
//! conditions are `u1`; branches give each parameter an argument of its type; calls and `ret` match signatures; lengths
//! of `return_words`, `revert_words` and `log_words` are covered by their words; a log has at most four topics.
//! Checked of values: each is defined once, and its definition dominates every use (uses in unreachable blocks need a
//! definition only).
//!
//! Not checked: that what `narrow` and exact `sub` promise is true (the interpreter checks it on every run), and that
//! loops end.

use std::collections::BTreeSet;

use cranelift_entity::SecondaryMap;

use crate::Word;
use crate::cfg::Cfg;
use crate::entities::{Block, Inst, Value};
use crate::eval::STATE_WORDS;
use crate::function::{Function, Imm, InstData, Module, Pc, ValueDef};
use crate::opcode::{Class, ImmKind, Opcode, Rule, WidthError};
use crate::types::Type;

/// A violation of the rules, with its place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("@{function}{}: {kind}", place(*.block, text, *.pc))]
pub struct VerifyError {
    /// The name of the function; empty for the module.
    pub function: String,
    /// The block.
    pub block: Option<Block>,
    /// The instruction as text: mnemonic and operands.
    pub text: Option<String>,
    /// Where in the bytecode it came from.
    pub pc: Option<Pc>,
    /// The rule that is violated.
    pub kind: VerifyErrorKind,
}

fn place(block: Option<Block>, text: &Option<String>, pc: Option<Pc>) -> String {
    let block = block.map(|block| format!(" {block}")).unwrap_or_default();
    let text = text.as_ref().map(|text| format!(" `{text}`")).unwrap_or_default();
    let pc = pc.map(|pc| format!(" (pc {pc:#06x})")).unwrap_or_default();
    format!("{block}{text}{pc}")
}

/// The rule that is violated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyErrorKind {
    /// The module has no entry function.
    #[error("the module has no entry function")]
    NoEntry,
    /// The entry function has parameters or results.
    #[error("the entry function has parameters or results")]
    EntrySignature,
    /// The entry function executes `ret`, or is called.
    #[error("the entry function has no caller to return to, and may not be called")]
    EntryCalled,
    /// Two functions have the same name.
    #[error("two functions have this name")]
    DuplicateName,
    /// The function has no blocks.
    #[error("the function has no blocks")]
    NoBlocks,
    /// A branch goes to the entry block.
    #[error("a branch goes to the entry block")]
    BranchToEntry,
    /// The block does not end with a terminator.
    #[error("the block does not end with a terminator")]
    Unterminated,
    /// A terminator is not at the end of its block.
    #[error("a terminator stands before the end of the block")]
    EarlyTerminator,
    /// An instruction, block or value is listed twice.
    #[error("`{0}` is listed twice")]
    Duplicate(String),
    /// The number of operands is wrong.
    #[error("expected {expected} operands, found {found}")]
    Operands {
        /// As the row says.
        expected: usize,
        /// As it is.
        found: usize,
    },
    /// The number of targets is wrong.
    #[error("expected {expected} targets, found {found}")]
    Targets {
        /// As the row says.
        expected: usize,
        /// As it is.
        found: usize,
    },
    /// The immediate is of another kind.
    #[error("the immediate is not a {0:?}")]
    Immediate(ImmKind),
    /// The immediate or target names something that does not exist.
    #[error("`{0}` does not exist")]
    Missing(String),
    /// The operand must be a condition.
    #[error("`{0}` must be a u1, it is a {1}")]
    NotBool(Value, Type),
    /// The result's type does not follow from the operands.
    #[error("the result must be {expected}, it is {found}")]
    ResultType {
        /// What the rule gives.
        expected: String,
        /// What is written.
        found: String,
    },
    /// The width rule cannot be applied.
    #[error(transparent)]
    Width(#[from] WidthError),
    /// Arguments, parameters or results differ in number or type.
    #[error("{what}: expected ({expected}), found ({found})")]
    Signature {
        /// Whose.
        what: String,
        /// The types asked for.
        expected: String,
        /// The types given.
        found: String,
    },
    /// The words are too few for the length, or one is superfluous.
    #[error("{0} bytes need {1} words, there are {2}")]
    Length(u32, usize, usize),
    /// More than four topics.
    #[error("a log has at most four topics")]
    Topics,
    /// A value is used where its definition does not reach.
    #[error("`{0}` is used where its definition does not reach")]
    NotDominated(Value),
    /// A value is used that no block defines.
    #[error("`{0}` is not defined")]
    Undefined(Value),
}

/// Checks a module.
///
/// # Errors
/// Every violation, in the order of the text form.
pub fn verify(module: &Module) -> Result<(), Vec<VerifyError>> {
    let mut errors = Vec::new();
    let mut report = |function: &str, kind| {
        errors.push(VerifyError { function: function.to_owned(), block: None, text: None, pc: None, kind });
    };
    match module.entry.and_then(|entry| module.funcs.get(entry)) {
        None => report("", VerifyErrorKind::NoEntry),
        Some(entry) if !entry.results.is_empty() || !entry.param_types().is_empty() => {
            report(&entry.name, VerifyErrorKind::EntrySignature);
        }
        Some(_) => {}
    }
    let mut names = BTreeSet::new();
    for function in module.funcs.values() {
        if !names.insert(&function.name) {
            report(&function.name, VerifyErrorKind::DuplicateName);
        }
    }
    for function in module.funcs.values() {
        FunctionVerifier { module, function, errors: &mut errors, block: None, inst: None }.run();
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

struct FunctionVerifier<'a> {
    module: &'a Module,
    function: &'a Function,
    errors: &'a mut Vec<VerifyError>,
    block: Option<Block>,
    inst: Option<Inst>,
}

/// Where a value is defined: its block, and the place in it (0 for parameters).
type DefSite = (Block, usize);

impl FunctionVerifier<'_> {
    fn report(&mut self, kind: VerifyErrorKind) {
        let data = self.inst.map(|inst| &self.function.insts[inst]);
        self.errors.push(VerifyError {
            function: self.function.name.clone(),
            block: self.block,
            text: data.map(describe),
            pc: data.and_then(|data| data.pc),
            kind,
        });
    }

    fn run(mut self) {
        let function = self.function;
        let Some(entry) = function.entry() else {
            return self.report(VerifyErrorKind::NoBlocks);
        };
        if !self.check_names_exist() {
            // Every later check would stumble over the dangling names.
            return;
        }
        let sites = self.collect_definitions();
        let cfg = Cfg::new(function);
        for &block in &function.layout {
            self.block = Some(block);
            self.inst = None;
            let insts = &function.blocks[block].insts;
            if function.terminator(block).is_none() {
                self.report(VerifyErrorKind::Unterminated);
            }
            for (at, &inst) in insts.iter().enumerate() {
                self.inst = Some(inst);
                let data = &function.insts[inst];
                if data.opcode.is_terminator() && at + 1 < insts.len() {
                    self.report(VerifyErrorKind::EarlyTerminator);
                }
                if data.targets.iter().any(|target| target.block == entry) {
                    self.report(VerifyErrorKind::BranchToEntry);
                }
                self.check_inst(data);
                for value in data.uses() {
                    match sites[value] {
                        None => self.report(VerifyErrorKind::Undefined(value)),
                        Some((def, place)) => {
                            let reaches = if def == block { place <= at } else { cfg.dominates(def, block) };
                            if cfg.is_reachable(block) && !reaches {
                                self.report(VerifyErrorKind::NotDominated(value));
                            }
                        }
                    }
                }
            }
        }
    }

    /// Whether every block and value that is mentioned is in its map.
    fn check_names_exist(&mut self) -> bool {
        let function = self.function;
        let before = self.errors.len();
        let in_layout: BTreeSet<Block> = function.layout.iter().copied().collect();
        for &block in &function.layout {
            self.block = Some(block);
            self.inst = None;
            if !function.blocks.is_valid(block) {
                self.report(VerifyErrorKind::Missing(block.to_string()));
                continue;
            }
            for &param in &function.blocks[block].params {
                if !function.values.is_valid(param) {
                    self.report(VerifyErrorKind::Missing(param.to_string()));
                }
            }
            for &inst in &function.blocks[block].insts {
                if !function.insts.is_valid(inst) {
                    self.report(VerifyErrorKind::Missing(inst.to_string()));
                    continue;
                }
                self.inst = Some(inst);
                let data = &function.insts[inst];
                for target in &data.targets {
                    if !in_layout.contains(&target.block) {
                        self.report(VerifyErrorKind::Missing(target.block.to_string()));
                    }
                }
                for value in data.uses().chain(data.results.iter().copied()) {
                    if !function.values.is_valid(value) {
                        self.report(VerifyErrorKind::Missing(value.to_string()));
                    }
                }
                self.inst = None;
            }
        }
        self.errors.len() == before
    }

    fn collect_definitions(&mut self) -> SecondaryMap<Value, Option<DefSite>> {
        let function = self.function;
        let mut sites: SecondaryMap<Value, Option<DefSite>> = SecondaryMap::new();
        let mut blocks = BTreeSet::new();
        let mut insts = BTreeSet::new();
        for &block in &function.layout {
            self.block = Some(block);
            if !blocks.insert(block) {
                self.report(VerifyErrorKind::Duplicate(block.to_string()));
                continue;
            }
            let data = &function.blocks[block];
            for (at, &param) in data.params.iter().enumerate() {
                let twice = sites[param].replace((block, 0)).is_some();
                if twice || function.values[param].def != ValueDef::Param(block, at) {
                    self.report(VerifyErrorKind::Duplicate(param.to_string()));
                }
            }
            for (place, &inst) in data.insts.iter().enumerate() {
                if !insts.insert(inst) {
                    self.report(VerifyErrorKind::Duplicate(inst.to_string()));
                }
                for (at, &result) in function.insts[inst].results.iter().enumerate() {
                    let twice = sites[result].replace((block, place + 1)).is_some();
                    if twice || function.values[result].def != ValueDef::Result(inst, at) {
                        self.report(VerifyErrorKind::Duplicate(result.to_string()));
                    }
                }
            }
        }
        sites
    }

    fn check_inst(&mut self, data: &InstData) {
        let row = data.opcode.info();
        let many = row.operands.last().is_some_and(|operand| operand.class == Class::Many);
        let fixed = row.operands.len() - usize::from(many);
        if data.args.len() < fixed || (!many && data.args.len() > fixed) {
            return self.report(VerifyErrorKind::Operands { expected: fixed, found: data.args.len() });
        }
        for (operand, &value) in row.operands.iter().zip(&data.args) {
            let ty = self.function.ty(value);
            if operand.class == Class::Bool && ty != Type::BOOL {
                self.report(VerifyErrorKind::NotBool(value, ty));
            }
        }
        if data.targets.len() != row.targets {
            self.report(VerifyErrorKind::Targets { expected: row.targets, found: data.targets.len() });
        }
        for target in &data.targets {
            let params = self.types(&self.function.blocks[target.block].params);
            self.check_types(&format!("the arguments of {}", target.block), &params, &self.types(&target.args));
        }
        if self.check_imm(data, row.imm) {
            self.check_results(data, row.rule);
        }
        if data.topics().is_some_and(|topics| topics.len() > 4) {
            self.report(VerifyErrorKind::Topics);
        }
        if data.opcode == Opcode::Ret {
            if self
                .module
                .entry
                .and_then(|entry| self.module.funcs.get(entry))
                .is_some_and(|f| f.name == self.function.name)
            {
                self.report(VerifyErrorKind::EntryCalled);
            }
            self.check_types("the results of the function", &self.function.results, &self.types(&data.args));
        }
    }

    /// Checks the immediate; whether the result types can be looked at.
    fn check_imm(&mut self, data: &InstData, kind: ImmKind) -> bool {
        match (kind, data.imm) {
            (ImmKind::Word, Imm::Word(word)) => {
                let fits = data.opcode != Opcode::KeccakF || word < Word::from(STATE_WORDS);
                if !fits {
                    self.report(VerifyErrorKind::Immediate(ImmKind::Word));
                }
                fits
            }
            (ImmKind::None, Imm::None) | (ImmKind::Place, Imm::Place(_)) | (ImmKind::Trap, Imm::Trap(_)) => true,
            (ImmKind::Data, Imm::Data(segment)) => {
                let exists = self.module.data.is_valid(segment);
                if !exists {
                    self.report(VerifyErrorKind::Missing(segment.to_string()));
                }
                exists
            }
            (ImmKind::Func, Imm::Func(callee)) => {
                let Some(function) = self.module.funcs.get(callee) else {
                    self.report(VerifyErrorKind::Missing(callee.to_string()));
                    return false;
                };
                if self.module.entry == Some(callee) {
                    self.report(VerifyErrorKind::EntryCalled);
                }
                let params = function.param_types();
                self.check_types(&format!("the arguments of @{}", function.name), &params, &self.types(&data.args));
                true
            }
            (ImmKind::Len, Imm::Len(len)) => {
                let words = (len as usize).div_ceil(32);
                // What a log has besides its words are topics.
                let fits = match data.opcode {
                    Opcode::LogWords => words <= data.args.len(),
                    _ => words == data.args.len(),
                };
                if !fits {
                    self.report(VerifyErrorKind::Length(len, words, data.args.len()));
                }
                true
            }
            (kind, _) => {
                self.report(VerifyErrorKind::Immediate(kind));
                false
            }
        }
    }

    fn check_results(&mut self, data: &InstData, rule: Rule) {
        let found = self.types(&data.results);
        let args = self.types(&data.args);
        let expected = match rule {
            Rule::None => Vec::new(),
            Rule::Callee => match data.imm {
                Imm::Func(callee) => self.module.funcs[callee].results.clone(),
                _ => return,
            },
            Rule::Constant | Rule::Widen | Rule::Shrink => {
                let [ty] = found[..] else {
                    return self.report(VerifyErrorKind::ResultType {
                        expected: "one result".to_owned(),
                        found: list(&found),
                    });
                };
                let (fits, expected) = match (rule, data.imm) {
                    (Rule::Constant, Imm::Word(word)) => (ty.holds(&word), Type::of(&word)),
                    (Rule::Widen, _) => (ty >= args[0], args[0]),
                    _ => (ty <= args[0], args[0]),
                };
                if !fits {
                    let bound = if rule == Rule::Shrink { "at most" } else { "at least" };
                    self.report(VerifyErrorKind::ResultType {
                        expected: format!("{bound} {expected}"),
                        found: ty.to_string(),
                    });
                }
                return;
            }
            Rule::Fixed(_)
            | Rule::First
            | Rule::Second
            | Rule::Min
            | Rule::Max
            | Rule::MaxOfLast
            | Rule::MaxPlusOne
            | Rule::Sum => match data.opcode.result_type(&args) {
                Ok(ty) => ty.into_iter().collect(),
                Err(error) => return self.report(error.into()),
            },
        };
        if expected != found {
            self.report(VerifyErrorKind::ResultType { expected: list(&expected), found: list(&found) });
        }
    }

    fn types(&self, values: &[Value]) -> Vec<Type> {
        values.iter().map(|&value| self.function.ty(value)).collect()
    }

    fn check_types(&mut self, what: &str, expected: &[Type], found: &[Type]) {
        if expected != found {
            self.report(VerifyErrorKind::Signature {
                what: what.to_owned(),
                expected: list(expected),
                found: list(found),
            });
        }
    }
}

fn describe(data: &InstData) -> String {
    let mut text = data.opcode.mnemonic().to_owned();
    for (at, value) in data.args.iter().enumerate() {
        text.push_str(if at == 0 { " " } else { ", " });
        text.push_str(&value.to_string());
    }
    text
}

fn list(types: &[Type]) -> String {
    types.iter().map(Type::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse;

    fn errors(body: &str) -> Vec<String> {
        let module = parse(&format!("zvm 1\nentry @main\nfunc @main() {{\n{body}\n}}")).unwrap();
        verify(&module).err().unwrap_or_default().iter().map(|error| error.kind.to_string()).collect()
    }

    #[test]
    fn accepts_a_loop() {
        let body = "block0:
            v0: u8 = iconst 10
            jump block1(v0)
        block1(v1: u8):
            v2: u1 = iszero v1
            brif v2, block2, block3
        block2:
            stop
        block3:
            v3: u1 = iconst 1
            v4: u8 = sub v1, v3
            jump block1(v4)";
        assert_eq!(errors(body), [""; 0]);
    }

    #[test]
    fn each_rule_is_reported() {
        let cases = [
            ("block0:\nv0: u8 = iconst 300\nstop", "the result must be at least u9"),
            ("block0:\nv0: u8 = iconst 3\nv1: u9 = zext v0\nv2: u8 = zext v1\nstop", "at least u9"),
            ("block0:\nv0: u8 = iconst 3\nv1: u9 = narrow v0\nstop", "at most u8"),
            ("block0:\nv0: u8 = iconst 3\nv1: u8 = add v0, v0\nstop", "must be u9, it is u8"),
            ("block0:\nv0: u256 = iconst 3\nv1: u256 = add v0, v0\nstop", "257 bits"),
            ("block0:\nv0: u8 = iconst 3\nbrif v0, block1, block1\nblock1:\nstop", "must be a u1"),
            ("block0:\nv0: u8 = iconst 3\njump block1(v0)\nblock1(v1: u9):\nstop", "expected (u9), found (u8)"),
            ("block0:\nv0: u8 = iconst 3\nv1: u256 = wadd v0\nstop", "expected 2 operands, found 1"),
            ("block0:\nstop\nstop", "before the end"),
            ("block0:\nv0: u8 = iconst 3", "does not end"),
            ("block0:\njump block0", "to the entry"),
            ("block0:\nv0: u8 = iconst 3\nreturn_words 33, v0", "33 bytes need 2 words, there are 1"),
            ("block0:\nv0: u8 = iconst 3\ndatacopy data3, v0, v0, v0\nstop", "`data3` does not exist"),
            ("block0:\nv0: u8 = iconst 3\nret v0", "expected (), found (u8)"),
            ("block0:\nret", "no caller"),
            ("block0:\ncall @main()\nstop", "may not be called"),
            ("block0:\nv0: u8 = iconst 3\nlog v0, v0, v0, v0, v0, v0, v0\nstop", "at most four"),
            ("block0:\nv0: u8 = iconst 3\nlog_words 65, v0, v0\nstop", "65 bytes need 3 words, there are 2"),
            ("block0:\nv0: u8 = iconst 3\nlog_words 1, v0, v0, v0, v0, v0, v0\nstop", "at most four"),
            ("block0:\nv1: u1 = iszero v0\nv0: u8 = iconst 3\nstop", "does not reach"),
            (
                "block0:\nv0: u1 = iconst 1\nbrif v0, block1, block2\nblock1:\nv1: u8 = iconst 1\nstop\nblock2:\nv2: u1 = iszero v1\nstop",
                "`v1` is used where its definition does not reach",
            ),
        ];
        for (body, message) in cases {
            let found = errors(body);
            assert!(found.iter().any(|error| error.contains(message)), "{body}\n{found:?}");
        }
    }

    #[test]
    fn all_errors_are_collected() {
        let found = errors("block0:\nv0: u8 = iconst 300\nv1: u8 = iconst 301\nv2: u1 = iconst 2\nstop");
        assert_eq!(found.len(), 3, "{found:?}");
    }

    #[test]
    fn module_rules() {
        let kinds = |text: &str| -> Vec<VerifyErrorKind> {
            verify(&parse(text).unwrap()).unwrap_err().into_iter().map(|error| error.kind).collect()
        };
        assert_eq!(kinds("zvm 1"), [VerifyErrorKind::NoEntry]);
        assert_eq!(
            kinds("zvm 1\nentry @f\nfunc @f(u8) {\nblock0(v0: u8):\nstop\n}"),
            [VerifyErrorKind::EntrySignature]
        );
        assert_eq!(kinds("zvm 1\nentry @f\nfunc @f() {\n}"), [VerifyErrorKind::NoBlocks]);
    }
}
