//! INPUT: what a user gives as a program.
//!
//! The kind of a file is found from its content, never from its name: a compiled ZVM program, JSON (a compiler's output),
//! ZVM text, hex, or else raw bytecode.

mod artifact;

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::Path;

use alloy_json_abi::JsonAbi;

use zvm_backend_circuit::artifact::PROGRAM_MAGIC;

use crate::disassembly;
use crate::error::Error;

/// The largest file that is read, in bytes. A build-info file of a large project has some ten megabytes.
pub const FILE_LIMIT: u64 = 512 << 20;

/// A program as given.
#[derive(Clone, Debug)]
pub struct Input {
    /// Where it came from, for messages: a path, `stdin`, or `INPUT`.
    pub origin: String,
    /// The program.
    pub source: Source,
}

/// A program.
#[derive(Clone, Debug)]
pub enum Source {
    /// EVM bytecode.
    Contract(Box<Contract>),
    /// The text form of the IR.
    Text(String),
    /// A compiled program, as `compile` writes it.
    Compiled(Vec<u8>),
}

/// EVM bytecode and what its compiler said about it.
#[derive(Clone, Debug, Default)]
pub struct Contract {
    /// Its name, where the file tells.
    pub name: Option<String>,
    /// Runtime bytecode.
    pub runtime: Vec<u8>,
    /// Creation bytecode.
    pub creation: Option<Vec<u8>>,
    /// The interface.
    pub abi: Option<JsonAbi>,
    /// The bytes of `runtime` that the constructor fills in.
    pub immutables: Immutables,
}

/// What is known of the bytes that a constructor fills in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Immutables {
    /// The code is what an account holds: everything is filled in.
    #[default]
    Deployed,
    /// The compiler's list; those bytes are zero.
    Listed(Vec<Range<usize>>),
    /// A compiler's output without a list.
    Unlisted,
}

impl Contract {
    /// The bytes of the runtime code that must not be taken for what they are. Without a list, each `PUSH32 0` may be one:
    /// no compiler pushes a zero that way otherwise.
    pub fn placeholders(&self) -> Vec<Range<usize>> {
        match &self.immutables {
            Immutables::Deployed => Vec::new(),
            Immutables::Listed(ranges) => ranges.clone(),
            Immutables::Unlisted => {
                let zero = format!("PUSH32 0x{}", "00".repeat(32));
                let pushes = disassembly::lines(&self.runtime).filter(|line| line.text == zero);
                pushes.map(|line| line.pc as usize + 1..line.pc as usize + 33).collect()
            }
        }
    }
}

impl Input {
    /// Reads a program: a path, `-` for standard input, or bytecode itself as `0x…`.
    ///
    /// # Errors
    /// When the file cannot be read or is no program; see [`Input::parse`].
    pub fn read(argument: &str, contract: Option<&str>) -> Result<Self, Error> {
        if argument == "-" {
            return Self::parse("stdin", read_limited("stdin", std::io::stdin().lock())?, contract);
        }
        if argument.starts_with("0x") && !Path::new(argument).exists() {
            return Self::parse("INPUT", argument.as_bytes().to_vec(), contract);
        }
        Self::parse(argument, read_file(argument)?, contract)
    }

    /// Recognises and parses the content of a file. `contract` selects where there are several.
    ///
    /// # Errors
    /// When it is empty, is text of no known kind, or JSON without the program asked for.
    pub fn parse(origin: &str, bytes: Vec<u8>, contract: Option<&str>) -> Result<Self, Error> {
        let origin = origin.to_owned();
        let source = match Kind::of(&bytes) {
            Kind::Compiled => Source::Compiled(bytes),
            Kind::Empty => return Err(Error::Empty { path: origin }),
            Kind::Json => artifact::parse(&origin, &bytes, contract)?,
            Kind::Text(text) => Source::Text(text.to_owned()),
            Kind::Hex(text) => {
                let runtime = artifact::bytecode(&origin, text, None)?;
                Source::Contract(Box::new(Contract { runtime, ..Contract::default() }))
            }
            Kind::Binary => Source::Contract(Box::new(Contract { runtime: bytes, ..Contract::default() })),
        };
        Ok(Self { origin, source })
    }
}

/// What the content of a file looks like.
enum Kind<'a> {
    Empty,
    Compiled,
    Json,
    Text(&'a str),
    Hex(&'a str),
    Binary,
}

impl<'a> Kind<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        if bytes.starts_with(&PROGRAM_MAGIC) {
            return Self::Compiled;
        }
        let printable = bytes.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace() || *byte >= 0x80);
        let text = match std::str::from_utf8(bytes) {
            Ok(text) if printable => text.trim(),
            _ => return Self::Binary,
        };
        if text.is_empty() {
            Self::Empty
        } else if text.starts_with(['{', '[']) {
            Self::Json
        } else if is_zvm_text(text) {
            Self::Text(text)
        } else {
            // Text that is neither: reported as hex with a wrong digit, which is what people mistype.
            Self::Hex(text)
        }
    }
}

/// Whether the first line that is not a comment is `zvm N`.
fn is_zvm_text(text: &str) -> bool {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with(';'));
    line.is_some_and(|line| line.split_whitespace().next() == Some("zvm"))
}

/// Reads a whole file of at most [`FILE_LIMIT`] bytes.
///
/// # Errors
/// When it cannot be read or is larger.
pub fn read_file(path: &str) -> Result<Vec<u8>, Error> {
    let file = File::open(path).map_err(|source| Error::Io { path: path.to_owned(), source })?;
    let meta = file.metadata().map_err(|source| Error::Io { path: path.to_owned(), source })?;
    if meta.len() > FILE_LIMIT {
        return Err(Error::TooLarge { path: path.to_owned(), len: meta.len(), limit: FILE_LIMIT });
    }
    read_limited(path, file)
}

fn read_limited(path: &str, reader: impl Read) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let mut reader = reader.take(FILE_LIMIT + 1);
    reader.read_to_end(&mut bytes).map_err(|source| Error::Io { path: path.to_owned(), source })?;
    let len = bytes.len() as u64;
    if len > FILE_LIMIT {
        return Err(Error::TooLarge { path: path.to_owned(), len, limit: FILE_LIMIT });
    }
    Ok(bytes)
}
