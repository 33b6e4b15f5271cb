//! MA039. A value that no request has.

use mesh_authz::diagnostic::suggestion;
use mesh_authz::identity::LOCAL_TRUST_DOMAIN;
use mesh_authz::policy::{Cidr, Predicate};

use super::several_values::{is_registered, several};
use super::{Check, Lint, LintContext, Remark, ValueList, foreign_pattern, placeholder};

pub(super) static LINT: Lint = Lint {
    code: "MA039",
    name: "impossible-value",
    summary: "a value of hardly any request: two in one text, spaces around it, an odd character",
    explanation: "Each value of a list is compared as it stands. `GET, POST` is one value, and no method has a comma. A space at \
            an end, a copied character that looks like another one or like nothing, and a part that the attribute does not \
            have, such as the port or a capital of a server name, have the same effect. Over HTTP/1, Envoy refuses methods that it does not \
            know; over HTTP/2, it takes every word as a method, so the lint reports only those that are nearly a usual one. In headers and claims, a block of addresses is a \
            text. A claim that is a number, such as `exp`, matches no value. An ALLOW rule with such a value allows too \
            little, and a DENY rule protects nothing. Commas in paths, headers and claims are legal, and so the lint is silent \
            about most of them.",
    bad: r#"
spec:
  rules:
  - to:
    - operation:
        methods: ["GET, POST"]
"#,
    good: r#"
spec:
  rules:
  - to:
    - operation:
        methods: ["GET", "POST"]
"#,
    trust_domain: None,
    check: Check::Value(check),
};

fn check(value: &str, list: &ValueList<'_>, _: &LintContext) -> Option<Remark> {
    let Mistake { message, advice } = mistake(value, list.predicate)?;
    Some(Remark::new(message, list.correct(advice)))
}

/// The code of the lint that says why no request has this value.
pub(super) fn owner(value: &str, predicate: &Predicate) -> Option<&'static str> {
    if placeholder::find(value, predicate).is_some() {
        Some(placeholder::LINT.code)
    } else if foreign_pattern::is_foreign_text(value, predicate) {
        Some(foreign_pattern::LINT.code)
    } else {
        mistake(value, predicate).map(|_| LINT.code)
    }
}

/// What is wrong with a value, and what to write instead.
struct Mistake {
    message: String,
    advice: String,
}

impl Mistake {
    #[expect(clippy::unnecessary_wraps, reason = "every caller returns an option")]
    fn found(message: impl Into<String>, advice: impl Into<String>) -> Option<Self> {
        Some(Self { message: message.into(), advice: advice.into() })
    }
}

fn mistake(value: &str, predicate: &Predicate) -> Option<Mistake> {
    // Other lints are about these, and know what to write.
    match predicate {
        Predicate::Path(_) if !value.starts_with(['/', '*']) => return None,
        Predicate::Method(_) if value.starts_with('/') => return None,
        _ => {}
    }
    separator(value, predicate)
        .or_else(|| odd_character(value, predicate))
        .or_else(|| space_around(value))
        .or_else(|| capitals_in_server_name(value, predicate))
        .or_else(|| unknown_character(value, predicate))
        .or_else(|| impossible_part(value, predicate))
}

/// A server name with capitals. Envoy writes it without.
fn capitals_in_server_name(value: &str, predicate: &Predicate) -> Option<Mistake> {
    let lower = value.to_ascii_lowercase();
    if !matches!(predicate, Predicate::Sni(_)) || lower == value {
        return None;
    }
    Mistake::found(
        format!("Envoy writes server names in lower case, and `{value}` has capitals"),
        format!("write `{lower}`"),
    )
}

/// Several values in one text.
fn separator(value: &str, predicate: &Predicate) -> Option<Mistake> {
    let parts = several(value, predicate);
    if parts.is_empty() {
        return None;
    }
    let each: Vec<_> = parts.iter().map(|part| format!("`{part}`")).collect();
    Mistake::found(
        format!("`{}` is compared as one value, not as {}", visible(value), parts.len()),
        format!("write {} as {} values", each.join(" and "), parts.len()),
    )
}

