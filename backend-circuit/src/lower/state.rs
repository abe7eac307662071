//! The state between slots: what a step of the circuit takes and gives.
//!
//! Some elements every program has; others only one that logs, touches storage, or keeps memory. Which they are, and where
//! they stand, is the [`Layout`]; registers follow.
//!
//! | element | what it holds | first | last |
//! |---|---|---|---|
//! | `calls` | the digest of the calls that have begun | 0 | that of all calls |
//! | `outcomes` | the digest of the outcomes so far | 0 | that of all outcomes |
//! | `label` | the region to run next | the entry | none |
//! | `data` | the digest of the words of data that were noted since data were last taken | 0 | – |
//! | `logs` | the digest of outcomes and of the logs of the running call | 0 | – |
//! | `failing` | whether the running call will not return | 0 | – |
//! | `account` | the account whose storage is used | the statement's | the same |
//! | `origin` | the key of its slot 0 | the account's | the same |
//! | `root` | the root of the state tree | the state's before | the state's after |
//! | `undone` | writes of the running call that a failure must undo | 0 | 0 |
//! | `gamma`, `alpha` | the challenges of the trace argument | the challenges | the same |
//! | `sum` | the running sum of the trace argument | 0 | 0 |
//! | `advice` | the running hash of what the prover chose | 0 | the one the challenges come from |
//! | `time` | accesses so far, plus one | 1 | below 2^30 |
//! | `call` | the number of the running call | 0 | – |
//! | `unread` | the digest of the running call's calldata after what was opened | 0 | – |
//! | `opened` | the place of the calldata that is opened next | 0 | – |
//! | `swept` | the number of the cell of memory that was closed last, plus one | 0 | – |
//! | `walk …` | where the walk through the state tree is ([`crate::state::circuit`]) | 0 | – |

use ff::PrimeField;

use crate::gadgets::Lc;

/// An element of the state before the registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Element {
    /// The digest of the calls that have begun.
    Calls,
    /// The digest of the outcomes so far.
    Outcomes,
    /// The label of the region to run next.
    Label,
    /// The digest of the words of data that were noted since data were last taken.
    Data,
    /// The digest of outcomes and of the logs of the running call.
    Logs,
    /// Whether the running call will not return: a boolean.
    Failing,
    /// The account whose storage is used, 160 bits.
    Account,
    /// The key of its storage slot 0.
    Origin,
    /// The root of the state tree.
    Root,
    /// How many writes to storage a failing call has to undo.
    Undone,
    /// The challenge that is added to each fingerprint.
    Gamma,
    /// The challenge that multiplies a tuple's low limb.
    AlphaLow,
    /// The challenge that multiplies a tuple's high limb.
    AlphaHigh,
    /// The challenge that multiplies a tuple's key.
    AlphaKey,
    /// The running sum of the trace argument.
    Sum,
    /// The running hash of the prover's advice.
    Advice,
    /// The number of accesses so far, plus one.
    Time,
    /// The number of the running call.
    Call,
    /// The digest of the running call's calldata after what was opened.
    Unread,
    /// The place in the calldata of what is opened next.
    Opened,
    /// The number of the cell of memory that was closed last, plus one.
    Swept,
    /// The topmost node of the state tree, as the walk has come.
    WalkTree,
    /// The node that new leaves are appended to.
    WalkOpen,
    /// The number of leaves.
    WalkCount,
    /// The low 128 bits of the key that was passed last.
    WalkLastLow,
    /// The rest of it.
    WalkLastHigh,
    /// The next key of the leaf that was written last.
    WalkPromised,
    /// The end of the gap behind the leaf that was visited last.
    WalkEnd,
    /// Whether the gap is open.
    WalkGap,
}

impl Element {
    /// All elements in the order of the state.
    pub const ALL: [Self; 29] = [
        Self::Calls,
        Self::Outcomes,
        Self::Label,
        Self::Data,
        Self::Logs,
        Self::Failing,
        Self::Account,
        Self::Origin,
        Self::Root,
        Self::Undone,
        Self::Gamma,
        Self::AlphaLow,
        Self::AlphaHigh,
        Self::AlphaKey,
        Self::Sum,
        Self::Advice,
        Self::Time,
        Self::Call,
        Self::Unread,
        Self::Opened,
        Self::Swept,
        Self::WalkTree,
        Self::WalkOpen,
        Self::WalkCount,
        Self::WalkLastLow,
        Self::WalkLastHigh,
        Self::WalkPromised,
        Self::WalkEnd,
        Self::WalkGap,
    ];

    /// The elements of a walk through the state tree, in the order of its cursor.
    pub const WALK: [Self; 8] = [
        Self::WalkTree,
        Self::WalkOpen,
        Self::WalkCount,
        Self::WalkLastLow,
        Self::WalkLastHigh,
        Self::WalkPromised,
        Self::WalkEnd,
        Self::WalkGap,
    ];

