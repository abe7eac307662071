//! `zvm compile`: a program for both worlds, in a folder.
//!
//! | file | what |
//! |---|---|
//! | `program.zvm` | the IR that is proved, as text |
//! | `runtime.hex` | the lowered bytecode; immutables are zero |
//! | `runtime.map.json` | for each of its instructions the one of the original that it comes from |
//! | `creation.hex` | the constructor, which deploys that bytecode; only where creation code is given |
//! | `circuit.json` | regions, their rows, the plan, the exits that cannot be proved |
//! | `artifact.zvma` | everything a verifier needs |
//! | `report.html` | the same for people: figures, regions, IR, listing |

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use zvm::artifact::{self, Estimate};
use zvm::creation::creation;
use zvm::input::read_file;
use zvm::{Error, Program as Loaded, call};
use zvm_backend_circuit::program::Program as Circuit;
use zvm_backend_circuit::table::{SlotRow, Table};
use zvm_backend_evm::{Fork, Lowered, Optimize, Options as LowerOptions, check};
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
    #[command(flatten)]
    lowering: Lowering,
}

/// How the bytecode is made.
#[derive(Debug, Args)]
struct Lowering {
    /// What the bytecode is made cheap in.
    #[arg(long, value_name = "GOAL", default_value = "gas")]
    optimize: Goal,
    /// The fork whose instructions the bytecode may use: london, paris, shanghai, cancun, prague, osaka or amsterdam.
    #[arg(long, value_name = "FORK", default_value = "osaka")]
    fork: Fork,
    /// Whether the metadata that the original ends with comes behind the bytecode.
    #[arg(long, value_name = "WHAT", default_value = "drop")]
    metadata: Metadata,
    /// Prove, block by block, that the bytecode does what the IR says.
    #[arg(long)]
    verify: bool,
}

/// What the bytecode is made cheap in.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Goal {
    /// Execution gas, then bytes.
    Gas,
    /// Bytes, then execution gas.
    Size,
    /// Nothing: instructions in the order of the IR.
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Metadata {
    /// As it was: explorers find the source by it.
    Keep,
    /// Left out.
    Drop,
}

impl Lowering {
    fn options(&self) -> LowerOptions {
        let optimize = match self.optimize {
            Goal::Gas => Optimize::Gas,
            Goal::Size => Optimize::Size,
            Goal::None => Optimize::None,
        };
        LowerOptions { fork: self.fork, optimize, ..LowerOptions::default() }
    }

    /// The code, if nothing in it differs from the IR or nobody asks.
    fn checked(&self, lowered: Lowered) -> Result<Lowered, Error> {
        match self.verify.then(|| check(&lowered)) {
            Some(Err(errors)) => {
                Err(errors.into_iter().next().map_or(Error::NoBytecode, |error| Error::Emitted(Box::new(error))))
            }
            Some(Ok(())) | None => Ok(lowered),
        }
    }
}

