//! Medians and quartiles. If something else disturbs a measurement, they change little.

/// The range of the middle half of some measurements.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// A quarter of the measurements are below.
    pub lower: f64,
    /// Half of the measurements are below.
    pub median: f64,
    /// Three quarters of the measurements are below.
    pub upper: f64,
}

impl Spread {
    /// The spread of these measurements, in any order. If there are none, all three values are NaN.
    pub fn of(measurements: impl Iterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = measurements.collect();
        sorted.sort_by(f64::total_cmp);
        let value = |index: usize| sorted.get(index).or(sorted.last()).copied().unwrap_or(f64::NAN);
        // If a quartile falls between two measurements, the value is between these two.
        let at = |quarter: usize| {
            let position = sorted.len().saturating_sub(1) * quarter;
            let (below, above) = (value(position / 4), value(position.div_ceil(4)));
            let fraction = [0.0, 0.25, 0.5, 0.75].get(position % 4).copied().unwrap_or(0.0);
            (above - below).mul_add(fraction, below)
        };
        Self { lower: at(1), median: at(2), upper: at(3) }
    }
}
