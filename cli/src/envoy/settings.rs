//! The settings that decisions depend on: the rows of docs/envoy.md.

use mesh_authz::attribute::{Attribute, Subject};
use mesh_authz::config::{Paths, PluginConfig, PrincipalFrom, SourceIpFrom};
use mesh_authz::document::Value;
use mesh_authz::request::metadata::DEFAULT_PAYLOAD_KEY;

use super::catalogue::{
    CLIENT_ADDRESS, CONNECTS_EARLY, DIRECT_PEER, EnvoyCheck, HOST_DOT, PATH, PATH_PARAMETERS, PEER_CERTIFICATE,
    SECOND_URI, SERVER_NAME, TOKENS, UNKNOWN,
};
use super::chain::{CONNECTION_MANAGER, Chain, NETWORK_STATE};
use super::configuration::Configuration;
use super::needs::{Because, Needs};
use super::neighbours::{per_filter_configs, runs_everywhere};
use super::ours::Ours;
use super::place::Place;
use crate::load::finding::{Finding, Severity};

pub const JWT_AUTHN: &str = "envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication";
pub const SET_FILTER_STATE: &str = "envoy.extensions.filters.http.set_filter_state.v3.Config";
/// The filter state that tells what is known of the peer, and its text: address, port and URIs.
const PEER: &str = "mesh_authz.peer";
const PEER_FORMAT: &str =
    "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%\n%DOWNSTREAM_LOCAL_PORT%\n%DOWNSTREAM_PEER_URI_SAN%";
/// The namespace of the metadata in which the filter looks for claims.
const JWT_METADATA: &str = "envoy.filters.http.jwt_authn";
const TLS: &str = "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext";
const QUIC: &str = "envoy.extensions.transport_sockets.quic.v3.QuicDownstreamTransport";
const TLS_INSPECTOR: &str = "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector";
const PROXY_PROTOCOL: &str = "envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol";
const TCP_PROXY: &str = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";
const CUSTOM_HEADER: &str = "envoy.extensions.http.original_ip_detection.custom_header.v3.CustomHeaderConfig";
const ESCAPES_IN_RUNTIME: &str = "http_connection_manager.path_with_escaped_slashes_action_enabled";

/// The chain that is checked, and what it is checked for.
struct Checked<'k, 'c> {
    chain: &'k Chain<'c>,
    manager: &'k Place<'c>,
    needs: &'k Needs,
    configuration: &'k Configuration<'c>,
    findings: Vec<Finding>,
}

/// What is missing for the decisions of the filters in this chain.
pub fn missing<'c>(chain: &Chain<'c>, needs: &Needs, configuration: &Configuration<'c>) -> Vec<Finding> {
    let Some(manager) = &chain.manager else { return missing_for_connections(chain, needs, configuration) };
    let mut checked = Checked { chain, manager, needs, configuration, findings: Vec::new() };
    checked.paths();
    checked.hosts();
    checked.client_address();
    checked.addresses_from_a_header();
    checked.peer_certificate();
    checked.tokens();
    checked.filter_state();
    checked.server_name();
    checked.findings.extend(chain.leads_to.unknown.iter().map(|routes| {
        let message = "routes come from elsewhere, and nothing is known of them";
        routes.warning(&UNKNOWN, message, "give the file with them as well, or the /config_dump of the running Envoy")
    }));
    checked.findings
}

/// The same for a chain without a connection manager.
fn missing_for_connections<'c>(chain: &Chain<'c>, needs: &Needs, configuration: &Configuration<'c>) -> Vec<Finding> {
    let mut checked = Checked { chain, manager: &chain.place, needs, configuration, findings: Vec::new() };
    if checked.proxy_protocol().is_some() {
        checked.client_for_peer("the PROXY protocol");
    }
    checked.addresses_from_a_header();
    checked.peer_certificate();
    checked.filter_state();
    checked.told_behind();
    checked.server_name();
    checked.connects_too_early();
    checked.findings
}

