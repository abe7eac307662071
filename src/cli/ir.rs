//! `zvm ir`: the IR as text, or its control flow as a graph.

use clap::{Args, ValueEnum};
use serde_json::json;
use zvm::names::{Names, written};
use zvm::{Program as Loaded, Source, picture};
use zvm_ir::passes::{self, Goal, Moment};
use zvm_ir::{Module, dot};

use super::output::Output;
use super::{Answer, Failure, Program, contract};

/// Arguments of `ir`.
#[derive(Debug, Args)]
pub(crate) struct Ir {
    #[command(flatten)]
    program: Program,
    /// The IR as the frontend makes it, before any pass.
    #[arg(long, conflicts_with_all = ["pass", "circuit"])]
    raw: bool,
    /// The IR after the last time this pass has run.
    #[arg(long, value_name = "NAME")]
    pass: Option<String>,
    /// Optimise for the circuit instead of the EVM.
    #[arg(long)]
    circuit: bool,
    /// The control-flow graphs instead of the text.
    #[arg(long, value_enum, value_name = "FORMAT")]
    cfg: Option<Format>,
}

/// How a graph is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// The language of Graphviz.
    Dot,
    /// A picture.
    Svg,
}

impl Ir {
    pub(super) fn run(&self, output: &Output) -> Result<Answer, Failure> {
        let input = self.program.read()?;
        let program = Loaded::load(&input).map_err(|error| Failure::about(error, &input))?;
        let goal = if self.circuit { Goal::Circuit } else { Goal::Evm };
        let module = match &self.pass {
            Some(name) => self.after_pass(&program, goal, name)?,
            // ZVM text is parsed, verified and printed back, so that a person can check an edit.
            None if self.raw || !matches!(input.source, Source::Contract(_)) => program.module,
            None => program.optimized(goal).map_err(|error| Failure::about(error, &input))?,
        };
        let abi = contract(&input).and_then(|contract| contract.abi.as_ref());
        let labels = match &input.source {
            // What is printed as it was read keeps the names that it came with.
            Source::Text(text) if self.pass.is_none() => written(&module, text),
            _ => Names::of(&module, abi).labels,
        };
        let (name, text) = match self.cfg {
            Some(Format::Dot) => ("dot", dot(&module, &labels)),
            Some(Format::Svg) => ("svg", picture::svg(&module, &labels)?),
            None => ("ir", module.labelled(&labels).to_string()),
        };
        output.either(&text, || json!({ name: text }))?;
        Ok(Answer::Yes)
    }

    fn after_pass(&self, program: &Loaded, goal: Goal, name: &str) -> Result<Module, Failure> {
        let Some(last) = passes::PIPELINE.iter().rposition(|pass| pass.name == name) else {
            let mut names: Vec<_> = passes::PIPELINE.iter().map(|pass| pass.name).collect();
            names.sort_unstable();
            names.dedup();
            return Err(zvm::Error::UnknownPass { name: name.to_owned(), names }.into());
        };
        let mut module = program.module.clone();
        let mut after = Module::default();
        let options = passes::Options { goal, passes: last + 1, ..passes::Options::default() };
        passes::optimize_observed(&mut module, &options, &mut |moment, number, _, module| {
            if moment == Moment::After && number == last {
                after = module.compact();
            }
        })
        .map_err(zvm::Error::from)?;
        Ok(after)
    }
}
