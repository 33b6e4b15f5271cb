//! One value at a time: does it say what it seems to say, in the field that it stands in?

use super::{Linter, PathNormalization, Site};
use mesh_authz::diagnostic::{Path, Segment};
use mesh_authz::identity::{LOCAL_TRUST_DOMAIN, SCHEME};
use mesh_authz::matcher::template::Template;
use mesh_authz::matcher::{Pattern, Polarity, Wildcard};
use mesh_authz::policy::{Cidr, Form, PathValue, Predicate, Values};

/// Asks everything about the values of one list.
pub(super) fn site<'r>(linter: &mut Linter<'r>, site: &Site<'r>) {
    match site.predicate {
        Predicate::Principal(_) => {
            each(linter, site, principal);
            each(linter, site, literal_wildcard);
        }
        Predicate::RequestPrincipal(_) => {
            each(linter, site, request_principal);
            each(linter, site, literal_wildcard);
        }
        Predicate::Host(_) => {
            each(linter, site, host);
            each(linter, site, literal_wildcard);
        }
        Predicate::Method(_) => {
            each(linter, site, method);
            each(linter, site, literal_wildcard);
        }
        Predicate::Path(values) => {
            each(linter, site, path);
            each(linter, site, literal_wildcard);
            if site.denies() {
                each(linter, site, |value, site, linter| trailing_slash(value, values, site, linter));
                spelling(linter, site);
            }
        }
        Predicate::SourceIp(_) => each(linter, site, source_ip),
        Predicate::Sni(_) | Predicate::Header { .. } | Predicate::Claim { .. } | Predicate::Metadata { .. } => {
            each(linter, site, literal_wildcard);
        }
        Predicate::TrustDomain(_) => each(linter, site, trust_domain),
        Predicate::ServiceAccount(_)
        | Predicate::Namespace(_)
        | Predicate::RemoteIp(_)
        | Predicate::DestinationPort(_)
        | Predicate::DestinationIp(_) => {}
    }
}

/// What a lint has to say about a value: its code, what is wrong, and what to do.
type Remark = (&'static str, String, String);

/// Asks the same about every value of the list.
fn each<'r>(linter: &mut Linter<'r>, site: &Site<'r>, ask: impl Fn(&str, &Site<'_>, &Linter<'_>) -> Option<Remark>) {
    for (index, value) in site.values.iter().enumerate() {
        if let Some((code, message, hint)) = ask(value, site, linter) {
            let mut path: Path = site.path.clone();
            path.0.push(Segment::Index(index));
            linter.report(code, site.resource, path, message, hint);
        }
    }
}

fn principal(value: &str, site: &Site<'_>, linter: &Linter<'_>) -> Option<Remark> {
    if let Some(without) = value.strip_prefix(SCHEME) {
        return Some((
            "MA007",
            format!("`{value}` is compared as `{SCHEME}{value}`, which nobody is called"),
            format!("write `{without}`"),
        ));
    }
    if value.starts_with("ns/") || (!value.contains('/') && !value.contains('*')) {
        let domain = &linter.surroundings.mesh.trust_domain;
        let hint = if value.starts_with("ns/") {
            format!("write `{domain}/{value}`")
        } else {
            format!("write `{domain}/ns/{}/sa/{value}`", site.resource.policy.name.namespace)
        };
        return Some(("MA014", format!("`{value}` has no trust domain, so it is no peer's identity"), hint));
    }
    beyond_aliases(value, linter)
}

/// A principal that names a trust domain of the mesh and does not stand for the others.
fn beyond_aliases(value: &str, linter: &Linter<'_>) -> Option<Remark> {
    let mesh = &linter.surroundings.mesh;
    let (domain, rest) = value.split_once('/')?;
    let all: Vec<&str> = std::iter::once(&mesh.trust_domain).chain(&mesh.aliases).map(String::as_str).collect();
    let is_ours = domain == LOCAL_TRUST_DOMAIN || all.contains(&domain);
    if !is_ours || rest.split('/').count() == 4 {
        return None;
    }
    let missed: Vec<&str> = all.into_iter().filter(|other| *other != domain).collect();
    if missed.is_empty() {
        return None;
    }
    let hint = match rest.strip_prefix("ns/").and_then(|rest| rest.strip_suffix("/*")) {
        Some(namespace) if !namespace.contains('/') => {
            let own = &mesh.trust_domain;
            format!("write `namespaces: [\"{namespace}\"]` and `trustDomains: [\"{own}\"]` in one source")
        }
        _ => format!("write it out with `ns/NAMESPACE/sa/NAME`, or add the same for {}", missed.join(", ")),
    };
    let message = format!(
        "`{value}` does not have the five parts of a principal, and so stands for {domain} only, not for {}",
        missed.join(", ")
    );
    Some(("MA008", message, hint))
}

/// `cluster.local` is the mesh in principals, and itself only in trust domains.
fn trust_domain(value: &str, _: &Site<'_>, linter: &Linter<'_>) -> Option<Remark> {
    let mesh = &linter.surroundings.mesh;
    let is_ours = mesh.trust_domain == value || mesh.aliases.iter().any(|alias| alias == value);
    if value != LOCAL_TRUST_DOMAIN || is_ours {
        return None;
    }
    let message = format!("`{value}` is not one of this mesh's trust domains, and does not stand for them here");
    Some(("MA008", message, format!("write `{}`", mesh.trust_domain)))
}