/// The settings by which the manager brings all spellings of a path to one, and which it lacks: each with a path that
/// stays as it is sent, and with the value to write.
fn missing_for_paths(manager: &Place<'_>) -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    let escapes = "path_with_escaped_slashes_action";
    let safe = [("REJECT_REQUEST", 2.0), ("UNESCAPE_AND_REDIRECT", 3.0), ("UNESCAPE_AND_FORWARD", 4.0)];
    let is_safe = |action: Place<'_>| safe.iter().any(|(name, number)| action.is_value(name, *number));
    let rows = [
        ("normalize_path", "/public/../admin", "true", manager.is_true("normalize_path")),
        ("merge_slashes", "//admin", "true", manager.is_true("merge_slashes")),
        (escapes, "/%2Fadmin", "UNESCAPE_AND_FORWARD", manager.get(escapes).is_some_and(is_safe)),
    ];
    rows.into_iter().filter(|(.., is_set)| !is_set).map(|(setting, example, value, _)| (setting, example, value))
}

/// Whether Envoy brings all spellings of a path to one before the filters of this chain see it.
pub fn normalizes_paths(chain: &Chain<'_>, configuration: &Configuration<'_>) -> bool {
    let is_undone = configuration.runtime.iter().any(|layer| runtime(layer, ESCAPES_IN_RUNTIME).is_some());
    let is_set = |manager| missing_for_paths(manager).next().is_none();
    chain.manager.as_ref().is_some_and(is_set) && configuration.unknown_runtime.is_none() && !is_undone
}

