//! Where the rows and the gas of calls go.
//!
//! Rows are counted on the circuit that would be proved, with the plan that the planner chooses for the calls together: those
//! in slots that run, by region and by instruction, and those in slots that idle. Gas is that of the original bytecode and of the
//! lowered one on the same calls.

use std::collections::BTreeMap;
use std::fmt::Write;

use zvm_backend_circuit::nova::Fr;
use zvm_backend_circuit::planner::{self, Estimate, Limits};
use zvm_backend_circuit::profile::{Part, RegionRows, by_block, by_region};
use zvm_backend_circuit::program::Program as CircuitProgram;
use zvm_backend_evm::Options as LowerOptions;
use zvm_ir::{Block, Func, Labels, Pc};

use crate::call::Call;
use crate::error::Error;
use crate::evm::Evm;
use crate::picture;
use crate::program::Program;
use crate::start::Start;

/// The rows of an instruction over all calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstructionRows {
    /// What the rows are for.
    pub part: Part,
    /// How many there are.
    pub rows: u64,
}

/// Gas without the storage, log, call and create instructions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ComputeGas {
    /// Of the original bytecode.
    pub evm: u64,
    /// Of the lowered bytecode.
    pub lowered: u64,
}

/// Where rows and gas go.
#[derive(Clone, Debug)]
pub struct Profile {
    /// The calls that were made.
    pub calls: usize,
    /// Instructions that the original bytecode executes; `None` if there is none.
    pub evm_instructions: Option<u64>,
    /// Gas of both; `None` if there is no original bytecode.
    pub compute_gas: Option<ComputeGas>,
    /// The regions that run, in order.
    pub regions: Vec<RegionRows>,
    /// The plan's steps, slots and rows, and what proving is expected to take.
    pub estimate: Estimate,
    /// How many slots a step has.
    pub slots: usize,
    /// The rows of a step.
    pub rows_per_step: u64,
    /// Where each block's rows go, for the picture.
    heat: BTreeMap<Block, u64>,
}

impl Profile {
    /// Runs calls one after the other from a state, and counts.
    ///
    /// # Errors
    /// When a call cannot be run or proved.
    pub fn new(
        program: &Program,
        circuit: &CircuitProgram,
        calls: &[Call],
        start: Start<'_>,
        limits: Limits,
    ) -> Result<Self, Error> {
        let trace = start.prepare::<Fr>(circuit, program.code().unwrap_or_default(), calls)?.trace;
        let (mut evm_instructions, mut compute_gas) = (None, None);
        if let Some(code) = program.code() {
            let lowered = program.lowered(&LowerOptions::default())?;
            let (original, lowered) = (Evm::new(code), Evm::new(&lowered.code));
            let (mut instructions, mut gas, mut now) = (0, ComputeGas::default(), start.whole()?.into_owned());
            for call in calls {
                let env = call.env_in(&now);
                let (run, trace) = original.inspect(&call.calldata, &env, &now)?;
                instructions += trace.instructions;
                gas.evm += trace.compute_gas;
                gas.lowered += lowered.inspect(&call.calldata, &env, &now)?.1.compute_gas;
                now.apply(&run.changes);
            }
            evm_instructions = Some(instructions);
            compute_gas = Some(gas);
        }
        let regions = by_region(circuit, &trace)?;
        let heat = by_block(circuit, &regions);
        let (plan, estimate) = planner::plan(circuit, core::slice::from_ref(&trace), limits)?;
        let rows_per_step = plan.rows(circuit.rows());
        Ok(Self {
            calls: calls.len(),
            evm_instructions,
            compute_gas,
            regions,
            estimate,
            slots: plan.len(),
            rows_per_step,
            heat,
        })
    }

    /// The rows of all steps by the instructions that the original executes; `None` if there is no original or it executes none.
    pub fn rows_per_evm_instruction(&self) -> Option<f64> {
        let instructions = self.evm_instructions.filter(|&count| count > 0)?;
        Some(self.estimate.simulation.rows as f64 / instructions as f64)
    }

    /// The rows of each instruction and other part over all regions, the most expensive first.
    pub fn instructions(&self) -> Vec<InstructionRows> {
        let mut rows: BTreeMap<&Part, u64> = BTreeMap::new();
        for region in &self.regions {
            for (part, count) in &region.parts {
                *rows.entry(part).or_insert(0) += count.saturating_mul(region.executions);
            }
        }
        let mut list: Vec<_> =
            rows.into_iter().map(|(part, rows)| InstructionRows { part: part.clone(), rows }).collect();
        list.sort_by(|a, b| b.rows.cmp(&a.rows).then_with(|| a.part.cmp(&b.part)));
        list
    }

    /// The rows of each position of the bytecode, in order.
    pub fn positions(&self) -> BTreeMap<Pc, u64> {
        let mut rows = BTreeMap::new();
        for InstructionRows { part, rows: count } in self.instructions() {
            if let Part::Instruction { pc: Some(pc), .. } = part {
                *rows.entry(pc).or_insert(0) += count;
            }
        }
        rows
    }

    /// The rows as stacks for a flame graph: `all;region;instruction rows`, one a line.
    pub fn stacks(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for region in &self.regions {
            let place = region.pcs.map(|(first, last)| format!(" @{first:04x} to @{last:04x}")).unwrap_or_default();
            for (part, rows) in &region.parts {
                let rows = rows.saturating_mul(region.executions);
                lines.push(format!("slots that run;{}{place};{part} {rows}", region.name));
            }
        }
        let idle = self.estimate.simulation.rows - self.estimate.simulation.rows_run;
        if idle > 0 {
            lines.push(format!("slots that idle {idle}"));
        }
        lines
    }

