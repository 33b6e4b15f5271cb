//! Validates everything that the command renders for a cluster against the schemas of Istio's own resources.
//!
//! A cluster drops fields that a schema does not have. Here, such a field is an error. The conditions in a schema are
//! evaluated if all of their functions are known here; the others are counted.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use cel::extractors::This;
use cel::{Context, Program};
use mesh_authz_cli::load;
use mesh_authz_cli::load::finding::SourceText;
use serde_json::{Map, Value, json};

use crate::rendered;

/// The schemas, by API version and kind.
struct Schemas(BTreeMap<String, Value>);

impl Schemas {
    /// Reads the schemas from the file that `ISTIO_CRDS` names.
    fn read() -> Self {
        let file = std::env::var_os("ISTIO_CRDS").expect("ISTIO_CRDS names the file of Istio's resource definitions");
        let documents = load::documents(&PathBuf::from(file)).unwrap();
        let definitions = documents.into_iter().map(|document| serde_json::to_value(document).unwrap());
        let schemas = definitions.flat_map(|definition| {
            let spec = &definition["spec"];
            let (group, kind) = (spec["group"].as_str().unwrap(), spec["names"]["kind"].as_str().unwrap());
            let versions = spec["versions"].as_array().unwrap().iter();
            let schema = |version: &Value| {
                let key = format!("{group}/{} {kind}", version["name"].as_str().unwrap());
                let mut schema = version["schema"]["openAPIV3Schema"].clone();
                for field in ["apiVersion", "kind"] {
                    schema["properties"][field] = json!({ "type": "string" });
                }
                schema["properties"]["metadata"] =
                    json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
                close(&mut schema);
                (key, schema)
            };
            versions.map(schema).collect::<Vec<_>>()
        });
        Self(schemas.collect())
    }

    fn of(&self, resource: &Value) -> &Value {
        let key = format!("{} {}", resource["apiVersion"].as_str().unwrap(), resource["kind"].as_str().unwrap());
        self.0.get(&key).unwrap_or_else(|| panic!("no schema for {key}"))
    }

    fn errors(&self, resource: &Value) -> Vec<String> {
        let validator = jsonschema::validator_for(self.of(resource)).unwrap();
        validator.iter_errors(resource).map(|error| format!("{}: {error}", error.instance_path())).collect()
    }
}

/// Changes a schema so that unknown fields are errors.
fn close(schema: &mut Value) {
    let Value::Object(fields) = schema else {
        if let Value::Array(items) = schema {
            items.iter_mut().for_each(close);
        }
        return;
    };
    let is_open = fields.get("x-kubernetes-preserve-unknown-fields") == Some(&json!(true));
    let is_closed =
        fields.get("type") == Some(&json!("object")) && fields.get("properties").is_some_and(Value::is_object);
    for (name, value) in fields.iter_mut() {
        match (name.as_str(), value) {
            ("properties", Value::Object(properties)) => properties.values_mut().for_each(close),
            ("items" | "additionalProperties", value) => close(value),
            _ => {}
        }
    }
    if is_closed && !is_open {
        fields.insert("additionalProperties".to_owned(), json!(false));
    }
}

/// The results of evaluating the conditions in schemas.
#[derive(Default)]
struct Conditions {
    held: usize,
    broken: Vec<String>,
    skipped: Vec<String>,
}

impl Conditions {
    fn check(&mut self, schema: &Value, value: &Value) {
        for condition in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
            let rule = condition["rule"].as_str().unwrap();
            match holds(rule, value) {
                Ok(true) => self.held += 1,
                Ok(false) => self.broken.push(format!("{rule}: {}: {value}", condition["message"])),
                Err(error) => self.skipped.push(format!("{rule}: {error}")),
            }
        }
        match value {
            Value::Object(fields) => {
                let empty = Map::new();
                let properties = schema["properties"].as_object().unwrap_or(&empty);
                for (name, value) in fields {
                    self.check(properties.get(name).unwrap_or(&schema["additionalProperties"]), value);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| self.check(&schema["items"], item)),
            _ => {}
        }
    }
}

fn holds(rule: &str, value: &Value) -> Result<bool, String> {
    let program = Program::compile(rule).map_err(|error| error.to_string())?;
    let mut context = Context::default();
    context.add_variable("self", value.clone()).map_err(|error| error.to_string())?;
    add_functions(&mut context).map_err(|error| error.to_string())?;
    match program.execute(&context).map_err(|error| error.to_string())? {
        cel::Value::Bool(holds) => Ok(holds),
        other => Err(format!("{other:?} is no answer")),
    }
}

/// Adds the functions of Kubernetes that these conditions need. A URL is represented by its text.
fn add_functions(context: &mut Context<'_, '_>) -> Result<(), impl std::fmt::Display> {
    let scheme = |text: &str| text.split_once("://").map_or_else(String::new, |(scheme, _)| scheme.to_owned());
    context.add_function("isURL", |text: Arc<String>| text.contains("://"))?;
    context.add_function("url", |text: Arc<String>| text)?;
    context.add_function("getScheme", move |This(text): This<Arc<String>>| Arc::new(scheme(&text)))?;
    context.add_function("duration", |text: Arc<String>| match text.strip_suffix("ms") {
        Some(milliseconds) => milliseconds.parse::<f64>().unwrap() / 1000.0,
        None => text.strip_suffix('s').unwrap().parse().unwrap(),
    })
}

