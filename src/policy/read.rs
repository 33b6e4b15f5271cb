//! Reads a document into the typed resource. Reports everything that the types cannot hold, field by field.

use super::key::ConditionKey;
use super::resource::{at_most, envelope, missing, name_of, selector, target_reference, target_references};
use super::validate::{self, Draft, Provider};
use super::value::{ParseError, parse_port};
use super::{
    Action, AllOf, AnyOf, AuthorizationPolicy, CONDITION_FIELDS, Cidr, MetadataValue, Operation, PathValue, Predicate,
    Rule, ServiceAccount, Source, Values,
};
use crate::attribute::Attribute;
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::document::{Node, Object, Value, from_json, list, list_of_some, one_of, string};

/// The `kind` of the resource that this crate is about.
pub const KIND: &str = "AuthorizationPolicy";

const MOST_RULES: usize = 512;
const MOST_SOURCES: usize = 512;

/// Reads and validates one resource.
///
/// Returns `None` if the resource is invalid in any way. At least one error has then been reported.
pub fn policy(node: &Node, diagnostics: &mut Diagnostics) -> Option<AuthorizationPolicy> {
    diagnostics.policy(|| name_of(node), |diagnostics| resource(node, diagnostics))
}

/// Reads and validates one rule of a policy with this action.
///
/// Returns `None` if the rule is invalid in any way. At least one error has then been reported.
pub fn rule_for(node: &Node, action: Action, diagnostics: &mut Diagnostics) -> Option<Rule> {
    let errors_before = diagnostics.count();
    let rule = rule(node, diagnostics);
    validate::rule(&rule, action, diagnostics);
    if diagnostics.count() == errors_before { Some(rule) } else { None }
}

impl AuthorizationPolicy {
    /// Reads and validates one resource, in the form that `kubectl get -o json` prints.
    ///
    /// ```
    /// use mesh_authz::policy::AuthorizationPolicy;
    ///
    /// let mistakes = AuthorizationPolicy::from_json(
    ///     r#"{ "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": { "name": "admin" },
    ///          "spec": { "action": "DENY", "rules": [{ "to": [{ "operation": { "path": ["/admin*"] } }] }] } }"#,
    /// )
    /// .unwrap_err();
    /// assert_eq!(
    ///     mistakes[0].to_string(),
    ///     "policy default/admin: spec.rules[0].to[0].operation.path: unknown field, did you mean paths?"
    /// );
    /// ```
    ///
    /// # Errors
    /// If the text is not JSON, one error says so. If the policy is invalid, the errors are everything that is wrong
    /// with it.
    pub fn from_json(text: &str) -> Result<Self, Vec<Diagnostic>> {
        let not_json =
            |error| vec![Diagnostic { message: format!("this is not JSON: {error}"), ..Diagnostic::default() }];
        let document = from_json(text.as_bytes()).map_err(not_json)?;
        let mut diagnostics = Diagnostics::new();
        policy(&document, &mut diagnostics).ok_or_else(|| diagnostics.into_found())
    }
}

fn resource(node: &Node, diagnostics: &mut Diagnostics) -> Option<AuthorizationPolicy> {
    let errors_before = diagnostics.count();
    let mut object = Object::open(node, diagnostics)?;

    let metadata = envelope(&mut object, KIND, diagnostics);
    let mut draft = read_or_null(&mut object, "spec", diagnostics, spec).flatten().unwrap_or_default();
    object.ignore("status");
    object.finish(diagnostics);

    let metadata = metadata?;
    draft.dry_run = metadata.dry_run;
    draft.revision = metadata.revision;
    let policy = validate::policy(metadata.name?, draft, diagnostics);
    if diagnostics.count() == errors_before { Some(policy) } else { None }
}

/// Like [`Object::read`], but null is as good as no field. That is safe where a field that is missing matches nothing.
fn read_or_null<'n, T>(
    object: &mut Object<'n>,
    name: &'static str,
    diagnostics: &mut Diagnostics,
    read: impl FnOnce(&'n Node, &mut Diagnostics) -> T,
) -> Option<T> {
    let node = object.get(name).filter(|node| !node.is_null())?;
    Some(diagnostics.field(name, |diagnostics| read(node, diagnostics)))
}