    /// A flame graph of the rows, as SVG.
    ///
    /// # Errors
    /// When there is nothing to show.
    pub fn flame_graph(&self) -> Result<String, Error> {
        let mut options = inferno::flamegraph::Options::default();
        options.title = "Rows of the circuit".to_owned();
        options.count_name = "rows".to_owned();
        options.hash = true;
        options.deterministic = true;
        let mut svg = Vec::new();
        let lines = self.stacks();
        inferno::flamegraph::from_lines(&mut options, lines.iter().map(String::as_str), &mut svg).map_err(
            |source| Error::Io { path: "the flame graph".to_owned(), source: std::io::Error::other(source) },
        )?;
        Ok(String::from_utf8_lossy(&svg).into_owned())
    }

    /// The control-flow graph of the circuit, the blocks shaded by their rows, as SVG.
    ///
    /// # Errors
    /// As [`picture::svg`].
    pub fn heat_map(&self, circuit: &CircuitProgram) -> Result<String, Error> {
        let module = circuit.module();
        let hottest = self.heat.values().copied().max().unwrap_or(0).max(1) as f64;
        let Some(func) = module.entry else { return picture::svg(module, &Labels::default()) };
        let mut labels = Labels::default();
        let mut heat: BTreeMap<(Func, Block), f64> = BTreeMap::new();
        for (&block, &rows) in &self.heat {
            // The eye sees differences among small shares better on this scale.
            heat.insert((func, block), (rows as f64 / hottest).sqrt());
            labels.blocks.insert((func, block), format!("{rows} rows"));
        }
        picture::heat_map(module, &labels, &heat)
    }

    /// A page with the tables and both pictures.
    ///
    /// # Errors
    /// As [`Profile::flame_graph`]; a graph too large to be drawn is left out, with the reason.
    pub fn html(&self, title: &str, circuit: &CircuitProgram) -> Result<String, Error> {
        let mut out = String::from(
            "<!doctype html>\n<meta charset=\"utf-8\">\n<title>zvm profile</title>\n<style>body{font:15px/1.5 \
             sans-serif;margin:2em}table{border-collapse:collapse}td,th{padding:.2em .8em;border-bottom:1px solid \
             #ccc;text-align:left}td.n{text-align:right;font-variant-numeric:tabular-nums}pre{overflow:auto}\
             div.wide{overflow:auto}</style>\n",
        );
        // Writing to a string cannot fail.
        let _ = writeln!(out, "<h1>{}</h1><pre>{}</pre>", escape(title), escape(&self.text(30)));
        let _ = writeln!(out, "<h2>Rows</h2><div class=wide>{}</div>", body(&self.flame_graph()?));
        let graph = match self.heat_map(circuit) {
            Ok(svg) => svg,
            Err(error @ Error::PictureTooLarge { .. }) => escape(&error.to_string()),
            Err(error) => return Err(error),
        };
        let _ = writeln!(out, "<h2>Control flow</h2><div class=wide>{graph}</div>");
        Ok(out)
    }

    /// Tables, with the most expensive `most` instructions.
    pub fn text(&self, most: usize) -> String {
        let mut out = String::new();
        let simulation = &self.estimate.simulation;
        let percent = |part: u64, all: u64| 100.0 * part as f64 / all.max(1) as f64;
        let _ = writeln!(
            out,
            "rows        {} in {} step{} of {}, {:.1} % in slots that idle",
            simulation.rows,
            simulation.steps,
            if simulation.steps == 1 { "" } else { "s" },
            self.rows_per_step,
            percent(simulation.rows - simulation.rows_run, simulation.rows)
        );
        if let (Some(instructions), Some(rate)) = (self.evm_instructions, self.rows_per_evm_instruction()) {
            let _ = writeln!(out, "executed    {instructions} EVM instructions, {rate:.1} rows each");
        }
        if let Some(ComputeGas { evm, lowered }) = self.compute_gas {
            let _ = writeln!(out, "gas         {evm} of computing, {lowered} as lowered");
        }
        let _ = writeln!(
            out,
            "\n{:<10} {:<18} {:>9} {:>10} {:>12} {:>7}",
            "region", "bytecode", "rows", "runs", "total", "share"
        );
        for region in &self.regions {
            let place = region.pcs.map(|(first, last)| format!("{first:#06x} to {last:#06x}")).unwrap_or_default();
            let _ = writeln!(
                out,
                "{:<10} {place:<18} {:>9} {:>10} {:>12} {:>6.1}%",
                region.name,
                region.rows,
                region.executions,
                region.total(),
                percent(region.total(), simulation.rows_run)
            );
        }
        let _ = writeln!(out, "\n{:<28} {:>12} {:>7}", "instruction", "total", "share");
        for InstructionRows { part, rows } in self.instructions().into_iter().take(most) {
            let _ = writeln!(out, "{:<28} {rows:>12} {:>6.1}%", part.to_string(), percent(rows, simulation.rows_run));
        }
        out
    }
}

/// An SVG document without what comes before its root element.
fn body(svg: &str) -> &str {
    svg.find("<svg").map_or(svg, |at| &svg[at..])
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
