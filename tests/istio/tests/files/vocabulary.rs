//! The values that the generated files are made of.

/// The values of a field: those that are right, and those at the edge of what is.
pub struct Values {
    pub right: &'static [&'static str],
    pub odd: &'static [&'static str],
}

pub const PRINCIPALS: Values = Values {
    right: &[
        "*", "cluster.local/ns/default/sa/sleep", "cluster.local/ns/foo/*", "*/sa/sleep", "td-1.example/ns/a/sa/b",
        "cluster.local/*", "*.example/ns/a/sa/b", "cluster.local/ns/foo/sa/b*", "https://a.example/*",
    ],
    odd: &[
        "spiffe://cluster.local/ns/a/sa/b", "a*b", "**", " a", "a ", "ä", "-", "a\nb", "1", "yes", "null", "[a]",
        "a,b",
    ],
};

pub const REQUEST_PRINCIPALS: Values = Values {
    right: &["*", "https://issuer.example/*", "issuer/subject", "*/subject", "issuer/sub*", "*subject", "issuer*"],
    odd: &["/", "a/b/c", "issuer", "*a*", "\u{e9}/\u{fc}", "a\tb", "0x1F", "on"],
};

pub const NAMESPACES: Values = Values {
    right: &["default", "foo", "istio-system", "prod-*", "*-test", "*", "1"],
    odd: &["a/b", "Foo", "a*b", " ", "a_b", "2024-01-01", "1e3", "~", "no", "012", "1_000"],
};

pub const SERVICE_ACCOUNTS: Values = Values {
    right: &["sleep", "foo/sleep", "a/b", "my-account", "team.a/acc.b"],
    odd: &["*", "foo/*", "*/a", "a/", "/a", "/", "a//b", "a/b/c", " a", "a b", "A/B", "a*", "a/\u{e9}", "1", "yes"],
};

pub const TRUST_DOMAINS: Values = Values {
    right: &["cluster.local", "*.example.org", "prod-*", "*", "a", "td.1"],
    odd: &["a/b", "a*b", "**", "*a*", "spiffe://a", "/", "a/*", " ", "A", "1.5", "\u{e9}.example"],
};

pub const TRUST_DOMAIN_CONDITIONS: Values = Values {
    right: &["cluster.local", "*.example.org", "prod-*", "*"],
    odd: &["a/b", "a/*", "*/a", "a*b", "**", "*a*", "/"],
};

pub const ADDRESSES: Values = Values {
    right: &[
        "10.0.0.1", "10.0.0.0/8", "192.0.2.0/24", "0.0.0.0/0", "2001:db8::1", "2001:db8::/32", "::/0", "::1",
        "255.255.255.255/32", "fe80::1/64", "::ffff:10.0.0.1", "1.2.3.4/31",
    ],
    odd: &[
        "10.0.0.0/33", "10.0.0.1/08", "010.0.0.1", "10.0.0", "10.0.0.256", "10.0.0.1/", "/8", " 10.0.0.1",
        "10.0.0.1 ", "::ffff:10.0.0.1/96", "::ffff:10.0.0.1/128", "fe80::1%eth0", "fe80::1%eth0/64", "fe80::1%",
        "10.0.0.1%eth0", "::1.2.3.4", "::ffff:1.2.3.4%a", "2001:DB8::A", "2001:db8:0:0:0:0:0:1", "2001:db8::1::2",
        "1:2:3:4:5:6:7:8:9", "1:2:3:4:5:6:7::", "::2:3:4:5:6:7:8", "00001::", "::0001", "1.2.3.4/+8", "1.2.3.4/-1",
        "1.2.3.4/ 8", "1.2.3.4/8 ", "*", "localhost", "0x7f.0.0.1", "127.1", "2130706433", "[::1]", "[::1]/64",
        "::/129", "::/128", "1.2.3.4/32/1", "::g", "1.2.3.4,5.6.7.8", "\u{0661}.0.0.1", "::1%\u{e9}", "::1%a/1",
        "::%", "1::2%3%4", "10.0.0.1/0", "10.0.0.1/00",
    ],
};

