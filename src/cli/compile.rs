//! `zvm compile`: a program for both worlds, in a folder.
//!
//! | file | what |
//! |---|---|
//! | `program.zvm` | the IR that is proved, as text |
//! | `runtime.hex` | the lowered bytecode |
//! | `circuit.json` | regions, their rows, the plan, the exits that cannot be proved |
//! | `artifact.zvma` | everything a verifier needs |
//! | `report.html` | the same for people: figures, regions, IR, listing |

use std::fmt::Write;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};
use zvm::{Error, Program as Loaded, artifact};
use zvm_backend_circuit::plan::Plan;
use zvm_backend_circuit::program::Program as Circuit;
use zvm_backend_circuit::prover::TARGET_ROWS;
use zvm_backend_evm::{Lowered, Options as LowerOptions};
use zvm_ir::Pc;

use super::output::{Output, grouped, write_file};
use super::{Answer, Failure, Program};

/// Arguments of `compile`.
#[derive(Debug, Args)]
pub(crate) struct Compile {
    #[command(flatten)]
    program: Program,
    /// The folder to write; made if it does not exist.
    #[arg(long, short, value_name = "DIR")]
    output: PathBuf,
}

impl Compile {
    pub(super) fn run(&self, output: &Output) -> Result<Answer, Failure> {
        let input = self.program.read()?;
        let about = |error: Error| Failure::about(error, &input);
        let program = Loaded::load(&input).map_err(about)?;
        let lowered = program.lowered(&LowerOptions::default()).map_err(about)?;
        let circuit = program.circuit().map_err(about)?;
        let plan = Plan::default_for(&circuit, TARGET_ROWS);
        let file = artifact::of(&circuit, &plan);
        let description = describe(&circuit, &plan);

        let folder = &self.output;
        std::fs::create_dir_all(folder).map_err(|source| Error::Io { path: folder.display().to_string(), source })?;
        write_file(&folder.join("program.zvm"), circuit.text().as_bytes())?;
        write_file(&folder.join("runtime.hex"), format!("{}\n", hex::encode(&lowered.code)).as_bytes())?;
        write_file(&folder.join("circuit.json"), format!("{description:#}\n").as_bytes())?;
        write_file(&folder.join("artifact.zvma"), &file.encode())?;
        let report = html(&input.origin, &program, &lowered, &circuit, &plan);
        write_file(&folder.join("report.html"), report.as_bytes())?;

        let original = program.code().map(<[u8]>::len);
        let rows = plan.rows(circuit.rows());
        let mut text = String::new();
        let of = original.map(|len| format!(" (original {})", grouped(len as u64))).unwrap_or_default();
        let _ = writeln!(text, "bytecode  {} bytes{of}", grouped(lowered.code.len() as u64));
        let _ = writeln!(
            text,
            "circuit   {} regions, {} slots in a step of {} rows, {} field elements between steps",
            circuit.rows().len(),
            plan.len(),
            grouped(rows),
            circuit.arity()
        );
        let _ = writeln!(text, "digest    {:#066x}", file.digest);
        let _ = writeln!(text, "written   {}", folder.display());
        for exit in circuit.unprovable() {
            output.warn(&exit.to_string());
        }
        output.either(&text, || {
            json!({
                "runtime_bytes": original,
                "lowered_bytes": lowered.code.len(),
                "rows_per_step": rows,
                "slots": slots(&circuit, &plan),
                "arity": circuit.arity(),
                "digest": format!("{:#066x}", file.digest),
            })
        })?;
        Ok(Answer::Yes)
    }
}

fn slots(circuit: &Circuit, plan: &Plan) -> Value {
    let slot = |slots: &zvm_backend_circuit::plan::Slots| {
        let rows = circuit.rows()[slots.region];
        json!({"region": slots.region.to_string(), "count": slots.count, "rows": rows})
    };
    plan.slots().iter().map(slot).collect()
}

