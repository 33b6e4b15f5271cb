//! So many a second, and no more: what keeps a flood of refused requests from becoming a flood of work.

use std::cell::Cell;

const SECOND: u64 = 1_000_000_000;

/// Lets one through every so often, and what has been saved up in a second at once.
///
/// It remembers one point in time, the one at which all that was let through so far would have come through evenly.
#[derive(Debug)]
pub struct Limiter {
    /// Nanoseconds from one to the next.
    interval: u64,
    next: Cell<u64>,
}

impl Limiter {
    /// So many a second, at least one.
    #[must_use]
    pub fn per_second(rate: u32) -> Self {
        Self::every(SECOND.checked_div(rate.into()).unwrap_or(SECOND))
    }

    /// One in so many nanoseconds.
    #[must_use]
    pub fn every(interval: u64) -> Self {
        Self { interval, next: Cell::new(0) }
    }

    /// Whether one more comes through at this time, in nanoseconds.
    pub fn admits(&self, now: u64) -> bool {
        let mut ahead = self.next.get().saturating_sub(now);
        // It never is that far ahead: the clock has been set back.
        if ahead > self.interval.max(SECOND) {
            ahead = 0;
        }
        if ahead > SECOND.saturating_sub(self.interval) {
            return false;
        }
        self.next.set(now.saturating_add(ahead).saturating_add(self.interval));
        true
    }
}
