//! Measures what a request costs: with no filter, with a Wasm filter that does nothing, with Envoy's own RBAC filter
//! and with this project's filter, side by side in one Envoy.
//!
//! `make bench` runs it, and docs/performance.md says how it measures. It reports numbers and does not judge them. But
//! every request must be answered as its policies say: a wrong answer ends the run with an error.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`contestant`] | says which filters a listener has |
//! | [`mix`], [`own`] | say which requests a listener gets |
//! | [`station`] | starts Envoy and keeps the connections |
//! | [`rounds`] | measures the CPU time of requests |
//! | [`beside`] | measures how long ordinary requests wait beside the worst ones |
//! | [`loading`] | measures what it takes to load many policies |
//! | [`report`], [`plot`] | show the results |

#[path = "../mix/mod.rs"]
mod mix;

mod beside;
mod contestant;
mod lanes;
mod loading;
mod machine;
mod own;
mod plot;
mod report;
mod rounds;
mod station;
mod statistics;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use testbed::Issuer;

use self::contestant::{Case, Claims, Contestant, backend};
use self::lanes::Connections;
use self::own::Own;
use self::report::Report;
use self::station::Rig;

/// What to measure, and for how long.
struct Plan {
    rules: &'static [usize],
    comparison: Duration,
    /// The numbers of rules of the adversarial sets. If the list is empty, these sets are left out, and so are the
    /// worst requests.
    adversarial_rules: &'static [usize],
    adversarial: Duration,
    worst: Duration,
    beside: Duration,
    /// How often 10,000 policies are loaded.
    loads: u32,
    /// The number of updates after which memory should not have grown.
    updates: u32,
}

/// The number of rules that the worst requests meet.
const WORST_RULES: usize = 2_000;

impl Plan {
    /// Reads the plan from the environment. `QUICK=1` leaves out every second number of rules and the adversarial sets.
    /// `ADVERSARIAL=1` brings these sets back.
    fn from_environment() -> Self {
        let is_set = |name| env::var(name).is_ok_and(|value| !matches!(value.as_str(), "" | "0"));
        let (quick, adversarial) = (is_set("QUICK"), is_set("ADVERSARIAL"));
        let mut plan = Self {
            rules: &[1, 10, 100, 1_000, 10_000],
            comparison: Duration::from_secs(240),
            adversarial_rules: &[1_000, 10_000],
            adversarial: Duration::from_secs(90),
            worst: Duration::from_secs(60),
            beside: Duration::from_secs(2),
            loads: 9,
            updates: 1_000,
        };
        if quick {
            plan.rules = &[1, 100, 10_000];
            plan.comparison = Duration::from_secs(45);
            plan.adversarial = Duration::from_secs(30);
            plan.worst = Duration::from_secs(20);
            plan.beside = Duration::from_secs(1);
            plan.loads = 3;
            plan.updates = 40;
        }
        if quick && !adversarial {
            plan.adversarial_rules = &[];
        }
        plan
    }

    fn comparison_cases(&self) -> Vec<Case> {
        let mut cases = Vec::new();
        for &rules in self.rules {
            let case =
                |contestant| Case { set: mix::realistic::realistic(rules), rules, contestant, settings: backend() };
            if rules == 1 {
                cases.extend([Contestant::NoFilter, Contestant::Bare].map(case));
            }
            // The requests differ: with more rules, they have more headers.
            if matches!(rules, 1 | 10_000) {
                cases.push(case(Contestant::NoOp));
            }
            cases.extend([Contestant::Native, Contestant::Ours, Contestant::Both, Contestant::DecidesHttp].map(case));
            if rules == 100 {
                cases.push(case(Contestant::Logging));
            }
        }
        cases
    }

    /// The cases, sorted by set. Within a set, cases to compare are next to each other.
    fn adversarial_cases(&self) -> Vec<Case> {
        let mut cases = Vec::new();
        for &rules in self.adversarial_rules {
            for contestant in [Contestant::Native, Contestant::Ours] {
                let sets = mix::adversarial::adversarial(rules).into_iter();
                cases.extend(sets.map(|set| Case { set, rules, contestant, settings: backend() }));
            }
        }
        cases.sort_by_key(|case| case.set.name);
        cases
    }

    fn worst_cases(&self) -> Vec<Case> {
        if self.adversarial_rules.is_empty() {
            return Vec::new();
        }
        let case = |set| Case { set, rules: WORST_RULES, contestant: Contestant::Logging, settings: backend() };
        mix::worst::worst(WORST_RULES).into_iter().map(case).collect()
    }
}

/// Measures the user's own policies.
fn measure_own(folder: &Path, plan: &Plan) -> Result<()> {
    let contestants = [
        Contestant::NoFilter,
        Contestant::Bare,
        Contestant::NoOp,
        Contestant::Native,
        Contestant::Ours,
        Contestant::Logging,
    ];
    let Own { set, rules, settings } = Own::read(folder)?;
    let case = |contestant| Case { set: set.clone(), rules, contestant, settings: settings.clone() };
    let cases: Vec<_> = contestants.map(case).into();
    let rig = Rig::start(&cases, Connections::FEW, Claims::Header)?;
    let comparison = rounds::measure(rig, cases, plan.comparison / 4)?;
    print!("{}", Report { comparison, ..Report::empty()? }.text());
    Ok(())
}

fn main() -> Result<()> {
    let plan = Plan::from_environment();
    if let Some(folder) = env::var_os("POLICIES").filter(|folder| !folder.is_empty()) {
        return measure_own(&from_checkout(Path::new(&folder)), &plan);
    }
    let measure = |cases: Vec<Case>, connections, claims, time| {
        if cases.is_empty() {
            return Ok(rounds::Outcome::default());
        }
        let rig = Rig::start(&cases, connections, claims)?;
        rounds::measure(rig, cases, time)
    };
    let adversarial = if plan.adversarial_rules.is_empty() {
        Duration::ZERO
    } else {
        plan.adversarial + plan.worst + plan.beside * 3 * u32::try_from(plan.worst_cases().len())?
    };
    eprintln!("measuring for about {} s", (plan.comparison + adversarial).as_secs());
    let report = Report {
        comparison: measure(plan.comparison_cases(), Connections::MANY, Claims::Header, plan.comparison)?,
        adversarial: measure(plan.adversarial_cases(), Connections::FEW, Claims::Header, plan.adversarial)?,
        worst: measure(plan.worst_cases(), Connections::FEW, Claims::Token(Box::new(Issuer::new()?)), plan.worst)?,
        beside: beside::measure(plan.worst_cases(), plan.beside)?,
        loaded: Some(loading::measure(plan.loads, plan.updates)?),
        ..Report::empty()?
    };
    print!("{}", report.text());

    let folder = target().join("bench");
    fs::create_dir_all(&folder)?;
    let save = |name: &str, content: String| {
        let path = folder.join(name);
        fs::write(&path, content).with_context(|| format!("writing {}", path.display()))?;
        println!("{}", path.display());
        anyhow::Ok(())
    };
    save("envoy.json", format!("{:#}\n", report.json()))?;
    save("envoy.svg", plot::svg(&report))
}

/// The folder where cargo builds. The results go there too.
fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("target"), PathBuf::from)
}

/// A path that the user has written, which is relative to the folder of the checkout: cargo runs a benchmark elsewhere.
fn from_checkout(path: &Path) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}
