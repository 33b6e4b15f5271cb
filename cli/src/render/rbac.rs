//! The RBAC filters that Istio's control plane generates for Envoy from the same policies.
//!
//! Our filter is compared with them: its decisions must be the same as those of Envoy's own RBAC filter with this
//! configuration. Shape, order and names are Istio's.

pub mod custom;
mod regex;

use mesh_authz::attribute::Side;
use mesh_authz::config::PrincipalFrom;
use mesh_authz::identity::{SCHEME, TrustDomains};
use mesh_authz::policy::{
    Action, AllOf, AnyOf, AuthorizationPolicy, Cidr, Form, MetadataValue, PathValue, Predicate, Rule, ServiceAccount,
    Traffic, Values,
};
use mesh_authz::request::metadata::{DEFAULT_PAYLOAD_KEY, JWT_AUTHN};
use serde_json::{Map, Value, json};

pub use self::regex::{LARGEST_PROGRAM, ProgramSize, largest_program};

fn layer(traffic: Traffic) -> &'static str {
    match traffic {
        Traffic::Http => "http",
        Traffic::Tcp => "network",
    }
}

/// The name of a filter.
fn filter_name(traffic: Traffic, name: &str) -> String {
    format!("envoy.filters.{}.{name}", layer(traffic))
}

/// The type of a filter's configuration.
fn type_url(traffic: Traffic, name: &str, message: &str) -> String {
    format!("type.googleapis.com/envoy.extensions.filters.{}.{name}.v3.{message}", layer(traffic))
}

/// The place that filters are for.
#[derive(Clone, Copy, Debug)]
pub struct Place<'t> {
    pub traffic: Traffic,
    /// Where Envoy finds the peer's identity. On a waypoint, it is in filter state.
    pub principal_from: PrincipalFrom,
    pub trust_domains: &'t TrustDomains,
}

impl<'t> Place<'t> {
    /// A workload that is no waypoint.
    #[must_use]
    pub fn of_workload(traffic: Traffic, trust_domains: &'t TrustDomains) -> Self {
        Self { traffic, principal_from: PrincipalFrom::PeerCertificate, trust_domains }
    }
}

/// The entry of filter state with the identity of a tunnel's peer.
const PEER_PRINCIPAL: &str = "io.istio.peer_principal";

/// A rule gets no more values of one condition than this, if further ones only repeat.
const MOST_REPETITIONS: usize = 100_000;

/// The filters for these policies, in their order in Envoy: AUDIT, DENY, ALLOW.
#[must_use]
pub fn filters(policies: &[&AuthorizationPolicy], place: Place<'_>) -> Vec<Value> {
    let filter = |action| filter(policies, action, place);
    [Action::Audit, Action::Deny, Action::Allow].into_iter().filter_map(filter).collect()
}

/// The filter for the policies of one action; `None` if there are no such policies.
fn filter(policies: &[&AuthorizationPolicy], action: Action, place: Place<'_>) -> Option<Value> {
    let rules = |dry_run| rules(policies, action, dry_run, place);
    let (enforced, shadow) = (rules(false), rules(true));
    if enforced.is_none() && shadow.is_none() {
        return None;
    }
    let mut config = Map::new();
    config.insert("@type".to_owned(), type_url(place.traffic, "rbac", "RBAC").into());
    if place.traffic == Traffic::Tcp {
        config.insert("statPrefix".to_owned(), "tcp.".into());
    }
    // Without shadow rules, Istio writes the prefix of ALLOW for every action.
    let prefix =
        if shadow.is_some() && action == Action::Deny { "istio_dry_run_deny_" } else { "istio_dry_run_allow_" };
    config.insert("shadowRulesStatPrefix".to_owned(), prefix.into());
    config.extend(enforced.map(|rules| ("rules".to_owned(), rules)));
    config.extend(shadow.map(|rules| ("shadowRules".to_owned(), rules)));
    Some(json!({ "name": filter_name(place.traffic, "rbac"), "typedConfig": config }))
}