impl<'c> Checked<'_, 'c> {
    /// Whether the configuration of every filter of ours is known and says this.
    fn all_say(&self, says: impl Fn(&PluginConfig) -> bool) -> bool {
        self.chain.ours.iter().all(|ours| ours.config.as_ref().is_some_and(&says))
    }

    /// A finding about a setting that has a wrong value, or is missing.
    fn set(
        &mut self,
        because: &Because,
        place: &Place<'c>,
        setting: &str,
        check: &EnvoyCheck,
        and: &str,
        hint: impl Into<String>,
    ) {
        let at = place.get(setting);
        self.findings.push(because.report(at.as_ref().unwrap_or(place), check, and, hint));
    }

    fn paths(&mut self) {
        let Some(because) = self.needs.attribute(Attribute::Path, "paths") else { return };
        let manager = self.manager;
        if !self.all_say(|config| config.paths == Paths::Strict) {
            for (setting, example, value) in missing_for_paths(manager) {
                let and = format!("without `{setting}: {value}`, `{example}` is not `/admin` to it");
                self.set(&because, manager, setting, &PATH, &and, format!("write `{setting}: {value}`"));
            }
            if let Some(layer) = &self.configuration.unknown_runtime {
                let and = "a layer of the runtime comes from elsewhere, which can switch off what Envoy does with `/%2Fadmin`";
                let hint = "remove the layer, or accept it with --allow ME017";
                self.findings.push(because.clone().milder().report(layer, &UNKNOWN, and, hint));
            }
            let undone = self.configuration.runtime.iter().find_map(|layer| runtime(layer, ESCAPES_IN_RUNTIME));
            if let Some(place) = undone {
                let and = "this switches off what the connection manager does with `/%2Fadmin`";
                self.findings.push(because.report(&place, &PATH, and, "remove it"));
            }
        }
        for routes in &self.chain.routes {
            let setting = "ignore_path_parameters_in_path_matching";
            if let Some(place) = routes.place.get(setting).filter(|_| routes.place.is_true(setting)) {
                let and = "a route for `/admin` also serves `/admin;x=y`, which is another path to it";
                self.findings.push(because.report(&place, &PATH_PARAMETERS, and, "remove it"));
            }
        }
    }

    /// Where a match denies, the filter leaves out the dot itself.
    fn hosts(&mut self) {
        let Some(because) = self.needs.attribute(Attribute::Host, "hosts").map(Because::milder) else { return };
        let setting = "strip_trailing_host_dot";
        if !self.manager.is_true(setting) {
            let and = format!("without `{setting}: true`, an ALLOW policy for `example.com` refuses `example.com.`");
            self.set(&because, self.manager, setting, &HOST_DOT, &and, format!("write `{setting}: true`"));
        }
    }

    fn client_address(&mut self) {
        let manager = self.manager;
        let is_remote = manager.is_true("use_remote_address");
        let hops = manager.number("xff_num_trusted_hops") > 0.0;
        let detection = manager.items("original_ip_detection_extensions");
        if let Some(because) = self.needs.attribute(Attribute::RemoteIp, "the client's address") {
            // Without this setting, the number of hops counts one more entry of the header, which a client writes.
            if !is_remote && detection.is_empty() {
                let hint = "write `use_remote_address: true`; if a proxy that you trust is in front of Envoy, also \
                            `xff_num_trusted_hops`";
                let and = "a client chooses it by itself, in X-Forwarded-For";
                self.set(&because, manager, "use_remote_address", &CLIENT_ADDRESS, and, hint);
            }
            let hint =
                "make sure that only a proxy that you trust reaches this listener, and accept it with --allow ME009";
            for extension in &detection {
                let is_header = extension.typed_config().is_some_and(|(name, _)| name == CUSTOM_HEADER);
                let because = if is_header { because.clone() } else { because.clone().milder() };
                let and = "it comes from what is sent: whoever reaches this listener may choose it";
                self.findings.push(because.report(extension, &CLIENT_ADDRESS, and, hint));
            }
        }
        if !is_remote || hops || !detection.is_empty() || self.proxy_protocol().is_some() {
            self.client_for_peer("a header");
        }
    }

    /// Whether a filter takes the client's address for that of the direct peer, although it comes from what is sent.
    fn client_for_peer(&mut self, comes_from: &str) {
        let takes_it_for_the_peer = |ours: &&Ours<'_>| {
            ours.config.as_ref().is_some_and(|config| config.source_ip_from == SourceIpFrom::RemoteAddress)
        };
        if let Some(because) = self.needs.attribute(Attribute::SourceIp, "the address of the direct peer")
            && let Some(ours) = self.chain.ours.iter().find(takes_it_for_the_peer)
        {
            let and = format!(
                "`sourceIpFrom: remote-address` takes the client's address for it, which comes from {comes_from} here"
            );
            let hint = "remove `sourceIpFrom`, and let `set_filter_state` tell `mesh_authz.peer`";
            self.findings.push(because.report(&ours.filter, &CLIENT_ADDRESS, &and, hint));
        }
    }

    /// Where the chain takes addresses from a header of the PROXY protocol.
    fn proxy_protocol(&self) -> Option<Place<'c>> {
        let filters = self.chain.listener.items("listener_filters");
        let filter = filters.into_iter().find(|filter| self.configuration.config(filter, PROXY_PROTOCOL).is_some());
        filter
            .or_else(|| self.chain.place.get("use_proxy_proto").filter(|_| self.chain.place.is_true("use_proxy_proto")))
    }

    /// The addresses that a header of the PROXY protocol says.
    fn addresses_from_a_header(&mut self) {
        let Some(place) = self.proxy_protocol() else { return };
        let told = [
            (Attribute::RemoteIp, "the client's address"),
            (Attribute::DestinationPort, "the port"),
            (Attribute::DestinationIp, "the local address"),
        ];
        let because = told.iter().find_map(|(attribute, what)| self.needs.attribute(*attribute, what));
        if let Some(because) = because.map(Because::milder) {
            let and = "it comes from the PROXY protocol: whoever reaches this listener chooses it";
            let hint =
                "make sure that only a proxy that you trust reaches this listener, and accept it with --allow ME009";
            self.findings.push(because.report(&place, &CLIENT_ADDRESS, and, hint));
        }
    }

    fn peer_certificate(&mut self) {
        let Some(because) = self.needs.open_subject(Subject::Identity, "the peer's identity") else { return };
        if self.all_say(|config| config.principal_from == PrincipalFrom::FilterState) {
            self.peer_from_filter_state(&because);
            return;
        }
        let Some(context) = tls(self.chain) else {
            let hint = "add a transport_socket with `require_client_certificate: true` and a `trusted_ca`";
            let and = "without TLS no peer has one";
            self.findings.push(because.report(&self.chain.place, &PEER_CERTIFICATE, and, hint));
            return;
        };
        let setting = "require_client_certificate";
        if !context.is_true(setting) {
            let and = "a peer without a certificate has none";
            self.set(&because, &context, setting, &PEER_CERTIFICATE, and, format!("write `{setting}: true`"));
        }
        if let Some(common) = context.get("common_tls_context") {
            self.validation(&common, &because);
        }
    }

    /// Where the peer's identity comes from filter state, as on a waypoint.
    fn peer_from_filter_state(&mut self, because: &Because) {
        const KEY: &str = "io.istio.peer_principal";
        let (of_all, further) = self.stored(KEY);
        let is_sent = |value: &&Place<'c>| format_of(value).is_none_or(|text| text.contains("%REQ"));
        if let Some(value) = of_all.iter().chain(&further).find(is_sent) {
            // A peer that names itself gets past ALLOW policies, too.
            let message = format!("{}, and a client itself says here who it is", because.text);
            self.findings.push(value.error(&PEER_CERTIFICATE, message, "take it from the certificate"));
        } else if of_all.is_empty() && !self.chain.is_internal() {
            let and = format!("nothing sets {KEY}, from which `principalFrom: filter-state` takes it");
            self.findings.push(because.report(&self.chain.place, &PEER_CERTIFICATE, &and, "remove `principalFrom`"));
        }
    }

    /// Whose certificates are trusted. A secret can say it, too.
    fn validation(&mut self, common: &Place<'c>, because: &Because) {
        let combined = common.get("combined_validation_context");
        let named = common
            .get("validation_context_sds_secret_config")
            .or_else(|| combined.as_ref().and_then(|combined| combined.get("validation_context_sds_secret_config")));
        let own = common
            .get("validation_context")
            .or_else(|| combined.as_ref().and_then(|combined| combined.get("default_validation_context")));
        let secret = named.as_ref().and_then(|named| self.configuration.secrets.get(named.text("name")?));
        let of_secret = secret.into_iter().flatten().filter_map(|secret| secret.get("validation_context"));
        if let (Some(named), None) = (&named, secret) {
            let and = "whose certificates are trusted comes from elsewhere";
            let hint = "give the file with the secret as well, or the /config_dump of the running Envoy";
            self.findings.push(because.clone().milder().report(named, &UNKNOWN, and, hint));
            return;
        }
        let contexts: Vec<_> = own.into_iter().chain(of_secret).collect();
        let verifies = |context: &Place<'_>| {
            ["trusted_ca", "custom_validator_config"].into_iter().any(|name| context.get(name).is_some())
                || ["verify_certificate_spki", "verify_certificate_hash"]
                    .iter()
                    .any(|name| !context.items(name).is_empty())
        };
        if !contexts.iter().any(verifies) {
            let and =
                "without a trusted authority Envoy asks for no certificate, whatever `require_client_certificate` says";
            let hint = "write `validation_context: { trusted_ca: { filename: … } }`, with an authority that you trust";
            let place = contexts.first().unwrap_or(common);
            self.findings.push(because.report(place, &PEER_CERTIFICATE, and, hint));
        }
        let accepting = contexts.iter().filter_map(|context| context.get("trust_chain_verification"));
        if let Some(place) = accepting.into_iter().find(|place| place.is_value("ACCEPT_UNTRUSTED", 1.0)) {
            let and = "Envoy accepts certificates that no trusted authority has signed";
            // A peer that names itself gets past ALLOW policies, too.
            let message = format!("{}, and {and}", because.text);
            self.findings.push(place.report(Severity::Error, &PEER_CERTIFICATE, message, "remove it"));
        }
    }

    fn tokens(&mut self) {
        let Some(because) = self.needs.subject(Subject::Token, "tokens") else { return };
        let open = self.needs.open_subject(Subject::Token, "tokens").unwrap_or_else(|| because.clone());
        let filters = self.chain.http_filters.iter().enumerate();
        let is_verifying =
            |filter: &Place<'c>| self.configuration.extensions(filter).iter().any(|found| found.name == JWT_AUTHN);
        let all: Vec<_> = filters.filter(|(_, filter)| is_verifying(filter)).collect();
        let first = self.chain.first();
        let before: Vec<_> = all
            .iter()
            .filter(|(index, filter)| *index < first && runs_everywhere(filter, self.chain))
            .map(|(_, f)| *f)
            .collect();
        if before.is_empty() {
            match all.first() {
                None => {
                    let hint = "put `jwt_authn` before the filter, with `payload_in_metadata: payload`; `mesh-authz render \
                                filters` makes it from RequestAuthentications";
                    let and = "nothing verifies them: there are no claims";
                    self.set(&because, self.manager, "http_filters", &TOKENS, and, hint);
                }
                Some((index, filter)) if *index < first => {
                    self.findings.push(because.report(filter, &TOKENS, "this filter is disabled", "remove `disabled`"));
                }
                Some((_, filter)) => {
                    let hint = "put it before the mesh-authz filter, with `payload_in_metadata: payload`";
                    let and = "this filter verifies them only after the decision";
                    self.findings.push(because.report(filter, &TOKENS, and, hint));
                }
            }
            return;
        }
        for filter in &before {
            if let Some(config) = self.configuration.config(filter, JWT_AUTHN) {
                self.jwt_authn(filter, &config, &because, &open);
            }
        }
        for filter in self.chain.http_filters.iter().take(first) {
            if let Some(place) = writes_claims(filter) {
                let and = "this filter writes claims that nobody has verified";
                self.findings.push(because.report(&place, &TOKENS, and, "write them into another namespace"));
            }
        }
        if let Some(second) = before.get(1) {
            let and =
                "another filter stores the claims of its token in the same place: one token takes the place of another";
            let hint = "verify all tokens in one filter, whose rules take the first one: `requires_any`";
            self.findings.push(because.report(second, &TOKENS, and, hint));
        }
    }

    fn jwt_authn(&mut self, filter: &Place<'c>, config: &Place<'c>, because: &Because, open: &Because) {
        let key = self.chain.ours.iter().find_map(|ours| Some(ours.config.as_ref()?.options.jwt_payload_key.clone()));
        let key = key.unwrap_or_else(|| DEFAULT_PAYLOAD_KEY.to_owned());
        for (name, provider) in config.get("providers").iter().flat_map(Place::fields) {
            let setting = "payload_in_metadata";
            if provider.text(setting) != Some(&key) {
                let and = format!("the filter does not see the claims of provider {name}");
                self.set(because, &provider, setting, &TOKENS, &and, format!("write `{setting}: {key}`"));
            }
            let looks_at_issuers = self.needs.attribute(Attribute::RequestPrincipal, "request principals");
            if let Some(because) = looks_at_issuers.filter(|_| provider.text("issuer").is_none_or(str::is_empty)) {
                let and = format!("provider {name} has no issuer: its keys can sign tokens of every issuer");
                self.findings.push(because.report(&provider, &TOKENS, &and, "write `issuer`"));
            }
            let words = provider.get("normalize_payload_in_metadata");
            let words = words.map(|words| words.items("space_delimited_claims")).unwrap_or_default();
            for claim in ["scope", "permission"].into_iter().filter(|claim| self.needs.has_claim(claim)) {
                if !words.iter().any(|word| word.node.as_str() == Some(claim)) {
                    let and = format!("the words of the claim {claim} are not told apart, as they are in Istio");
                    let hint = format!(
                        "write `normalize_payload_in_metadata: {{ space_delimited_claims: [{claim}] }}` into the provider"
                    );
                    self.findings.push(open.report(&provider, &TOKENS, &and, hint));
                }
            }
        }
        let rules = config.items("rules");
        let has_rules = !rules.is_empty() || config.get("filter_state_rules").is_some();
        if !has_rules {
            let hint = "write `rules: [{ match: { prefix: / }, requires: … }]`";
            self.findings.push(because.report(
                filter,
                &TOKENS,
                "this filter has no rules, so it verifies nothing",
                hint,
            ));
            return;
        }
        // A requirement without content requires nothing.
        let named = |name: &str| {
            let map = config.get("requirement_map")?;
            map.fields().find(|(key, _)| *key == name).map(|(_, requirement)| requirement)
        };
        let requires = |rule: &Place<'c>| {
            let own = rule.get("requires").or_else(|| named(rule.text("requirement_name")?));
            own.is_some_and(|requirement| !is_empty(&requirement))
        };
        let name = filter.text("name").unwrap_or_default();
        for of_route in per_filter_configs(self.chain, name) {
            let requirement = of_route.text("requirement_name").map(named);
            if requirement.is_some_and(|found| found.is_none_or(|requirement| is_empty(&requirement))) {
                let and = "this requires no token here: requests have no claims";
                self.findings.push(open.report(&of_route, &TOKENS, and, "name a requirement that has something in it"));
            }
        }
        for rule in rules.iter().filter(|rule| !requires(rule)) {
            let and = "requests that match this rule keep their tokens unverified: they have no claims";
            self.findings.push(open.report(rule, &TOKENS, and, "remove the rule, or write `requires`"));
        }
        let is_for_all = |rule: &Place<'c>| {
            let Some(found) = rule.get("match") else { return false };
            found.text("prefix") == Some("/") && found.fields().count() == 1 && requires(rule)
        };
        if config.get("filter_state_rules").is_none() && !rules.iter().any(is_for_all) {
            let and = "no rule is for all requests: the others have no claims";
            let hint = "let the last rule have `match: { prefix: / }`, with `requires`";
            let place = config.get("rules").unwrap_or_else(|| filter.clone());
            self.findings.push(open.report(&place, &TOKENS, and, hint));
        }
        let required = rules.iter().filter_map(|rule| rule.get("requires"));
        let required = required.chain(
            config
                .get("requirement_map")
                .into_iter()
                .flat_map(|map| map.fields().map(|(_, one)| one).collect::<Vec<_>>()),
        );
        for all in required.filter_map(|requirement| several_tokens(&requirement, false)) {
            let and = "several tokens store their claims in the same place: one token takes the place of another";
            self.findings.push(because.report(
                &all,
                &TOKENS,
                and,
                "require one token, or give the providers other keys",
            ));
        }
    }

    /// What `set_filter_state` must tell about the peer.
    fn filter_state(&mut self) {
        let from_filter_state =
            self.chain.ours.iter().any(|ours| {
                ours.config.as_ref().is_none_or(|config| config.source_ip_from == SourceIpFrom::FilterState)
            });
        let address = self.needs.attribute(Attribute::SourceIp, "the address of the direct peer");
        let address = address.filter(|_| from_filter_state);
        let identity = self.needs.open_subject(Subject::Identity, "the peer's identity");
        let identity = identity.filter(|_| !self.all_say(|config| config.principal_from == PrincipalFrom::FilterState));
        let told = self.told();
        let older = [
            (address, &DIRECT_PEER, "mesh_authz.source_ip", "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%"),
            (identity, &SECOND_URI, "mesh_authz.peer_uris", "%DOWNSTREAM_PEER_URI_SAN%"),
        ];
        for (because, check, key, operator) in older {
            let Some(because) = because else { continue };
            let is_address = std::ptr::eq(check, &raw const DIRECT_PEER);
            let (place, and) = match &told {
                Told::Rightly => continue,
                Told::BeforeTheHandshake(_) if is_address => continue,
                Told::BeforeTheHandshake(place) => (
                    Some(place.clone()),
                    "`on_new_connection` comes before the TLS handshake, when no certificate is known",
                ),
                Told::Otherwise(place) => {
                    (Some(place.clone()), "`mesh_authz.peer`, from which the filter takes it, is set otherwise here")
                }
                Told::Twice(place) => (
                    Some(place.clone()),
                    "a network filter and an HTTP filter set `mesh_authz.peer`, which has one value",
                ),
                Told::Nowhere if self.provides(key, operator) => continue,
                Told::Nowhere if is_address => (None, "nothing provides it"),
                Told::Nowhere => (None, "nothing shows that a certificate has a second URI"),
            };
            let place = place.or_else(|| self.manager.get("http_filters")).unwrap_or_else(|| self.manager.clone());
            let hint = match &told {
                Told::Twice(_) => "remove the HTTP filter".to_owned(),
                _ => format!(
                    "put the network filter `set_filter_state` before the connection manager; in \
                     `on_downstream_tls_handshake` with `object_key: {PEER}`, `factory_key: envoy.string` and the text \
                     `{}`; `mesh-authz render filters` prints it, and an HTTP filter for Envoy before 1.37",
                    PEER_FORMAT.replace('\n', "\\n")
                ),
            };
            self.findings.push(because.report(&place, check, and, hint));
        }
    }

    /// Where `mesh_authz.peer` is set, and whether it is what the filter expects.
    fn told(&self) -> Told<'c> {
        let (of_requests, further) = self.stored(PEER);
        let is_right = |value: &&Place<'c>| is_text(value, PEER_FORMAT);
        if let Some(wrong) = of_requests.iter().chain(&further).find(|value| !is_right(value)) {
            return Told::Otherwise(wrong.clone());
        }
        let filters = self.chain.place.items("filters");
        let configs = filters.iter().filter_map(|filter| self.configuration.config(filter, NETWORK_STATE));
        let (mut early, mut once, mut other) = (Vec::new(), Vec::new(), Vec::new());
        for (field, values) in configs.flat_map(|config| config.children().collect::<Vec<_>>()) {
            let found = match &*field {
                "on_new_connection" => &mut early,
                "on_downstream_tls_handshake" => &mut once,
                _ => &mut other,
            };
            add_values(&values, PEER, found);
        }
        match (early.first(), once.first(), of_requests.first()) {
            (Some(_), _, Some(of_requests)) | (_, Some(_), Some(of_requests)) => Told::Twice(of_requests.clone()),
            (Some(early), None, None) if other.is_empty() && tls(self.chain).is_some() => {
                Told::BeforeTheHandshake(early.clone())
            }
            (None, None, Some(_)) | (None, Some(_), None) | (Some(_), None, None) if other.is_empty() => Told::Rightly,
            _ => early.into_iter().chain(other).chain(further).next().map_or(Told::Nowhere, Told::Otherwise),
        }
    }

    /// The values that are stored under this key before ours decides: by filters, for some routes, or for the connection.
    fn stored(&self, key: &str) -> (Vec<Place<'c>>, Vec<Place<'c>>) {
        let before = self.chain.http_filters.iter().take(self.chain.first());
        let configs = |filter: &Place<'c>| self.configuration.config(filter, SET_FILTER_STATE);
        let of_all = before.clone().filter(|filter| runs_everywhere(filter, self.chain)).filter_map(configs);
        let of_some = before.clone().filter(|filter| !runs_everywhere(filter, self.chain)).filter_map(configs);
        let of_routes = before
            .filter(|filter| configs(filter).is_some())
            .flat_map(|filter| per_filter_configs(self.chain, filter.text("name").unwrap_or_default()));
        let of_connection = self.chain.place.items("filters");
        let of_connection = of_connection.into_iter().chain(self.chain.listener.items("listener_filters"));
        let of_connection =
            of_connection.filter(|filter| self.configuration.config(filter, CONNECTION_MANAGER).is_none());
        let mut further: Vec<_> = of_some.chain(of_routes).collect();
        further.extend(of_connection);
        let values = |config: &Place<'c>| {
            let mut found = Vec::new();
            add_values(config, key, &mut found);
            found
        };
        let of_all: Vec<_> = of_all.flat_map(|config| values(&config)).collect();
        (of_all, further.iter().flat_map(values).collect())
    }

    /// Whether a filter before ours stores the value of this operator under this key, and nothing stores another one.
    fn provides(&self, key: &str, operator: &str) -> bool {
        let (of_all, further) = self.stored(key);
        let is_right = |value: &Place<'c>| is_text(value, operator);
        !of_all.is_empty() && of_all.iter().chain(&further).all(is_right)
    }

    /// Whether the filter that tells the peer stands behind ours. Then nobody knows when it has told it.
    fn told_behind(&mut self) {
        let identity = self.needs.open_subject(Subject::Identity, "the peer's identity");
        let address = self.needs.attribute(Attribute::SourceIp, "the address of the direct peer");
        let Some(because) = identity.or(address) else { return };
        let filters = self.chain.filters();
        let mut behind = filters.iter().skip(self.chain.first());
        let tells = |filter: &&Place<'c>| {
            let mut found = Vec::new();
            if let Some(config) = self.configuration.config(filter, NETWORK_STATE) {
                add_values(&config, PEER, &mut found);
            }
            !found.is_empty()
        };
        if let Some(filter) = behind.find(tells) {
            let message =
                format!("{}, and this filter, which tells it, stands behind the mesh-authz filter", because.text);
            self.findings.push(filter.error(&DIRECT_PEER, message, "put it before the mesh-authz filter"));
        }
    }

    /// Whether Envoy connects to the application before the TLS handshake is over.
    fn connects_too_early(&mut self) {
        let identity = self.needs.open_subject(Subject::Identity, "the peer's identity");
        let address = self.needs.attribute(Attribute::SourceIp, "the address of the direct peer");
        let Some(because) = identity.or(address) else { return };
        if tls(self.chain).is_none() {
            return;
        }
        let filters = self.chain.place.items("filters");
        for proxy in filters.iter().filter_map(|filter| self.configuration.config(filter, TCP_PROXY)) {
            let mode = proxy.get("upstream_connect_mode");
            if !mode.as_ref().is_some_and(|mode| mode.is_value("ON_DOWNSTREAM_TLS_HANDSHAKE", 2.0)) {
                let and = "Envoy connects to the application before it knows the peer: if the application speaks first, the filter \
                           closes the connection";
                let hint = "write `upstream_connect_mode: ON_DOWNSTREAM_TLS_HANDSHAKE` and `max_early_data_bytes: 0`";
                self.findings.push(because.clone().milder().report(&proxy, &CONNECTS_EARLY, and, hint));
            }
        }
    }

    fn server_name(&mut self) {
        let Some(because) = self.needs.attribute(Attribute::Sni, "the server name") else { return };
        let listener = &self.chain.listener;
        // QUIC has it from the handshake.
        let is_quic = self
            .chain
            .place
            .get("transport_socket")
            .is_some_and(|socket| socket.typed_config().is_some_and(|(name, _)| name == QUIC));
        if is_quic {
            return;
        }
        let filters = listener.items("listener_filters");
        let inspects = |filter: &&Place<'c>| self.configuration.config(filter, TLS_INSPECTOR).is_some();
        match filters.iter().find(inspects) {
            None => {
                let and = "nothing reads it";
                let hint = "add the listener filter `tls_inspector`";
                self.set(&because, listener, "listener_filters", &SERVER_NAME, and, hint);
            }
            Some(filter) => {
                if let Some(disabled) = filter.get("filter_disabled") {
                    let and = "the filter that reads it is disabled for some connections";
                    self.findings.push(because.report(&disabled, &SERVER_NAME, and, "remove `filter_disabled`"));
                }
                let setting = "continue_on_listener_filters_timeout";
                if let Some(place) = listener.get(setting).filter(|_| listener.is_true(setting)) {
                    let and = "Envoy goes on without it if a client is slow";
                    self.findings.push(because.report(&place, &SERVER_NAME, and, "remove it"));
                }
            }
        }
    }
}

