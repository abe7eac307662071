//! The control-flow graphs of a module in the DOT language of Graphviz: a cluster for each function, a node with its
//! instructions for each block.
//!
//! Edges of a branch are labelled `true` and `false`; an edge back to a block that dominates it is dashed; a call of a
//! function is a dotted edge to its entry.

use core::fmt::{self, Write};

use crate::Opcode;
use crate::cfg::Cfg;
use crate::entities::{Block, Func};
use crate::function::{Function, Imm, Module};
use crate::print::{Labels, block_lines};

/// The graphs as one DOT document, labels included.
pub fn dot(module: &Module, labels: &Labels) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write_dot(&mut text, module, labels);
    text
}

/// The lines that show a block: its header with its label, then its instructions.
pub fn block_text(module: &Module, func: Func, block: Block, labels: &Labels) -> Vec<String> {
    let Some(function) = module.funcs.get(func) else { return Vec::new() };
    // Writing to a string cannot fail.
    let mut lines = block_lines(function, block, Some(module)).unwrap_or_default();
    if let (Some(label), Some(header)) = (labels.blocks.get(&(func, block)), lines.first_mut()) {
        *header += "  ; ";
        *header += label;
    }
    lines
}

fn write_dot(out: &mut String, module: &Module, labels: &Labels) -> fmt::Result {
    writeln!(out, "digraph zvm {{")?;
    writeln!(out, "  node [shape=box, fontname=\"monospace\", fontsize=10];")?;
    writeln!(out, "  edge [fontname=\"monospace\", fontsize=9];")?;
    for (func, function) in &module.funcs {
        writeln!(out, "  subgraph \"cluster_{func}\" {{")?;
        let label = labels.functions.get(&func).map(|label| format!("  ; {label}")).unwrap_or_default();
        writeln!(out, "    label=\"@{}{}\";", escaped(&function.name), escaped(&label))?;
        for &block in &function.layout {
            let lines = block_text(module, func, block, labels);
            let label: String = lines.iter().map(|line| escaped(line.trim_end()) + "\\l").collect();
            writeln!(out, "    \"{func}.{block}\" [label=\"{label}\"];")?;
        }
        write_edges(out, &func.to_string(), function)?;
        writeln!(out, "  }}")?;
    }
    for (func, function) in &module.funcs {
        for (block, inst) in function.insts_in_order() {
            let data = &function.insts[inst];
            if let (Opcode::Call, Imm::Func(callee)) = (data.opcode, data.imm)
                && let Some(entry) = module.funcs.get(callee).and_then(Function::entry)
            {
                writeln!(out, "  \"{func}.{block}\" -> \"{callee}.{entry}\" [style=dotted];")?;
            }
        }
    }
    writeln!(out, "}}")
}

fn write_edges(out: &mut String, func: &str, function: &Function) -> fmt::Result {
    let cfg = Cfg::new(function);
    for &block in &function.layout {
        let targets = function.targets(block);
        for (at, target) in targets.iter().enumerate() {
            let label = match (targets.len(), at) {
                (2, 0) => "label=\"true\"",
                (2, _) => "label=\"false\"",
                _ => "",
            };
            let style = if returns(&cfg, block, target.block) { "style=dashed" } else { "" };
            let attributes: Vec<&str> = [label, style].into_iter().filter(|text| !text.is_empty()).collect();
            write!(out, "    \"{func}.{block}\" -> \"{func}.{}\"", target.block)?;
            if !attributes.is_empty() {
                write!(out, " [{}]", attributes.join(", "))?;
            }
            writeln!(out, ";")?;
        }
    }
    Ok(())
}

fn returns(cfg: &Cfg, from: Block, to: Block) -> bool {
    cfg.is_reachable(from) && cfg.dominates(to, from)
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{parse, verify};

    #[test]
    fn loops_branches_and_calls_are_drawn() {
        let text =
            "zvm 1\nentry @main\nfunc @main() {\nblock0:\nv0: u8 = iconst 5 @0001\njump block1(v0)\nblock1(v1: u8):
            brif v2, block2, block3\nblock2:\ncall @f()\nstop\nblock3:\njump block1(v1)\n}
            func @f() {\nblock0:\nret\n}"
                .replace("brif v2", "v2: u1 = iszero v1\nbrif v2");
        let module = parse(&text).unwrap();
        verify(&module).unwrap();
        let dot = dot(&module, &Labels::default());
        for line in [
            "    \"fn0.block0\" [label=\"block0:\\l    v0: u8 = iconst 5",
            "    \"fn0.block0\" -> \"fn0.block1\";",
            "    \"fn0.block1\" -> \"fn0.block2\" [label=\"true\"];",
            "    \"fn0.block1\" -> \"fn0.block3\" [label=\"false\"];",
            "    \"fn0.block3\" -> \"fn0.block1\" [style=dashed];",
            "  \"fn0.block2\" -> \"fn1.block0\" [style=dotted];",
        ] {
            assert!(dot.contains(line), "{line}\n{dot}");
        }
        assert_eq!(dot.matches("subgraph").count(), 2);
    }
}
