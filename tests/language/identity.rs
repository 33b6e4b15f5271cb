//! The peer's identity: principals, namespaces, service accounts, trust domains and their aliases.

use mesh_authz::engine::{Options, Verdict};
use mesh_authz::request::{Lookup, PeerName, Request};

use crate::support::{
    Attribute, Is, Matched, MatchedWhereItDenies, Unmatched, Unreadable, check_all, decide_with, get, ip, mesh,
    options, policy,
};

pub const PRINCIPALS: Attribute =
    Attribute::field("source", "principals", "notPrincipals").or_condition("source.principal");
pub const NAMESPACES: Attribute =
    Attribute::field("source", "namespaces", "notNamespaces").or_condition("source.namespace");
pub const ACCOUNTS: Attribute =
    Attribute::field("source", "serviceAccounts", "notServiceAccounts").or_condition("source.serviceAccount");
pub const DOMAINS: Attribute =
    Attribute::field("source", "trustDomains", "notTrustDomains").or_condition("source.trustDomain");

fn uri(uri: impl AsRef<[u8]>) -> Request {
    get("/").peer_name(PeerName::Uri, Lookup::Value(uri.as_ref()))
}

fn is(matched: bool) -> Is {
    if matched { Matched } else { Unmatched }
}

#[test]
fn a_principal_is_the_spiffe_id_without_its_scheme() {
    let cart = || uri("spiffe://cluster.local/ns/shop/sa/cart");
    check_all(
        &PRINCIPALS,
        &[
            ("cluster.local/ns/shop/sa/cart", cart(), Matched),
            ("cluster.local/ns/shop/sa/car", cart(), Unmatched),
            ("cluster.local/ns/shop/sa/carts", cart(), Unmatched),
            ("cluster.local/ns/shop/sa/Cart", cart(), Unmatched),
            ("spiffe://cluster.local/ns/shop/sa/cart", cart(), Unmatched),
            ("cluster.local/ns/shop/*", cart(), Matched),
            ("cluster.local/ns/sho*", cart(), Matched),
            ("cluster.local*", cart(), Matched),
            ("ns/shop*", cart(), Unmatched),
            ("*/ns/shop/sa/cart", cart(), Matched),
            ("*/sa/cart", cart(), Matched),
            ("*cart", cart(), Matched),
            ("*t", cart(), Matched),
            ("*/sa/car", cart(), Unmatched),
            ("*cluster.local/ns/shop/sa/cart", cart(), Matched),
            ("*://cluster.local/ns/shop/sa/cart", cart(), Unmatched),
            ("cluster.local/*/shop/sa/cart", cart(), Unmatched),
            ("clusterXlocal/ns/shop/sa/cart", cart(), Unmatched),
            ("*", cart(), Matched),
            ("*", get("/"), Unmatched),
            ("cluster.local/ns/shop/sa/cart", uri("cluster.local/ns/shop/sa/cart"), Unmatched),
            ("*/sa/cart", uri("https://cluster.local/ns/shop/sa/cart"), Unmatched),
            ("cluster*", uri("xspiffe://cluster.local/ns/shop/sa/cart"), Unmatched),
            ("*", uri("https://anything"), Matched),
            ("*", uri(""), Unmatched),
            ("*", uri("spiffe://"), Matched),
            ("*foo", uri("spiffe://foo"), Matched),
            ("*spiffe://foo", uri("spiffe://foo"), Unmatched),
            ("*.b", uri("spiffe://aXb"), Unmatched),
        ],
    );
}

#[test]
fn presence_takes_any_name_of_a_certificate() {
    let dns = |name: &[u8]| get("/").peer_name(PeerName::Dns, Lookup::Value(name));
    let subject = |name: &[u8]| get("/").peer_name(PeerName::Subject, Lookup::Value(name));
    PRINCIPALS.check(&["*"], &dns(b"a.example"), Matched);
    PRINCIPALS.check(&["*"], &subject(b"CN=a"), Matched);
    PRINCIPALS.check(&["*"], &subject(b""), Unmatched);
    PRINCIPALS.check(&["*"], &dns(b"").peer_name(PeerName::Uri, Lookup::Value(b"")), Unmatched);
    PRINCIPALS.check(&["*"], &get("/"), Unmatched);
}