fn spec(node: &Node, diagnostics: &mut Diagnostics) -> Option<Draft> {
    let mut object = Object::open(node, diagnostics)?;
    let draft = Draft {
        dry_run: None,
        revision: None,
        selector: object.read("selector", diagnostics, selector),
        target_ref: object.read("targetRef", diagnostics, |node, diagnostics| {
            target_reference(node, diagnostics).into_iter().collect()
        }),
        target_refs: object.read("targetRefs", diagnostics, target_references),
        action: object
            .read("action", diagnostics, |node, diagnostics| one_of(node, &Action::NAMES, diagnostics))
            .flatten()
            .unwrap_or_default(),
        provider: object.read("provider", diagnostics, provider),
        rules: read_or_null(&mut object, "rules", diagnostics, |node, diagnostics| {
            at_most(node, MOST_RULES, diagnostics, rule)
        }),
    };
    object.finish(diagnostics);
    Some(draft)
}

fn provider(node: &Node, diagnostics: &mut Diagnostics) -> Provider {
    let Some(mut object) = Object::open(node, diagnostics) else { return Provider { name: None } };
    let name = object.string("name", diagnostics);
    object.finish(diagnostics);
    Provider { name }
}

fn rule(node: &Node, diagnostics: &mut Diagnostics) -> Rule {
    let Some(mut object) = Object::open(node, diagnostics) else { return Rule::default() };
    let rule = Rule {
        from: object.read("from", diagnostics, |node, diagnostics| {
            let read = |node, diagnostics: &mut Diagnostics| only_field(node, "source", diagnostics, source);
            non_empty(node, "from", diagnostics);
            AnyOf(at_most(node, MOST_SOURCES, diagnostics, read))
        }),
        to: object.read("to", diagnostics, |node, diagnostics| {
            let read = |node, diagnostics: &mut Diagnostics| only_field(node, "operation", diagnostics, operation);
            non_empty(node, "to", diagnostics);
            AnyOf(list(node, diagnostics, read))
        }),
        when: AllOf(
            object
                .read("when", diagnostics, |node, diagnostics| list_of_some(node, diagnostics, condition))
                .unwrap_or_default(),
        ),
    };
    object.finish(diagnostics);
    rule
}

fn non_empty(node: &Node, name: &str, diagnostics: &mut Diagnostics) {
    if is_empty_list(node) {
        diagnostics.error_with_hint("must not be empty", format!("remove `{name}` if anything may match"));
    }
}

fn is_empty_list(node: &Node) -> bool {
    matches!(&node.value, Value::List(items) if items.is_empty())
}

/// Reads an entry of `from` or `to`: an object that has exactly one field, `name`.
fn only_field(
    node: &Node,
    name: &'static str,
    diagnostics: &mut Diagnostics,
    read: impl FnOnce(&Node, &mut Diagnostics) -> AllOf<Predicate>,
) -> AllOf<Predicate> {
    let Some(mut object) = Object::open(node, diagnostics) else { return AllOf::default() };
    let fields = object.read(name, diagnostics, |node, diagnostics| {
        let is_object = matches!(node.value, Value::Map(_));
        let errors_before = diagnostics.count();
        let fields = read(node, diagnostics);
        if is_object && fields.0.is_empty() && diagnostics.count() == errors_before {
            diagnostics.error_with_hint("must not be empty", "name at least one field");
        }
        fields
    });
    if fields.is_none() {
        missing(&object, name, diagnostics);
    }
    object.finish(diagnostics);
    fields.unwrap_or_default()
}

/// The fields of a source, in the order in which Istio combines them.
const SOURCE: [Attribute; 7] = [
    Attribute::SourcePrincipal,
    Attribute::RequestPrincipal,
    Attribute::SourceServiceAccount,
    Attribute::SourceTrustDomain,
    Attribute::SourceNamespace,
    Attribute::RemoteIp,
    Attribute::SourceIp,
];

