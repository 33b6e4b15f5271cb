//! What a cluster makes of files, and how the command's verdicts are compared with it. `make test` compares with what is
//! recorded in `cluster.jsonl`, and `make istio` with a real cluster.

pub mod compare;
pub mod differences;
pub mod typed;

use serde_json::Value;

/// What became of a file.
#[derive(Debug)]
pub struct Verdict {
    /// Why kubectl does not read the file, or a part of it.
    pub error: Option<String>,
    pub objects: Vec<Object>,
}

/// What became of an object of a file.
#[derive(Debug)]
pub struct Object {
    pub kind: String,
    pub namespace: String,
    pub name: String,
    /// The object as the API server would keep it, or why it refuses it.
    pub result: Result<Value, String>,
}

impl Object {
    fn of(value: &Value) -> Self {
        let text = |field: &str| value[field].as_str().unwrap_or_default().to_owned();
        let result = if value.get("object").is_some() { Ok(value["object"].clone()) } else { Err(text("error")) };
        Self { kind: text("kind"), namespace: text("namespace"), name: text("name"), result }
    }

    pub fn full_name(&self) -> String {
        let namespace = if self.namespace.is_empty() { "default" } else { &self.namespace };
        format!("{namespace}/{}", self.name)
    }
}

impl Verdict {
    /// From what the program `admission` prints.
    pub fn of(value: &Value) -> Self {
        let error = value["error"].as_str().map(str::to_owned);
        Self { error, objects: value["objects"].as_array().into_iter().flatten().map(Object::of).collect() }
    }

    pub fn is_taken(&self) -> bool {
        self.error.is_none() && self.objects.iter().all(|object| object.result.is_ok())
    }
}