/// A character that was copied by mistake.
fn odd_character(value: &str, predicate: &Predicate) -> Option<Mistake> {
    let is_free_text = matches!(
        predicate,
        Predicate::Header { .. }
            | Predicate::Claim { .. }
            | Predicate::RequestPrincipal(_)
            | Predicate::Metadata { .. }
    );
    let is_odd = |c: &char| kind_of_odd(*c).is_some() || (!is_free_text && !c.is_ascii());
    let found = value.chars().find(is_odd)?;
    let code = format!("U+{:04X}", u32::from(found));
    let what = match kind_of_odd(found) {
        Some(kind) => format!("{kind}, {code}"),
        None => format!("`{found}`, {code}, which is no ASCII character"),
    };
    let advice = match predicate {
        Predicate::Path(_) if found.is_alphabetic() => {
            let mut buffer = [0; 4];
            let bytes = found.encode_utf8(&mut buffer).bytes();
            let escaped = bytes.fold(String::new(), |text, byte| format!("{text}%{byte:02X}"));
            format!("write `{escaped}` for it, as clients do")
        }
        Predicate::Host(_) | Predicate::Sni(_) if found.is_alphabetic() => {
            "write the ASCII form of the name, which begins with `xn--`".to_owned()
        }
        _ => {
            // What stands at an end, or is invisible, is there by mistake. In the middle, something else may be meant.
            let inner = value.trim_matches(|c: char| c.is_whitespace() || is_odd(&c));
            let clean: String = inner.chars().filter(|c| kind_of_odd(*c) != Some(INVISIBLE)).collect();
            if clean.is_empty() || clean.chars().any(|c| is_odd(&c)) {
                "type it anew".to_owned()
            } else {
                format!("write `{clean}`")
            }
        }
    };
    Mistake::found(format!("`{}` has {what}", visible(value)), advice)
}

const INVISIBLE: &str = "an invisible character";

/// What an odd character is; `None` for a character that a text can have.
pub(super) fn kind_of_odd(c: char) -> Option<&'static str> {
    Some(match c {
        '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}' => {
            "a space that is not the usual one"
        }
        '\u{ad}'
        | '\u{180e}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}' => "an invisible character",
        '\u{2500}'..='\u{259f}' => "a piece of a drawn box",
        c if c.is_control() => "a control character",
        _ => return None,
    })
}

/// The text for a message, without characters that nobody sees.
pub(super) fn visible(text: &str) -> String {
    text.chars().map(|c| if kind_of_odd(c).is_some() { '\u{fffd}' } else { c }).collect()
}

fn space_around(value: &str) -> Option<Mistake> {
    let trimmed = value.trim();
    if trimmed == value || trimmed.is_empty() {
        return None;
    }
    Mistake::found(format!("`{value}` has a space at an end, and it counts"), format!("write `{trimmed}`"))
}

/// A character that this attribute never has.
fn unknown_character(value: &str, predicate: &Predicate) -> Option<Mistake> {
    const FOREIGN: &str = " \"'<>()$`\\^{}|";
    let (what, is_known): (_, fn(char) -> bool) = match predicate {
        // Envoy refuses every other character.
        Predicate::Method(_) => ("method", |c| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)),
        Predicate::Namespace(_) => ("name of a namespace", |c| c.is_ascii_alphanumeric() || "-*".contains(c)),
        Predicate::ServiceAccount(_) => {
            ("name of a service account", |c| c.is_ascii_alphanumeric() || "-./".contains(c))
        }
        Predicate::TrustDomain(_) => ("trust domain", |c| c.is_ascii_alphanumeric() || "-._*".contains(c)),
        Predicate::Principal(_) if !value.contains('=') => ("SPIFFE identity", |c| !FOREIGN.contains(c)),
        Predicate::Host(_) => ("name of a host", |c| !FOREIGN.contains(c)),
        Predicate::Sni(_) => ("name of a server", |c| c.is_ascii_alphanumeric() || "-._*:/".contains(c)),
        _ => return None,
    };
    let found = value.chars().find(|c| !is_known(*c))?;
    let quoted = |quote| value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    let advice = match (predicate, quoted('\'').or_else(|| quoted('"'))) {
        (_, Some(inner)) if !inner.is_empty() && inner.chars().all(is_known) => format!("write `{inner}`"),
        (Predicate::Namespace(_), _) if value.contains('/') => {
            "write the name of the namespace only; principals and serviceAccounts say more".to_owned()
        }
        (Predicate::Method(_), _) => "write each method as a value of its own".to_owned(),
        _ => "write the name that the other side has".to_owned(),
    };
    Mistake::found(format!("`{value}` has `{found}`, and no {what} has it"), advice)
}

