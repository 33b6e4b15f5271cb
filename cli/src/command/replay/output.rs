//! The result of a replay, for people, for programs and for pull requests.

use std::fmt::Write as _;
use std::path::PathBuf;

use anstyle::{AnsiColor, Style};
use serde_json::{Map, Value, json};

use crate::access_log::format::{Lines, Tells};
use crate::access_log::happened::{DeniedBy, SENT, UNREADABLE};
use crate::command::diff::output::escaped;
use crate::command::explain::list;
use crate::command::log_options::{about_lines, first};
use crate::command::snippet::{self, printable};
use crate::explain::Actual;
use crate::logs::{Count, Source, lines, requests};
use crate::replay::tally::{After, Before, Group, Key, Kind, Tally};
use crate::replay::{Nearest, Replay, Why};

const BOLD: Style = Style::new().bold();

/// What is reported.
pub(super) struct Report<'r> {
    pub replay: &'r Replay<'r>,
    pub tally: &'r Tally,
    pub logs: &'r [PathBuf],
    pub source: &'r Source<'r>,
    /// Whether there is a second set of policies.
    pub has_two: bool,
    /// So many groups of each kind are shown.
    pub most: usize,
}

/// Whether access is gained or lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Gained,
    Lost,
}

impl Direction {
    /// That of a change. `None`: it is another kind of group.
    pub fn of(key: &Key) -> Option<Self> {
        match (&key.before, &key.after) {
            (Before::Allowed, After::Deny(_)) => Some(Self::Lost),
            (Before::Denied(_), After::Allow) => Some(Self::Gained),
            _ => None,
        }
    }
}

/// Groups of one kind, under a headline.
struct Section<'r> {
    name: &'static str,
    title: String,
    style: Style,
    groups: Vec<(&'r Key, &'r Group)>,
}

impl<'r> Report<'r> {
    /// Whether nothing is known of any request.
    pub fn is_nothing_replayed(&self) -> bool {
        self.replayed() == 0
    }

    /// Whether the workload sent all requests.
    pub fn is_all_sent(&self) -> bool {
        self.tally.lines.skipped.get(SENT).is_some_and(|count| count.lines == self.tally.lines.all)
    }

    fn replayed(&self) -> u64 {
        let Tally { allowed, denied, undecided, .. } = self.tally;
        allowed.saturating_add(*denied).saturating_add(*undecided)
    }

    /// Whether a request can be decided otherwise than before although no group says so.
    pub fn may_have_missed(&self) -> bool {
        let is_not_compared = !self.has_two && self.tally.recorded < self.replayed();
        // If the old policies are not those of the log, nobody knows what was in force.
        let is_of_others = self.has_two && !self.tally.groups(Kind::Disagreement).is_empty();
        !self.tally.needs.is_empty()
            || is_not_compared
            || is_of_others
            || self.is_nothing_replayed()
            || self.tally.not_asked_about.lines > 0
            || self.tally.lines.suppressed > 0
            || self.tally.lines.unread() > 0
            || self.tally.lines.skipped.contains_key(UNREADABLE)
    }