fn rules(policies: &[&AuthorizationPolicy], action: Action, dry_run: bool, place: Place<'_>) -> Option<Value> {
    let mut rendered = Map::new();
    let mut any = false;
    for policy in policies.iter().filter(|policy| policy.action == action && policy.dry_run == dry_run) {
        any = true;
        rendered.extend(named_rules(policy, place));
    }
    let mut rules = Map::new();
    match action {
        Action::Deny => rules.insert("action".to_owned(), "DENY".into()),
        Action::Audit => rules.insert("action".to_owned(), "LOG".into()),
        Action::Allow | Action::Custom => None,
    };
    if !rendered.is_empty() {
        rules.insert("policies".to_owned(), rendered.into());
    }
    any.then(|| rules.into())
}

/// The rules of a policy by their names.
fn named_rules(policy: &AuthorizationPolicy, place: Place<'_>) -> Vec<(String, Value)> {
    let renderer = Renderer { action: policy.action, namespace: &policy.name.namespace, place };
    let name = |index| format!("ns[{}]-policy[{}]-rule[{index}]", policy.name.namespace, policy.name.name);
    if policy.rules.is_empty() {
        let never =
            json!({ "permissions": [{ "notRule": { "any": true } }], "principals": [{ "notId": { "any": true } }] });
        return vec![(name(0), never)];
    }
    let rules = policy.rules.iter().enumerate();
    rules.filter_map(|(index, rule)| Some((name(index), renderer.rule(rule)?))).collect()
}

/// Permissions and principals have the same connectives under different names.
#[derive(Clone, Copy)]
struct Connectives {
    half: Side,
    and: &'static str,
    or: &'static str,
    not: &'static str,
    members: &'static str,
}

const PERMISSION: Connectives =
    Connectives { half: Side::Permission, and: "andRules", or: "orRules", not: "notRule", members: "rules" };
const PRINCIPAL: Connectives =
    Connectives { half: Side::Principal, and: "andIds", or: "orIds", not: "notId", members: "ids" };

impl Connectives {
    fn and(self, members: Vec<Value>) -> Value {
        let members = if members.is_empty() { vec![json!({ "any": true })] } else { members };
        json!({ self.and: { self.members: members } })
    }

    fn or(self, members: &[Value]) -> Value {
        json!({ self.or: { self.members: members } })
    }

    fn not(self, member: &Value) -> Value {
        json!({ self.not: member })
    }
}

struct Renderer<'p> {
    action: Action,
    namespace: &'p str,
    place: Place<'p>,
}

