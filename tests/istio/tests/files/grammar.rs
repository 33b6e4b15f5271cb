//! Resources of every kind, over every field. Most of them are right. How often a value is not is up to the caller.

mod metadata;
mod other;

use fastrand::Rng;

use super::{
    tree::Tree,
    vocabulary::{
        ADDRESSES, CLAIM_HEADERS, CLAIMS, DURATIONS, HEADER_NAMES, HOSTS, ISSUERS, JWKS, JWKS_URIS, KEYS, LABEL_KEYS,
        LABEL_VALUES, METHODS, NAMES, NAMESPACES, ODD_KEYS, PATHS, PORTS, PRINCIPALS, REQUEST_PRINCIPALS,
        SERVICE_ACCOUNTS, TEXTS, TRUST_DOMAINS, Values,
    },
};

/// Writes resources. One value in `oddness` is odd; none if it is 0.
pub struct Grammar<'r> {
    pub rng: &'r mut Rng,
    pub oddness: u32,
}

type Fields = Vec<(String, Tree)>;

/// The fields of a source that CUSTOM policies can use, and all others.
const PLACES: [(&str, &Values); 2] = [("ipBlocks", &ADDRESSES), ("remoteIpBlocks", &ADDRESSES)];
const IDENTITIES: [(&str, &Values); 5] = [
    ("principals", &PRINCIPALS),
    ("requestPrincipals", &REQUEST_PRINCIPALS),
    ("namespaces", &NAMESPACES),
    ("trustDomains", &TRUST_DOMAINS),
    ("serviceAccounts", &SERVICE_ACCOUNTS),
];
const OPERATION: [(&str, &Values); 4] =
    [("hosts", &HOSTS), ("methods", &METHODS), ("paths", &PATHS), ("ports", &PORTS)];

