//! Bounds for one question: the requests that count, and the work.

/// How much work may still be done. The unit is about the step of an automaton: some nanoseconds.
#[derive(Debug)]
pub struct Budget(u64);

/// The work on a question was bounded, and no answer was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Undecided;

impl Default for Budget {
    /// Enough for every question that people ask; some seconds.
    fn default() -> Self {
        Self(1_000_000_000)
    }
}

impl Budget {
    /// So many steps.
    #[must_use]
    pub fn of(steps: u64) -> Self {
        Self(steps)
    }

    pub(super) fn spend(&mut self, steps: usize) -> Result<(), Undecided> {
        self.0 = u64::try_from(steps).ok().and_then(|steps| self.0.checked_sub(steps)).ok_or(Undecided)?;
        Ok(())
    }
}

/// The requests that a question is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requests {
    /// All that can occur.
    All,
    /// Those that people think of. All of it can be read, and is UTF-8 without a line feed. The peer has one name at most. The host
    /// and the headers are written as Envoy's matchers expect them. There is a path.
    Expected,
    /// Those that people send: names, hosts, paths and other texts look as usual.
    Usual,
}
