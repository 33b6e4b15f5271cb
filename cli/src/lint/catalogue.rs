//! Every lint: its code, what it means, and an example that it fires on and one that it does not.
//!
//! The texts are what `mesh-authz check --explain CODE` prints and what docs/lints.md is generated from; the examples are
//! run by the tests.

use std::fmt::Write as _;

/// A question about policies, and why it is asked.
#[derive(Debug)]
pub struct Lint {
    /// Never reused and never renumbered.
    pub code: &'static str,
    /// A name for people.
    pub name: &'static str,
    /// What it finds, in a sentence.
    pub summary: &'static str,
    /// Why that is a problem, and what to do about it.
    pub explanation: &'static str,
    /// Policies that it fires on; what comes before `spec` is left out where it does not matter.
    pub bad: &'static str,
    /// The same, as it should be.
    pub good: &'static str,
    /// The trust domain that the examples are about, if not the default.
    pub trust_domain: Option<&'static str>,
}

/// The lint of this code.
#[must_use]
pub fn find(code: &str) -> Option<&'static Lint> {
    CATALOGUE.iter().find(|lint| lint.code.eq_ignore_ascii_case(code))
}

/// The page of the documentation that has them all.
#[must_use]
pub fn page() -> String {
    let mut page = String::from(INTRODUCTION);
    for Lint { code, name, summary, .. } in &CATALOGUE {
        let _infallible = writeln!(page, "| [{code}](#{}-{name}) | {name} | {summary} |", code.to_lowercase());
    }
    for Lint { code, name, explanation, bad, good, trust_domain, .. } in &CATALOGUE {
        let explanation = textwrap::fill(explanation, textwrap::Options::new(120).break_words(false));
        let flags = trust_domain.map_or_else(String::new, |domain| format!(" with `--trust-domain {domain}`"));
        let _infallible = write!(
            page,
            "\n## {code} {name}\n\n{explanation}\n\nIt fires{flags} on\n\n```yaml\n{}\n```\n\nand not on\n\n```yaml\n{}\n```\n",
            bad.trim(),
            good.trim()
        );
    }
    page
}

const INTRODUCTION: &str = "\
# Lints

What `mesh-authz check` asks about valid policies. A code never changes its meaning. `mesh-authz check --explain CODE` prints
what stands here; `--allow CODE` leaves a lint out, and the annotation `mesh-authz/allow: CODE,…` does so for one policy.

This page is made from the code.

| code | name | finds |
| --- | --- | --- |
";