#[test]
#[ignore = "needs Istio's files: ISTIO_CRDS=… make conformance"]
fn everything_rendered_is_what_a_cluster_takes() {
    // The example and the inputs contain these kinds, for which the file may have no schema.
    const OTHERS: [&str; 9] = [
        "ConfigMap",
        "Deployment",
        "Gateway",
        "GatewayClass",
        "Kustomization",
        "PeerAuthentication",
        "Service",
        "ServiceAccount",
        "ServiceEntry",
    ];
    let schemas = Schemas::read();
    let mut example = rendered::example("istio");
    example.retain(|resource| !OTHERS.contains(&resource["kind"].as_str().unwrap()));
    assert_eq!(example.len(), 9);
    let mut inputs = rendered::inputs();
    inputs.retain(|resource| !OTHERS.contains(&resource["kind"].as_str().unwrap()));
    let resources = [rendered::resources(), inputs, example].concat();
    let mut conditions = Conditions::default();
    let mut kinds = BTreeMap::<_, usize>::new();
    for resource in &resources {
        let errors = schemas.errors(resource);
        assert!(errors.is_empty(), "{errors:#?} in {resource:#}");
        conditions.check(schemas.of(resource), resource);
        *kinds.entry(resource["kind"].as_str().unwrap()).or_default() += 1;
    }
    println!("valid: {kinds:?}; conditions: {} hold, {} skipped", conditions.held, conditions.skipped.len());
    conditions.skipped.sort();
    conditions.skipped.dedup();
    for skipped in &conditions.skipped {
        println!("skipped: {skipped}");
    }
    assert_eq!(conditions.broken, Vec::<String>::new());
    assert!(conditions.held > 150, "only {} conditions were run", conditions.held);
}

#[test]
#[ignore = "needs Istio's files: ISTIO_CRDS=… make conformance"]
fn the_schemas_and_their_conditions_have_teeth() {
    let schemas = Schemas::read();
    let of = |kind: &str| rendered::resources().into_iter().find(|resource| resource["kind"] == kind).unwrap();
    for (kind, pointer, value) in [
        ("WasmPlugin", "/spec/phase", json!("SOON")),
        ("WasmPlugin", "/spec/unknown", json!(1)),
        ("WasmPlugin", "/spec/sha256", json!("sha256:0")),
        ("TrafficExtension", "/spec/wasm/failStrategy", json!("OPEN")),
        ("EnvoyFilter", "/spec/configPatches/0/applyTo", json!("HTTP")),
    ] {
        let mut resource = of(kind);
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        resource.pointer_mut(parent).unwrap()[name] = value;
        assert!(!schemas.errors(&resource).is_empty(), "{pointer}");
    }
    let mut resource = of("WasmPlugin");
    resource["spec"]["selector"] = json!({ "matchLabels": { "a": "*" } });
    resource["spec"]["targetRefs"] = json!([{ "kind": "Gateway", "name": "g" }]);
    let mut conditions = Conditions::default();
    conditions.check(schemas.of(&resource), &resource);
    assert_eq!(conditions.broken.len(), 2, "{:?}", conditions.broken);
}

/// A value that has every field of a schema.
fn sample(schema: &Value) -> Value {
    if let Some(Value::Object(properties)) = schema.get("properties") {
        return properties.iter().map(|(name, schema)| (name.clone(), sample(schema))).collect();
    }
    if let Some(choice) = schema["enum"].as_array().and_then(|choices| choices.last()) {
        return choice.clone();
    }
    match schema["type"].as_str() {
        Some("array") => json!([sample(&schema["items"])]),
        Some("object") => json!({ "a": sample(&schema["additionalProperties"]) }),
        Some("boolean") => json!(true),
        Some("integer" | "number") => json!(1),
        _ => json!("a"),
    }
}

/// Fields that Istio adds one day would be errors here until the command knows them.
#[test]
#[ignore = "needs Istio's files: ISTIO_CRDS=… make conformance"]
fn every_field_that_a_cluster_takes_is_known() {
    let kinds = ["AuthorizationPolicy", "PeerAuthentication", "RequestAuthentication"];
    let is_read = |key: &&String| kinds.iter().any(|kind| key.ends_with(&format!(" {kind}")));
    let Schemas(schemas) = Schemas::read();
    let mut read = 0;
    for key in schemas.keys().filter(is_read) {
        let (version, kind) = key.split_once(' ').unwrap();
        let metadata = json!({ "name": "x" });
        let spec = sample(&schemas[key]["properties"]["spec"]);
        let resource = json!({ "apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec });
        let source = SourceText::new(PathBuf::from(key), resource.to_string());
        let found = load::Resources::of(&Arc::new(source)).findings;
        let unknown: Vec<_> = found.iter().map(ToString::to_string).filter(|line| line.contains("unknown")).collect();
        assert_eq!(unknown, Vec::<String>::new(), "{resource:#}");
        read += 1;
    }
    assert!(read >= 4, "only {read} schemas are of kinds that are read here");
}