    /// The name in constraints.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Calls => "calls",
            Self::Outcomes => "outcomes",
            Self::Label => "label",
            Self::Data => "data",
            Self::Logs => "logs",
            Self::Failing => "failing",
            Self::Account => "account",
            Self::Origin => "origin",
            Self::Root => "root",
            Self::Undone => "undone",
            Self::Gamma => "gamma",
            Self::AlphaLow => "alpha low",
            Self::AlphaHigh => "alpha high",
            Self::AlphaKey => "alpha key",
            Self::Sum => "sum",
            Self::Advice => "advice",
            Self::Time => "time",
            Self::Call => "call",
            Self::Unread => "unread",
            Self::Opened => "opened",
            Self::Swept => "swept",
            Self::WalkTree => "walk tree",
            Self::WalkOpen => "walk open",
            Self::WalkCount => "walk count",
            Self::WalkLastLow => "walk last low",
            Self::WalkLastHigh => "walk last high",
            Self::WalkPromised => "walk promised",
            Self::WalkEnd => "walk end",
            Self::WalkGap => "walk gap",
        }
    }

    /// Whether programs with these features have the element.
    const fn is_needed(self, features: &Features) -> bool {
        match self {
            Self::Calls | Self::Outcomes | Self::Label => true,
            Self::Data => features.data,
            Self::Logs => features.logs,
            Self::Failing => features.logs || features.storage_writes,
            Self::Account => features.storage || features.logs,
            Self::Origin => features.storage,
            Self::Root
            | Self::WalkTree
            | Self::WalkOpen
            | Self::WalkCount
            | Self::WalkLastLow
            | Self::WalkLastHigh
            | Self::WalkPromised
            | Self::WalkEnd
            | Self::WalkGap => features.storage,
            Self::Undone => features.storage_writes,
            Self::Gamma | Self::AlphaLow | Self::AlphaHigh | Self::Sum | Self::Advice | Self::Time => features.trace(),
            Self::AlphaKey => features.storage,
            Self::Swept => features.memory,
            Self::Unread | Self::Opened => features.calldata,
            Self::Call => features.memory || features.storage_writes || features.calldata,
        }
    }
}

/// What a program does besides computing: which parts of the state it needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// It notes words of data.
    pub data: bool,
    /// It reads calldata at computed places.
    pub calldata: bool,
    /// It logs.
    pub logs: bool,
    /// It reads or writes persistent storage.
    pub storage: bool,
    /// It writes persistent storage.
    pub storage_writes: bool,
    /// It reads memory, or transient storage.
    pub memory: bool,
}

impl Features {
    /// Whether anything goes through the trace argument.
    pub const fn trace(&self) -> bool {
        self.storage || self.memory || self.calldata
    }
}

/// Where each element stands in the state of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    places: [Option<u8>; Element::ALL.len()],
    len: usize,
}

impl Layout {
    /// The layout of programs with these features.
    pub fn new(features: &Features) -> Self {
        let mut layout = Self { places: [None; Element::ALL.len()], len: 0 };
        for element in Element::ALL.into_iter().filter(|element| element.is_needed(features)) {
            layout.places[element as usize] = Some(layout.len as u8);
            layout.len += 1;
        }
        layout
    }

    /// The number of elements before the registers.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none: never.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The place of an element, if the program has it.
    pub fn place(&self, element: Element) -> Option<usize> {
        self.places[element as usize].map(usize::from)
    }

    /// The elements in order.
    pub fn elements(&self) -> impl Iterator<Item = Element> + '_ {
        Element::ALL.into_iter().filter(|&element| self.place(element).is_some())
    }
}

/// The state between slots.
#[derive(Clone, Debug)]
pub struct State<F: PrimeField> {
    layout: Layout,
    head: Vec<Lc<F>>,
    /// The registers.
    pub registers: Vec<Lc<F>>,
}

impl<F: PrimeField> State<F> {
    /// The state in the order of the step's input and output; `None` if there are too few elements.
    pub fn from_elements(layout: Layout, elements: Vec<Lc<F>>) -> Option<Self> {
        let mut head = elements;
        (head.len() >= layout.len()).then(|| {
            let registers = head.split_off(layout.len());
            Self { layout, head, registers }
        })
    }

    /// The elements in the order of [`State::from_elements`].
    pub fn into_elements(self) -> Vec<Lc<F>> {
        let mut elements = self.head;
        elements.extend(self.registers);
        elements
    }

    /// The layout of the elements before the registers.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// An element; zero in programs that do not have it.
    pub fn get(&self, element: Element) -> Lc<F> {
        self.layout.place(element).map_or_else(Lc::zero, |place| self.head[place].clone())
    }

    /// Replaces an element; nothing in programs that do not have it.
    pub fn set(&mut self, element: Element, lc: Lc<F>) {
        if let Some(place) = self.layout.place(element) {
            self.head[place] = lc;
        }
    }

    /// Adds to an element; nothing in programs that do not have it.
    pub fn add(&mut self, element: Element, lc: &Lc<F>) {
        self.set(element, self.get(element).plus(lc));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_stand_in_the_order_of_their_list() {
        for (at, element) in Element::ALL.into_iter().enumerate() {
            assert_eq!(element as usize, at, "{element:?}");
        }
        let pure = Layout::new(&Features::default());
        assert_eq!(pure.elements().collect::<Vec<_>>(), [Element::Calls, Element::Outcomes, Element::Label]);
        let all =
            Features { data: true, calldata: true, logs: true, storage: true, storage_writes: true, memory: true };
        assert_eq!(Layout::new(&all).len(), Element::ALL.len());
    }
}
