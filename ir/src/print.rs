//! The text form of IR: [`core::fmt::Display`] for modules and functions. [`crate::parse()`] reads it back.
//!
//! Numbers are printed as they are in memory; a compacted module prints with its numbers in order. A `pc` annotation
//! (`@0042`, hexadecimal) follows an instruction that came from bytecode.

use core::fmt::{self, Display, Formatter, Write};
use std::collections::BTreeMap;

use crate::entities::{Block, Func, Inst, Value};
use crate::function::{BlockCall, BlockData, Function, Imm, Module};
use crate::{Opcode, Word};

/// The first line of a module in text form.
pub const HEADER: &str = "zvm 1";

/// Where the `pc` annotation starts, in characters from the start of the line.
const PC_COLUMN: usize = 60;

impl Display for Module {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Labelled { module: self, labels: &Labels::default() }.fmt(f)
    }
}

/// Without its module, a function prints its callees by number (`@fn3`).
impl Display for Function {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write_function(f, self, None, None)
    }
}

/// What a person calls functions and blocks. Text shows it as comments, which mean nothing: with and without them a module
/// reads back the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    /// Of functions. One line each.
    pub functions: BTreeMap<Func, String>,
    /// Of blocks. One line each.
    pub blocks: BTreeMap<(Func, Block), String>,
}

/// A module as text, with labels.
struct Labelled<'m> {
    module: &'m Module,
    labels: &'m Labels,
}

impl Display for Labelled<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { module, labels } = *self;
        writeln!(f, "{HEADER}")?;
        for (data, bytes) in &module.data {
            write!(f, "{data} = 0x")?;
            for byte in bytes {
                write!(f, "{byte:02x}")?;
            }
            writeln!(f)?;
        }
        if let Some(entry) = module.entry
            && let Some(function) = module.funcs.get(entry)
        {
            writeln!(f, "entry @{}", function.name)?;
        }
        for (func, function) in &module.funcs {
            writeln!(f)?;
            write_function(f, function, Some(module), Some((func, labels)))?;
        }
        Ok(())
    }
}

impl Module {
    /// The text form, with labels as comments.
    pub fn labelled<'m>(&'m self, labels: &'m Labels) -> impl Display + 'm {
        Labelled { module: self, labels }
    }
}

fn write_function(
    f: &mut Formatter<'_>,
    function: &Function,
    module: Option<&Module>,
    labels: Option<(Func, &Labels)>,
) -> fmt::Result {
    write!(f, "func @{}(", function.name)?;
    write_list(f, function.param_types())?;
    f.write_str(")")?;
    if !function.results.is_empty() {
        f.write_str(" -> ")?;
        write_list(f, &function.results)?;
    }
    if !function.stack.is_none() {
        write!(f, " stack {} {}", function.stack.below, function.stack.peak)?;
    }
    f.write_str(" {")?;
    write_label(f, labels.and_then(|(func, labels)| labels.functions.get(&func)))?;
    writeln!(f)?;
    for &block in &function.layout {
        let mut lines = block_lines(function, block, module)?.into_iter();
        f.write_str(&lines.next().unwrap_or_default())?;
        write_label(f, labels.and_then(|(func, labels)| labels.blocks.get(&(func, block))))?;
        writeln!(f)?;
        for line in lines {
            writeln!(f, "{line}")?;
        }
    }
    writeln!(f, "}}")
}

fn write_label(f: &mut Formatter<'_>, label: Option<&String>) -> fmt::Result {
    label.map_or(Ok(()), |label| write!(f, "  ; {label}"))
}

/// The lines of a block: its header, then its instructions.
pub(crate) fn block_lines(
    function: &Function,
    block: Block,
    module: Option<&Module>,
) -> Result<Vec<String>, fmt::Error> {
    let BlockData { params, insts } = &function.blocks[block];
    let mut header = block.to_string();
    if !params.is_empty() {
        header.push('(');
        write_list(&mut header, params.iter().map(|&value| Typed { function, value }))?;
        header.push(')');
    }
    header.push(':');
    let mut lines = vec![header];
    for &inst in insts {
        let mut line = inst_text(function, inst, module)?;
        if let Some(pc) = function.insts[inst].pc {
            write!(line, "{:1$} @{pc:04x}", "", PC_COLUMN.saturating_sub(line.chars().count()))?;
        }
        lines.push(line);
    }
    Ok(lines)
}

/// One instruction without its annotation, indented.
fn inst_text(function: &Function, inst: Inst, module: Option<&Module>) -> Result<String, fmt::Error> {
    let data = &function.insts[inst];
    let mut line = String::from("    ");
    for (at, &value) in data.results.iter().enumerate() {
        write!(line, "{}{}", if at > 0 { ", " } else { "" }, Typed { function, value })?;
    }
    if !data.results.is_empty() {
        line.push_str(" = ");
    }
    line.push_str(data.opcode.mnemonic());
    if data.opcode == Opcode::Call {
        match (data.imm, module) {
            (Imm::Func(callee), Some(module)) if module.funcs.is_valid(callee) => {
                write!(line, " @{}", module.funcs[callee].name)?;
            }
            (Imm::Func(callee), _) => write!(line, " @{callee}")?,
            _ => line.push_str(" @?"),
        }
        line.push('(');
        for (at, value) in data.args.iter().enumerate() {
            write!(line, "{}{value}", if at > 0 { ", " } else { "" })?;
        }
        line.push(')');
        return Ok(line);
    }
    let mut separator = " ";
    match data.imm {
        Imm::None => {}
        Imm::Word(word) => write!(line, " {}", Number(word))?,
        Imm::Data(segment) => write!(line, " {segment}")?,
        Imm::Func(callee) => write!(line, " @{callee}")?,
        Imm::Len(number) | Imm::Place(number) => write!(line, " {number}")?,
        Imm::Trap(code) => write!(line, " {}", code.name())?,
    }
    if data.imm != Imm::None {
        separator = ", ";
    }
    for value in &data.args {
        write!(line, "{separator}{value}")?;
        separator = ", ";
    }
    for target in &data.targets {
        write!(line, "{separator}")?;
        write_target(&mut line, target)?;
        separator = ", ";
    }
    Ok(line)
}

fn write_target(line: &mut String, target: &BlockCall) -> fmt::Result {
    write!(line, "{}", target.block)?;
    if !target.args.is_empty() {
        line.push('(');
        for (at, value) in target.args.iter().enumerate() {
            write!(line, "{}{value}", if at > 0 { ", " } else { "" })?;
        }
        line.push(')');
    }
    Ok(())
}

fn write_list(f: &mut impl Write, items: impl IntoIterator<Item = impl Display>) -> fmt::Result {
    for (at, item) in items.into_iter().enumerate() {
        if at > 0 {
            f.write_str(", ")?;
        }
        write!(f, "{item}")?;
    }
    Ok(())
}

struct Typed<'f> {
    function: &'f Function,
    value: Value,
}

impl Display for Typed<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.value, self.function.ty(self.value))
    }
}

/// A constant: decimal below 1024, hexadecimal from there on.
struct Number(Word);

impl Display for Number {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.0 < Word::from(1024) { write!(f, "{}", self.0) } else { write!(f, "{:#x}", self.0) }
    }
}
