//! Interrupts: the first one ends proving after the step in progress, the second one at once.
//!
//! Files appear whole or not at all, so that ending at once is safe at any time; what it loses is the step in progress. Where there
//! is no step in progress, the first interrupt ends at once too: a checkpoint of all steps is written before long work begins.

use std::ops::ControlFlow;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use zvm::Exit;
use zvm::artifact::Progress;

use super::output::Output;

/// What interrupts said so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Interrupts {
    /// Whether there was one.
    asked: Arc<AtomicBool>,
    /// Whether steps are being folded.
    folding: Arc<AtomicBool>,
}

impl Interrupts {
    /// Watches from now on. Where the system does not let us, an interrupt ends the process as usual.
    pub(super) fn watch(output: &Output) -> Self {
        let interrupts = Self::default();
        let seen = interrupts.clone();
        let handler = move || {
            let again = seen.asked.swap(true, Ordering::SeqCst);
            if again || !seen.folding.load(Ordering::SeqCst) {
                eprintln!("interrupted{}", if again { " again: the step in progress is lost" } else { "" });
                process::exit(Exit::Limit as i32);
            }
        };
        if let Err(error) = ctrlc::set_handler(handler) {
            output.warn(&format!("interrupts end proving at once: {error}"));
        }
        interrupts
    }

    /// Whether proving goes on.
    pub(super) fn flow(&self, at: Progress) -> ControlFlow<()> {
        // After the last step a checkpoint is still to be written, which must not be cut short.
        let folding = matches!(at, Progress::Folded { .. });
        self.folding.store(folding, Ordering::SeqCst);
        if self.asked.load(Ordering::SeqCst) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}
