//! Small sets of words. The values of policies and requests are made from them, so they often match, or nearly match.

use fastrand::Rng;

/// Peer identities. Some nearly match each other; some only look like the SPIFFE id of a workload.
pub const IDENTITIES: [&str; 18] = [
    "cluster.local/ns/foo/sa/a",
    "cluster.local/ns/foo/sa/ab",
    "cluster.local/ns/foo/sa/a/",
    "cluster.local/ns/foo/sa/a/extra",
    "cluster.local/ns/foo/x/sa/a",
    "cluster.local/ns/foo.bar/sa/a",
    "cluster.local/ns/foo-bar/sa/a.b",
    "cluster.local/ns/fooxbar/sa/axb",
    "cluster.local/ns/bar/sa/a",
    "cluster.local/ns/istio-system/sa/a",
    "cluster.local/ns/ns/sa/sa",
    "td1/ns/foo/sa/a",
    "td1/ns/foo/sa/",
    "td1.example/ns/foo/sa/b",
    "td2/ns/foo/sa/a",
    "TD1/ns/Foo/sa/A",
    "td2/x/ns/bar/sa/a",
    "td1",
];

pub const NAMESPACES: [&str; 7] = ["foo", "bar", "foo.bar", "fo", "ns", "Foo", "*oo*"];
pub const SERVICE_ACCOUNTS: [&str; 9] = ["a", "ab", "foo/a", "bar/a", "foo/ab", "foo/a.b", "foo.bar/a", "sa", "ns/sa"];
pub const TRUST_DOMAINS: [&str; 6] = ["cluster.local", "td1", "td2", "td1.example", "td", "TD1"];

pub const PATHS: [&str; 20] = [
    "/", "/a", "/a/", "/a/b", "/a/b/c", "/ab", "/A", "/a.b", "/axb", "//a", "/a//b", "/a/*", "/a/b.c", "/admin",
    "/a%2Fb", "/a;b=c", "/a/b/", "/z/b/c/d", "/a*b", "/a=b@c:d",
];
/// Suffixes of a path in a request.
pub const QUERIES: [&str; 6] = ["", "", "", "?", "?x=/a", "?a/b"];
/// Paths with characters that Envoy's own wildcards do not match.
pub const ODD_PATHS: [&str; 6] = ["/a/b[1]", "/a|b", "/a/\"b\"", "/a/<b>", "/{a}", "/a/^b"];
/// Paths with bytes that only HTTP/2 can carry.
pub const ODD_HTTP2_PATHS: [&[u8]; 3] = [b"/a/\xff", b"/\xc3\xa9", b"/a/\xc3\xa9/c"];
pub const TEMPLATES: [&str; 10] =
    ["/{*}", "/{**}", "/a/{*}", "/a/{**}", "/{*}/b", "/{*}/b/{**}", "/a/{**}/c", "/{*}/{*}/", "/a/{*}/c", "/{**}/b"];

/// The last two are for HTTP/2 only: in HTTP/1, Envoy refuses an unknown method.
pub const METHODS: [&str; 6] = ["GET", "POST", "DELETE", "OPTIONS", "get", "GETS"];
pub const HOSTS: [&str; 7] =
    ["example.com", "Example.COM", "example.com:80", "a.example.com", "xexample.com", "example.comx", "localhost"];

/// Hosts that servers take for the same as others.
pub const HOST_FORMS: [&str; 4] = ["example.com.", "example.com.:80", "u@example.com", "@a.example.com"];

pub const HEADERS: [&str; 6] = ["x-role", "X-Role", "x-empty", "cookie", "host", ":path"];
/// The names of those that the access log has under their names.
pub const HEADERS_LOGGED: [&str; 3] = ["x-role", "x-empty", "cookie"];
pub const HEADER_NAMES_SENT: [&str; 4] = ["x-role", "X-ROLE", "x-empty", "cookie"];
pub const HEADER_VALUES: [&str; 9] = ["admin", "user", "user,admin", "", "Admin", "adm", "admin ", "a*b", "\tadmin"];

pub const IPV4: [&str; 6] = ["127.0.0.1", "127.0.0.2", "127.0.1.1", "10.0.0.1", "10.0.0.255", "192.168.0.1"];
pub const IPV6: [&str; 4] = ["::1", "2001:db8::1", "2001:db8:0:1::1", "::ffff:10.0.0.1"];
pub const BLOCKS: [&str; 14] = [
    "127.0.0.1",
    "127.0.0.0/24",
    "127.0.0.3/30",
    "127.0.0.0/8",
    "10.0.0.0/24",
    "10.0.0.128/25",
    "0.0.0.0/0",
    "192.168.0.1/32",
    "::1",
    "::/0",
    "2001:db8::/64",
    "2001:db8::/32",
    "::ffff:0:0/96",
    "::ffff:10.0.0.1",
];
pub const PORTS: [u16; 5] = [80, 8080, 443, 0, 65535];
pub const SNIS: [&str; 5] = ["example.com", "a.example.com", "outbound_.80_._.b", "xexample.com", "b"];

pub const ISSUERS: [&str; 5] = ["https://iss", "iss", "is", "issx", "a/b"];
pub const SUBJECTS: [&str; 5] = ["sub", "su", "subx", "a", "*"];
pub const REQUEST_PRINCIPALS: [&str; 14] = [
    "iss/sub",
    "https://iss/sub",
    "iss/*",
    "iss/su*",
    "*/sub",
    "*ss/sub",
    "iss*",
    "*ub",
    "iss",
    "https://iss*",
    "*",
    "a/b/sub",
    "iss/",
    "*/*",
];
pub const CLAIMS: [&str; 6] = ["iss", "groups", "n", "a", "s", "missing"];
pub const CLAIM_VALUES: [&str; 7] = ["admin", "adm", "user", "5", "true", "[\"admin\"]", ""];
pub const METADATA: [(&str, &str); 3] =
    [("envoy.filters.http.x", "k"), ("envoy.filters.http.x", "k2"), ("envoy.filters.http.y", "k")];

pub fn pick<T: Copy>(rng: &mut Rng, values: &[T]) -> T {
    values[rng.usize(..values.len())]
}

/// Makes a policy value from a word: one of the four forms, a near miss, or a value with a star in the middle.
pub fn form(rng: &mut Rng, word: &str) -> String {
    // A wildcard often stands behind a separator.
    let separators: Vec<_> = word.match_indices(['/', '.', ':', '@']).map(|(at, _)| at + 1).collect();
    let cut = match &separators[..] {
        [_, ..] if rng.bool() => pick(rng, &separators),
        _ => rng.usize(..=word.len()),
    };
    let (head, tail) = if word.is_char_boundary(cut) { word.split_at(cut) } else { (word, "") };
    let value = match rng.u8(..12) {
        0..=4 => word.to_owned(),
        5 | 6 => format!("{head}*"),
        7 | 8 => format!("*{tail}"),
        9 => "*".to_owned(),
        10 => format!("{head}*{tail}"),
        _ => word.to_uppercase(),
    };
    if value.is_empty() { "*".to_owned() } else { value }
}
