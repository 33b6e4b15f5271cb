//! A rate limiter, so that a flood of refused requests cannot become a flood of work.

use std::cell::Cell;

const SECOND: u64 = 1_000_000_000;

/// Admits one event per interval. After a quiet time, it admits the events of one second at once.
///
/// It remembers one point in time: when the events admitted so far would be over if they came at even intervals.
#[derive(Debug)]
pub struct Limiter {
    /// Nanoseconds from one event to the next.
    interval: u64,
    next: Cell<u64>,
}

impl Limiter {
    /// Admits `rate` events per second, but at least one.
    #[must_use]
    pub fn per_second(rate: u32) -> Self {
        Self::every(SECOND.checked_div(rate.into()).unwrap_or(SECOND))
    }

    /// Admits one event per `interval` nanoseconds.
    #[must_use]
    pub fn every(interval: u64) -> Self {
        Self { interval, next: Cell::new(0) }
    }

    /// Whether one more event is admitted at the time `now`, in nanoseconds.
    pub fn admits(&self, now: u64) -> bool {
        let mut ahead = self.next.get().saturating_sub(now);
        // The limiter is never that far ahead of the clock, so the clock has been set back.
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

/// Limits the share of a worker's time that some kind of work takes. Each piece of work pays for itself with a pause,
/// which is as long as the work has taken, times a factor. After a quiet time, the pauses of one second are paid in
/// advance.
#[derive(Debug, Default)]
pub struct TimeShare {
    /// When all work so far is paid for.
    paid: Cell<u64>,
}

/// Work may take a hundredth of the time.
const PAUSE: u64 = 100;

impl TimeShare {
    /// Whether work may begin at the time `now`, in nanoseconds.
    pub fn admits(&self, now: u64) -> bool {
        let ahead = self.paid.get().saturating_sub(now);
        // No work takes so long that it is not paid for within this time, so the clock has been set back.
        ahead < SECOND || ahead > SECOND.saturating_mul(PAUSE)
    }

    /// Counts work that has begun and ended at these times.
    pub fn charge(&self, begin: u64, end: u64) {
        let paid = self.paid.get();
        let from = if paid.saturating_sub(begin) > SECOND.saturating_mul(PAUSE) { begin } else { paid.max(begin) };
        let pause = end.saturating_sub(begin).saturating_mul(PAUSE).min(SECOND.saturating_mul(PAUSE / 2));
        self.paid.set(from.saturating_add(pause));
    }
}
