//! Medians and quartiles: a measurement that something else disturbed moves them little.

/// Where the middle half of some measurements lies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// A quarter is below.
    pub lower: f64,
    /// Half is below.
    pub median: f64,
    /// Three quarters are below.
    pub upper: f64,
}

impl Spread {
    /// Of these measurements, in any order; not a number if there are none.
    pub fn of(measurements: impl Iterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = measurements.collect();
        sorted.sort_by(f64::total_cmp);
        let value = |index: usize| sorted.get(index).or(sorted.last()).copied().unwrap_or(f64::NAN);
        // Between two measurements where a quartile falls between them.
        let at = |quarter: usize| {
            let position = sorted.len().saturating_sub(1) * quarter;
            let (below, above) = (value(position / 4), value(position.div_ceil(4)));
            let fraction = [0.0, 0.25, 0.5, 0.75].get(position % 4).copied().unwrap_or(0.0);
            (above - below).mul_add(fraction, below)
        };
        Self { lower: at(1), median: at(2), upper: at(3) }
    }
}