    fn sections(&self) -> Vec<Section<'r>> {
        let changes = |direction| -> Vec<_> {
            let all = self.tally.groups(Kind::Change).into_iter();
            all.filter(|(key, _)| Direction::of(key) == Some(direction)).collect()
        };
        let denied = |is_unknown: bool| -> Vec<_> {
            let all = self.tally.groups(Kind::Denied).into_iter();
            all.filter(|(key, _)| (key.before == Before::Unknown) == is_unknown).collect()
        };
        let red = AnsiColor::BrightRed.on_default().bold();
        let yellow = AnsiColor::Yellow.on_default().bold();
        let green = AnsiColor::Green.on_default().bold();
        let [were_denied, were_allowed] = if self.has_two {
            [
                "requests that were denied are allowed by the new policies",
                "requests that were allowed are denied by the new policies",
            ]
        } else {
            [
                "the log says that these requests were denied, and the policies allow them",
                "the log says that these requests were allowed, and the policies deny them",
            ]
        };
        let of_log =
            "the log says otherwise than the policies that were in force: they were others, or the lines are forged";
        let by_other = "the log names another reason for these denials than the policies give";
        let section = |name, title: &str, style, groups| Section { name, title: title.to_owned(), style, groups };
        vec![
            section(
                "DISAGREEMENT",
                if self.has_two { of_log } else { by_other },
                yellow,
                self.tally.groups(Kind::Disagreement),
            ),
            section("LOST", were_allowed, red, changes(Direction::Lost)),
            section("GAINED", were_denied, green, changes(Direction::Gained)),
            section("DENIED", "these requests were denied before, too", BOLD, denied(false)),
            section("DENIED", "the log does not say what became of these requests", red, denied(true)),
        ]
    }

    pub fn human(&self, out: &mut String) {
        for Section { name, title, style, groups } in
            self.sections().iter().filter(|section| !section.groups.is_empty())
        {
            let _infallible = writeln!(out, "{style}{name}{style:#}: {title}: {}", requests(total(groups)));
            for (key, group) in groups.iter().take(self.most) {
                let _infallible =
                    writeln!(out, "  {BOLD}{}{BOLD:#}  {}", printable(&self.subject(key)), requests(group.count.lines));
                let _infallible = writeln!(out, "    {}", printable(&self.when(group)));
                for line in self.reasons(key, group) {
                    let _infallible = writeln!(out, "    {}", printable(&line));
                }
            }
            if let Some(more @ 1..) = groups.len().checked_sub(self.most) {
                let _infallible = writeln!(out, "  and {more} more groups: `mesh-authz replay --all` shows them");
            }
            out.push('\n');
        }
        let needs = self.tally.needs.values().map(|group| group.count.lines);
        let undecided = needs.fold(self.tally.unchanged.lines, u64::saturating_add);
        if undecided > 0 {
            let _infallible =
                writeln!(out, "{BOLD}UNDECIDED{BOLD:#}: the lines do not say enough: {}", requests(undecided));
            for line in self.undecided() {
                let _infallible = writeln!(out, "  {}", printable(&line));
            }
            out.push('\n');
        }
        let notes = self.notes();
        for line in &notes {
            let _infallible = writeln!(out, "{}", printable(line));
        }
        let _infallible = writeln!(out, "{BOLD}{}{BOLD:#}", self.summary());
    }

    pub fn markdown(&self, out: &mut String) {
        let _infallible = writeln!(out, "### Replay: {}\n", self.summary());
        for Section { name, title, groups, .. } in self.sections().iter().filter(|section| !section.groups.is_empty()) {
            let _infallible = writeln!(out, "**{name}**: {}: {}\n", escaped(title), requests(total(groups)));
            let _infallible = writeln!(out, "| requests | from | count | why |\n| --- | --- | --- | --- |");
            for (key, group) in groups.iter().take(self.most) {
                let (what, peer) = (self.what(key), peer(key));
                let reasons = self.reasons(key, group).join("; ");
                let cells = [what.as_str(), &peer, &group.count.lines.to_string(), &reasons].map(escaped);
                let _infallible = writeln!(out, "| {} |", cells.join(" | "));
            }
            if let Some(more @ 1..) = groups.len().checked_sub(self.most) {
                let _infallible = writeln!(out, "\nand {more} more groups");
            }
            out.push('\n');
        }
        for line in self.undecided().into_iter().chain(self.notes()) {
            let _infallible = writeln!(out, "- {}", escaped(&line));
        }
    }

    pub fn json(&self) -> Value {
        let mut report = Map::new();
        for section in self.sections() {
            let groups = section.groups.iter().map(|(key, group)| self.group_as_json(key, group));
            let name = name_in_json(section.name).to_owned();
            if let Value::Array(all) = report.entry(name).or_insert_with(|| json!([])) {
                all.extend(groups);
            }
        }
        let Tally { lines: all, allowed, denied, undecided, recorded, .. } = self.tally;
        report.insert("lines".to_owned(), json!(all.all));
        report.insert("decisions".to_owned(), json!({ "allow": allowed, "deny": denied, "undecided": undecided }));
        report.insert("inferredPeers".to_owned(), json!(self.tally.inferred));
        report.insert("recorded".to_owned(), json!(recorded));
        report.insert("notLogged".to_owned(), json!(all.suppressed));
        let needs = self.tally.needs.iter().map(|(names, group)| {
            let advice: Vec<_> = names.iter().map(|name| self.advice(name)).collect();
            json!({ "needs": names, "count": group.count.lines, "first": self.place(&group.count), "advice": advice })
        });
        report.insert("needs".to_owned(), needs.collect());
        let skipped = self.tally.lines.skipped.iter();
        let skipped =
            skipped.map(|(why, count)| json!({ "reason": why, "count": count.lines, "first": self.place(count) }));
        report.insert("notReplayed".to_owned(), skipped.collect());
        for (name, count) in [
            ("ambiguous", &self.tally.lines.ambiguous),
            ("withoutDirection", &self.tally.lines.without_direction),
            ("notAskedAbout", &self.tally.not_asked_about),
        ] {
            report.insert(name.to_owned(), json!({ "count": count.lines, "first": self.place(count) }));
        }
        report.insert("formats".to_owned(), self.source.formats().iter().map(ToString::to_string).collect());
        report.into()
    }

    fn group_as_json(&self, key: &Key, group: &Group) -> Value {
        let mut object = Map::new();
        let mut set = |name: &str, value: Value| {
            object.insert(name.to_owned(), value);
        };
        set("request", json!(key.what));
        set("peer", json!(key.peer.name));
        set("count", json!(group.count.lines));
        set("first", json!(self.place(&group.count)));
        set("before", json!(before(&key.before)));
        set("after", json!(after(&key.after)));
        if key.peer.is_inferred {
            set("peerIsInferred", json!(true));
        }
        if let Some((first, last)) = &group.times {
            set("firstTime", json!(first));
            set("lastTime", json!(last));
        }
        if self.source.workloads().len() > 1 {
            set("workload", json!(self.workload(key)));
        }
        if let Some(Why { deciding, nearest }) = self.why(key, group) {
            if let Some((source, span)) = deciding.filter(|_| is_by_rule(key)) {
                set("place", json!(snippet::place(&source, span)));
            }
            if let Some(nearest) = nearest.filter(|_| is_about_nearest(key)) {
                let nearest = json!({
                    "policy": nearest.rule.policy.to_string(),
                    "rule": nearest.rule.index,
                    "place": snippet::place(&nearest.source, nearest.failed.span),
                    "failed": failed(&nearest),
                });
                set("nearest", nearest);
            }
        }
        object.into()
    }

    fn why(&self, key: &Key, group: &Group) -> Option<Why> {
        self.replay.why(key, group.example.as_deref()?)
    }

    /// Why requests are decided as they are: sentences without a full stop.
    fn reasons(&self, key: &Key, group: &Group) -> Vec<String> {
        let mut reasons = vec![match key.kind {
            Kind::Change if !self.has_two => format!("log: {}; policies: {}", before(&key.before), after(&key.after)),
            Kind::Change => format!("before: {}; after: {}", before(&key.before), after(&key.after)),
            Kind::Disagreement => format!("log: {}; policies: {}", before(&key.before), after(&key.after)),
            Kind::Denied => after(&key.after),
        }];
        let Some(Why { deciding, nearest }) = self.why(key, group) else { return reasons };
        if let Some((source, span)) = deciding.filter(|_| is_by_rule(key)) {
            reasons.push(format!("at {}", snippet::place(&source, span)));
        }
        if let Some(nearest) = nearest.filter(|_| is_about_nearest(key)) {
            let (index, policy) = (nearest.rule.index, &nearest.rule.policy);
            let place = snippet::place(&nearest.source, nearest.failed.span);
            reasons.push(format!("nearest: rule {index} of {policy} ({place}): {}", failed(&nearest)));
        }
        reasons
    }

    fn subject(&self, key: &Key) -> String {
        format!("{}  from {}", self.what(key), peer(key))
    }

    /// The requests of a group, and their workload if there are several.
    fn what(&self, key: &Key) -> String {
        if self.source.workloads().len() > 1 {
            format!("{}  to {}", key.what, self.workload(key))
        } else {
            key.what.clone()
        }
    }

    fn workload(&self, key: &Key) -> String {
        let Some(workload) = self.source.workloads().get(key.workload) else { return String::new() };
        let labels = workload.labels.iter().flat_map(|labels| labels.iter());
        let labels: Vec<_> =
            labels.filter(|(key, _)| key != "pod-template-hash").map(|(key, value)| format!("{key}={value}")).collect();
        format!("{} ({})", workload.namespace, labels.join(","))
    }

    fn when(&self, group: &Group) -> String {
        let place = self.place(&group.count).unwrap_or_default();
        match &group.times {
            Some((first, last)) if first == last => format!("{first}, {place}"),
            Some((first, last)) => format!("from {first} to {last}, first in {place}"),
            None => format!("first in {place}"),
        }
    }

    /// The first line of some, as `FILE:LINE`.
    fn place(&self, count: &Count) -> Option<String> {
        let (file, line) = count.first?;
        Some(format!("{}:{line}", self.logs.get(file)?.display()))
    }

    /// What undecided requests need.
    fn undecided(&self) -> Vec<String> {
        let mut all: Vec<_> = self.tally.needs.iter().collect();
        all.sort_by(|(one, group), (other, other_group)| {
            other_group.count.lines.cmp(&group.count.lines).then_with(|| one.cmp(other))
        });
        let mut lines = Vec::new();
        let mut names: Vec<&str> = Vec::new();
        for (needs, group) in all.iter().take(self.most) {
            let place = self.place(&group.count).unwrap_or_default();
            let what = if needs.is_empty() {
                "a shorter policy: to find out takes too long".to_owned()
            } else {
                needs.join(" and ")
            };
            let verb = if group.count.lines == 1 { "needs" } else { "need" };
            lines.push(format!("{} {verb} {what} (first: {place})", group.count.lines));
            names.extend(needs.iter().map(String::as_str));
        }
        if let Some(more @ 1..) = all.len().checked_sub(self.most) {
            lines.push(format!("and {more} more combinations: `mesh-authz replay --all` shows them"));
        }
        names.sort_unstable();
        names.dedup();
        lines.extend(names.into_iter().map(|name| format!("{name}: {}", self.advice(name))));
        if self.tally.unchanged.lines > 0 {
            lines.push(format!(
                "{} of them are decided alike by both policies, whatever that is",
                self.tally.unchanged.lines
            ));
        }
        lines
    }

    /// What to log so that an attribute is known.
    fn advice(&self, name: &str) -> String {
        let has = |wanted: &dyn Fn(&Tells) -> bool| {
            self.source.formats().iter().any(|format| format.columns().iter().any(|operator| wanted(&operator.tells)))
        };
        let header = |name: &str| has(&|tells| matches!(tells, Tells::Header { name: of, .. } if of == name));
        let log = |operator: &str| format!("log {operator}");
        let may_change = "a route may have changed it behind the policies, as far as the line tells: see \
                          examples/observability for a format that keeps it; --as-logged believes that none has";
        match name {
            "source.principal" if has(&|tells| matches!(tells, Tells::PeerUris | Tells::WaypointPeer)) => {
                "the line has several names, or it has none and does not show that there is none: log also \
                 %DOWNSTREAM_TLS_VERSION% and, in Istio, %FILTER_STATE(io.istio.peer_principal:PLAIN)%"
                    .to_owned()
            }
            "source.principal" => log(
                "%DOWNSTREAM_PEER_URI_SAN%, in a waypoint and in tunnels %FILTER_STATE(io.istio.peer_principal:PLAIN)%",
            ),
            ":path" if has(&|tells| matches!(tells, Tells::Path { original: false, .. } | Tells::Decided { .. })) => {
                may_change.to_owned()
            }
            ":path" if has(&|tells| matches!(tells, Tells::Path { original: true, .. })) => {
                "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% can be what a client wrote: log %REQ(:PATH)%; --as-logged believes it"
                    .to_owned()
            }
            ":path" => log("%REQ(:PATH)%"),
            ":authority" if header(":authority") => may_change.to_owned(),
            ":authority" => log("%REQ(:AUTHORITY)%"),
            ":method" => log("%REQ(:METHOD)%"),
            "source.ip" => log("%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%"),
            "remote.ip" => log("%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"),
            "destination.ip" => log("%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%"),
            "destination.port" => log("%DOWNSTREAM_LOCAL_PORT%"),
            "connection.sni" => log("%REQUESTED_SERVER_NAME%"),
            name if name.starts_with("request.headers[") => {
                let header_name =
                    name.trim_start_matches("request.headers[").trim_end_matches(']').to_ascii_lowercase();
                let joined = Tells::Header { name: header_name.clone(), instead: None, lines: Lines::Joined };
                if has(&|tells| *tells == joined) {
                    may_change.to_owned()
                } else {
                    format!(
                        "log both %REQ({header_name})% and %CEL(request.headers['{header_name}'])%, which has all lines of it"
                    )
                }
            }
            name if name.starts_with("request.auth") => {
                log("%DYNAMIC_METADATA(envoy.filters.http.jwt_authn)%, in JSON")
            }
            name if name.starts_with("experimental.") => log("%DYNAMIC_METADATA(FILTER:KEY)%, in JSON"),
            _ => "no log has it".to_owned(),
        }
    }

    /// What else a reader has to know.
    fn notes(&self) -> Vec<String> {
        let mut notes = about_lines(&self.tally.lines, |count| self.place(count));
        if self.tally.inferred > 0 {
            notes.push(format!("The peers of {} are inferred from their addresses", requests(self.tally.inferred)));
        }
        let tells_what_happened =
            |tells: &Tells| matches!(tells, Tells::CodeDetails | Tells::TerminationDetails | Tells::Decision);
        let is_told = self
            .source
            .formats()
            .iter()
            .any(|format| format.columns().iter().any(|operator| tells_what_happened(&operator.tells)));
        if !is_told && !self.is_nothing_replayed() && self.tally.recorded == 0 {
            notes.push(
                "The format does not say which requests were denied, so nothing is compared with that: log %RESPONSE_CODE_DETAILS%"
                    .to_owned(),
            );
        }
        let not_asked = &self.tally.not_asked_about;
        if not_asked.lines > 0 {
            notes.push(format!(
                "An external authorizer refused {}, and the {}policies may not ask it any more{}",
                requests(not_asked.lines),
                if self.has_two { "new " } else { "" },
                first(self.place(not_asked))
            ));
        }
        if !self.may_have_missed() && self.tally.groups(Kind::Change).is_empty() {
            let same = if self.has_two {
                "The new policies decide no request in the logs otherwise"
            } else {
                "The policies decide every request as the log says"
            };
            notes.push(same.to_owned());
        }
        notes
    }

    fn summary(&self) -> String {
        let Tally { lines: all, allowed, denied, undecided, .. } = self.tally;
        let skipped = all.skipped.values().map(|count| count.lines).fold(0, u64::saturating_add);
        format!("{}: {allowed} allowed, {denied} denied, {undecided} undecided, {skipped} not replayed", lines(all.all))
    }
}