/// All lints, by code.
pub static CATALOGUE: [Lint; 29] = [
    Lint {
        code: "MA001",
        name: "unreachable-allow",
        summary: "an ALLOW rule that a DENY rule makes pointless",
        explanation: "Under Istio's rules a DENY that matches beats every ALLOW. Here a DENY rule matches whatever this \
            ALLOW rule matches, for all of its workloads: the ALLOW rule never lets a request pass. Often the DENY was \
            meant as \"deny by default\". In Istio that is written as an ALLOW policy without rules: it never matches, \
            and because it applies, whatever no other ALLOW policy permits is refused.",
        bad: r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: deny-all
spec:
  action: DENY
  rules:
  - {}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: allow-frontend
spec:
  rules:
  - from:
    - source:
        principals: ["cluster.local/ns/default/sa/frontend"]
"#,
        good: r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: allow-nothing
spec: {}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: allow-frontend
spec:
  rules:
  - from:
    - source:
        principals: ["cluster.local/ns/default/sa/frontend"]
"#,
        trust_domain: None,
    },
    Lint {
        code: "MA002",
        name: "never-matches",
        summary: "a rule that no request can match",
        explanation: "Two conditions of the rule exclude each other in every alternative: a value that must match is also \
            among those that must not, or two fields ask for different values of one thing. A DENY that matches nothing \
            protects nothing; an ALLOW that matches nothing refuses everything.",
        bad: r#"
spec:
  action: DENY
  rules:
  - to:
    - operation:
        ports: ["8080"]
    when:
    - key: destination.port
      values: ["9090"]
"#,
        good: r#"
spec:
  action: DENY
  rules:
  - to:
    - operation:
        ports: ["8080", "9090"]
"#,
        trust_domain: None,
    },
    Lint {
        code: "MA003",
        name: "plaintext-slips-past-deny",
        summary: "a DENY by identity, which a peer without an identity does not match",
        explanation: "principals, namespaces, serviceAccounts and trustDomains look at the peer's certificate. A peer that \
            comes in plaintext has none, so a DENY rule that asks for one of these does not match it, and the request \
            passes unless something else stops it. The lint is silent where something does: a DENY with \
            `notPrincipals: [\"*\"]`, ALLOW policies that all ask for an identity, or a PeerAuthentication in the \
            input with `mtls.mode: STRICT`.",
        bad: r#"
spec:
  action: DENY
  rules:
  - from:
    - source:
        namespaces: ["dev"]
"#,
        good: r#"
spec:
  action: DENY
  rules:
  - from:
    - source:
        namespaces: ["dev"]
  - from:
    - source:
        notPrincipals: ["*"]
"#,
        trust_domain: None,
    },
    Lint {
        code: "MA004",
        name: "plaintext-satisfies-allow",
        summary: "an ALLOW that only leaves identities out, which every plaintext peer satisfies",
        explanation: "A `not` field holds when the request has no such thing. An ALLOW rule with notPrincipals, \
            notNamespaces, notServiceAccounts or notTrustDomains and nothing that asks for an identity therefore permits \
            every peer without one. Ask for an identity besides: `principals: [\"*\"]`. The lint is silent where \
            plaintext is refused anyway, as with MA003.",
        bad: r#"
spec:
  rules:
  - from:
    - source:
        notNamespaces: ["dev"]
"#,
        good: r#"
spec:
  rules:
  - from:
    - source:
        principals: ["*"]
        notNamespaces: ["dev"]
"#,
        trust_domain: None,
    },
    Lint {
        code: "MA005",
        name: "host-without-port",
        summary: "a host that is meant to be refused, but not with a port behind it",
        explanation: "hosts are compared with the `:authority` as the client sent it, port included: `httpbin.com` does not \
            match `httpbin.com:80`, which reaches the same application. Where a match refuses (hosts in DENY, \
            notHosts in ALLOW), list the form with a port too.",
        bad: r#"
spec:
  action: DENY
  rules:
  - to:
    - operation:
        hosts: ["httpbin.com"]
        ports: ["8080"]
"#,
        good: r#"
spec:
  action: DENY
  rules:
  - to:
    - operation:
        hosts: ["httpbin.com", "httpbin.com:*"]
        ports: ["8080"]
"#,
        trust_domain: None,
    },
    Lint {
        code: "MA006",
        name: "method-not-in-capitals",
        summary: "a method with a lower-case letter",
        explanation: "Methods are compared with their case, and clients send them in capitals: `get` matches no request.",
        bad: r#"
spec:
  rules:
  - to:
    - operation:
        methods: ["get"]
"#,
        good: r#"
spec:
  rules:
  - to:
    - operation:
        methods: ["GET"]
"#,
        trust_domain: None,
    },
    Lint {
        code: "MA007",
        name: "scheme-in-principal",
        summary: "a principal that begins with `spiffe://`",
        explanation: "A principal is written without the scheme: Istio puts `spiffe://` in front of it, so that a value with \
            the scheme is compared as `spiffe://spiffe://…` and matches nobody.",
        bad: r#"
spec:
  rules:
  - from:
    - source:
        principals: ["spiffe://cluster.local/ns/default/sa/frontend"]
"#,
        good: r#"
spec:
  rules:
  - from:
    - source:
        principals: ["cluster.local/ns/default/sa/frontend"]
"#,
        trust_domain: None,
    },
    Lint {
        code: "MA008",
        name: "principal-beyond-aliases",
        summary: "a principal of the mesh's trust domain that does not stand for its aliases",
        explanation: "A principal of exactly five parts, TRUST-DOMAIN/ns/NAMESPACE/sa/NAME, that names the mesh's trust \
            domain, an alias of it or cluster.local stands for the same workload in all of the mesh's trust domains. A \
            principal of another number of parts, such as `cluster.local/ns/foo/*`, is taken as written: in a mesh whose \
            trust domain is `td1` it matches nobody. In trustDomains, `cluster.local` never stands for the mesh.",
        bad: r#"
spec:
  rules:
  - from:
    - source:
        principals: ["cluster.local/ns/foo/*"]
"#,
        good: r#"
spec:
  rules:
  - from:
    - source:
        namespaces: ["foo"]
        trustDomains: ["td1"]
"#,
        trust_domain: Some("td1"),
    },
    Lint {
        code: "MA009",
        name: "path-without-slash",
        summary: "a path that begins neither with a slash nor with a wildcard",
        explanation: "Every request's path begins with a slash, so this value matches nothing.",
        bad: r#"
spec:
  rules:
  - to:
    - operation:
        paths: ["api/v1/data"]
"#,
        good: r#"
spec:
  rules:
  - to:
    - operation:
        paths: ["/api/v1/data"]
"#,
        trust_domain: None,
    },
    Lint {
        code: "MA010",
        name: "selector-matches-nothing",
        summary: "a selector that none of the workloads given carries",
        explanation: "A policy whose labels no workload has applies to nothing, and nobody notices. Workloads are known from \
            the input (Pods, Deployments, StatefulSets, DaemonSets, ReplicaSets, Jobs, CronJobs, WorkloadEntries and \
            WorkloadGroups) and from --namespace and --label; without any, the lint is silent.",
        bad: r"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: backend
spec:
  selector:
    matchLabels:
      app: bakend
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: backend
spec:
  template:
    metadata:
      labels:
        app: backend
",
        good: r"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: backend
spec:
  selector:
    matchLabels:
      app: backend
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: backend
spec:
  template:
    metadata:
      labels:
        app: backend
",
        trust_domain: None,
    },
    Lint {
        code: "MA011",
        name: "duplicate-name",
        summary: "two policies of one namespace and name",
        explanation: "A cluster keeps one resource of a name: the one applied last replaces the other without a word. This is \
            an error, not a warning.",
        bad: r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: backend
spec: {}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: backend
spec:
  rules:
  - to:
    - operation:
        methods: ["GET"]
"#,
        good: r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: backend-nothing
spec: {}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: backend-get
spec:
  rules:
  - to:
    - operation:
        methods: ["GET"]
"#,
        trust_domain: None,
    },
    Lint {
        code: "MA012",
        name: "shadowed-rule",
        summary: "a rule whose requests another rule of the same action matches already",
        explanation: "The other rule matches whatever this one matches, for all of its workloads. The rule changes no \
            decision: it is left over, or the other one is wider than it should be.",
        bad: r#"
spec:
  rules:
  - to:
    - operation:
        paths: ["/api/*"]
  - to:
    - operation:
        methods: ["GET"]
        paths: ["/api/v1/data"]
"#,
        good: r#"
spec:
  rules:
  - to:
    - operation:
        methods: ["GET"]
        paths: ["/api/*"]
  - to:
    - operation:
        methods: ["POST"]
        paths: ["/api/v1/data"]
"#,
        trust_domain: None,
    },
    Lint {
        code: "MA013",
        name: "deny-on-tcp",
        summary: "a DENY rule that also refuses all traffic on TCP ports",
        explanation: "On a port that is not HTTP, Istio applies a DENY rule without its HTTP fields. If nothing is left then of \
            one of its sources, of one of its operations and of its conditions, it refuses every connection there. Name the \
            ports that the rule is for. (This filter decides about HTTP only; in Istio the same policy also reaches the TCP \
            filter.)",
        bad: r#"
spec:
  action: DENY
  rules:
  - to:
    - operation:
        methods: ["DELETE"]
"#,
        good: r#"
spec:
  action: DENY
  rules:
  - to:
    - operation:
        methods: ["DELETE"]
        ports: ["8080"]
"#,
        trust_domain: None,
    },
    Lint {
        code: "MA014",
        name: "principal-without-trust-domain",
        summary: "a principal that has no trust domain in it",
        explanation: "A principal is TRUST-DOMAIN/ns/NAMESPACE/sa/NAME. A value that begins with `ns/`, or has no slash and no \
            wildcard, matches no identity that a mesh hands out. serviceAccounts takes NAMESPACE/NAME, of whatever trust \
            domain.",
        bad: r#"
spec:
  rules:
  - from:
    - source:
        principals: ["ns/default/sa/frontend"]
"#,
        good: r#"
spec:
  rules:
  - from:
    - source:
        principals: ["cluster.local/ns/default/sa/frontend"]
"#,
        trust_domain: None,
    },
    Lint {
        code: "MA015",
        name: "literal-wildcard",
        summary: "a `*` in the middle of a value, where it is a character like any other",
        explanation: "A `*` is a wildcard at the beginning or at the end of a value, and only one of the two; anywhere else it \
            stands for itself, and no request has one there. For paths there are templates: `{*}` is one segment, `{**}` \
            any number. For principals there are namespaces, serviceAccounts and trustDomains.",
        bad: r#"
spec:
  rules:
  - to:
    - operation:
        paths: ["/users/*/orders"]
"#,
        good: r#"
spec:
  rules:
  - to:
    - operation:
        paths: ["/users/{*}/orders"]
"#,
        trust_domain: None,
    },
    Lint {
        code: "MA016",
        name: "path-with-query",
        summary: "a path with a `?` or a `#` in it",
        explanation: "paths are compared with the request's path up to the first `?` or `#`, so a value with one of them matches \
            nothing. The whole `:path`, query included, is `request.headers[:path]`.",
        bad: r#"
spec:
  rules:
  - to:
    - operation:
        paths: ["/search?q=*"]
"#,
        good: r#"
spec:
  rules:
  - to:
    - operation:
        paths: ["/search"]
"#,
        trust_domain: None,
    },
    Lint {
        code: "MA017",
        name: "trailing-slash",
        summary: "a path that is meant to be refused, but not with or without its trailing slash",
        explanation: "`/admin` and `/admin/` are two paths to a policy, and one to many applications. Where a match refuses \
            (paths in DENY, notPaths in ALLOW), list both. A prefix `/admin/*` and a template `/admin/{**}` do not match \
            `/admin` itself.",
        bad: r#"
spec:
  action: DENY
  rules:
  - to:
    - operation:
        paths: ["/admin"]
        ports: ["8080"]
"#,
        good: r#"
spec:
  action: DENY
  rules:
  - to:
    - operation:
        paths: ["/admin", "/admin/*"]
        ports: ["8080"]
"#,
        trust_domain: None,
    },
    Lint {
        code: "MA018",
        name: "foreign-pattern",
        summary: "a path in the pattern language of something else",
        explanation: "Paths are no regular expressions and no router's patterns: `.*`, `[0-9]+`, `:id` and `<id>` are compared \
            as they stand, and no request has them. Use a prefix (`/api/*`), a suffix (`*.html`) or a template \
            (`/users/{*}/orders`).",
        bad: r#"
spec:
  rules:
  - to:
    - operation:
        paths: ["/users/:id/orders", "^/api/v[0-9]+$"]
"#,
        good: r#"
spec:
  rules:
  - to:
    - operation:
        paths: ["/users/{*}/orders", "/api/v*"]
"#,
        trust_domain: None,
    },
    Lint {
        code: "MA019",
        name: "path-spelling",
        summary: "a path that is refused in one spelling, where Envoy does not bring all spellings to one",
        explanation: "`//admin`, `/%2Fadmin` and `/./admin` are other paths than `/admin` to a policy, and the same to many \
            applications. Where a match refuses (paths in DENY, notPaths in ALLOW), each other spelling gets past it. \
            Istio's default, BASE, neither merges slashes nor decodes escaped ones; its \
            `pathNormalization.normalization: DECODE_AND_MERGE_SLASHES` does, and so do the bootstraps of this project. \
            Where that is set, say so: `--path-normalization decode-and-merge-slashes`. Permitting by paths in ALLOW needs \
            no such care.",
        bad: r#"
spec:
  rules:
  - to:
    - operation:
        notPaths: ["/admin*"]
"#,
        good: r#"
spec:
  rules:
  - to:
    - operation:
        paths: ["/public*"]
"#,
        trust_domain: None,
    },
    Lint {
        code: "MA020",
        name: "client-in-ip-blocks",
        summary: "a public address in ipBlocks, where remoteIpBlocks may be meant",
        explanation: "ipBlocks (source.ip) is the address of whoever holds the connection: behind a gateway or a load balancer, \
            that of the gateway or the load balancer. The client's address, from X-Forwarded-For or the PROXY protocol, is \
            remoteIpBlocks (remote.ip). A public address in ipBlocks is right only where clients connect directly.",
        bad: r#"
spec:
  rules:
  - from:
    - source:
        ipBlocks: ["203.0.113.0/24"]
"#,
        good: r#"
spec:
  rules:
  - from:
    - source:
        remoteIpBlocks: ["203.0.113.0/24"]
"#,
        trust_domain: None,
    },
    Lint {
        code: "MA021",
        name: "no-request-authentication",
        summary: "a policy about tokens, and nothing in the input that verifies them",
        explanation: "requestPrincipals and request.auth.* look at the claims of a verified token. Only a RequestAuthentication \
            that applies to the workload has tokens verified; without one, no request has a request principal: an ALLOW \
            that asks for one never matches, and a DENY with `notRequestPrincipals` refuses everything. Give the \
            RequestAuthentication to `check` along with the policies.",
        bad: r#"
spec:
  rules:
  - from:
    - source:
        requestPrincipals: ["https://issuer.example/*"]
"#,
        good: r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: users
spec:
  rules:
  - from:
    - source:
        requestPrincipals: ["https://issuer.example/*"]
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata:
  name: issuer
spec:
  jwtRules:
  - issuer: https://issuer.example
    jwksUri: https://issuer.example/jwks.json
"#,
        trust_domain: None,
    },
    Lint {
        code: "MA022",
        name: "request-principal-never-matches",
        summary: "a request principal that is split inside `//`",
        explanation: "A request principal is ISSUER/SUBJECT and is split at its last slash. With a wildcard behind an issuer \
            that is a URL without a path, that slash is one of the two behind `https:`: `https://issuer.example*` asks for \
            the issuer `https:/`, and never matches. Write `https://issuer.example/*` for every subject of that issuer.",
        bad: r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: users
spec:
  rules:
  - from:
    - source:
        requestPrincipals: ["https://issuer.example*"]
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata:
  name: issuer
spec:
  jwtRules:
  - issuer: https://issuer.example
    jwksUri: https://issuer.example/jwks.json
"#,
        good: r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: users
spec:
  rules:
  - from:
    - source:
        requestPrincipals: ["https://issuer.example/*"]
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata:
  name: issuer
spec:
  jwtRules:
  - issuer: https://issuer.example
    jwksUri: https://issuer.example/jwks.json
"#,
        trust_domain: None,
    },
    Lint {
        code: "MA023",
        name: "whole-mesh",
        summary: "a policy in the root namespace without a selector",
        explanation: "A policy in the root namespace is for every workload of the mesh unless a selector says otherwise. That \
            may be meant; a policy that was put there by mistake opens or closes everything. Where it is meant, say so with \
            the annotation `mesh-authz/allow: MA023`.",
        bad: r"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: allow-nothing
  namespace: istio-system
spec: {}
",
        good: r"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: allow-nothing
  namespace: istio-system
  annotations:
    mesh-authz/allow: MA023
spec: {}
",
        trust_domain: None,
    },
    Lint {
        code: "MA024",
        name: "dry-run",
        summary: "a policy that is only tried out",
        explanation: "With the annotation `istio.io/dry-run: \"true\"` a policy is evaluated and reported, and decides nothing. A \
            workload whose only ALLOW policies are dry runs is open. Remove the annotation once the trial is over.",
        bad: r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: allow-nothing
  annotations:
    istio.io/dry-run: "true"
spec: {}
"#,
        good: r"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: allow-nothing
spec: {}
",
        trust_domain: None,
    },
    Lint {
        code: "MA025",
        name: "empty-selector",
        summary: "a selector without labels, which selects everything",
        explanation: "A selector without labels selects every workload of the namespace, as if it were not there. If that is \
            meant, leave it out.",
        bad: r"
spec:
  selector: {}
",
        good: r"
spec:
  selector:
    matchLabels:
      app: backend
",
        trust_domain: None,
    },
    Lint {
        code: "MA026",
        name: "empty-list",
        summary: "a list of values without a value, which restricts nothing",
        explanation: "A field whose list is empty is as good as absent: `principals: []` beside other fields lets the rule match \
            whoever the caller is. Name a value, or remove the field.",
        bad: r#"
spec:
  rules:
  - to:
    - operation:
        methods: ["GET"]
        paths: []
"#,
        good: r#"
spec:
  rules:
  - to:
    - operation:
        methods: ["GET"]
"#,
        trust_domain: None,
    },
    Lint {
        code: "MA027",
        name: "host-is-a-url",
        summary: "a host with a scheme or a path",
        explanation: "hosts are compared with the request's `:authority`, which is a name and perhaps a port. A value with a slash \
            in it matches nothing.",
        bad: r#"
spec:
  rules:
  - to:
    - operation:
        hosts: ["https://shop.example.com"]
"#,
        good: r#"
spec:
  rules:
  - to:
    - operation:
        hosts: ["shop.example.com", "shop.example.com:*"]
"#,
        trust_domain: None,
    },
    Lint {
        code: "MA028",
        name: "field-among-labels",
        summary: "a label of the selector that has the name of a field",
        explanation: "A line that is indented too far becomes a label: the policy is valid, asks for a label that no workload \
            carries, and has lost the field. A DENY that loses its action is an ALLOW.",
        bad: r"
spec:
  selector:
    matchLabels:
      app: backend
      action: DENY
",
        good: r"
spec:
  selector:
    matchLabels:
      app: backend
  action: ALLOW
",
        trust_domain: None,
    },
    Lint {
        code: "MA029",
        name: "nearly-dry-run",
        summary: "an annotation that is nearly `istio.io/dry-run`",
        explanation: "Annotations are free, so that a mistyped one is valid and means nothing: the policy is not tried out, it \
            decides.",
        bad: r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: allow-nothing
  annotations:
    istio.io/dryrun: "true"
spec: {}
"#,
        good: r"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: allow-nothing
spec: {}
",
        trust_domain: None,
    },
];
