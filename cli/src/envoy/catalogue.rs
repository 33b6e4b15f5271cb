//! The codes of the findings in Envoy's configuration.

/// A check of Envoy's configuration, with its documentation.
#[derive(Debug)]
pub struct EnvoyCheck {
    /// `ME` and three digits. A code is never reused or renumbered.
    pub code: &'static str,
    /// A short name in kebab-case.
    pub name: &'static str,
    /// What the check finds, as a noun phrase.
    pub summary: &'static str,
    /// Why that matters, and what to do.
    pub explanation: &'static str,
}

/// The check with this code. Case does not matter.
#[must_use]
pub fn find(code: &str) -> Option<&'static EnvoyCheck> {
    CATALOGUE.into_iter().find(|check| check.code.eq_ignore_ascii_case(code))
}

macro_rules! catalogue {
    ($($constant:ident: $code:literal, $name:literal, $summary:literal, $explanation:literal;)*) => {
        $(pub static $constant: EnvoyCheck =
            EnvoyCheck { code: $code, name: $name, summary: $summary, explanation: $explanation };)*

        /// All checks, sorted by code.
        pub static CATALOGUE: [&EnvoyCheck; [$($code),*].len()] = [$(&$constant),*];
    };
}

catalogue! {
    NO_FILTER: "ME001", "no-filter", "no filter chain has the filter",
        "Nothing decides about requests, or the filter has no policy. `mesh-authz render filters` prints the HTTP filters to put \
         before the router.";
    SIDE_DOOR: "ME002", "side-door", "a filter chain that leads to the same application without the filter",
        "Whoever can reach this listener reaches the application, whatever the policies say. Two clusters are the same \
         application if they have a name or an endpoint in common; names are compared, and not resolved. Put the filters, with the \
         same policies, into the other chain as well, or remove its route. If only trusted peers reach the listener, accept that \
         with --allow ME002.";
    SWITCHED_OFF: "ME003", "switched-off", "a setting that takes the filter out of the way of some requests",
        "A filter can be disabled, for everything or for a route; it can be optional; upgraded requests can have filters of \
         their own; and a matcher can choose the requests that a filter sees. The other requests pass without a decision. If Envoy \
         ends a CONNECT tunnel, nobody decides about what goes through it.";
    CHANGED_AFTERWARDS: "ME004", "changed-afterwards", "a filter behind mesh-authz that can change what was decided about",
        "If a filter changes the method, the path, the host or a header behind mesh-authz, the application gets a request that \
         nobody has decided about. Put such a filter before mesh-authz. docs/other-filters.md has the order of the usual filters.";
    ANSWERED_BEFORE: "ME005", "answered-before", "a filter before mesh-authz that answers in place of the application",
        "What the filter answers, nobody has decided about. A cache skips the filters after it: before mesh-authz, it passes every \
         GET request without the header `authorization`. Put the filter behind mesh-authz.";
    PATH: "ME006", "path-not-normalized", "a connection manager that leaves paths as they were sent",
        "`/public/../admin`, `//admin` and `/%2Fadmin` reach the policies as they are, and many applications serve `/admin` for \
         them. Set normalize_path, merge_slashes and path_with_escaped_slashes_action; or let the filter refuse such requests, \
         by `paths: strict` in the plugin configuration.";
    PATH_PARAMETERS: "ME007", "path-parameters", "routes that ignore the parameters in a path",
        "A route for `/admin` then also serves `/admin;x=y`, which is a different path to the policies.";
    HOST_DOT: "ME008", "host-dot", "a connection manager that keeps the dot at the end of a host",
        "`example.com.` is the same site as `example.com`, and an ALLOW policy for `example.com` does not match it.";
    CLIENT_ADDRESS: "ME009", "client-address", "a client that can choose its own address",
        "Without use_remote_address, Envoy takes the client's address from X-Forwarded-For, which every client can send. With it, \
         Envoy takes the address of the connection, or, with xff_num_trusted_hops, the one that a trusted proxy has added.";
    PEER_CERTIFICATE: "ME010", "peer-certificate", "a peer that needs no certificate, or whose certificate nobody verifies",
        "Policies look at the peer's identity, which is in its certificate. A peer without a certificate has no identity, so a \
         DENY policy about identities does not stop it. Without a trusted authority, Envoy does not ask for a certificate, even if \
         it is required. With ACCEPT_UNTRUSTED, Envoy accepts a certificate that the peer has made by itself, with any name in it.";
    FAIL_OPEN: "ME011", "fail-open", "a filter that lets requests pass while it cannot run",
        "With FAIL_OPEN, nobody decides about requests after a breakdown of the filter. The default is FAIL_CLOSED.";
    TOKENS: "ME012", "tokens", "policies about tokens that nothing verifies",
        "The filter knows the claims of a token from `jwt_authn`, which must come before it, and must store the payload where \
         the filter looks for it: `payload_in_metadata: payload`. Without it, a DENY policy about a claim matches nothing.";
    DIRECT_PEER: "ME013", "direct-peer", "an address of the direct peer that nothing provides",
        "Envoy does not show the address of the direct peer to a Wasm filter. The network filter `set_filter_state` tells it, in \
         `mesh_authz.peer`. Without it, `ipBlocks` counts against every request.";
    SECOND_URI: "ME014", "second-uri", "nothing that shows a second URI in a certificate",
        "Envoy shows only the first URI in a certificate to a Wasm filter. If an authority certifies several in one certificate, \
         a DENY policy about the second does not stop the peer. The network filter `set_filter_state` shows that there are \
         several, in `mesh_authz.peer`, once the TLS handshake is done: Envoy knows no certificate in `on_new_connection`.";
    SERVER_NAME: "ME015", "server-name", "a server name that nothing reads",
        "Only the listener filter `tls_inspector` reads the server name in the client's handshake, also where Envoy ends TLS. \
         Without it, or if Envoy goes on without it, no connection has a server name, and a DENY policy about one lets all pass.";
    REFUSED: "ME016", "refused-configuration", "a plugin configuration that the filter refuses",
        "Envoy does not start with it, or refuses the update.";
    UNKNOWN: "ME017", "not-in-the-input", "a part of the configuration that is not in the input",
        "Envoy gets this part from elsewhere, so nothing is known of it. Give the file as well, or the `/config_dump` of a \
         running Envoy, which has everything: `curl -s localhost:15000/config_dump?include_eds`.";
    AMBIGUOUS: "ME018", "ambiguous", "something that Envoy reads otherwise than it looks",
        "A field is there twice, and Envoy takes the last one; it is there in two spellings, and each start of Envoy can take \
         another one; a file has a second document, which Envoy does not read; or a key has the tag `!ignore`, and Envoy leaves \
         it out.";
    REWRITTEN: "ME019", "rewritten", "a route that changes what the policies look at",
        "Routes change a request after all filters. The policies look at the path, the host and the headers that the client sends, \
         and the application gets others: a policy about `/admin` says nothing about `/api/admin`, which a route rewrites to \
         `/admin`. In Istio, this is the same. It is an error if a client chooses the result. Write policies about what clients \
         send, and accept the rest with --allow ME019.";
    PROVIDER: "ME020", "provider", "a provider of a CUSTOM policy that Envoy does not ask, or not about all requests",
        "With `custom: native`, the filter leaves CUSTOM policies to two filters before it: an RBAC filter finds out which requests \
         they match, and `ext_authz` asks the provider about these. `mesh-authz render filters` prints both. If a route disables \
         one of them, or if `ext_authz` lets requests pass while the provider does not answer, requests pass that the provider has \
         not allowed.";
    OTHER_POLICIES: "ME021", "other-policies", "policies of the filter that are not those that are given",
        "The command was given policies, and the configuration of Envoy. The filter enforces what is in its configuration: a policy \
         that is missing there, or an older one, is not enforced, whatever the file says. Policies for other workloads do not count.";
    CONNECTS_EARLY: "ME022", "connects-early", "a connection to the application before the peer is known",
        "Until the TLS handshake is over, nobody knows the peer of a TCP connection. If the application speaks first and the \
         policies ask who the peer is, the filter closes the connection: nothing that the application says can be held back. With \
         `upstream_connect_mode: ON_DOWNSTREAM_TLS_HANDSHAKE`, Envoy connects to the application after the handshake. Envoy 1.37 and \
         later have this. If the client speaks first, accept the finding with --allow ME022.";
    SAME_NAME: "ME023", "same-name", "plugins with one name and different policies",
        "With `onInvalid: deny`, a plugin whose new configuration has a mistake goes on with the last valid one of the same plugin \
         name in this Envoy. If another filter has that name, for example the one for TCP beside the one for HTTP, that is the \
         configuration of the other filter.";
}