/// What is set as `mesh_authz.peer` before ours decides.
enum Told<'c> {
    /// The three fields, for every request.
    Rightly,
    /// The three fields, but at a time when Envoy knows no certificate.
    BeforeTheHandshake(Place<'c>),
    /// Something else, or not for every request.
    Otherwise(Place<'c>),
    /// For the connection, and again for each request, which Envoy refuses.
    Twice(Place<'c>),
    /// Nothing: the filter reads older filter state.
    Nowhere,
}

/// The TLS configuration of a chain.
fn tls<'c>(chain: &Chain<'c>) -> Option<Place<'c>> {
    match chain.place.get("transport_socket")?.typed_config()? {
        (TLS, context) => Some(context),
        (QUIC, transport) => transport.get("downstream_tls_context"),
        // For example a socket that records what another one does.
        (_, other) => {
            let (name, context) = other.get("transport_socket")?.typed_config()?;
            (name == TLS).then_some(context)
        }
    }
}

/// The values for a filter state with this key.
fn add_values<'c>(place: &Place<'c>, key: &str, found: &mut Vec<Place<'c>>) {
    if place.text("object_key") == Some(key) {
        found.push(place.clone());
    }
    for (_, child) in place.children() {
        add_values(&child, key, found);
    }
}

/// Whether this text is stored, as the filter can read it.
fn is_text(value: &Place<'_>, format: &str) -> bool {
    format_of(value) == Some(format) && value.text("factory_key") == Some("envoy.string")
}