impl Compile {
    pub(super) fn run(&self, output: &Output) -> Result<Answer, Failure> {
        let input = self.program.read()?;
        let about = |error: Error| Failure::about(error, &input);
        let program = Loaded::load_template(&input).map_err(about)?;
        let options = self.lowering.options();
        let mut lowered = program.lowered(&options).and_then(|code| self.lowering.checked(code)).map_err(about)?;
        if let (Metadata::Keep, Some(metadata)) = (self.lowering.metadata, program.metadata()) {
            lowered.append(metadata);
        }
        let deploys = match contract(&input) {
            Some(contract) => creation(contract, &lowered, &options)
                .and_then(|code| code.map(|code| self.lowering.checked(code)).transpose()),
            None => Ok(None),
        };
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
        write_file(&folder.join("runtime.map.json"), format!("{:#}\n", source_map(&lowered)).as_bytes())?;
        let (creation_bytes, creation_problem) = write_creation(&folder.join("creation.hex"), deploys, output)?;
        write_file(&folder.join("circuit.json"), format!("{:#}\n", describe(&circuit, &table)).as_bytes())?;
        write_file(&folder.join("artifact.zvma"), &file.encode())?;
        let report = html(&input.origin, &program, &lowered, &circuit, &table);
        write_file(&folder.join("report.html"), report.as_bytes())?;

        let original = program.code().map(<[u8]>::len);
        let mut text = String::new();
        let of = original.map(|len| format!(" (original {})", grouped(len as u64))).unwrap_or_default();
        let _ = writeln!(text, "bytecode  {} bytes{of}", grouped(lowered.code.len() as u64));
        if let Some(bytes) = creation_bytes {
            let _ = writeln!(text, "creation  {} bytes", grouped(bytes as u64));
        }
        if self.lowering.verify {
            let _ = writeln!(text, "verified  {} blocks do what the IR says", grouped(lowered.blocks.len() as u64));
        }
        let _ = writeln!(
            text,
            "circuit   {}, {} in a step of {} rows, {} field elements between steps",
            count(table.regions.len(), "region"),
            count(plan.len(), "slot"),
            grouped(table.rows_per_step),
            table.arity
        );
        // A plan for these calls has only the regions that they run.
        let left_out = if calls.is_empty() { circuit.rows().len().saturating_sub(plan.regions().len()) } else { 0 };
        if left_out > 0 {
            let regions = count(left_out, "region");
            let _ = writeln!(text, "left out  {regions}: executions that come there are planned when they are proved");
        }
        if let Some(Estimate { simulation, seconds, memory_bytes }) = &estimate {
            let _ = writeln!(
                text,
                "profile   {} in {}, {:.1} % of the rows in slots that run; about {seconds:.0} CPU seconds and {} MB",
                count(calls.len(), "call"),
                count(usize::try_from(simulation.steps).unwrap_or(usize::MAX), "step"),
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
                "creation_bytes": creation_bytes,
                "creation_problem": creation_problem,
                "verified_blocks": self.lowering.verify.then_some(lowered.blocks.len()),
                "rows_per_step": table.rows_per_step,
                "slots": slots(&table),
                "regions_left_out": left_out,
                "arity": table.arity,
                "digest": format!("{:#066x}", table.digest),
                "profile": estimate.as_ref().map(estimated),
            })
        })?;
        Ok(Answer::Yes)
    }
}

/// Writes the creation code, if there is any; gives its length, or why the constructor is not compiled. A file of an earlier
/// program does not stay.
fn write_creation(
    path: &Path,
    deploys: Result<Option<Lowered>, Error>,
    output: &Output,
) -> Result<(Option<usize>, Option<String>), Failure> {
    match deploys {
        Ok(Some(code)) => {
            write_file(path, format!("{}\n", hex::encode(&code.code)).as_bytes())?;
            return Ok((Some(code.code.len()), None));
        }
        // Broken code is not a reason to go on without it.
        Err(error @ Error::Emitted(_)) => return Err(error.into()),
        Ok(None) | Err(_) => {}
    }
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            return Err(Error::Io { path: path.display().to_string(), source }.into());
        }
        Ok(()) | Err(_) => {}
    }
    let problem = deploys.err().map(|error| format!("{}: {error}", error.code()));
    if let Some(problem) = &problem {
        output.warn(&format!("no creation code: {problem}"));
    }
    Ok((None, problem))
}

/// Where each instruction comes from, as a document: `[position here, position in the original]`, each until the next.
fn source_map(lowered: &Lowered) -> Value {
    let pairs = |list: &[(u32, u32)]| list.iter().map(|&(here, there)| json!([here, there])).collect::<Value>();
    let data = lowered.data.iter().map(|data| json!([data.start, data.len]));
    json!({
        "fork": lowered.fork.name(),
        "code_bytes": lowered.code_len(),
        "map": pairs(&lowered.source_map),
        "immutables": pairs(&lowered.immutables),
        "data": data.collect::<Value>(),
    })
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
        let SlotRow { name, count, rows } = slots;
        json!({"region": name, "count": count, "rows": rows})
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
    // By what they are called: how many slots, and the rows of one.
    let mut slots: BTreeMap<&str, (u32, u64)> = BTreeMap::new();
    for SlotRow { name, count, rows } in &table.slots {
        let (slots, of_each) = slots.entry(name).or_default();
        *slots += count;
        *of_each = rows / u64::from(*count).max(1);
    }
    for row in &table.regions {
        let (count, _) = slots.remove(row.region.to_string().as_str()).unwrap_or_default();
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
    // What no part of the program becomes has no place in it.
    for (name, (count, rows)) in slots {
        let _ = writeln!(out, "<tr><td>{name}<td><td><td><td class=n>{}<td class=n>{count}<td>", grouped(rows));
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