fn request_principal(value: &str, _: &Site<'_>, _: &Linter<'_>) -> Option<Remark> {
    let (issuer, _) = value.rsplit_once('/')?;
    let scheme = issuer.strip_suffix('/').filter(|scheme| scheme.ends_with(':'))?;
    // What stands behind the two slashes is all of an issuer, or the beginning of one.
    let rest = value.strip_prefix(issuer)?.strip_prefix('/')?;
    let whole = match rest.strip_suffix('*').unwrap_or(rest) {
        "" => "ISSUER",
        whole => whole,
    };
    Some((
        "MA022",
        format!(
            "`{value}` is split at its last slash, inside `{scheme}//`: it asks for the issuer `{issuer}`, which none has"
        ),
        format!("write `{scheme}//{whole}/*` for every subject of that issuer"),
    ))
}

fn host(value: &str, site: &Site<'_>, _: &Linter<'_>) -> Option<Remark> {
    if value.contains('/') {
        let name = value.split_once("://").map_or(value, |(_, rest)| rest);
        let name = name.split('/').next().unwrap_or(name);
        let message = format!("`{value}` is no host: a request's host is a name, and perhaps a port");
        let is_name = name.contains(|c: char| c.is_ascii_alphanumeric());
        let hint = if is_name { format!("write `{name}`") } else { "write the name without a path".to_owned() };
        return Some(("MA027", message, hint));
    }
    let has_port = value.rsplit_once(':').is_some_and(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
    if !site.denies() || has_port || value.ends_with('*') {
        return None;
    }
    // A port that nobody lists stands for all that are not listed; of a suffix, each has to be.
    let with_port = format!("{value}:1");
    let is_listed = site.values.iter().any(|other| {
        Pattern::new(Form::of(other), &Pattern::Present).matches_ignoring_case(with_port.as_bytes())
            || (value.starts_with('*') && other.rsplit_once(':').is_some_and(|(host, _)| host == value))
    });
    if is_listed {
        return None;
    }
    // A suffix cannot be given with any port: both its ends would be wildcards.
    let hint = if value.starts_with('*') {
        format!("list it with each port that clients may write, such as `{value}:443`")
    } else {
        format!("add `{value}:*`")
    };
    Some(("MA005", format!("`{value}` does not match the same host with a port, such as `{value}:8080`"), hint))
}

fn method(value: &str, _: &Site<'_>, _: &Linter<'_>) -> Option<Remark> {
    let capitals = value.to_ascii_uppercase();
    (value != capitals).then(|| {
        ("MA006", format!("`{value}` matches no request: methods are in capitals"), format!("write `{capitals}`"))
    })
}

fn path(value: &str, _: &Site<'_>, _: &Linter<'_>) -> Option<Remark> {
    if let Some(at) = value.find(['?', '#']) {
        let (before, _) = value.split_at_checked(at)?;
        let whole = "use `request.headers[:path]`, which has the query";
        let hint = if before.starts_with('/') { format!("write `{before}`, or {whole}") } else { whole.to_owned() };
        return Some(("MA016", format!("`{value}` matches nothing: the query is not part of the path"), hint));
    }
    if is_foreign(value) {
        return Some((
            "MA018",
            format!("`{value}` is compared as it stands: paths are no regular expressions and no routes"),
            "use a prefix (`/api/*`), a suffix (`*.html`) or a template (`/users/{*}/orders`)".to_owned(),
        ));
    }
    if !value.starts_with(['/', '*']) {
        return Some((
            "MA009",
            format!("`{value}` matches nothing: a request's path begins with a slash"),
            format!("write `/{value}`"),
        ));
    }
    None
}

/// The signs of a regular expression, or of a router's parameters.
fn is_foreign(path: &str) -> bool {
    let parameter = |segment: &str| {
        segment.strip_prefix(':').is_some_and(|name| name.starts_with(|c: char| c.is_ascii_alphabetic()))
            || (segment.starts_with('<') && segment.ends_with('>'))
    };
    // `/index.*` is a prefix; with more behind it, or nothing before it in its segment, `.*` is none.
    let beginning = path.strip_suffix('*').unwrap_or(path);
    path.starts_with('^')
        || path.ends_with("/.*")
        || [".*", ".+", "\\", "(?", "[^", "]+", "]*"].iter().any(|sign| beginning.contains(sign))
        || path.split('/').any(parameter)
}

fn literal_wildcard(value: &str, site: &Site<'_>, _: &Linter<'_>) -> Option<Remark> {
    let inner = |form| match form {
        Form::Any => "",
        Form::Exact(text) | Form::Prefix(text) | Form::Suffix(text) => text,
    };
    let has_star = match site.predicate {
        Predicate::RequestPrincipal(_) => {
            let (issuer, subject) = Form::of_request_principal(value);
            inner(issuer).contains('*') || inner(subject).contains('*')
        }
        Predicate::Path(_) if value.contains("{*}") || value.contains("{**}") => false,
        // A media type.
        Predicate::Header { .. } if value == "*/*" => false,
        Predicate::Metadata { .. } => inner(Form::of(value.trim_matches(['[', ']']))).contains('*'),
        _ => inner(Form::of(value)).contains('*'),
    };
    has_star.then(|| {
        let message = format!("`{value}` has a `*` that is no wildcard: it is one at the beginning or at the end only");
        ("MA015", message, instead_of_wildcard(value, site))
    })
}

fn instead_of_wildcard(value: &str, site: &Site<'_>) -> String {
    match site.predicate {
        Predicate::Path(_) => {
            let segments = value.split('/').map(|segment| match segment {
                "*" => "{*}",
                "**" => "{**}",
                other => other,
            });
            let template = segments.collect::<Vec<_>>().join("/");
            match PathValue::parse(&template) {
                Ok(PathValue::Template(_)) => format!("write `{template}`"),
                _ => "use a template, such as `/users/{*}/orders`".to_owned(),
            }
        }
        Predicate::Principal(_) => {
            "use namespaces, serviceAccounts or trustDomains, which look at parts of the identity".to_owned()
        }
        Predicate::Host(_) => "list the hosts, or use one wildcard at one end".to_owned(),
        _ => "list the values, or use one wildcard at one end".to_owned(),
    }
}

/// The same path with, or without, a slash at its end, which is another path to a policy.
fn trailing_slash(value: &str, values: &Values<PathValue>, site: &Site<'_>, _: &Linter<'_>) -> Option<Remark> {
    let head = value.strip_suffix("{**}").or_else(|| value.strip_suffix('*')).unwrap_or(value);
    let has_operator = head.contains('{');
    let is_open = head.len() < value.len();
    if !value.starts_with('/') || has_operator || head.len() < 2 || (is_open && !head.ends_with('/')) {
        return None;
    }
    let twin = match head.strip_suffix('/') {
        Some(without) => without.to_owned(),
        None => format!("{head}/"),
    };
    let listed = if site.is_not { &values.none } else { &values.any };
    if listed.iter().any(|listed| matches(listed, &twin)) {
        return None;
    }
    let hint = if is_open || head.ends_with('/') {
        format!("add `{twin}`")
    } else {
        format!("add `{twin}`, or `{twin}*` for everything below")
    };
    Some(("MA017", format!("`{value}` does not match `{twin}`, which many applications take for the same"), hint))
}

fn matches(value: &PathValue, path: &str) -> bool {
    match value {
        PathValue::Text(text) => {
            Pattern::new(Form::of(text), &Pattern::NonEmpty(Wildcard::Bytes)).matches(path.as_bytes())
        }
        PathValue::Template(text) => Template::new(text, Polarity::Denies).matches(path.as_bytes()),
    }
}

/// Paths that are refused in the one spelling that is written down.
fn spelling<'r>(linter: &mut Linter<'r>, site: &Site<'r>) {
    let (other, setting) = match linter.surroundings.path_normalization {
        PathNormalization::None => ("/x/../", "none"),
        PathNormalization::Base => ("//", "base, Istio's default"),
        PathNormalization::MergeSlashes => ("/%2F", "merge-slashes"),
        PathNormalization::DecodeAndMergeSlashes => return,
    };
    let slips = |value: &str| {
        value.starts_with('/')
            && !PathValue::parse(value).is_ok_and(|parsed| matches(&parsed, &value.replacen('/', other, 1)))
    };
    let Some((index, value)) = site.values.iter().enumerate().find(|(_, value)| slips(value)) else { return };
    let mut path = site.path.clone();
    path.0.push(Segment::Index(index));
    let spelt = value.replacen('/', other, 1);
    linter.report(
        "MA019",
        site.resource,
        path,
        format!("`{value}` does not match `{spelt}`, which many applications take for the same"),
        format!(
            "have Envoy bring paths to one spelling (path normalization is taken to be {setting}), and say \
             `--path-normalization decode-and-merge-slashes`; or permit by paths in ALLOW instead"
        ),
    );
}

fn source_ip(value: &str, _: &Site<'_>, _: &Linter<'_>) -> Option<Remark> {
    const NOT_PUBLIC: [&str; 12] = [
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "0.0.0.0/32",
        "fc00::/7",
        "fe80::/10",
        "::1/128",
        "::/128",
        "::ffff:0:0/96",
    ];
    let block = Cidr::parse(value).ok()?;
    let is_within = |known: &&str| {
        Cidr::parse(known).is_ok_and(|known| known.prefix <= block.prefix && known.contains(block.address))
    };
    // All addresses, or half of them, are nobody's in particular.
    if block.prefix < 2 || NOT_PUBLIC.iter().any(is_within) {
        return None;
    }
    Some((
        "MA020",
        format!(
            "`{value}` is public, and ipBlocks is the address of whoever connects: often a gateway or a load balancer"
        ),
        "use remoteIpBlocks (remote.ip) for the client's address, unless clients connect directly".to_owned(),
    ))
}
