//! MA019. A path that is refused in only one spelling, while Envoy does not normalize all others.

use mesh_authz::diagnostic::Segment;
use mesh_authz::matcher::template::Template;
use mesh_authz::matcher::{Pattern, Polarity, Wildcard};
use mesh_authz::policy::{Form, PathValue, Predicate};

use super::public_endpoint::is_health_check;
use super::{Check, Lint, LintContext, PathNormalization, Reporter, ValueList};

pub(super) static LINT: Lint = Lint {
    code: "MA019",
    name: "path-spelling",
    summary: "a path that is refused in only one spelling, while Envoy does not normalize all others",
    explanation: "For a policy, `//admin`, `/%2Fadmin` and `/./admin` are different paths from `/admin`. For many \
            applications, they are the same path. Where a match refuses the request (paths in DENY, notPaths in \
            ALLOW), a request with any other spelling is not refused. Envoy can bring all spellings to one before the \
            policies see the path. The lint takes Istio's default, BASE, which neither merges slashes nor decodes \
            escaped slashes. In Istio, set `pathNormalization.normalization: DECODE_AND_MERGE_SLASHES`, which does \
            both, and give the lint the mesh configuration. For an Envoy without Istio, give its configuration with \
            --envoy: the lint reads what it does, and ME006 says what is missing. The bootstraps of this project do \
            both. Or say what your Envoy does with --path-normalization. In ALLOW, a path without a wildcard does not have \
            this problem. A path with one does: `/public*` also matches `/public/..%2fadmin`.",
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
        paths: ["/public"]
"#,
    trust_domain: None,
    check: Check::List(check),
};

/// Reports the first path of the list that does not match another spelling of itself.
fn check(list: &ValueList<'_>, context: &LintContext, reporter: &mut Reporter) {
    let Predicate::Path(_) = list.predicate else { return };
    if !list.denies() {
        return;
    }
    let (other, setting) = match context.path_normalization {
        PathNormalization::None => ("/x/../", "none"),
        PathNormalization::Base => ("//", "base, Istio's default"),
        PathNormalization::MergeSlashes => ("/%2F", "merge-slashes"),
        PathNormalization::DecodeAndMergeSlashes => return,
    };
    let slips = |value: &str| {
        // A template or a prefix can have another spelling at each of its slashes.
        let at_slash =
            |(at, _): (usize, &str)| Some(format!("{}{other}{}", value.get(..at)?, value.get(at.checked_add(1)?..)?));
        let matches_value = |spelt: &str| PathValue::parse(value).is_ok_and(|parsed| matches(&parsed, spelt));
        let mut spelt = value.match_indices('/').filter_map(at_slash).filter(|spelt| !matches_value(spelt));
        spelt.find(|spelt| value.starts_with('/') && !is_grpc(value) && may_pass(list, spelt))
    };
    let found = list.values.iter().enumerate().find_map(|(index, value)| Some((index, value, slips(value)?)));
    let Some((index, value, spelt)) = found else { return };
    let mut path = list.path.clone();
    path.0.push(Segment::Index(index));
    reporter.report(
        &LINT,
        list.resource,
        path,
        format!("`{value}` does not match `{spelt}`, and many applications treat both as the same path"),
        format!(
            "let Envoy bring paths to one spelling, and tell the command: give Istio's mesh configuration, --envoy CONFIG or \
             --path-normalization. Without them, it takes {setting}. Or permit by paths without wildcards in ALLOW instead"
        ),
    );
}

/// Whether a path names a gRPC method, or all methods of a gRPC service. Servers take it in this spelling only.
pub(super) fn is_grpc(path: &str) -> bool {
    let Some((service, method)) = path.strip_prefix('/').and_then(|path| path.split_once('/')) else { return false };
    let is_word = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let is_type = |text: &str| is_word(text) && text.starts_with(|c: char| c.is_ascii_uppercase());
    let package =
        service.rsplit_once('.').is_some_and(|(package, name)| package.split('.').all(is_word) && is_type(name));
    package && (method == "*" || is_type(method.trim_end_matches('*')))
}

/// Whether a path that the list does not match can still match the operation. Where `notPaths` stands beside `paths`, it
/// matches only if `paths` does.
pub(super) fn may_pass(list: &ValueList<'_>, path: &str) -> bool {
    let Predicate::Path(values) = list.predicate else { return true };
    // A health check is excluded since another rule is for it, and not to protect it.
    !list.is_not
        || (!is_health_check(path) && (values.any.is_empty() || values.any.iter().any(|value| matches(value, path))))
}

/// Whether a value of `paths` matches a path, in a list where a match denies.
pub(super) fn matches(value: &PathValue, path: &str) -> bool {
    match value {
        PathValue::Text(text) => {
            Pattern::new(Form::of(text), &Pattern::NonEmpty(Wildcard::Bytes)).matches(path.as_bytes())
        }
        PathValue::Template(text) => Template::new(text, Polarity::Denies).matches(path.as_bytes()),
    }
}
