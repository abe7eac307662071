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
use zvm::artifact::{self, Estimate};
use zvm::input::read_file;
use zvm::{Error, Program as Loaded, call};
use zvm_backend_circuit::program::Program as Circuit;
use zvm_backend_circuit::table::{SlotRow, Table};
use zvm_backend_evm::{Lowered, Options as LowerOptions};
use zvm_ir::Env;

use super::output::{Output, count, grouped, write_file};
use super::size::Size;
use super::{Answer, Failure, Program, contract, json as shapes};

/// Arguments of `compile`.
#[derive(Debug, Args)]
pub(crate) struct Compile {
    #[command(flatten)]
    program: Program,
    /// The folder to write; made if it does not exist.
    #[arg(long, short, value_name = "DIR")]
    output: PathBuf,
    /// Choose the slots of a step for calls like those of this JSON list; otherwise they follow the program's loops.
    #[arg(long, value_name = "FILE")]
    profile: Option<String>,
    #[command(flatten)]
    size: Size,
}

impl Compile {
    pub(super) fn run(&self, output: &Output) -> Result<Answer, Failure> {
        let input = self.program.read()?;
        let about = |error: Error| Failure::about(error, &input);
        let program = Loaded::load(&input).map_err(about)?;
        let lowered = program.lowered(&LowerOptions::default()).map_err(about)?;
        let circuit = program.circuit().map_err(about)?;
        let calls = match &self.profile {
            None => Vec::new(),
            Some(path) => {
                let abi = contract(&input).and_then(|contract| contract.abi.as_ref());
                call::parse_list(path, &read_file(path)?, &Env::default(), abi)?
            }
        };
        let (plan, estimate) = artifact::plan(&circuit, &calls, self.size.limits()).map_err(about)?;
        let file = artifact::of(&circuit, &plan);
        let table = Table::new(&circuit, &plan);

        let folder = &self.output;
        std::fs::create_dir_all(folder).map_err(|source| Error::Io { path: folder.display().to_string(), source })?;
        write_file(&folder.join("program.zvm"), circuit.text().as_bytes())?;
        write_file(&folder.join("runtime.hex"), format!("{}\n", hex::encode(&lowered.code)).as_bytes())?;
        write_file(&folder.join("circuit.json"), format!("{:#}\n", describe(&circuit, &table)).as_bytes())?;
        write_file(&folder.join("artifact.zvma"), &file.encode())?;
        let report = html(&input.origin, &program, &lowered, &circuit, &table);
        write_file(&folder.join("report.html"), report.as_bytes())?;

        let original = program.code().map(<[u8]>::len);
        let mut text = String::new();
        let of = original.map(|len| format!(" (original {})", grouped(len as u64))).unwrap_or_default();
        let _ = writeln!(text, "bytecode  {} bytes{of}", grouped(lowered.code.len() as u64));
        let _ = writeln!(
            text,
            "circuit   {} regions, {} slots in a step of {} rows, {} field elements between steps",
            table.regions.len(),
            plan.len(),
            grouped(table.rows_per_step),
            table.arity
        );
        if let Some(Estimate { simulation, seconds, memory_bytes }) = &estimate {
            let _ = writeln!(
                text,
                "profile   {} in {} steps, {:.1} % of the rows in slots that run; about {seconds:.0} CPU seconds and {} MB",
                count(calls.len(), "call"),
                grouped(simulation.steps),
                100.0 * simulation.utilisation(),
                grouped(memory_bytes >> 20)
            );
        }
        let _ = writeln!(text, "digest    {:#066x}", table.digest);
        let _ = writeln!(text, "written   {}", folder.display());
        for exit in circuit.unprovable() {
            output.warn(&exit.to_string());
        }
        output.either(&text, || {
            json!({
                "runtime_bytes": original,
                "lowered_bytes": lowered.code.len(),
                "rows_per_step": table.rows_per_step,
                "slots": slots(&table),
                "arity": table.arity,
                "digest": format!("{:#066x}", table.digest),
                "profile": estimate.as_ref().map(estimated),
            })
        })?;
        Ok(Answer::Yes)
    }
}

/// What is expected of the plan on the calls it was chosen for.
fn estimated(estimate: &Estimate) -> Value {
    let Estimate { simulation, seconds, memory_bytes } = estimate;
    json!({
        "steps": shapes::number(simulation.steps),
        "rows_total": shapes::number(simulation.rows),
        "rows_run": shapes::number(simulation.rows_run),
        "cpu_seconds": seconds,
        "memory_bytes": shapes::number(*memory_bytes),
    })
}

fn slots(table: &Table) -> Value {
    let slot = |slots: &SlotRow| {
        let SlotRow { region, count, rows } = slots;
        json!({"region": region.to_string(), "count": count, "rows": rows})
    };
    table.slots.iter().map(slot).collect()
}

/// The circuit as a document.
fn describe(circuit: &Circuit, table: &Table) -> Value {
    let regions = table.regions.iter().map(|row| {
        json!({
            "region": row.region.to_string(),
            "first_pc": row.pcs.map(|(first, _)| first),
            "last_pc": row.pcs.map(|(_, last)| last),
            "blocks": row.blocks,
            "loop_depth": row.depth,
            "live": row.live,
            "next": row.next.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "rows": row.rows,
        })
    });
    let unprovable = circuit.unprovable();
    let unprovable = unprovable
        .iter()
        .map(|exit| json!({"pc": exit.pc, "instruction": exit.opcode.mnemonic(), "reason": exit.reason.to_string()}));
    json!({
        "commitment": format!("{:#066x}", circuit.commitment()),
        "digest": format!("{:#066x}", table.digest),
        "arity": table.arity,
        "rows_per_step": table.rows_per_step,
        "regions": regions.collect::<Vec<_>>(),
        "slots": slots(table),
        "unprovable": unprovable.collect::<Vec<_>>(),
    })
}

fn html(origin: &str, program: &Loaded, lowered: &Lowered, circuit: &Circuit, table: &Table) -> String {
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
        "<h2>Circuit</h2><p>{} rows per step, {} field elements between steps.</p>",
        grouped(table.rows_per_step),
        table.arity
    );
    let _ = writeln!(out, "<table><tr><th>region<th>bytecode<th>loop depth<th>live<th>rows<th>slots<th>next");
    for row in &table.regions {
        let count: u32 = table.slots.iter().filter(|slots| slots.region == row.region).map(|slots| slots.count).sum();
        let pcs = row.pcs.map(|(first, last)| format!("{first:#06x} to {last:#06x}")).unwrap_or_default();
        let next: Vec<_> = row.next.iter().map(ToString::to_string).collect();
        let _ = writeln!(
            out,
            "<tr><td>{}<td>{pcs}<td class=n>{}<td class=n>{}<td class=n>{}<td class=n>{count}<td>{}",
            row.region,
            row.depth,
            row.live,
            grouped(row.rows),
            next.join(", ")
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