/// The text of a format.
fn format_of<'c>(value: &Place<'c>) -> Option<&'c str> {
    let format = value.get("format_string")?;
    let text = format.get("text_format_source").and_then(|source| source.text("inline_string"));
    text.or_else(|| format.text("text_format"))
}

/// Where a filter other than `jwt_authn` writes the metadata that has claims.
fn writes_claims<'c>(filter: &Place<'c>) -> Option<Place<'c>> {
    let name = filter.get("metadata_namespace").filter(|name| name.node.as_str() == Some(JWT_METADATA));
    name.or_else(|| filter.children().find_map(|(_, child)| writes_claims(&child)))
}

fn is_empty(place: &Place<'_>) -> bool {
    matches!(&place.node.value, Value::Map(fields) if fields.is_empty())
}

/// A requirement of several tokens. Istio writes one behind the providers themselves: the first token that is there decides then.
fn several_tokens<'c>(requirement: &Place<'c>, is_behind_providers: bool) -> Option<Place<'c>> {
    if let Some(all) = requirement.get("requires_all") {
        return (!is_behind_providers && all.items("requirements").len() > 1).then_some(all);
    }
    let members = requirement.get("requires_any")?.items("requirements");
    let mut are_providers = true;
    members.iter().enumerate().find_map(|(index, member)| {
        let found = several_tokens(member, are_providers && index > 0);
        are_providers &= member.get("provider_name").is_some();
        found
    })
}

/// A key of the runtime that is not at 100 percent. The dots in its name can also be levels.
fn runtime<'c>(layer: &Place<'c>, key: &str) -> Option<Place<'c>> {
    let found = layer.fields().find_map(|(name, value)| match key.strip_prefix(name) {
        Some("") => Some(value),
        Some(rest) => runtime(&value, rest.strip_prefix('.')?),
        None => None,
    })?;
    let is_whole = match &found.node.value {
        Value::Number(percent) => *percent >= 100.0,
        Value::Bool(is_on) => *is_on,
        _ => found.number("numerator") >= 100.0 && found.get("denominator").is_none(),
    };
    (!is_whole).then_some(found)
}