/// A part that the attribute does not have, or a form that is not compared as what it looks like.
fn impossible_part(value: &str, predicate: &Predicate) -> Option<Mistake> {
    const NUMBERS: [&str; 5] = ["exp", "iat", "nbf", "auth_time", "updated_at"];
    const SPLIT_AT_SPACES: [&str; 2] = ["scope", "permission"];
    match predicate {
        Predicate::Sni(_) if value.contains([':', '/']) => {
            let name = value.rsplit("//").next().and_then(|rest| rest.split([':', '/']).next()).unwrap_or_default();
            let advice = if name.is_empty() { "write the name only".to_owned() } else { format!("write `{name}`") };
            Mistake::found(
                format!("`{value}` is more than a name, and the client sends only a name in the TLS handshake"),
                advice,
            )
        }
        Predicate::RequestPrincipal(_) if names_a_workload(value) => Mistake::found(
            format!("`{value}` is the identity of a workload, and no token has it"),
            "write it into principals, without `spiffe://`",
        ),
        Predicate::Principal(_) if value.starts_with("https://") || value.starts_with("http://") => Mistake::found(
            format!("`{value}` is what a token says, and no workload has such an identity"),
            "write it into requestPrincipals",
        ),
        Predicate::Method(_) => unknown_method(value),
        Predicate::Principal(_) if is_malformed(value) => Mistake::found(
            format!("`{value}` has not the form of the identities that Istio gives to workloads"),
            format!("write `{LOCAL_TRUST_DOMAIN}/ns/NAMESPACE/sa/NAME`"),
        ),
        Predicate::Principal(_) if value.starts_with(KUBERNETES_USER) => {
            let account = value.strip_prefix(KUBERNETES_USER).unwrap_or_default().replacen(':', "/sa/", 1);
            Mistake::found(
                format!("`{value}` is a user of the Kubernetes API, and no workload has such an identity"),
                format!("write `TRUST-DOMAIN/ns/{account}`, with the trust domain of your mesh"),
            )
        }
        Predicate::Path(_) if value.contains(' ') => Mistake::found(
            format!("`{value}` has a space, and Envoy refuses a path that has one"),
            if value.contains([',', ';']) {
                "clients write a space as `%20`".to_owned()
            } else {
                format!("write `{}`, as clients do", value.replace(' ', "%20"))
            },
        ),
        Predicate::Claim { path, .. } => match path.as_slice() {
            [claim] if NUMBERS.contains(&claim.as_str()) => Mistake::found(
                format!("the claim `{claim}` is a number, and a number matches no value"),
                "ask for a token instead, with `requestPrincipals: [\"*\"]`: whatever verifies it checks that it has not expired",
            ),
            [claim] if SPLIT_AT_SPACES.contains(&claim.as_str()) && value.contains(' ') => {
                let words: Vec<_> = value.split_whitespace().map(|word| format!("`{word}`")).collect();
                Mistake::found(
                    format!("the claim `{claim}` is split at its spaces, so `{value}` matches none of its words"),
                    format!(
                        "write {}: a list matches if one of them does, and two conditions if both do",
                        words.join(" and ")
                    ),
                )
            }
            _ if is_block(value) => Mistake::found(
                format!("`{value}` is compared as a text, not as a block of addresses"),
                "list the texts that the claim has",
            ),
            _ => None,
        },
        Predicate::Header { .. } if is_block(value) => Mistake::found(
            format!("`{value}` is compared as a text, not as a block of addresses"),
            "use remoteIpBlocks, but only where Envoy knows how many proxies to trust: elsewhere, clients choose that address \
             themselves",
        ),
        _ => None,
    }
}

/// A word that stands for all methods elsewhere, or that is nearly a method. Over HTTP/2, Envoy takes every word.
fn unknown_method(value: &str) -> Option<Mistake> {
    const USUAL: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"];
    const OTHERS: [&str; 6] = ["GETALL", "LIST", "PATH", "PURGE", "PUTALL", "SOURCE"];
    if ["ALL", "ANY"].contains(&value) {
        return Mistake::found(
            format!("`{value}` is compared as a method, as `GET` is, and does not stand for all of them"),
            "write `*` for every method",
        );
    }
    let unregistered = || format!("`{value}` is no registered method, and Envoy refuses it over HTTP/1");
    let is_usual = |c: char| c.is_ascii_alphanumeric() || "-_*".contains(c);
    if !value.chars().all(is_usual) {
        let clean = value.trim_matches(|c| !is_usual(c));
        let advice = if is_registered(clean) {
            format!("write `{}`", clean.to_ascii_uppercase())
        } else {
            "write each method as a value of its own".to_owned()
        };
        return Mistake::found(unregistered(), advice);
    }
    let is_word = value.len() > 2 && value.bytes().all(|byte| byte.is_ascii_uppercase());
    if !is_word || is_registered(value) || OTHERS.contains(&value) {
        return None;
    }
    let near = suggestion(value, USUAL).filter(|near| near.len().abs_diff(value.len()) <= 1)?;
    Mistake::found(unregistered(), format!("write `{near}`"))
}

/// Whether an identity in the default trust domain, without wildcards, is not one that a mesh issues.
fn is_malformed(value: &str) -> bool {
    value.strip_prefix(LOCAL_TRUST_DOMAIN).and_then(|rest| rest.strip_prefix('/')).is_some_and(|rest| {
        !rest.contains('*') && !matches!(rest.split('/').collect::<Vec<_>>().as_slice(), ["ns", namespace, "sa", account] if !namespace.is_empty() && !account.is_empty())
    })
}

/// How Kubernetes names a service account in its own tokens.
const KUBERNETES_USER: &str = "system:serviceaccount:";

/// Whether a value has the form TRUST-DOMAIN/ns/NAMESPACE/sa/NAME.
fn names_a_workload(value: &str) -> bool {
    let value = value.strip_prefix("spiffe://").unwrap_or(value);
    matches!(value.split('/').collect::<Vec<_>>().as_slice(), [domain, "ns", _, "sa", _] if !domain.is_empty())
}

fn is_block(value: &str) -> bool {
    value.contains('/') && Cidr::parse(value).is_ok()
}