#[test]
fn every_name_of_the_peer_is_tried() {
    let two = |uri: &str, dns: &str, subject: &str| {
        get("/")
            .peer_name(PeerName::Uri, Lookup::Value(uri.as_bytes()))
            .peer_name(PeerName::Dns, Lookup::Value(dns.as_bytes()))
            .peer_name(PeerName::Subject, Lookup::Value(subject.as_bytes()))
    };
    PRINCIPALS.check(&["td/a"], &two("spiffe://td/b", "spiffe://td/a", "CN=x"), Matched);
    PRINCIPALS.check(&["*"], &two("", "", "CN=x"), Matched);
    NAMESPACES.check(&["shop"], &two("spiffe://td/b", "b", "CN=/ns/shop/"), Matched);
    PRINCIPALS.check(&["td/a"], &two("spiffe://td/b", "td/a", "CN=td/a"), Unmatched);
    NAMESPACES.check(&["shop"], &two("spiffe://td/b", "/ns/shop/", "CN=x"), Matched);
}

#[test]
fn an_identity_that_cannot_be_read_counts_against_the_request() {
    for which in PeerName::ALL {
        let request = get("/").peer_name(which, Lookup::Unreadable);
        PRINCIPALS.check(&["*"], &request, Unreadable);
        NAMESPACES.check(&["shop"], &request, Unreadable);
        // These values match only a name with a scheme, and a subject never has one.
        let without_scheme = if which == PeerName::Subject { Unmatched } else { Unreadable };
        PRINCIPALS.check(&["td/ns/shop/sa/cart"], &request, without_scheme);
        ACCOUNTS.check(&["shop/cart"], &request, without_scheme);
        DOMAINS.check(&["td"], &request, without_scheme);
    }
    let known = uri("spiffe://td/ns/shop/sa/cart").peer_name(PeerName::Dns, Lookup::Unreadable);
    PRINCIPALS.check(&["td/ns/shop/sa/cart"], &known, Matched);
    PRINCIPALS.check(&["td/ns/shop/sa/pay"], &known, Unreadable);
}

/// No SPIFFE ID is longer. Every rule would read it.
#[test]
fn an_identity_longer_than_2048_bytes_is_unreadable() {
    for (length, is) in [(2_048, Matched), (2_049, Unreadable)] {
        let start = "spiffe://td/ns/shop/sa/";
        let name = format!("{start}{}", "a".repeat(length - start.len()));
        NAMESPACES.check(&["shop"], &uri(name.as_bytes()), is);
    }
}

#[test]
fn an_identity_with_a_nul_is_unreadable() {
    let request = uri(b"spiffe://td/ns/shop/sa/cart\0.evil");
    PRINCIPALS.check(&["td/ns/shop/sa/cart"], &request, Unreadable);
    PRINCIPALS.check(&["td/*"], &request, Unreadable);
    PRINCIPALS.check(&["*"], &request, Unreadable);
    NAMESPACES.check(&["shop"], &request, Unreadable);
}

#[test]
fn a_namespace_stands_in_the_identity_between_slashes() {
    let rows = [
        ("shop", "spiffe://td/ns/shop/sa/cart", true),
        ("shop", "spiffe://td/ns/shop/", true),
        ("shop", "spiffe://td/ns/shop", false),
        ("shop", "/ns/shop/", true),
        ("shop", "https://x/ns/shop/y", true),
        ("shop", "spiffe://td/ns/shops/sa/cart", false),
        ("shop", "spiffe://td/ns/xshop/sa/cart", false),
        ("shop", "spiffe://td/ns/Shop/sa/cart", false),
        ("shop", "spiffe://td/xns/shop/sa/cart", false),
        ("shop", "spiffe://td/ns/other/ns/shop/sa/cart", true),
        ("sh*", "spiffe://td/ns/shop/sa/cart", true),
        ("*op", "spiffe://td/ns/shop/sa/cart", true),
        ("s*p", "spiffe://td/ns/shop/sa/cart", true),
        ("s*h*p", "spiffe://td/ns/shop/sa/cart", true),
        ("s*x*p", "spiffe://td/ns/shop/sa/cart", false),
        ("*", "spiffe://td/ns/shop/sa/cart", true),
        ("*", "spiffe://td/ns//sa/cart", true),
        ("*", "spiffe://td/ns/", false),
        ("*", "spiffe://td/ns/x/", true),
        ("*", "spiffe://td/workload", false),
        ("sh*", "spiffe://td/ns/sh/x", true),
        ("*cart", "spiffe://td/ns/shop/sa/cart/x", true),
        ("shop*cart", "spiffe://td/ns/shop/sa/cart", false),
        ("shop*cart", "spiffe://td/ns/shop/sa/cart/", true),
        ("a.b", "spiffe://td/ns/aXb/sa/cart", false),
        ("a.b", "spiffe://td/ns/a.b/sa/cart", true),
        ("[ab]", "spiffe://td/ns/a/sa/cart", false),
        ("[ab]", "spiffe://td/ns/[ab]/sa/cart", true),
        ("shop/sa/cart", "spiffe://td/ns/shop/sa/cart/x", true),
    ];
    for (value, name, matched) in rows {
        println!("{value} {name}");
        NAMESPACES.check(&[value], &uri(name), is(matched));
    }
    NAMESPACES.check(&["*"], &get("/"), Unmatched);
}