/// The fields of an operation, in the order in which Istio combines them.
const OPERATION: [Attribute; 4] = [Attribute::Host, Attribute::Method, Attribute::Path, Attribute::DestinationPort];

const _: () =
    assert!(SOURCE.len() + OPERATION.len() == Attribute::with_fields(Attribute::ALL), "a field belongs to neither");

fn source(node: &Node, diagnostics: &mut Diagnostics) -> Source {
    let Some(mut object) = Object::open(node, diagnostics) else { return Source::default() };
    let source = fields(&mut object, &SOURCE, diagnostics);
    let has = |names: &[&str]| names.iter().any(|name| object.has(name));
    if has(&["serviceAccounts", "notServiceAccounts"])
        && has(&["principals", "notPrincipals", "namespaces", "notNamespaces"])
    {
        diagnostics.error_with_hint(
            "serviceAccounts cannot stand beside principals or namespaces",
            "a service account names its namespace already",
        );
    }
    object.finish(diagnostics);
    source
}

fn operation(node: &Node, diagnostics: &mut Diagnostics) -> Operation {
    let Some(mut object) = Object::open(node, diagnostics) else { return Operation::default() };
    let operation = fields(&mut object, &OPERATION, diagnostics);
    object.finish(diagnostics);
    operation
}

/// Reads the fields for these attributes. Attributes without a field in the object are left out.
fn fields(object: &mut Object<'_>, attributes: &[Attribute], d: &mut Diagnostics) -> AllOf<Predicate> {
    let mut there = Vec::new();
    for attribute in attributes {
        let names = attribute.info().fields.unwrap_or_default();
        there.extend(match attribute {
            // The condition `source.trustDomain` may hold a slash, the field `trustDomains` may not.
            Attribute::SourceTrustDomain => pair(object, d, names, validate::trust_domain).map(Predicate::TrustDomain),
            other => predicate(*other, object, names, d),
        });
    }
    // The filter can hold thousands of policies at a time, so spare memory is given back.
    there.shrink_to_fit();
    AllOf(there)
}

