//! The results, as a table for people and as JSON for programs. Both compare the budget with what was measured.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::WORST_RULES;
use crate::beside::Waited;
use crate::contestant::Contestant;
use crate::loading::Loaded;
use crate::machine::Machine;
use crate::own::OWN;
use crate::rounds::{Costs, Measured, Outcome};
use crate::statistics::Spread;

/// Everything that was measured.
pub struct Report {
    /// The machine and the versions.
    pub machine: Machine,
    /// The results of the realistic mix.
    pub comparison: Outcome,
    /// The results of the adversarial sets. Empty if these were left out.
    pub adversarial: Outcome,
    /// The results of the worst requests. Empty if these were left out.
    pub worst: Outcome,
    /// How long ordinary requests took beside the worst ones. Empty if these were left out.
    pub beside: Vec<Waited>,
    /// What loading takes. `None` if it was not measured.
    pub loaded: Option<Loaded>,
    /// The size of the filter's module.
    pub module_bytes: u32,
}

/// One line of the budget: what it should be, and what it is. If it was not measured, `is` is `None`.
pub struct Budget {
    what: String,
    goal: Goal,
    is: Option<f64>,
}

/// What a number of the budget should be.
#[derive(Clone, Copy)]
enum Goal {
    AtMost(f64),
    AtLeast(f64),
}

impl Goal {
    fn is_met_by(self, value: f64) -> bool {
        match self {
            Self::AtMost(most) => value <= most,
            Self::AtLeast(least) => value >= least,
        }
    }
}

impl std::fmt::Display for Goal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtMost(most) => f.pad(&format!("<= {most}")),
            Self::AtLeast(least) => f.pad(&format!(">= {least}")),
        }
    }
}

impl Budget {
    fn new(what: &str, goal: Goal, is: Option<f64>) -> Self {
        Self { what: what.to_owned(), goal, is }
    }

    fn holds(&self) -> Option<bool> {
        Some(self.goal.is_met_by(self.is?))
    }
}

impl Outcome {
    /// The result of a contestant with this many rules.
    fn find(&self, contestant: Contestant, rules: usize) -> Option<&Measured> {
        self.results.iter().find(|result| result.contestant == contestant && result.rules == rules)
    }
}

impl Report {
    /// A report of this machine, without results.
    pub fn empty() -> anyhow::Result<Self> {
        Ok(Self {
            machine: Machine::describe()?,
            comparison: Outcome::default(),
            adversarial: Outcome::default(),
            worst: Outcome::default(),
            beside: Vec::new(),
            loaded: None,
            module_bytes: crate::station::filter()?.len().try_into()?,
        })
    }

    /// The report as text, for the terminal.
    pub fn text(&self) -> String {
        let mut text = format!("\n{}", self.machine.text());
        let Outcome { results, rounds, requests } = &self.comparison;
        push(
            &mut text,
            format_args!("{rounds} rounds; {requests} requests, all of them answered as their policies say\n\n"),
        );
        push(
            &mut text,
            format_args!("CPU microseconds a request: all of it, and what the filter adds (median, middle half)\n\n"),
        );
        table(&mut text, results, |_| "");
        if let Some(helpers) = self.helpers() {
            push(&mut text, format_args!("\nset_filter_state before mesh-authz adds {helpers:.1} more\n"));
        }
        // The budget is about the benchmark's own policies.
        let is_own = self.comparison.results.iter().any(|result| result.set == OWN);
        if !is_own {
            push(&mut text, format_args!("\n{:72}{:>10}{:>14}\n", "Budget, with set_filter_state", "goal", "is"));
        }
        for budget in self.budget().into_iter().filter(|_| !is_own) {
            let holds = match budget.holds() {
                Some(true) => "holds",
                Some(false) => "does not hold",
                None => "",
            };
            let Budget { what, goal, is } = budget;
            let is = is.map_or("not measured".to_owned(), |is| format!("{is:.2}"));
            push(&mut text, format_args!("{what:72}{goal:>10}{is:>14}  {holds}\n"));
        }
        let Outcome { results, rounds, requests } = &self.adversarial;
        if !results.is_empty() {
            push(&mut text, format_args!("\nAdversarial sets: {rounds} rounds; {requests} requests\n\n"));
            table(&mut text, results, |result| result.set);
        }
        let Outcome { results, rounds, requests } = &self.worst;
        if !results.is_empty() {
            push(&mut text, format_args!("\nThe worst requests: {rounds} rounds; {requests} requests\n\n"));
            table(&mut text, results, |result| result.set);
            push(
                &mut text,
                format_args!(
                    "\nMicroseconds that an ordinary request takes, alone and beside ten of them a second\n\n"
                ),
            );
            for Waited { set, alone, beside } in &self.beside {
                let [alone, beside] = [alone, beside].map(|Spread { lower, median, upper }| {
                    let half = format!("[{}, {}]", number(*lower), number(*upper));
                    format!("{:>8} {half:>19}", number(*median))
                });
                push(&mut text, format_args!("{set:28}{alone}{beside}\n"));
            }
        }
        text.push('\n');
        text
    }

    /// What the filters cost that stand before this project's filter.
    pub fn helpers(&self) -> Option<f64> {
        let bare = self.comparison.results.iter().find(|result| result.contestant == Contestant::Bare);
        bare.map(|without| -without.added.mix.median)
    }