#[test]
fn a_service_account_is_the_whole_of_an_identity_of_its_form() {
    let rows = [
        ("shop/cart", "spiffe://td/ns/shop/sa/cart", true),
        ("shop/cart", "spiffe://a/b/ns/shop/sa/cart", true),
        ("shop/cart", "spiffe://td/ns/shop/x/sa/cart", true),
        ("shop/cart", "spiffe://td/ns/shop/x/y/sa/cart/z", true),
        ("shop/cart", "spiffe://td/ns/shop/sa/cart/pod/1", true),
        ("shop/cart", "spiffe://td/ns/shop/sa/cart/", false),
        ("shop/cart", "spiffe://td/ns/shop//sa/cart", false),
        ("shop/cart", "spiffe://td/ns/shop/xsa/cart", false),
        ("shop/cart", "spiffe://td/ns/shop/sa/carts", false),
        ("shop/cart", "spiffe://td/ns/shop/sa/Cart", false),
        ("shop/cart", "spiffe://td/ns/shops/sa/cart", false),
        ("shop/cart", "spiffe://td/ns/shop/cart", false),
        ("shop/cart", "spiffe:///ns/shop/sa/cart", false),
        ("shop/cart", "spiffe://t/ns/shop/sa/cart", true),
        ("shop/cart", "spiffe:////ns/shop/sa/cart", true),
        ("shop/cart", "xspiffe://td/ns/shop/sa/cart", false),
        ("shop/cart", "https://td/ns/shop/sa/cart", false),
        ("shop/cart", "spiffe://td/ns/shop/sa/pay/sa/cart", true),
        ("shop/cart", "spiffe://td/ns/other/sa/x/ns/shop/sa/cart", true),
        ("shop/cart", "spiffe://td/ns/shop/ns/shop/sa/cart", true),
        ("shop/sa", "spiffe://td/ns/shop/sa/sa/sa", true),
        ("shop/sa", "spiffe://td/ns/shop/sa/sa", true),
        ("ns/ns", "spiffe://td/ns/ns/ns/sa/ns", true),
        ("shop/a.b", "spiffe://td/ns/shop/sa/a.b", true),
        ("shop/a.b", "spiffe://td/ns/shop/sa/a-b", false),
        ("s.p/cart", "spiffe://td/ns/shp/sa/cart", false),
        ("cart", "spiffe://td/ns/default/sa/cart", true),
        ("cart", "spiffe://td/ns/shop/sa/cart", false),
        ("cert-manager.io", "spiffe://td/ns/default/sa/cert-manager-io", false),
    ];
    for (value, name, matched) in rows {
        println!("{value} {name}");
        ACCOUNTS.check(&[value], &uri(name), is(matched));
    }
    ACCOUNTS.check(&["cart"], &get("/"), Unmatched);
}

#[test]
fn a_trust_domain_is_the_first_segment() {
    let rows = [
        ("td", "spiffe://td/ns/a/sa/b", true),
        ("td", "spiffe://td/", true),
        ("td", "spiffe://td", false),
        ("td", "spiffe://td2/ns/a/sa/b", false),
        ("td", "spiffe://atd/ns/a/sa/b", false),
        ("td", "spiffe://x/td/ns/a", false),
        ("td", "spiffe://TD/ns/a", false),
        ("td", "https://td/ns/a", false),
        ("*", "spiffe://", true),
        ("*", "spiffe://x", true),
        ("*", "https://x/", false),
        ("td*", "spiffe://td2/ns/a", true),
        ("td*", "spiffe://td/ns/a", true),
        ("td*", "spiffe://td/", true),
        ("td*", "spiffe://td2", false),
        ("td*", "spiffe://x/td/", false),
        ("*td", "spiffe://old-td/ns/a", true),
        ("*td", "spiffe://td/ns/a", true),
        ("*td", "spiffe://td2/ns/a", false),
        ("*td", "spiffe://x/td/ns/a", false),
        ("*.example.org", "spiffe://a.example.org/x", true),
        ("*.example.org", "spiffe://a.exampleXorg/x", false),
        ("*.example.org", "spiffe://evil/a.example.org/x", false),
        ("*tdtd", "spiffe://tdtdtd/x", true),
    ];
    for (value, name, matched) in rows {
        println!("{value} {name}");
        DOMAINS.check(&[value], &uri(name), is(matched));
    }
    DOMAINS.check(&["*"], &get("/"), Unmatched);
}