/// Whether the nearest rule says why a group is denied.
fn is_about_nearest(key: &Key) -> bool {
    key.after == After::Deny(DeniedBy::NoAllow)
}

/// Whether one rule denies a group.
fn is_by_rule(key: &Key) -> bool {
    matches!(key.after, After::Deny(DeniedBy::Rule { .. }))
}

/// What fails in a rule, in words.
fn failed(Nearest { rule, failed, .. }: &Nearest) -> String {
    let path = failed.path.to_string();
    let path = path.strip_prefix(&format!("spec.rules[{}].", rule.index)).unwrap_or(&path).to_owned();
    let attribute = if path.starts_with("when") { format!(" ({})", failed.attribute) } else { String::new() };
    let wanted = if failed.is_not { "must not be" } else { "expected" };
    let actual = match &failed.actual {
        Actual::Values(values) => format!("actual {}", list(values)),
        Actual::Nothing(why) => (*why).to_owned(),
        Actual::Unreadable => "not in the line".to_owned(),
    };
    let further = match failed.further {
        0 => String::new(),
        1 => "; one more condition fails".to_owned(),
        further => format!("; {further} more conditions fail"),
    };
    format!("{path}{attribute} {wanted} {}, {actual}{further}", list(&failed.expected))
}

fn peer(key: &Key) -> String {
    let name = key.peer.name.clone().unwrap_or_else(|| "an unknown peer".to_owned());
    if key.peer.is_inferred { format!("{name} (inferred from its address)") } else { name }
}

fn by(by: &DeniedBy) -> String {
    match by {
        DeniedBy::NoAllow => "no ALLOW policy matched".to_owned(),
        DeniedBy::Rule { policy, index } => format!("rule {index} of {policy} matched"),
        DeniedBy::Unknown => "one of several rules matched".to_owned(),
    }
}

fn before(before: &Before) -> String {
    match before {
        Before::Allowed => "ALLOW".to_owned(),
        Before::Denied(DeniedBy::Unknown) => "DENY".to_owned(),
        Before::Denied(reason) => format!("DENY: {}", by(reason)),
        Before::Unknown => "unknown".to_owned(),
    }
}

fn after(after: &After) -> String {
    match after {
        After::Allow => "ALLOW".to_owned(),
        After::Deny(reason) => format!("DENY: {}", by(reason)),
        After::Undecided => "undecided".to_owned(),
    }
}

fn total(groups: &[(&Key, &Group)]) -> u64 {
    groups.iter().map(|(_, group)| group.count.lines).fold(0, u64::saturating_add)
}

fn name_in_json(section: &str) -> &str {
    match section {
        "DISAGREEMENT" => "disagreements",
        "LOST" => "lost",
        "GAINED" => "gained",
        _ => "denied",
    }
}
