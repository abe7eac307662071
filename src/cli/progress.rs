//! The progress of long work, on a terminal only: for proofs steps done, rows per second, time left.

use std::io::{IsTerminal, stderr};
use std::ops::ControlFlow;
use std::time::Duration;

use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use zvm::artifact::Progress;

use super::output::Output;

/// A progress bar on standard error.
#[derive(Debug)]
pub(super) struct Bar(ProgressBar);

impl Bar {
    /// A bar that shows nothing yet; one that never shows anything where nobody would see it.
    pub(super) fn new(output: &Output) -> Self {
        let visible = !output.quiet && stderr().is_terminal();
        let target = if visible { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Self(ProgressBar::with_draw_target(None, target))
    }

    /// Shows where proving is.
    pub(super) fn show(&self, at: Progress) -> ControlFlow<()> {
        match at {
            Progress::Parameters => self.spin("public parameters"),
            Progress::Compressing => self.spin("compressing the proof"),
            Progress::Folded { steps, of, rows_per_step } => {
                if self.0.length() != Some(of) {
                    self.0.disable_steady_tick();
                    self.0.set_length(of);
                    self.0.set_style(folding(rows_per_step));
                    self.0.reset_eta();
                }
                self.0.set_position(steps);
            }
        }
        ControlFlow::Continue(())
    }

    /// Shows that something of unknown length is being done.
    pub(super) fn spin(&self, what: &'static str) {
        self.0.set_style(ProgressStyle::default_spinner());
        self.0.set_message(what);
        self.0.enable_steady_tick(Duration::from_millis(120));
    }

    /// Takes the bar off the terminal.
    pub(super) fn finish(&self) {
        self.0.finish_and_clear();
    }
}

fn folding(rows_per_step: u64) -> ProgressStyle {
    let rows = move |state: &ProgressState, out: &mut dyn std::fmt::Write| {
        let _ = write!(out, "{}", HumanCount((state.per_sec() * rows_per_step as f64) as u64));
    };
    let template = "folding {wide_bar} {pos}/{len} steps  {rows} rows/s  {eta} left";
    // The template is a constant, and a test of the command line shows it; a plain bar would do as well.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).with_key("rows", rows)
}