/// The circuit as a document.
fn describe(circuit: &Circuit, plan: &Plan) -> Value {
    let regions = circuit.regions().regions.iter().map(|(region, data)| {
        json!({
            "region": region.to_string(),
            "block": data.root.to_string(),
            "pc": first_pc(circuit, data.root),
            "loop_depth": data.depth,
            "blocks": data.blocks.len(),
            "rows": circuit.rows()[region],
        })
    });
    let unprovable = circuit.unprovable();
    let unprovable = unprovable
        .iter()
        .map(|exit| json!({"pc": exit.pc, "instruction": exit.opcode.mnemonic(), "reason": exit.reason.to_string()}));
    json!({
        "commitment": format!("{:#066x}", circuit.commitment()),
        "digest": format!("{:#066x}", circuit.circuit_digest(plan)),
        "arity": circuit.arity(),
        "rows_per_step": plan.rows(circuit.rows()),
        "regions": regions.collect::<Vec<_>>(),
        "slots": slots(circuit, plan),
        "unprovable": unprovable.collect::<Vec<_>>(),
    })
}

/// Where in the bytecode a block starts, as far as its instructions know.
fn first_pc(circuit: &Circuit, block: zvm_ir::Block) -> Option<Pc> {
    let function = &circuit.legalized().func;
    function.blocks[block].insts.iter().find_map(|&inst| function.insts[inst].pc)
}

fn html(origin: &str, program: &Loaded, lowered: &Lowered, circuit: &Circuit, plan: &Plan) -> String {
    let mut out = String::from(
        "<!doctype html>\n<meta charset=\"utf-8\">\n<title>zvm report</title>\n<style>body{font:15px/1.5 sans-serif;\
         margin:2em;max-width:70em}table{border-collapse:collapse}td,th{padding:.2em .8em;border-bottom:1px solid #ccc;\
         text-align:left}td.n{text-align:right;font-variant-numeric:tabular-nums}pre{background:#f6f6f6;padding:1em;\
         overflow:auto;font-size:13px}</style>\n",
    );
    let _ = writeln!(out, "<h1>{}</h1>", escape(origin));
    let _ = writeln!(out, "<h2>Bytecode</h2><table>");
    if let Some(code) = program.code() {
        let _ = writeln!(out, "<tr><td>original<td class=n>{} bytes", grouped(code.len() as u64));
    }
    let _ = writeln!(out, "<tr><td>lowered<td class=n>{} bytes</table>", grouped(lowered.code.len() as u64));
    let _ = writeln!(
        out,
        "<h2>Circuit</h2><p>{} rows per step, {} slots, {} field elements between steps.</p>",
        grouped(plan.rows(circuit.rows())),
        plan.len(),
        circuit.arity()
    );
    let _ = writeln!(out, "<table><tr><th>region<th>block<th>pc<th>loop depth<th>rows<th>slots");
    for (region, data) in &circuit.regions().regions {
        let count: u32 = plan.slots().iter().filter(|slots| slots.region == region).map(|slots| slots.count).sum();
        let pc = first_pc(circuit, data.root).map(|pc| format!("{pc:#06x}")).unwrap_or_default();
        let rows = grouped(circuit.rows()[region]);
        let _ = writeln!(
            out,
            "<tr><td>{region}<td>{}<td>{pc}<td class=n>{}<td class=n>{rows}<td class=n>{count}",
            data.root, data.depth
        );
    }
    let _ = writeln!(out, "</table>");
    let unprovable = circuit.unprovable();
    if !unprovable.is_empty() {
        let _ = writeln!(out, "<h2>Exits that cannot be proved</h2><ul>");
        for exit in unprovable {
            let _ = writeln!(out, "<li>{}", escape(&exit.to_string()));
        }
        let _ = writeln!(out, "</ul>");
    }
    let _ = writeln!(out, "<h2>IR</h2><pre>{}</pre>", escape(circuit.text()));
    let _ = writeln!(out, "<h2>Lowered bytecode</h2><pre>{}</pre>", escape(&lowered.listing()));
    out
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
