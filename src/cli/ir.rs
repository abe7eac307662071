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
    /// The IR after the last time this pass has run; a pass beside the pipeline runs on what it leaves.
    #[arg(long, value_name = "NAME")]
    pass: Option<String>,
    /// With `--pass`: the IR before that run.
    #[arg(long, requires = "pass")]
    before: bool,
    /// With `--pass`: the IR after that run, also where `--before` is given.
    #[arg(long, requires = "pass")]
    after: bool,
    /// The IR as it is lifted and after each pass that changes it.
    #[arg(long, conflicts_with_all = ["raw", "pass", "cfg"])]
    print_after_all: bool,
    /// Stop after so many applications of a pass to a function: halving this number finds the one that breaks a program.
    #[arg(long, value_name = "N", conflicts_with_all = ["raw", "pass"])]
    limit: Option<usize>,
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
        let abi = contract(&input).and_then(|contract| contract.abi.as_ref());
        let show = |module: &Module| module.labelled(&Names::of(module, abi).labels).to_string();
        if self.print_after_all || self.before {
            let stages = match &self.pass {
                Some(name) => self.around_pass(&program, goal, name)?,
                None => self.stages(&program, goal)?,
            };
            let text: String = stages.iter().map(|(title, module)| format!("; {title}\n{}\n", show(module))).collect();
            let document = |(title, module): &(String, Module)| json!({ "stage": title, "ir": show(module) });
            output.either(text.trim_end(), || json!({ "stages": stages.iter().map(document).collect::<Vec<_>>() }))?;
            return Ok(Answer::Yes);
        }
        let module = match &self.pass {
            Some(name) => self.around_pass(&program, goal, name)?.pop().map(|(_, module)| module).unwrap_or_default(),
            None if self.limit.is_some() => self.limited(&program, goal)?,
            // ZVM text is parsed, verified and printed back, so that a person can check an edit.
            None if self.raw || !matches!(input.source, Source::Contract(_)) => program.module,
            None => program.optimized(goal).map_err(|error| Failure::about(error, &input))?,
        };
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

    fn options(&self, goal: Goal) -> passes::Options {
        let options = passes::Options { goal, ..passes::Options::default() };
        passes::Options { applications: self.limit.unwrap_or(options.applications), ..options }
    }

    /// What the pipeline makes within the limit.
    fn limited(&self, program: &Loaded, goal: Goal) -> Result<Module, Failure> {
        let mut module = program.module.clone();
        passes::optimize(&mut module, &self.options(goal)).map_err(zvm::Error::from)?;
        Ok(module)
    }

    /// The program as lifted, and after each pass that changes it.
    fn stages(&self, program: &Loaded, goal: Goal) -> Result<Vec<(String, Module)>, Failure> {
        let mut module = program.module.clone();
        let mut stages = vec![("as lifted".to_owned(), module.compact())];
        passes::optimize_observed(&mut module, &self.options(goal), &mut |moment, number, pass, module| {
            let changed = stages.last().is_none_or(|(_, last)| last != module);
            if moment == Moment::After && changed {
                stages.push((format!("after {} (pass {})", pass.name, number + 1), module.compact()));
            }
        })
        .map_err(zvm::Error::from)?;
        Ok(stages)
    }

    /// The program before and after the last time that a pass runs.
    fn around_pass(&self, program: &Loaded, goal: Goal, name: &str) -> Result<Vec<(String, Module)>, Failure> {
        let Some(last) = passes::PIPELINE.iter().rposition(|pass| pass.name == name) else {
            return self.around_pass_beside(program, goal, name);
        };
        let mut module = program.module.clone();
        let mut stages = Vec::new();
        let options = passes::Options { passes: last + 1, ..self.options(goal) };
        passes::optimize_observed(&mut module, &options, &mut |moment, number, _, module| {
            let (wanted, when) = match moment {
                Moment::Before => (self.before, "before"),
                Moment::After => (self.after || !self.before, "after"),
            };
            if wanted && number == last {
                stages.push((format!("{when} {name} (pass {})", number + 1), module.compact()));
            }
        })
        .map_err(zvm::Error::from)?;
        Ok(stages)
    }

    /// The program that the pipeline leaves before and after a pass that is not in it.
    fn around_pass_beside(&self, program: &Loaded, goal: Goal, name: &str) -> Result<Vec<(String, Module)>, Failure> {
        let Some(pass) = passes::BESIDE.iter().find(|pass| pass.name == name) else {
            let mut names: Vec<_> = passes::all().into_iter().map(|pass| pass.name).collect();
            names.sort_unstable();
            return Err(zvm::Error::UnknownPass { name: name.to_owned(), names }.into());
        };
        let mut module = program.module.clone();
        passes::optimize(&mut module, &self.options(goal)).map_err(zvm::Error::from)?;
        let mut stages = Vec::new();
        if self.before {
            stages.push((format!("before {name}"), module.compact()));
        }
        passes::apply(pass, &mut module, goal);
        if self.after || !self.before {
            stages.push((format!("after {name}"), module.compact()));
        }
        Ok(stages)
    }
}