impl Grammar<'_> {
    /// A resource of any kind that a file for the cluster can hold.
    pub fn resource(&mut self) -> Tree {
        match self.rng.u32(0..20) {
            0..=10 => self.policy(),
            11..=15 => self.authentication(),
            16..=17 => self.peer_authentication(),
            _ => self.other(),
        }
    }

    fn one_in(&mut self, count: u32) -> bool {
        self.rng.u32(0..count) == 0
    }

    fn is_odd(&mut self) -> bool {
        self.oddness > 0 && self.rng.u32(0..self.oddness) == 0
    }

    fn pick<'v>(&mut self, values: &[&'v str]) -> &'v str {
        values[self.rng.usize(0..values.len())]
    }

    /// A value of these. An odd one is at the edge of what is right, or a right one with some characters changed.
    fn value(&mut self, values: &Values) -> String {
        if !self.is_odd() {
            return self.pick(values.right).to_owned();
        }
        if self.rng.bool() {
            return self.pick(values.odd).to_owned();
        }
        let mut chars: Vec<char> = self.pick(values.right).chars().collect();
        for _ in 0..self.rng.u32(1..3) {
            let at = self.rng.usize(0..=chars.len());
            let other: Vec<char> =
                if self.rng.bool() { self.pick(values.odd) } else { self.pick(values.right) }.chars().collect();
            let c = if other.is_empty() { ' ' } else { other[self.rng.usize(0..other.len())] };
            match self.rng.u32(0..3) {
                0 if at < chars.len() => chars[at] = c,
                1 if at < chars.len() => {
                    chars.remove(at);
                }
                _ => chars.insert(at, c),
            }
        }
        chars.into_iter().collect()
    }

    fn values(&mut self, values: &Values) -> Tree {
        let count = if self.one_in(40) { 17 } else { self.rng.u32(1..4) };
        Tree::List((0..count).map(|_| Tree::Text(self.value(values))).collect())
    }

    /// Some of these fields, or of their `not` twins.
    fn some_of(&mut self, fields: &[(&str, &Values)]) -> Fields {
        let mut some = Vec::new();
        for _ in 0..self.rng.u32(1..4) {
            let (name, values) = fields[self.rng.usize(0..fields.len())];
            let name = if self.one_in(3) { twin(name) } else { name.to_owned() };
            if some.iter().all(|(other, _)| *other != name) {
                let values = self.values(values);
                some.push((name, values));
            }
        }
        some
    }

    fn policy(&mut self) -> Tree {
        let action = match self.rng.u32(0..8) {
            0..=2 => "ALLOW",
            3..=4 => "DENY",
            5 => "AUDIT",
            6 => "CUSTOM",
            _ => "",
        };
        let mut spec = self.target(true);
        if !action.is_empty() {
            let action =
                if self.is_odd() { self.pick(&["", "allow", "Deny", "ALLOW ", "LOG", "0", "true"]) } else { action };
            spec.push(("action".to_owned(), Tree::text(action)));
        }
        if action == "CUSTOM" || self.is_odd() {
            let name =
                if self.is_odd() { self.pick(&["", "unknown", " ", "1"]) } else { self.pick(&["allows", "refuses"]) };
            spec.push(("provider".to_owned(), Tree::map([("name", Tree::text(name))])));
        }
        let can_have_none = action == "ALLOW" || action.is_empty() || self.is_odd();
        let rules = self.rng.u32(if can_have_none { 0..4 } else { 1..4 });
        if rules > 0 || self.one_in(3) {
            let rules = (0..rules).map(|_| self.rule(action == "CUSTOM")).collect();
            spec.push(("rules".to_owned(), Tree::List(rules)));
        }
        self.rng.shuffle(&mut spec);
        let can_be_dry = matches!(action, "ALLOW" | "DENY" | "") || self.is_odd();
        self.envelope("AuthorizationPolicy", can_be_dry, spec)
    }

    fn rule(&mut self, is_custom: bool) -> Tree {
        let mut rule = Fields::new();
        if self.rng.bool() {
            let sources = (0..self.rng.u32(1..3)).map(|_| {
                let fields = self.source(is_custom);
                Tree::map([("source", Tree::Map(fields))])
            });
            rule.push(("from".to_owned(), Tree::List(sources.collect())));
        }
        if self.rng.bool() {
            let operations = (0..self.rng.u32(1..3)).map(|_| {
                let fields = self.some_of(&OPERATION);
                Tree::map([("operation", Tree::Map(fields))])
            });
            rule.push(("to".to_owned(), Tree::List(operations.collect())));
        }
        if self.one_in(2) {
            let conditions = (0..self.rng.u32(1..3)).map(|_| self.condition(is_custom));
            rule.push(("when".to_owned(), Tree::List(conditions.collect())));
        }
        Tree::Map(rule)
    }

    fn source(&mut self, is_custom: bool) -> Fields {
        let is_any = self.is_odd();
        if is_custom && !is_any {
            return self.some_of(&PLACES);
        }
        let fields = [&IDENTITIES[..], &PLACES[..]].concat();
        let fields = self.some_of(&fields);
        let is_account = |name: &str| name.to_lowercase().ends_with("serviceaccounts");
        let is_account_first = fields.first().is_some_and(|(name, _)| is_account(name));
        let excluded = |name: &str| {
            if is_account_first {
                name.to_lowercase().ends_with("namespaces") || matches!(name, "principals" | "notPrincipals")
            } else {
                is_account(name)
            }
        };
        if is_any {
            return fields;
        }
        fields
            .into_iter()
            .filter(|(name, _)| !excluded(name))
            .map(|(name, values)| match values {
                Tree::List(items) if is_account(&name) => (name, Tree::List(items.into_iter().take(16).collect())),
                other => (name, other),
            })
            .collect()
    }

    fn condition(&mut self, is_custom: bool) -> Tree {
        let (mut key, mut values) = KEYS[self.rng.usize(0..KEYS.len())];
        while is_custom
            && (key.starts_with("source.") && key != "source.ip" || key.starts_with("request.auth"))
            && !self.is_odd()
        {
            (key, values) = KEYS[self.rng.usize(0..KEYS.len())];
        }
        let key = if !self.is_odd() {
            key.to_owned()
        } else if self.rng.bool() {
            self.pick(ODD_KEYS).to_owned()
        } else {
            let keys: Vec<_> = KEYS.iter().map(|(key, _)| *key).collect();
            self.value(&Values { right: Vec::leak(keys), odd: ODD_KEYS })
        };
        let mut condition = vec![("key".to_owned(), Tree::Text(key))];
        let which = self.rng.u32(0..3);
        let shortened = |tree| match tree {
            Tree::List(items) => Tree::List(items.into_iter().take(16).collect()),
            other => other,
        };
        if which != 1 {
            condition.push(("values".to_owned(), shortened(self.values(values))));
        }
        if which != 0 {
            condition.push(("notValues".to_owned(), shortened(self.values(values))));
        }
        if self.is_odd() {
            condition.remove(self.rng.usize(0..condition.len()));
        }
        Tree::Map(condition)
    }

    /// Nothing, a selector, or references.
    fn target(&mut self, has_references: bool) -> Fields {
        let mut fields = Fields::new();
        let which = self.rng.u32(0..6);
        if which < 2 || self.is_odd() {
            let labels = self.map_of(|one| (one.value(&LABEL_KEYS), one.value(&LABEL_VALUES)));
            let selector = if self.one_in(20) { Tree::Map(Vec::new()) } else { Tree::map([("matchLabels", labels)]) };
            fields.push(("selector".to_owned(), selector));
        }
        if which == 2 && has_references || self.is_odd() {
            let references = (0..self.rng.u32(1..3)).map(|_| self.reference());
            fields.push(("targetRefs".to_owned(), Tree::List(references.collect())));
        }
        if which == 3 && has_references && self.rng.bool() || self.is_odd() {
            let reference = self.reference();
            fields.push(("targetRef".to_owned(), reference));
        }
        fields
    }

    fn reference(&mut self) -> Tree {
        const KNOWN: [(&str, &str); 5] = [
            ("", "Service"),
            ("core", "Service"),
            ("networking.istio.io", "ServiceEntry"),
            ("gateway.networking.k8s.io", "Gateway"),
            ("gateway.networking.k8s.io", "GatewayClass"),
        ];
        let (mut group, mut kind) = KNOWN[self.rng.usize(0..KNOWN.len())];
        if self.is_odd() {
            (group, _) = KNOWN[self.rng.usize(0..KNOWN.len())];
        }
        if self.is_odd() {
            group = self.pick(&["apps", "Core", "gateway.networking.k8s.io/v1", "*", "a b", "v1", "-"]);
        }
        if self.is_odd() {
            kind = self.pick(&["service", "Deployment", "Pod", "", "*", "Gateways", "Service ", "1"]);
        }
        let mut reference =
            vec![("kind".to_owned(), Tree::text(kind)), ("name".to_owned(), Tree::Text(self.value(&NAMES)))];
        if !group.is_empty() || self.one_in(3) {
            reference.push(("group".to_owned(), Tree::text(group)));
        }
        if self.one_in(12) {
            let namespace = if self.is_odd() { "foo" } else { "" };
            reference.push(("namespace".to_owned(), Tree::text(namespace)));
        }
        self.rng.shuffle(&mut reference);
        Tree::Map(reference)
    }

    fn map_of(&mut self, mut entry: impl FnMut(&mut Self) -> (String, String)) -> Tree {
        let mut entries: Vec<(String, Tree)> = Vec::new();
        for _ in 0..self.rng.u32(1..4) {
            let (key, value) = entry(self);
            if entries.iter().all(|(other, _)| *other != key) {
                entries.push((key, Tree::Text(value)));
            }
        }
        Tree::Map(entries)
    }

    fn authentication(&mut self) -> Tree {
        let mut spec = self.target(true);
        if !self.one_in(8) {
            let rules = (0..self.rng.u32(1..3)).map(|_| self.jwt_rule());
            spec.push(("jwtRules".to_owned(), Tree::List(rules.collect())));
        }
        self.envelope("RequestAuthentication", false, spec)
    }

    fn jwt_rule(&mut self) -> Tree {
        let mut rule = Fields::new();
        let mut add = |name: &str, tree: Tree| rule.push((name.to_owned(), tree));
        let keys = self.rng.u32(0..4);
        if keys != 1 || self.rng.bool() {
            add("issuer", Tree::Text(self.value(&ISSUERS)));
        }
        if keys == 0 || self.is_odd() {
            add("jwks", Tree::Text(self.value(&JWKS)));
        }
        if keys == 1 || self.is_odd() {
            add("jwksUri", Tree::Text(self.value(&JWKS_URIS)));
        }
        if keys == 2 && self.one_in(4) || self.is_odd() {
            add("jwks_uri", Tree::Text(self.value(&JWKS_URIS)));
        }
        for (name, values) in [
            ("audiences", &TEXTS),
            ("fromParams", &CLAIMS),
            ("fromCookies", &CLAIMS),
            ("spaceDelimitedClaims", &CLAIMS),
        ] {
            if self.one_in(4) {
                add(name, self.values(values));
            }
        }
        if self.one_in(3) {
            let headers = (0..self.rng.u32(1..3)).map(|_| {
                let name = ("name", Tree::Text(self.value(&HEADER_NAMES)));
                let prefix = ("prefix", Tree::Text(self.pick(&["Bearer ", "", "jwt=", " ", "\u{e9}"]).to_owned()));
                if self.rng.bool() { Tree::map([name]) } else { Tree::map([name, prefix]) }
            });
            add("fromHeaders", Tree::List(headers.collect()));
        }
        if self.one_in(4) {
            add("outputPayloadToHeader", Tree::Text(self.value(&HEADER_NAMES)));
        }
        if self.one_in(4) {
            add("forwardOriginalToken", Tree::raw(self.pick(&["true", "false", "yes", "off"])));
        }
        if self.one_in(4) {
            let claims = (0..self.rng.u32(1..3)).map(|_| {
                Tree::map([
                    ("header", Tree::Text(self.value(&CLAIM_HEADERS))),
                    ("claim", Tree::Text(self.value(&CLAIMS))),
                ])
            });
            add("outputClaimToHeaders", Tree::List(claims.collect()));
        }
        if self.one_in(3) {
            add("timeout", Tree::Text(self.value(&DURATIONS)));
        }
        if self.is_odd() {
            add("presence", Tree::text(self.pick(&["REQUIRED", "OPTIONAL", "required", ""])));
        }
        self.rng.shuffle(&mut rule);
        Tree::Map(rule)
    }

    fn peer_authentication(&mut self) -> Tree {
        let mode = |one: &mut Self| {
            let modes: &[&str] = if one.is_odd() {
                &["strict", "", "OFF", "no", "MUTUAL"]
            } else {
                &["UNSET", "DISABLE", "PERMISSIVE", "STRICT"]
            };
            Tree::map([("mode", Tree::text(one.pick(modes)))])
        };
        let mut spec = self.target(false);
        if self.rng.bool() {
            spec.push(("mtls".to_owned(), mode(self)));
        }
        let has_selector = spec.iter().any(|(name, tree)| name == "selector" && tree.size() > 2);
        if has_selector && self.rng.bool() || self.is_odd() {
            let ports = (0..self.rng.u32(1..3)).map(|number| {
                let port = if self.is_odd() { self.value(&PORTS) } else { format!("{}", 8080 + number) };
                (port, mode(self))
            });
            let ports: Vec<_> = ports.collect();
            spec.push(("portLevelMtls".to_owned(), Tree::Map(ports)));
        }
        self.envelope("PeerAuthentication", false, spec)
    }
}

/// The name of the `not` twin of a field.
fn twin(name: &str) -> String {
    let (first, rest) = name.split_at(1);
    format!("not{}{rest}", first.to_uppercase())
}
