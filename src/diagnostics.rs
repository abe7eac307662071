//! The one renderer of errors: code, message, the place with a few lines around it, help.

use std::fmt;

use miette::{Diagnostic, GraphicalReportHandler, LabeledSpan, NamedSource, SourceCode};
use zvm::{Error, Input, Place, Source, disassembly};

/// Instructions shown before and after the one to blame.
const CONTEXT: usize = 3;

/// Prints an error on standard error, with what is around its place in the program.
pub(crate) fn report(error: &Error, input: Option<&Input>) {
    let shown = Shown { error, excerpt: input.and_then(|input| excerpt(error.place()?, input)) };
    let mut text = String::new();
    match GraphicalReportHandler::new().with_context_lines(2 * CONTEXT).render_report(&mut text, &shown) {
        Ok(()) => eprint!("{text}"),
        Err(fmt::Error) => eprintln!("{}: {error}", error.code()),
    }
}

/// The lines around a place.
struct Excerpt {
    source: NamedSource<String>,
    label: LabeledSpan,
}

fn excerpt(place: Place, input: &Input) -> Option<Excerpt> {
    match (place, &input.source) {
        (Place::Pc(pc), Source::Contract(contract)) => {
            let (lines, at) = disassembly::around(&contract.runtime, pc, CONTEXT)?;
            let (mut text, mut span) = (String::new(), 0..0);
            for (index, line) in lines.iter().enumerate() {
                let start = text.len();
                text += &format!("{:04x}: {}\n", line.pc, line.text);
                if index == at {
                    span = start..text.len() - 1;
                }
            }
            let name = format!("{}, disassembled", input.origin);
            Some(Excerpt { source: NamedSource::new(name, text), label: LabeledSpan::at(span, "here") })
        }
        (Place::Line(line), Source::Text(text)) => {
            let start = text.split_inclusive('\n').take(line.checked_sub(1)?).map(str::len).sum::<usize>();
            let len = text.get(start..)?.lines().next().map_or(0, str::len);
            let source = NamedSource::new(input.origin.clone(), text.clone());
            Some(Excerpt { source, label: LabeledSpan::at(start..start + len, "here") })
        }
        _ => None,
    }
}

struct Shown<'a> {
    error: &'a Error,
    excerpt: Option<Excerpt>,
}

impl fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.error, f)
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.error, f)
    }
}

impl std::error::Error for Shown<'_> {}

impl Diagnostic for Shown<'_> {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.error.code()))
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.error.help().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.excerpt.as_ref().map(|excerpt| &excerpt.source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let excerpt = self.excerpt.as_ref()?;
        Some(Box::new(std::iter::once(excerpt.label.clone())))
    }
}