#[test]
fn the_condition_on_trust_domains_allows_a_slash() {
    let condition = Attribute::condition("source.trustDomain");
    condition.check(&["td/ns"], &uri("spiffe://td/ns/a"), Matched);
    condition.check(&["td/ns"], &uri("spiffe://td/nsx/a"), Unmatched);
    condition.check(&["*/ns"], &uri("spiffe://td/ns/a"), Matched);
    condition.check(&["*/ns"], &uri("spiffe://td/x/ns/a"), Unmatched);
    condition.check(&["td/n*"], &uri("spiffe://td/ns/a"), Matched);
}

#[test]
fn odd_bytes_in_an_identity_hide_nothing_from_a_deny() {
    for odd in [&b"\n"[..], b"\xff", b"\x80"] {
        let name = |before: &str, behind: &str| uri([before.as_bytes(), odd, behind.as_bytes()].concat());
        PRINCIPALS.check(&["*"], &name("spiffe://td/", "x"), MatchedWhereItDenies);
        PRINCIPALS.check(&["*/sa/cart"], &name("spiffe://t", "d/ns/shop/sa/cart"), MatchedWhereItDenies);
        PRINCIPALS.check(&["td/*"], &name("spiffe://td/x", ""), Matched);
        PRINCIPALS.check(&["td/x"], &name("spiffe://td/x", ""), Unmatched);
        NAMESPACES.check(&["shop"], &name("spiffe://td/ns/shop/sa/x", ""), MatchedWhereItDenies);
        NAMESPACES.check(&["sh*p"], &name("spiffe://td/ns/sh", "p/sa/x"), MatchedWhereItDenies);
        ACCOUNTS.check(&["shop/cart"], &name("spiffe://t", "d/ns/shop/sa/cart"), MatchedWhereItDenies);
        ACCOUNTS.check(&["shop/cart"], &name("spiffe://td/ns/shop/sa/cart/", ""), MatchedWhereItDenies);
        DOMAINS.check(&["t*"], &name("spiffe://t", "d/x"), MatchedWhereItDenies);
        DOMAINS.check(&["td"], &name("spiffe://td/", "x"), Matched);
    }
}

/// Asserts for each of these principals whether `value` matches it.
fn stands_for(options: &Options, value: &str, principals: &[(&str, bool)]) {
    for (principal, matched) in principals {
        println!("{value} {principal}");
        PRINCIPALS.check_with(options, &[value], &get("/").principal(principal), is(*matched));
    }
}

#[test]
fn a_principal_of_the_mesh_stands_for_itself_in_every_trust_domain_of_it() {
    let options = mesh(&["td1", "td2", "old.td"]);
    for value in ["td1/ns/foo/sa/bar", "td2/ns/foo/sa/bar", "old.td/ns/foo/sa/bar", "cluster.local/ns/foo/sa/bar"] {
        let rows = [
            ("td1/ns/foo/sa/bar", true),
            ("td2/ns/foo/sa/bar", true),
            ("old.td/ns/foo/sa/bar", true),
            ("cluster.local/ns/foo/sa/bar", false),
            ("td3/ns/foo/sa/bar", false),
            ("td1/ns/foo/sa/baz", false),
            ("td1/ns/fooo/sa/bar", false),
        ];
        stands_for(&options, value, &rows);
    }
}

#[test]
fn only_five_segments_name_a_trust_domain() {
    let options = mesh(&["td1", "td2"]);
    stands_for(&options, "cluster.local/ns/foo/*", &[("td1/ns/foo/sa/bar", false), ("cluster.local/ns/foo/x", true)]);
    stands_for(&options, "td1/ns/foo/*", &[("td1/ns/foo/sa/bar", true), ("td2/ns/foo/sa/bar", false)]);
    stands_for(&options, "td1/ns/foo/sa/*", &[("td1/ns/foo/sa/bar", true), ("td2/ns/foo/sa/bar", true)]);
    stands_for(&options, "td1/a/b/c/d/e", &[("td1/a/b/c/d/e", true), ("td2/a/b/c/d/e", false)]);
    stands_for(&options, "td1/a/b/c/d", &[("td1/a/b/c/d", true), ("td2/a/b/c/d", true)]);
    stands_for(&options, "td1", &[("td1", true), ("td2", false)]);
}