impl Renderer<'_> {
    fn rule(&self, rule: &Rule) -> Option<Value> {
        self.place.traffic.has_rule(self.action, rule).then(|| {
            json!({
                "permissions": self.side(rule.to.as_ref(), rule, PERMISSION),
                "principals": self.side(rule.from.as_ref(), rule, PRINCIPAL),
            })
        })
    }

    /// Expands principals so many times, as Istio does it for a condition: once for each entry of `from`. From the third
    /// time on, values only repeat, so it leaves out what would make a rule larger than [`MOST_REPETITIONS`].
    fn expand_principals(&self, principals: &[String], expansions: usize) -> Vec<String> {
        let expand = |principals: &[String]| -> Vec<String> {
            principals.iter().flat_map(|principal| self.place.trust_domains.expand_principal(principal)).collect()
        };
        let mut expanded = expand(principals);
        for time in 1..expansions {
            let further = expand(&expanded);
            if time > 1 && further.len() * expansions > MOST_REPETITIONS {
                break;
            }
            expanded = further;
        }
        expanded
    }

    fn authenticated(&self, name: &Value) -> Value {
        match self.place.principal_from {
            PrincipalFrom::PeerCertificate => json!({ "authenticated": { "principalName": name } }),
            PrincipalFrom::FilterState => json!({ "filterState": { "key": PEER_PRINCIPAL, "stringMatch": name } }),
        }
    }

    /// Combines each group of fields (a source or an operation) with the conditions that belong to the same side.
    fn side(&self, groups: Option<&AnyOf<AllOf<Predicate>>>, rule: &Rule, side: Connectives) -> Vec<Value> {
        let belongs = |predicate: &&Predicate| predicate.attribute().info().side == side.half;
        let conditions =
            || rule.when.0.iter().filter(belongs).flat_map(|it| self.predicate(it, rule.expansions(), side));
        let all = |fields: &AllOf<Predicate>| {
            side.and(fields.0.iter().flat_map(|field| self.predicate(field, 1, side)).chain(conditions()).collect())
        };
        match groups {
            None => vec![all(&AllOf::default())],
            Some(groups) => groups.0.iter().map(all).collect(),
        }
    }

    /// The matchers for the values of a predicate, and for its `not` values. Its principals are expanded so many times to
    /// the trust domains of the mesh.
    fn predicate(&self, predicate: &Predicate, expansions: usize, side: Connectives) -> Vec<Value> {
        if !self.place.traffic.has(predicate) {
            return Vec::new();
        }
        match predicate {
            Predicate::Principal(values) => {
                let expand = |values: &[String]| self.expand_principals(values, expansions);
                each(&expanded(values, expand), side, |value| self.authenticated(&principal(value)))
            }
            Predicate::TrustDomain(values) => {
                let expand = |values: &[String]| self.place.trust_domains.expand_trust_domains(values);
                each(&expanded(values, expand), side, |value| self.authenticated(&trust_domain(value)))
            }
            Predicate::Namespace(values) => each(values, side, |value| {
                let pieces: Vec<_> = value.split('*').map(regex::quote).collect();
                self.authenticated(&regex::matcher(&format!(".*/ns/{}/.*", pieces.join(".*"))))
            }),
            Predicate::ServiceAccount(values) => each(values, side, |ServiceAccount { namespace, name }| {
                let namespace = regex::quote(namespace.as_deref().unwrap_or(self.namespace));
                self.authenticated(&regex::matcher(&format!(
                    "{SCHEME}.+/ns/{namespace}/(.+/|)sa/{}(/.+)?",
                    regex::quote(name)
                )))
            }),
            Predicate::RequestPrincipal(values) => whole(values, side, request_principals),
            Predicate::SourceIp(values) => each(values, side, |cidr| json!({ "directRemoteIp": range(cidr) })),
            Predicate::RemoteIp(values) => each(values, side, |cidr| json!({ "remoteIp": range(cidr) })),
            Predicate::DestinationIp(values) => each(values, side, |cidr| json!({ "destinationIp": range(cidr) })),
            Predicate::DestinationPort(values) => each(values, side, |port| json!({ "destinationPort": port })),
            Predicate::Sni(values) => each(values, side, |value| json!({ "requestedServerName": text(value) })),
            Predicate::Host(values) => each(values, side, |value| header(":authority", value, true)),
            Predicate::Method(values) => each(values, side, |value| header(":method", value, false)),
            Predicate::Header { name, values } => each(values, side, |value| header(name, value, false)),
            Predicate::Path(values) => each(values, side, path),
            Predicate::Claim { path, values } => whole(values, side, |values| {
                let value = any_of(values.iter().map(|value| json!({ "stringMatch": text(value) })).collect());
                let in_list = json!({ "listMatch": { "oneOf": value } });
                claim(path, &json!({ "orMatch": { "valueMatchers": [in_list, value] } }))
            }),
            Predicate::Metadata { filter, key, values } => whole(values, side, |values| {
                let value = |value: &MetadataValue| match value {
                    MetadataValue::Text(value) => json!({ "stringMatch": text(value) }),
                    MetadataValue::Element(value) => {
                        json!({ "listMatch": { "oneOf": { "stringMatch": text(value) } } })
                    }
                };
                metadata(filter, &[key], &any_of(values.iter().map(value).collect()))
            }),
        }
    }
}

fn expanded(Values { any, none }: &Values<String>, expand: impl Fn(&[String]) -> Vec<String>) -> Values<String> {
    Values { any: expand(any), none: expand(none) }
}

/// Makes one matcher for each value.
fn each<T>(Values { any, none }: &Values<T>, side: Connectives, matcher: impl Fn(&T) -> Value) -> Vec<Value> {
    let or = |values: &[T]| (!values.is_empty()).then(|| side.or(&values.iter().map(&matcher).collect::<Vec<_>>()));
    or(any).into_iter().chain(or(none).map(|none| side.not(&none))).collect()
}

