//! The instruction table as a page, `docs/ir.md`.

use core::fmt::Write;

use crate::opcode::{Class, ImmKind, Opcode, Rule};

const HEAD: &str = "\
# The instructions of the ZVM IR

This page is generated from the instruction table (`ir/src/opcode.rs`) by
`cargo run -p zvm-ir --example ir > docs/ir.md`; a test keeps it up to date.

A type `uN` is an integer below 2^N, 1 ≤ N ≤ 256. Operands may have any width and are read as unsigned integers; a
condition is a `u1`. The width of a result follows from the widths of the operands by the rule in the third column, A, B
and C being those of the first, second and third operand. The meaning of pure instructions is `ir/src/eval.rs`, that of
the others `ir/src/interp.rs`.

| instruction | operands | result | effects | meaning |
|---|---|---|---|---|
";

/// The page, in Markdown.
pub fn markdown() -> String {
    let mut page = String::from(HEAD);
    for &opcode in Opcode::ALL {
        let row = opcode.info();
        let mut operands: Vec<String> = Vec::new();
        operands.extend(imm_name(row.imm).map(str::to_owned));
        operands.extend(row.operands.iter().map(|operand| match operand.class {
            Class::Any => operand.name.to_owned(),
            Class::Bool => format!("{}: u1", operand.name),
            Class::Many => format!("{}…", operand.name),
        }));
        operands.extend((0..row.targets).map(|_| "block(args)".to_owned()));
        let effects = row.effects.names().join(", ");
        let effects = if effects.is_empty() { "pure" } else { &effects };
        let doc = row.doc.trim().replace('|', "\\|");
        // Writing to a string cannot fail.
        let _ = writeln!(
            page,
            "| `{}` | {} | {} | {} | {} |",
            row.mnemonic,
            operands.join(", "),
            rule_name(row.rule),
            effects,
            doc
        );
    }
    page
}

fn imm_name(kind: ImmKind) -> Option<&'static str> {
    Some(match kind {
        ImmKind::None => return None,
        ImmKind::Word => "*constant*",
        ImmKind::Data => "*data segment*",
        ImmKind::Func => "*function*",
        ImmKind::Len => "*length*",
        ImmKind::Place => "*position*",
        ImmKind::Trap => "*reason*",
    })
}

fn rule_name(rule: Rule) -> String {
    match rule {
        Rule::None => "–".to_owned(),
        Rule::Fixed(bits) => format!("u{bits}"),
        Rule::Constant => "written; holds the constant".to_owned(),
        Rule::Widen => "written; at least uA".to_owned(),
        Rule::Shrink => "written; at most uA".to_owned(),
        Rule::First => "uA".to_owned(),
        Rule::Second => "uB".to_owned(),
        Rule::Min => "u(min(A, B))".to_owned(),
        Rule::Max => "u(max(A, B))".to_owned(),
        Rule::MaxOfLast => "u(max(B, C))".to_owned(),
        Rule::MaxPlusOne => "u(max(A, B) + 1)".to_owned(),
        Rule::Sum => "u(A + B)".to_owned(),
        Rule::Callee => "as the function".to_owned(),
    }
}