pub const HOSTS: Values = Values {
    right: &["example.com", "*.example.com", "example.com:*", "example.*", "*", "a.example:8080", "api.internal"],
    odd: &[
        "EXAMPLE.com", "a b", "[::1]:80", "a*b", "*.*", "example.com.", "user@a", "\u{e9}.example", "1.5", "on",
        "a:b", "::1",
    ],
};

pub const METHODS: Values = Values {
    right: &["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "*", "G*"],
    odd: &["get", "FOO", "G T", "ge*", "*T", "N", "Y", "NO", "\u{e9}", "C0NNECT", "1"],
};

pub const PATHS: Values = Values {
    right: &[
        "/", "/admin", "/admin*", "*/info", "*", "/api/v1/data", "/a/{*}", "/a/{**}", "/a/{*}/b", "/{**}",
        "/{*}/{**}", "/a/{*}/{**}/b.html", "/{*}/", "/a%20b", "/a?b=c",
    ],
    odd: &[
        "admin/{**}", "{**}", "{*}", "/a/{}", "/a/{b}", "/a/{***}", "/a/{**}/{*}", "/a/{**}/{**}", "/a//{*}",
        "//{*}", "/a{*}", "/{*}b", "/{*}{*}", "/a/{*}*", "/{*", "/*}", "{", "}", "/a/b{c}", "/a/{*}?x=y", "/{*}/a b",
        "/{*}/\u{e9}", "/{*}/[a]", "/{*}/a*", "/*/{*}", "/{*}//", "/{**}/", "/{**}//", "/ {*}", "a*b", "//", "",
        "/a/{**}.html", "/a/{**}/b/c/", "/{*}/~", "/{*}/%zz", "/a#b/{*}", "/{*}/;a=b", "/{*}/a=b&c", "/{*}/'",
        "/{*}/\"", "*{*}", "/{**}*", "/{*}/.",
    ],
};

pub const PORTS: Values = Values {
    right: &["80", "8080", "443", "0", "65535", "1"],
    odd: &[
        "65536", "-1", "+80", "080", "0080", "00", " 80", "80 ", "http", "*", "80*", "0x50", "8_0", "1e3", "80.0",
        "\u{0668}0", "99999999999999999999", "", "4294967376",
    ],
};

pub const TEXTS: Values = Values {
    right: &["admin", "*", "a*", "*b", "v1.2", "true value", "x-1", "a,b", "[a]", "foo=bar", "a/b"],
    odd: &[
        "1", "true", "yes", "null", "~", "0x10", "1e3", "2024-01-01", "-", ":", "#", "a: b", "a #b", "'", "\"", "\\",
        "{a}", "[a", "&a", "*a", "!a", "|", ">", "%a", "@a", "`a`", "? a", "- a", " a", "a ", "a\nb", "a\tb",
        "\u{e9}", "\u{1f600}", "\u{85}", "\u{2028}", "\u{feff}", "\u{7f}", "=", "<<", "...", "---", "\u{a0}", "a:",
        "::", "a?b", "it's", "\"a\"", "1_000", ".5", "5.", ".inf", "-.INF", ".nan", "0o17", "0b11", "012", "08",
        "+1", "-0", "1:30", "190:20:30", "y", "N", "on", "OFF", "NULL", "Null", "nUll", "TRUE", "tRUE",
    ],
};

/// Names of claims, headers and metadata are part of the key.
pub const KEYS: &[(&str, &Values)] = &[
    ("request.headers[x-role]", &TEXTS),
    ("request.headers[User-Agent]", &TEXTS),
    ("source.ip", &ADDRESSES),
    ("remote.ip", &ADDRESSES),
    ("source.namespace", &NAMESPACES),
    ("source.principal", &PRINCIPALS),
    ("source.serviceAccount", &SERVICE_ACCOUNTS),
    ("source.trustDomain", &TRUST_DOMAIN_CONDITIONS),
    ("request.auth.principal", &REQUEST_PRINCIPALS),
    ("request.auth.audiences", &TEXTS),
    ("request.auth.presenter", &TEXTS),
    ("request.auth.claims[iss]", &TEXTS),
    ("request.auth.claims[a][b-c]", &TEXTS),
    ("destination.ip", &ADDRESSES),
    ("destination.port", &PORTS),
    ("connection.sni", &HOSTS),
    ("experimental.envoy.filters.network.mysql_proxy[db.table]", &TEXTS),
    ("experimental.envoy.filters.a.b[c]", &TEXTS),
];

/// Keys that may be wrong.
pub const ODD_KEYS: &[&str] = &[
    "request.headers", "request.headers[]", "request.headers[a", "request.headersX[foo]", "request.headers[a][b]",
    "request.headers [a]", "request.headers[ a ]", "request.headers[a]b", "request.headers[:path]",
    "request.headers[\u{e9}]", "request.auth.claims", "request.auth.claims[]", "request.auth.claims[a][]",
    "request.auth.claims[[a]]", "request.auth.claims[a]b[c]", "request.auth.claims[a.b]", "request.auth.claimsX[a]",
    "request.auth.claims[a]]", "request.auth.claim[a]", "request.auth.audience", "source.ips", "Source.ip",
    "source.ip ", "source.user", "destination.labels[app]", "destination.namespace", "destination.name",
    "destination.user", "experimental.envoy.filters.a", "experimental.envoy.filters.a[b",
    "experimental.envoy.filters.[b]", "experimental.envoy.filters.a[]", "experimental.envoy.filters.[]",
    "experimental.envoy.filter.a[b]", "experimental.envoy.filters.a[b]c", "experimental.envoy.filters.a[b][c]", "",
    "*", "a", "request.method", "request.path", "connection.sni[a]", "source.ip[a]", "destination.port ",
    "request.auth.principal*",
];

pub const NAMES: Values = Values {
    right: &["a", "allow-frontend", "deny.all", "0", "x-1", "a.b.c", "1.2", "p1", "web"],
    odd: &[
        "A", "a_b", "a-", "-a", "a..b", ".a", "a.", "a.-b", "a b", "\u{e9}", "a/b", "", "*", "1e3", "yes", "0x10",
        "a%", "a:b", "..", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    ],
};

pub const NAMESPACE_NAMES: Values = Values {
    right: &["default", "foo", "istio-system", "a-1"],
    odd: &[
        "", "Foo", "a.b", "a_b", "-a", "a-", "1", "a/b", "\u{e9}", "a b", "..",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    ],
};

pub const LABEL_KEYS: Values = Values {
    right: &["app", "version", "app.kubernetes.io/name", "example.com/a_b.c-d", "a", "A", "1", "istio.io/rev", "x.y/Z"],
    odd: &[
        "", "/a", "a/", "a/b/c", "-a", "a-", "_a", "a b", "A.b/c", "a..b/c", "\u{e9}", "*", "a*", "yes", "1.5",
        "null", "a:b", "-/a", "a_/b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "<<",
        "0x1f", "on",
    ],
};

pub const LABEL_VALUES: Values = Values {
    right: &["web", "v1", "", "a.b_c-d", "A", "1", "true", "canary"],
    odd: &[
        "a b", "-a", "a-", "a/b", "*", "\u{e9}", "a:b", "_", ".", "a*",
        "\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "a\n",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    ],
};

pub const ANNOTATIONS: &[(&str, &Values)] = &[
    ("istio.io/dry-run", &DRY_RUNS),
    ("example.com/note", &TEXTS),
    ("Owner", &TEXTS),
    ("kubectl.kubernetes.io/last-applied-configuration", &TEXTS),
    ("a.b/c", &TEXTS),
];

pub const ODD_ANNOTATIONS: &[&str] = &[
    "internal.istio.io/parents", "internal.istio.io/parent-namespace", "internal.istio.io/webhook-always-reject",
    "a b", "", "/a", "A.B/c", "\u{e9}", "a/b/c", "-a", "istio.io/dryrun", "internal.istio.io/other",
    "Internal.istio.io/parents",
];

pub const DRY_RUNS: Values = Values {
    right: &["true", "false", "1", "0", "t", "T", "TRUE", "True", "F", "f", "False", "FALSE"],
    odd: &["yes", "", "tRUE", " true", "on", "2", "null", "y"],
};

pub const HEADER_NAMES: Values = Values {
    right: &["Authorization", "x-jwt", "X_Token", "a"],
    odd: &["a b", "", ":path", "a:", "\u{e9}", "a\n", "x.y", "a/b", "~", "!", "a\u{0}", "1", "no", "a(b)", "x-*"],
};

pub const CLAIM_HEADERS: Values = Values {
    right: &["x-claim", "X_Claim", "a1"],
    odd: &["a.b", "a b", "", "\u{e9}", ":a", "a!", "1", "on", "a\n", "-", "a\nb"],
};

pub const CLAIMS: Values =
    Values { right: &["sub", "a.b", "groups", "https://a.example/b"], odd: &["", " ", "\u{e9}", "1", "~", "a\nb"] };

pub const ISSUERS: Values = Values {
    right: &["https://issuer.example", "issuer", "a@b.example", "*"],
    odd: &["", " ", "\u{e9}", "1", "on", "http://", "a\nb"],
};

pub const JWKS_URIS: Values = Values {
    right: &[
        "https://issuer.example/keys", "http://a.b:8080/c", "https://10.0.0.1/k?x=y", "https://[::1]:8443/k",
        "http://a.svc.cluster.local/k#f",
    ],
    odd: &[
        "", "issuer.example/keys", "ftp://a/b", "https://", "https:///k", "https://a b/k", "https://a/k%zz",
        "https://a/k%2", "HTTPS://A/k", "Http://a/k", "https://a:b/k", "https://a:/k", "https://a:0/k",
        "https://a:65536/k", "https://a:080/k", "https://u:p@a/k", "https://a_b/k", "https://\u{e9}/k",
        "https://a/\u{e9}", "https://a/k\n", "https://a/ k", "//a/k", "https:a/k", "https:/a/k", "https://[::1/k",
        "https://[::g]/k", "https://[fe80::1%25eth0]/k", "https://a\\b/k", "https://a/k|", "https://a/<k>",
        "https://*.a/k", "https://a/k#%zz", "https://a?k", "https://a#k", "https://a/{k}", "https://a/k^",
        "https://a/k`", "https://a/\"", " https://a/k", "https://a..b/k", "https://a:99999/k", "http", "1",
    ],
};

pub const JWKS: Values = Values {
    right: &[
        r#"{"keys":[{"kty":"RSA","e":"AQAB","n":"xAE7eB6qugXyCAG3yhh7pkDkT65pHymX-P7KfIupjf59vsdo91bSP9C8H07pSAGQO1MV_xFj9VswgsCg4R6otmg5PV2He95lZdHtOcU5DXIg_pbhLdKXbi66GlVeK6ABZOUW3WYtnNHD-91gVuoeJT_DwtGGcp4ignkgXfkiEm4sw-4sfb4qdt5oLbyVpmW6x9cfa7vs2WTfURiCrBoUqgBo_-4WTiULmmHSGZHOjzwa8WtrtOQGsAFjIbno85jp6MnGGGZPYZbDAa_b3y5u-YpW7ypZrvD8BgtKVjgtQgZhLAGezMt0ua3DRrWnKqTZ0BJ_EyxOGuHJrLsn00fnMQ"}]}"#,
        r#"{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}"#,
        r#"{ "keys": [ {"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"} ] }"#,
    ],
    odd: &[
        "", "{}", r#"{"keys":[]}"#, r#"{"keys":{}}"#, "[]", "keys", "null", r#"{"keys":[{}]}"#,
        r#"{"keys":[{"kty":"X"}]}"#, r#"{"keys":[1]}"#, r#"{"keys":null}"#, "{", r#"{"keys":[{"kty":"RSA"}]}"#,
        r#"{"Keys":[{"kty":"oct","k":"c2VjcmV0"}]}"#, r#"{"keys":[{"kty":1}]}"#, r#"{"keys":[{"kty":"oct"}]}"#, "1",
        r#"{"keys":[{"kty":""}]}"#, r#"{"keys":[{"kty":"oct","k":"c2VjcmV0"}]} x"#,
        r#"{"keys":[{"kty":"oct","k":"!"}],"keys":[]}"#, r#"{"keys":[{"kty":"EC","crv":"P-1","x":"f8","y":"x_"}]}"#,
        r#"{"keys":[null]}"#, r#"{"keys":[{"kty":"oct","k":"c2VjcmV0"},{}]}"#,
        r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}],"a":1}"#,
    ],
};

