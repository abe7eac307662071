//! How much work passes do, counted and not timed.
//!
//! A *look* is one visit of an operand, a definition, a type, the end of a block, an edge, a question about dominance, a block of
//! a loop, or an entry of a table of what memory holds where one is copied or compared. That is what the inner loops of
//! passes are made of, so that a pass whose time grows with the square of its input shows in its looks. Moving the elements of a
//! vector, and hashing, do not count. Builds without debug assertions count nothing.

#[cfg(debug_assertions)]
thread_local! {
    static LOOKS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// The looks of this thread since it began; `None` in a build that does not count.
#[cfg(debug_assertions)]
pub fn looks() -> Option<u64> {
    Some(LOOKS.get())
}

/// The looks of this thread since it began; `None` in a build that does not count.
#[cfg(not(debug_assertions))]
pub fn looks() -> Option<u64> {
    None
}

/// Counts so many looks.
#[cfg(debug_assertions)]
pub(crate) fn look(count: usize) {
    LOOKS.set(LOOKS.get() + count as u64);
}

/// Counts nothing.
#[cfg(not(debug_assertions))]
pub(crate) fn look(_: usize) {}
