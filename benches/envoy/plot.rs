//! The plot: how much CPU time a filter adds to a request, by the number of rules.
//!
//! Both axes are logarithmic. The plot is shown on light and on dark pages. So it has its own background, and it
//! changes its colours with the reader's preference.

use std::fmt::{Arguments, Write as _};

use crate::contestant::Contestant;
use crate::report::Report;
use crate::rounds::Measured;

const WIDTH: f64 = 800.0;
const HEIGHT: f64 = 520.0;
const LEFT: f64 = 84.0;
const RIGHT: f64 = 152.0;
const TOP: f64 = 104.0;
const BOTTOM: f64 = 62.0;

/// Colour-blind readers can tell the colours apart too, and the lines have labels.
const STYLE: &str = "
    text { font: 13px system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif; fill: #1f2328 }
    .title { font-size: 17px; font-weight: 600 }
    .muted { fill: #59636e }
    .card { fill: #ffffff; stroke: #d1d9e0 }
    .decade { stroke: #d1d9e0 }
    .minor { stroke: #eff2f5 }
    .line { fill: none; stroke-width: 2.5; stroke-linejoin: round }
    .floor .line { stroke-dasharray: 6 5; stroke-width: 2 }
    .spread { stroke-width: 1.5 }
    .label { font-weight: 600 }
    .ours .line, .ours .spread { stroke: #0969da }
    .ours .point, .ours .label { fill: #0969da }
    .native .line, .native .spread { stroke: #bc4c00 }
    .native .point, .native .label { fill: #bc4c00 }
    .floor .line { stroke: #6e7781 }
    .floor .label { fill: #6e7781 }
    @media (prefers-color-scheme: dark) {
      text { fill: #f0f6fc }
      .muted { fill: #9198a1 }
      .card { fill: #0d1117; stroke: #3d444d }
      .decade { stroke: #3d444d }
      .minor { stroke: #1f252d }
      .ours .line, .ours .spread { stroke: #4493f8 }
      .ours .point, .ours .label { fill: #4493f8 }
      .native .line, .native .spread { stroke: #f0883e }
      .native .point, .native .label { fill: #f0883e }
      .floor .line { stroke: #9198a1 }
      .floor .label { fill: #9198a1 }
    }
";

/// The plot of a report, as an SVG file.
pub fn svg(report: &Report) -> String {
    let of = |contestant| report.comparison.results.iter().filter(move |result| result.contestant == contestant);
    let (native, ours): (Vec<_>, Vec<_>) = (of(Contestant::Native).collect(), of(Contestant::Ours).collect());
    let floor = of(Contestant::NoOp).next();
    // Only mesh-authz needs the filters before it.
    let helpers = report.helpers().unwrap_or_default();
    let shown = || native.iter().chain(&ours).copied().chain(floor);
    let decades = |values: &mut dyn Iterator<Item = f64>| {
        let (least, most) = values.fold((f64::INFINITY, 1.0_f64), |(least, most), v| (least.min(v), most.max(v)));
        let first = least.clamp(1.0, most).log10().floor();
        (first, most.log10().ceil().max(first + 1.0))
    };
    let mut plot = Plot {
        svg: String::new(),
        x: decades(&mut shown().map(rules)),
        y: decades(&mut shown().map(|result| result.added.mix.median)),
    };
    plot.frame(&report.machine.caption(), report.comparison.rounds);
    plot.grid();
    plot.series("native", "native RBAC", &native, 0.0);
    plot.series("ours", "mesh-authz", &ours, helpers);
    plot.floor(floor, ours.last().copied());
    plot.svg.push_str("</svg>\n");
    plot.svg
}

fn rules(result: &Measured) -> f64 {
    f64::from(u32::try_from(result.rules).unwrap_or(u32::MAX))
}

struct Plot {
    svg: String,
    /// The first and the last decade of the axis, as exponents of ten.
    x: (f64, f64),
    y: (f64, f64),
}

impl Plot {
    fn put(&mut self, element: Arguments<'_>) {
        let _infallible = writeln!(self.svg, "{element}");
    }

    fn x(&self, rules: f64) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * position(rules, self.x)
    }

    fn y(&self, microseconds: f64) -> f64 {
        HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * position(microseconds, self.y)
    }

    fn frame(&mut self, machine: &str, rounds: u32) {
        self.put(format_args!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img">"#
        ));
        self.put(format_args!("<title>CPU time added to a request, by the number of rules</title>"));
        self.put(format_args!("<style>{STYLE}</style>"));
        let (width, height) = (WIDTH - 1.0, HEIGHT - 1.0);
        self.put(format_args!(r#"<rect class="card" x="0.5" y="0.5" width="{width}" height="{height}" rx="8"/>"#));
        self.put(format_args!(
            r#"<text class="title" x="24" y="36">CPU time added to a request, by the number of rules</text>"#
        ));
        let machine = machine.replace('&', "&amp;").replace('<', "&lt;");
        self.put(format_args!(r#"<text class="muted" x="24" y="58">{machine}</text>"#));
        self.put(format_args!(
            r#"<text class="muted" x="24" y="77">Half of the requests allowed, half denied; medians of {rounds} rounds, bars: the middle half; with set_filter_state</text>"#
        ));
        let (middle_x, middle_y) = (f64::midpoint(LEFT, WIDTH - RIGHT), f64::midpoint(TOP, HEIGHT - BOTTOM));
        let bottom = HEIGHT - 20.0;
        self.put(format_args!(r#"<text x="{middle_x}" y="{bottom}" text-anchor="middle">rules</text>"#));
        self.put(format_args!(
            r#"<text transform="translate(26 {middle_y}) rotate(-90)" text-anchor="middle">added CPU time a request (µs)</text>"#
        ));
    }

    fn grid(&mut self) {
        let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
        for (is_decade, rules) in steps(self.x) {
            let x = self.x(rules);
            if is_decade {
                let (label, below) = (thousands(rules), bottom + 20.0);
                self.put(format_args!(r#"<line class="decade" x1="{x:.1}" y1="{TOP}" x2="{x:.1}" y2="{bottom}"/>"#));
                self.put(format_args!(
                    r#"<text class="muted" x="{x:.1}" y="{below}" text-anchor="middle">{label}</text>"#
                ));
            }
        }
        for (is_decade, microseconds) in steps(self.y) {
            let (y, class) = (self.y(microseconds), if is_decade { "decade" } else { "minor" });
            self.put(format_args!(r#"<line class="{class}" x1="{LEFT}" y1="{y:.1}" x2="{right}" y2="{y:.1}"/>"#));
            if is_decade {
                let (label, before, middle) = (thousands(microseconds), LEFT - 10.0, y + 4.5);
                self.put(format_args!(
                    r#"<text class="muted" x="{before}" y="{middle:.1}" text-anchor="end">{label}</text>"#
                ));
            }
        }
    }

    /// Draws the line of the filter that does nothing. It costs the same with any number of rules. Its label keeps away
    /// from the label of the line above.
    fn floor(&mut self, result: Option<&Measured>, above: Option<&Measured>) {
        let Some(result) = result else { return };
        let (y, right, label) = (self.y(result.added.mix.median), WIDTH - RIGHT, WIDTH - RIGHT + 12.0);
        let above = above.map_or(0.0, |above| self.y(above.added.mix.median));
        let middle = y.max(above + 18.0) + 4.5;
        self.put(format_args!(r#"<g class="floor">"#));
        self.put(format_args!(r#"<path class="line" d="M{LEFT} {y:.1}H{right}"/>"#));
        self.put(format_args!(r#"<text class="label" x="{label}" y="{middle:.1}">no-op Wasm</text></g>"#));
    }

    /// Draws a line through the medians. At each median, a bar shows the middle half of the measurements. `more`: what is
    /// added to each of them.
    fn series(&mut self, class: &str, name: &str, results: &[&Measured], more: f64) {
        self.put(format_args!(r#"<g class="{class}">"#));
        let mut path = String::new();
        for result in results {
            let (x, y) = (self.x(rules(result)), self.y(result.added.mix.median + more));
            let _infallible = write!(path, "{}{x:.1} {y:.1}", if path.is_empty() { 'M' } else { 'L' });
            let (lower, upper) = (self.y(result.added.mix.lower + more), self.y(result.added.mix.upper + more));
            self.put(format_args!(r#"<line class="spread" x1="{x:.1}" y1="{lower:.1}" x2="{x:.1}" y2="{upper:.1}"/>"#));
            self.put(format_args!(r#"<circle class="point" cx="{x:.1}" cy="{y:.1}" r="4"/>"#));
        }
        self.put(format_args!(r#"<path class="line" d="{path}"/>"#));
        if let Some(last) = results.last() {
            let (x, y) = (WIDTH - RIGHT + 12.0, self.y(last.added.mix.median + more) + 4.5);
            self.put(format_args!(r#"<text class="label" x="{x}" y="{y:.1}">{name}</text>"#));
        }
        self.put(format_args!("</g>"));
    }
}

/// The position of a value between the first decade and the last.
fn position(value: f64, (first, last): (f64, f64)) -> f64 {
    (value.log10().max(first) - first) / (last - first)
}

/// The multiples of each power of ten. The boolean says whether it is the power itself.
fn steps((first, last): (f64, f64)) -> impl Iterator<Item = (bool, f64)> {
    let decades = std::iter::successors(Some(first), |exponent| Some(exponent + 1.0));
    decades.take_while(move |exponent| *exponent <= last).flat_map(move |exponent| {
        let multiples = if exponent < last { 1..=9 } else { 1..=1 };
        multiples.map(move |multiple| (multiple == 1, f64::from(multiple) * 10_f64.powf(exponent)))
    })
}

/// Writes `10000` as `10,000`.
fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