pub const DURATIONS: Values = Values {
    right: &["5s", "500ms", "1m", "1h", "1m30s", "0.5s", "1.5h", "+5s", ".5s", "5.s"],
    odd: &[
        "5", "", "0s", "-5s", "1us", "1ns", "1000us", "1500us", "\u{b5}s", "1000\u{b5}s", "1000\u{3bc}s", "5 s",
        "5S", "1d", "1w", "5s5", "s", ".s", "1..5s", "1e3s", "9999999999h", "2562047h47m16.854775807s",
        "2562047h47m16.854s", "2562048h", "0.0005s", "0.001s", "0.0011s", "1ms1us", "1s1s", "1s1m", "0", "+0",
        "1h0m0s", "9223372036854775807ns", "9223372036854ms", "1.0000000000000000000001s", "0.999999999999s", "1ms",
        "999us", "0x5s", "1_0s", "5s ", " 5s", "\u{0665}s", "315576000001s", "315576000000s",
    ],
};

/// Scalars of every kind, as people write them without quotes.
pub const SCALARS: &[&str] = &[
    "False", "FALSE", "Off", "OFF", "oFF", "YeS", "1e6", "1234567.5", "2500000.5", "123456.7", "0.0001", "0.00001",
    "null", "Null", "NULL", "~", "", "true", "True", "TRUE", "false", "yes", "Yes", "YES", "no", "No", "on", "On",
    "ON", "off", "y", "Y", "n", "N", "tRUE", "nUll", "0", "1", "-1", "+1", "-0", "010", "08", "0o17", "0O17", "0b11",
    "-0b11", "0b", "0x1F", "0X1f", "0x", "-0x10", "1_000", "1__0", "_1", "1_", "1e3", "1E3", "1e+3", "1e-3", "1.5",
    "1.", ".5", "-.5", "+.5", ".", "1.5e", "1e400", "1e-400", "9223372036854775807", "9223372036854775808",
    "18446744073709551615", "18446744073709551616", "-9223372036854775808", "-9223372036854775809",
    "99999999999999999999999", "123456789.123456789", ".inf", "-.inf", "+.inf", ".Inf", ".INF", ".nan", ".NaN",
    ".NAN", "inf", "nan", "NaN", "Infinity", "1:30", "190:20:30", "1:30.5", "0.0.0.0", "1.2.3", "2024-01-01",
    "2024-01-01T00:00:00Z", "2024-01-01 00:00:00", "2001-12-14t21:59:43.10-05:00", "!!str 5", "!!str null", "!!str",
    "!!int 5", "!!int '5'", "!!int x", "!!float 5", "!!float x", "!!bool yes", "!!bool 'on'", "!!null ''",
    "!!null x", "!!null", "!!binary YWJj", "!!binary '*'", "!!binary YQ", "!!timestamp 2024-01-01", "!own 5", "! 5",
    "!!int 0x10", "!!int 1_0", "!!str true", "!!set {a}", "!!str [a]", "\"\\x41\"", "\"\\u00e9\"", "\"\\U0001F600\"",
    "\"\\ud83d\"", "\"\\/\"", "\"\\q\"", "\"\\0\"", "\"\\e\"", "\"\\_\"", "\"\\N\"", "\"a\\\n  b\"", "''", "\"\"",
    "'a''b'", "\"a\\tb\"", "\"\u{1}\"", "'\u{7f}'", "\u{e9}", "\u{1f600}", "\u{85}", "\u{2028}", "\u{feff}",
    "\u{fffe}", "=", "<<", "-", "?", ":", "::1", "a:", ":a", "a?b", "@a", "`a`", "%a", "&a", "*a", "*undefined",
    "&a b", "!a", "|", ">", "{", "}", "[", "]", ",", "#", "a #b", "a# b", "- a", "a: b", "[a", "a]", "{a}", "[]",
    "{}", "[a, b]", "{a: b}", "[null]", "'", "\"", "a'b", "...", "---", "a\tb", "\ta",
];