/// Reads the values of an attribute from these two fields.
fn predicate(
    attribute: Attribute,
    o: &mut Object<'_>,
    names: [&'static str; 2],
    d: &mut Diagnostics,
) -> Option<Predicate> {
    match attribute {
        Attribute::SourcePrincipal => pair(o, d, names, text).map(Predicate::Principal),
        Attribute::RequestPrincipal => pair(o, d, names, text).map(Predicate::RequestPrincipal),
        Attribute::SourceServiceAccount => pair(o, d, names, ServiceAccount::parse).map(Predicate::ServiceAccount),
        Attribute::SourceTrustDomain => pair(o, d, names, validate::trust_domain_condition).map(Predicate::TrustDomain),
        Attribute::SourceNamespace => pair(o, d, names, text).map(Predicate::Namespace),
        Attribute::RemoteIp => pair(o, d, names, Cidr::parse).map(Predicate::RemoteIp),
        Attribute::SourceIp => pair(o, d, names, Cidr::parse).map(Predicate::SourceIp),
        Attribute::Host => pair(o, d, names, text).map(Predicate::Host),
        Attribute::Method => pair(o, d, names, text).map(Predicate::Method),
        Attribute::Path => pair(o, d, names, PathValue::parse).map(Predicate::Path),
        Attribute::DestinationPort => pair(o, d, names, parse_port).map(Predicate::DestinationPort),
        Attribute::DestinationIp => pair(o, d, names, Cidr::parse).map(Predicate::DestinationIp),
        Attribute::Sni => pair(o, d, names, text).map(Predicate::Sni),
        // These attributes also need a name, which only the key of a condition gives.
        Attribute::Header | Attribute::Claim | Attribute::Metadata => None,
    }
}

fn condition(node: &Node, diagnostics: &mut Diagnostics) -> Option<Predicate> {
    let mut o = Object::open(node, diagnostics)?;
    let key = o.string("key", diagnostics);
    let d = diagnostics;
    let errors_before = d.count();
    let parsed = match key.as_deref().map(ConditionKey::parse) {
        Some(Ok(parsed)) => Some(parsed),
        Some(Err(error)) => {
            d.field("key", |d| d.error_with_hint(error.message, error.hint));
            None
        }
        None => {
            missing(&o, "key", d);
            None
        }
    };
    let names = CONDITION_FIELDS;
    let predicate = match parsed {
        // Read the values anyway, so that their fields count as known and their form is checked.
        None => pair(&mut o, d, names, text).and(None),
        Some(ConditionKey::Whole(attribute)) => predicate(attribute, &mut o, names, d),
        Some(ConditionKey::Header(name)) => {
            pair(&mut o, d, names, text).map(|values| Predicate::Header { name, values })
        }
        Some(ConditionKey::Claim(path)) => {
            pair_of(claim_text, &mut o, d, names, text).map(|values| Predicate::Claim { path, values })
        }
        Some(ConditionKey::Metadata { filter, key }) => pair(&mut o, d, names, |text| Ok(MetadataValue::parse(text)))
            .map(|values| Predicate::Metadata { filter, key, values }),
    };
    if let (None, Some(key), true) = (&predicate, key, d.count() == errors_before) {
        d.error_with_hint(format!("condition on `{key}` has no values"), "give `values` or `notValues`");
    }
    o.finish(d);
    predicate
}

#[expect(clippy::unnecessary_wraps, reason = "has the form of the parsers that can fail")]
fn text(value: &str) -> Result<String, ParseError> {
    Ok(value.to_owned())
}

/// Like [`string`], for a value of a claim. A boolean or a number in a token matches no value, in quotes or not.
fn claim_text<'n>(node: &'n Node, diagnostics: &mut Diagnostics) -> Option<&'n str> {
    if matches!(node.value, Value::Bool(_) | Value::Number(_)) {
        let message = format!("must be a string, is {}", node.value.kind());
        let hint = "in quotes it matches a text, and never a boolean or a number in a token";
        diagnostics.error_with_hint(message, hint);
        return None;
    }
    string(node, diagnostics)
}

/// Reads a field and its `not` twin, each a list of values. Returns `None` if neither of them holds a value.
fn pair<T>(
    object: &mut Object<'_>,
    diagnostics: &mut Diagnostics,
    names: [&'static str; 2],
    parse: impl Fn(&str) -> Result<T, ParseError>,
) -> Option<Values<T>> {
    pair_of(string, object, diagnostics, names, parse)
}

fn pair_of<T>(
    item: for<'n> fn(&'n Node, &mut Diagnostics) -> Option<&'n str>,
    object: &mut Object<'_>,
    diagnostics: &mut Diagnostics,
    [name, not_name]: [&'static str; 2],
    parse: impl Fn(&str) -> Result<T, ParseError>,
) -> Option<Values<T>> {
    let mut read = |name| object.read(name, diagnostics, |node, diagnostics| values(item, node, diagnostics, &parse));
    let (any, none) = (read(name), read(not_name));
    let (any, none) = (any.unwrap_or_default(), none.unwrap_or_default());
    if any.is_empty() && none.is_empty() { None } else { Some(Values { any, none }) }
}

fn values<T>(
    item: for<'n> fn(&'n Node, &mut Diagnostics) -> Option<&'n str>,
    node: &Node,
    diagnostics: &mut Diagnostics,
    parse: impl Fn(&str) -> Result<T, ParseError>,
) -> Vec<T> {
    let read = |node: &Node, diagnostics: &mut Diagnostics| {
        let text = item(node, diagnostics)?;
        if text.is_empty() {
            let takes_any = parse("*").is_ok();
            let hint = if takes_any { "remove it, or write \"*\" for any value" } else { "remove it" };
            diagnostics.error_with_hint("must not be empty", hint);
            return None;
        }
        match parse(text) {
            Ok(value) => Some(value),
            Err(error) => {
                diagnostics.error_with_hint(error.message, error.hint);
                None
            }
        }
    };
    list_of_some(node, diagnostics, read)
}