/// Makes one matcher for all values.
fn whole<T>(Values { any, none }: &Values<T>, side: Connectives, matcher: impl Fn(&[T]) -> Value) -> Vec<Value> {
    let some = |values: &[T]| (!values.is_empty()).then(|| matcher(values));
    some(any).into_iter().chain(some(none).map(|none| side.not(&none))).collect()
}

/// A string matcher for one of the four common forms.
fn form(form: Form<'_>) -> Value {
    match form {
        Form::Any => regex::matcher(".+"),
        Form::Suffix(suffix) => json!({ "suffix": suffix }),
        Form::Prefix(prefix) => json!({ "prefix": prefix }),
        Form::Exact(exact) => json!({ "exact": exact }),
    }
}

fn text(value: &str) -> Value {
    form(Form::of(value))
}

fn principal(value: &str) -> Value {
    match Form::of(value) {
        Form::Any => regex::matcher(".+"),
        Form::Suffix(suffix) => regex::matcher(&format!("{SCHEME}.*{}", regex::quote(suffix))),
        Form::Prefix(prefix) => json!({ "prefix": format!("{SCHEME}{prefix}") }),
        Form::Exact(exact) => json!({ "exact": format!("{SCHEME}{exact}") }),
    }
}

fn trust_domain(value: &str) -> Value {
    match value.split_once('*') {
        _ if value == "*" => json!({ "prefix": SCHEME }),
        None => json!({ "prefix": format!("{SCHEME}{value}/") }),
        Some((before, after)) => {
            regex::matcher(&format!("{SCHEME}{}[^/]*{}/.*", regex::quote(before), regex::quote(after)))
        }
    }
}

fn header(name: &str, value: &str, ignore_case: bool) -> Value {
    if value == "*" {
        return json!({ "header": { "name": name, "presentMatch": true } });
    }
    let mut matcher = text(value);
    if let (true, Value::Object(fields)) = (ignore_case, &mut matcher) {
        fields.insert("ignoreCase".to_owned(), true.into());
    }
    json!({ "header": { "name": name, "stringMatch": matcher } })
}

fn path(value: &PathValue) -> Value {
    match value {
        PathValue::Text(value) => json!({ "urlPath": { "path": text(value) } }),
        PathValue::Template(template) => json!({ "uriTemplate": {
            "name": "uri-template",
            "typedConfig": {
                "@type": "type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig",
                "pathTemplate": template.replace("{*}", "*").replace("{**}", "**"),
            },
        } }),
    }
}

fn range(Cidr { address, prefix }: &Cidr) -> Value {
    json!({ "addressPrefix": address.to_string(), "prefixLen": prefix })
}

fn claim<K: AsRef<str>>(path: &[K], value: &Value) -> Value {
    let keys: Vec<&str> = std::iter::once(DEFAULT_PAYLOAD_KEY).chain(path.iter().map(AsRef::as_ref)).collect();
    metadata(JWT_AUTHN, &keys, value)
}

fn metadata<K: AsRef<str>>(filter: &str, keys: &[K], value: &Value) -> Value {
    let path: Vec<_> = keys.iter().map(|key| json!({ "key": key.as_ref() })).collect();
    json!({ "metadata": { "filter": filter, "path": path, "value": value } })
}

/// Combines several value matchers into one, of which any may match.
fn any_of(mut matchers: Vec<Value>) -> Value {
    match matchers.pop() {
        Some(only) if matchers.is_empty() => only,
        last => {
            matchers.extend(last);
            json!({ "orMatch": { "valueMatchers": matchers } })
        }
    }
}

fn request_principals(values: &[String]) -> Value {
    let mut matchers: Vec<_> = values.iter().map(|value| request_principal(value)).collect();
    match matchers.pop() {
        Some(only) if matchers.is_empty() => only,
        last => {
            matchers.extend(last);
            PRINCIPAL.or(&matchers)
        }
    }
}

fn request_principal(value: &str) -> Value {
    let (issuer, subject) = Form::of_request_principal(value);
    let string = |name, value| claim(&[name], &json!({ "stringMatch": form(value) }));
    PRINCIPAL.and(vec![string("iss", issuer), string("sub", subject)])
}
