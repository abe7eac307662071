//! The control-flow graphs of a module in the DOT language of Graphviz: a cluster for each function, a node with its
//! instructions for each block.
//!
//! Edges of a branch are labelled `true` and `false`; an edge back to a block that dominates it is dashed; a call of a
//! function is a dotted edge to its entry.

use core::fmt::{self, Write};

use crate::Opcode;
use crate::cfg::Cfg;
use crate::entities::Block;
use crate::function::{Function, Imm, Module};
use crate::print::block_lines;

/// The graphs as one DOT document.
pub fn dot(module: &Module) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write_dot(&mut text, module);
    text
}

fn write_dot(out: &mut String, module: &Module) -> fmt::Result {
    writeln!(out, "digraph zvm {{")?;
    writeln!(out, "  node [shape=box, fontname=\"monospace\", fontsize=10];")?;
    writeln!(out, "  edge [fontname=\"monospace\", fontsize=9];")?;
    for (func, function) in &module.funcs {
        writeln!(out, "  subgraph \"cluster_{func}\" {{")?;
        writeln!(out, "    label=\"@{}\";", escaped(&function.name))?;
        for &block in &function.layout {
            let lines = block_lines(function, block, Some(module))?;
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
        let dot = dot(&module);
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