    /// The budget, line by line.
    fn budget(&self) -> Vec<Budget> {
        use Goal::{AtLeast, AtMost};
        let mix = |costs: &Costs<Spread>| costs.mix.median;
        let total = |contestant, rules| self.comparison.find(contestant, rules).map(|result| mix(&result.total));
        let added = |contestant, rules| self.comparison.find(contestant, rules).map(|result| mix(&result.added));
        let ours = |rules| Some(added(Contestant::Ours, rules)? + self.helpers()?);
        let ratio = |a: Option<f64>, b: Option<f64>| Some(a? / b?);
        let grows = |contestant| ratio(total(contestant, 10_000), total(contestant, 1));
        let most = |outcome: &Outcome, rules| {
            let of_ours = |result: &&Measured| {
                matches!(result.contestant, Contestant::Ours | Contestant::Logging) && result.rules == rules
            };
            let added = outcome.results.iter().filter(of_ours).flat_map(|Measured { added, .. }| {
                // A set may have no requests of one kind.
                [added.allowed.median, added.denied.median, added.mix.median]
                    .into_iter()
                    .filter(|cost| cost.is_finite())
            });
            added.reduce(f64::max)
        };
        let mut budget = vec![
            Budget::new("1. one rule, against a no-op", AtMost(2.5), ratio(ours(1), added(Contestant::NoOp, 1))),
            Budget::new(
                "2. whole request, 10,000 rules against 1, divided by the no-op's own",
                AtMost(1.05),
                ratio(grows(Contestant::Ours), grows(Contestant::NoOp)),
            ),
        ];
        for (rules, least) in [(100, 1.0), (1_000, 8.0), (10_000, 400.0)] {
            let what = format!("3. native RBAC against mesh-authz, {rules} rules");
            budget.push(Budget::new(&what, AtLeast(least), ratio(added(Contestant::Native, rules), ours(rules))));
        }
        let loaded = self.loaded.as_ref();
        let updates = loaded.map_or(0, |loaded| loaded.updates);
        budget.extend([
            Budget::new(
                "5. loading 10,000 policies, ms of CPU time in a VM",
                AtMost(150.0),
                loaded.map(|loaded| loaded.milliseconds.median),
            ),
            Budget::new(
                "5. memory of a VM with 10,000 policies, MiB",
                AtMost(25.0),
                loaded.map(|loaded| loaded.mebibytes),
            ),
            Budget::new(
                &format!("5. memory after {updates} updates of 1,000 policies, MiB more than after 20"),
                AtMost(10.0),
                loaded.map(|loaded| loaded.growth),
            ),
            Budget::new(
                "6. the worst adversarial set, 10,000 rules, µs",
                AtMost(30.0),
                most(&self.adversarial, 10_000),
            ),
            Budget::new("7. the worst request, µs", AtMost(1_000.0), most(&self.worst, WORST_RULES)),
            Budget::new("8. the module, KiB", AtMost(400.0), Some(f64::from(self.module_bytes) / 1024.0)),
        ]);
        budget
    }

    /// The report as JSON, for programs.
    pub fn json(&self) -> Value {
        let budget: Vec<_> = self
            .budget()
            .into_iter()
            .map(|budget| {
                let holds = budget.holds();
                let Budget { what, goal, is } = budget;
                json!({ "what": what, "goal": goal.to_string(), "is": is, "holds": holds })
            })
            .collect();
        json!({
            "machine": self.machine.json(),
            "unit": "CPU microseconds a request",
            "comparison": outcome(&self.comparison),
            "adversarial": outcome(&self.adversarial),
            "worst": outcome(&self.worst),
            "beside": self.beside.iter().map(waited).collect::<Vec<_>>(),
            "budget": budget,
        })
    }
}

fn table(text: &mut String, results: &[Measured], set: impl Fn(&Measured) -> &'static str) {
    let width = results.iter().map(|result| set(result).len()).max().unwrap_or_default();
    let line = |text: &mut String, [set, rules, filter, total, allowed, denied, mix]: [&str; 7]| {
        push(text, format_args!("{set:width$} {rules:>6}  {filter:20}{total:>10}{allowed:>28}{denied:>28}{mix:>28}\n"));
    };
    line(text, ["", "rules", "filter", "total", "adds: allowed", "denied", "both"]);
    for result in results {
        let Measured { rules, contestant, total, added, .. } = result;
        let [allowed, denied, mix] = [added.allowed, added.denied, added.mix].map(|spread| {
            let Spread { lower, median, upper } = spread;
            let half = format!("[{}, {}]", number(lower), number(upper));
            format!("{:>8} {half:>19}", number(median))
        });
        let (rules, filter, total) = (rules.to_string(), contestant.to_string(), number(total.mix.median));
        line(text, [set(result), &rules, &filter, &total, &allowed, &denied, &mix]);
    }
}

/// Writes a number of microseconds. It has tenths only below 1000, where they mean something.
fn number(microseconds: f64) -> String {
    if microseconds.abs() < 1000.0 { format!("{microseconds:.1}") } else { format!("{microseconds:.0}") }
}

fn push(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    let _infallible = text.write_fmt(arguments);
}

fn waited(Waited { set, alone, beside }: &Waited) -> Value {
    json!({ "set": set, "unit": "microseconds", "alone": spread(*alone), "beside": spread(*beside) })
}

fn spread(Spread { lower, median, upper }: Spread) -> Value {
    json!({ "lower": lower, "median": median, "upper": upper })
}

fn outcome(Outcome { results, rounds, requests }: &Outcome) -> Value {
    let costs = |costs: &Costs<Spread>| {
        let Costs { allowed, denied, mix } = *costs;
        json!({ "allowed": spread(allowed), "denied": spread(denied), "both": spread(mix) })
    };
    let results: Vec<_> = results
        .iter()
        .map(|Measured { set, rules, contestant, batch, total, baseline, added }| {
            json!({
                "set": set, "rules": rules, "filter": contestant.to_string(), "batch": batch,
                "total": costs(total), "baseline": costs(baseline), "added": costs(added),
            })
        })
        .collect();
    json!({ "rounds": rounds, "requests": requests, "results": results })
}