#[test]
fn a_star_for_a_trust_domain_is_every_trust_domain() {
    let options = mesh(&["td1", "td2"]);
    stands_for(&options, "*/ns/foo/sa/bar", &[("td1/ns/foo/sa/bar", true), ("other/ns/foo/sa/bar", true)]);
    stands_for(&options, "*", &[("other/x", true)]);
}

#[test]
fn a_principal_of_another_mesh_stands_for_itself() {
    let options = mesh(&["td1", "td2"]);
    let rows = [("other/ns/foo/sa/bar", true), ("td1/ns/foo/sa/bar", false), ("td2/ns/foo/sa/bar", false)];
    stands_for(&options, "other/ns/foo/sa/bar", &rows);
}

#[test]
fn a_suffix_form_stays_where_it_covers_a_trust_domain_and_is_replaced_where_not() {
    let options = mesh(&["new-td", "old-td", "other"]);
    let rows = [
        ("new-td/ns/foo/sa/bar", true),
        ("old-td/ns/foo/sa/bar", true),
        ("any-td/ns/foo/sa/bar", true),
        ("other/ns/foo/sa/bar", true),
        ("another/ns/foo/sa/bar", false),
    ];
    stands_for(&options, "*-td/ns/foo/sa/bar", &rows);
    let rows = [("new-td/ns/foo/sa/bar", false), ("x-none/ns/foo/sa/bar", true)];
    stands_for(&options, "*-none/ns/foo/sa/bar", &rows);
}

/// Istio shares a condition among the entries of `from`, and expands it once for each of them.
#[test]
fn a_condition_is_expanded_once_for_each_source() {
    let options = mesh(&["old-td", "td2"]);
    let rules = |sources: usize, values: &str| {
        let blocks = ["0.0.0.0/0", "::/0", "10.0.0.0/8"];
        let from: Vec<_> =
            blocks[..sources].iter().map(|b| format!(r#"{{"source":{{"ipBlocks":["{b}"]}}}}"#)).collect();
        let when = format!(r#"[{{"key":"source.principal","{values}":["*-td/ns/foo/sa/b*"]}}]"#);
        format!(r#"[{{"from":[{}],"when":{when}}}]"#, from.join(","))
    };
    let request = get("/").principal("old-td/ns/foo/sa/bar").source_ip(ip("127.0.0.1"));
    let decide = |action: &str, rules: &str| decide_with(&options, &policy("p", action, rules), &request).verdict;
    for (sources, expanded_again) in [(1, false), (2, true), (3, true)] {
        let denied = decide("DENY", &rules(sources, "values")) == Verdict::Deny;
        assert_eq!(denied, expanded_again, "{sources} sources");
        let allowed = decide("ALLOW", &rules(sources, "notValues")) == Verdict::Allow;
        assert_eq!(allowed, !expanded_again, "{sources} sources");
    }
}

#[test]
fn a_prefix_form_that_matches_a_trust_domain_becomes_exactly_those_of_the_mesh() {
    let options = mesh(&["td1", "td2", "other"]);
    let rows = [
        ("td1/ns/foo/sa/bar", true),
        ("td2/ns/foo/sa/bar", true),
        ("other/ns/foo/sa/bar", true),
        ("td3/ns/foo/sa/bar", false),
        ("td*/ns/foo/sa/bar", false),
    ];
    stands_for(&options, "td*/ns/foo/sa/bar", &rows);
    let rows = [("xx*/ns/foo/sa/bar", true), ("xx1/ns/foo/sa/bar", false), ("td1/ns/foo/sa/bar", false)];
    stands_for(&options, "xx*/ns/foo/sa/bar", &rows);
}

#[test]
fn trust_domains_expand_only_if_listed() {
    let options = mesh(&["td1", "td2"]);
    let check = |value, domain: &str, matched| {
        DOMAINS.check_with(&options, &[value], &uri(format!("spiffe://{domain}/ns/a/sa/b")), is(matched));
    };
    for value in ["td1", "td2"] {
        check(value, "td1", true);
        check(value, "td2", true);
        check(value, "td3", false);
    }
    check("cluster.local", "td1", false);
    check("cluster.local", "cluster.local", true);
    check("td*", "td3", true);
    check("td*", "other", false);
    check("other", "td1", false);
}

#[test]
fn namespaces_and_service_accounts_do_not_look_at_the_trust_domain() {
    for domain in ["td1", "cluster.local", "unheard.of"] {
        let request = get("/").principal(&format!("{domain}/ns/shop/sa/cart"));
        NAMESPACES.check_with(&options(), &["shop"], &request, Matched);
        ACCOUNTS.check_with(&mesh(&["td1"]), &["shop/cart"], &request, Matched);
    }
}
