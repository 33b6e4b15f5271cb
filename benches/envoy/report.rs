//! The results, as a table for people and as JSON for programs. Both compare the budget with what was measured.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::beside::Waited;
use crate::contestant::Contestant;
use crate::machine::Machine;
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
}

/// One line of the budget: a ratio, what it should be, and what it is. If the ratio was not measured, `is` is `None`.
pub struct Budget {
    what: String,
    should_be: &'static str,
    is: Option<f64>,
}

impl Outcome {
    /// The result of a contestant with this many rules.
    fn find(&self, contestant: Contestant, rules: usize) -> Option<&Measured> {
        self.results.iter().find(|result| result.contestant == contestant && result.rules == rules)
    }
}

impl Report {
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
            format_args!(
                "Realistic mix. CPU microseconds a request: all of it, and what the filter adds (median, middle half)\n\n"
            ),
        );
        table(&mut text, results, |_| "");
        push(&mut text, format_args!("\n{:60}{:>16}{:>12}\n", "Budget", "should be", "is"));
        for Budget { what, should_be, is } in self.budget() {
            let is = is.map_or("not measured".to_owned(), |is| format!("{is:.2}"));
            push(&mut text, format_args!("{what:60}{should_be:>16}{is:>12}\n"));
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

    /// The budget, line by line.
    fn budget(&self) -> Vec<Budget> {
        let mix = |costs: &Costs<Spread>| costs.mix.median;
        let total = |contestant, rules| self.comparison.find(contestant, rules).map(|result| mix(&result.total));
        let added = |contestant, rules| self.comparison.find(contestant, rules).map(|result| mix(&result.added));
        let ratio = |a: Option<f64>, b: Option<f64>| Some(a? / b?);
        let (ours, native) = (Contestant::Ours, Contestant::Native);
        let line = |what: String, should_be, is| Budget { what, should_be, is };
        let mut budget = vec![
            line(
                "1. flat: 10,000 rules against 1, the whole request".to_owned(),
                "<= 1.15",
                ratio(total(ours, 10_000), total(ours, 1)),
            ),
            line("   the same, what the filter adds".to_owned(), "", ratio(added(ours, 10_000), added(ours, 1))),
        ];
        for (rules, should_be) in [(100, "> 1"), (1_000, ">= 10"), (10_000, ">= 500")] {
            budget.push(line(
                format!("2. native RBAC against mesh-authz, {rules} rules, what it adds"),
                should_be,
                ratio(added(native, rules), added(ours, rules)),
            ));
        }
        budget.push(line(
            "3. near the floor: mesh-authz, 1 rule, against a no-op".to_owned(),
            "<= 1.6",
            ratio(added(ours, 1), added(Contestant::NoOp, 1)),
        ));
        budget
    }

    /// The report as JSON, for programs.
    pub fn json(&self) -> Value {
        let budget: Vec<_> = self
            .budget()
            .into_iter()
            .map(|Budget { what, should_be, is }| json!({ "what": what.trim(), "shouldBe": should_be, "is": is }))
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
