//! Where the command is meant to differ from a cluster. `docs/differences-from-istio.md` has a row for each.

/// Why the command refuses what a cluster takes.
pub struct Stricter {
    pub name: &'static str,
    /// What the command says: one of these.
    pub messages: &'static [&'static str],
    /// What the documentation says.
    pub row: &'static str,
}

/// The first of two values is not read further.
pub const TWICE: &str = "a key twice";

pub const STRICTER: &[Stricter] = &[
    Stricter { name: "null", messages: &["has no value; give it one", "is null"], row: "`from:` without a value" },
    Stricter {
        name: TWICE,
        messages: &["stands here twice", "is written twice"],
        row: "a key twice in one object, such as two `action`",
    },
    Stricter {
        name: "a name twice",
        messages: &["has the same namespace and name"],
        row: "a second policy with the same namespace and name",
    },
    Stricter { name: "an empty list", messages: &["must not be empty; remove `"], row: "`from: []`, `to: []`" },
    Stricter {
        name: "a condition key",
        messages: &["is not a valid key"],
        row: "`key: request.headersX[a]`, `request.auth.claims[a][]`",
    },
    Stricter {
        name: "a template",
        messages: &["a path template starts with a slash", "a segment is empty"],
        row: "`paths: [\"admin/{**}\"]`, `paths: [\"/{*}//\"]`",
    },
    Stricter {
        name: "a number of metadata",
        messages: &["must be a whole number of at most 64 bits, written in digits"],
        row: "`generation: 1e3`",
    },
    Stricter {
        name: "a namespace that is no text",
        messages: &["metadata.namespace: must be a string"],
        row: "`namespace: yes` in an item of a list",
    },
    Stricter {
        name: "the name of a header",
        messages: &["is not the name of a header"],
        row: "`fromHeaders: [{ name: \"a b\" }]`, `outputPayloadToHeader: \"a b\"`",
    },
    Stricter {
        name: "a key set",
        messages: &["is not a set of keys", "is no key: it has no `kty`", "is not JSON"],
        row: "`jwks` that has no key in `keys`, is one key without `keys`, or goes on behind the set",
    },
    Stricter {
        name: "the place of a key set",
        messages: &[
            "has no valid host and port",
            "has a user name in it",
            "has a character that a URL does not have",
            "is not a URL",
        ],
        row: "`jwksUri` with port 0, a user name, no host, or a character that is not ASCII",
    },
    Stricter {
        name: "text outside a document",
        messages: &["this does not belong to the document before it"],
        row: "text that is not part of the document before it",
    },
    Stricter {
        name: "what begins as JSON",
        messages: &["this begins as JSON, and is not"],
        row: "a document that begins as JSON",
    },
    Stricter {
        name: "a mark of byte order",
        messages: &["U+FEFF is a character"],
        row: "a mark of byte order (U+FEFF) within a document",
    },
    Stricter {
        name: "deep nesting",
        messages: &["nested too deeply"],
        row: "lists and maps in each other, more than 128 deep",
    },
    Stricter {
        name: "a tag",
        messages: &["the tag `!!timestamp`", "while scanning a tag", "Kubernetes wants white space behind a tag"],
        row: "the tag `!!timestamp`; tags with a comma or with brackets",
    },
];

/// Why the command takes what a cluster refuses: what a file alone does not say.
pub struct Unknown {
    pub name: &'static str,
    /// What the cluster says: one of these.
    pub errors: &'static [&'static str],
    /// What the documentation says.
    pub row: &'static str,
}

/// What the command does not check.
pub const ANOTHER_KIND: &str = "a mistake in a resource of another kind";

pub const UNKNOWN: &[Unknown] = &[
    Unknown {
        name: "a kind that the cluster does not have",
        errors: &["no matches for kind"],
        row: "a kind or a version that the cluster does not have",
    },
    // Only if the resource is of another kind: see `compare`.
    Unknown { name: ANOTHER_KIND, errors: &[], row: "a resource of another kind" },
    Unknown {
        name: "a field of a newer Istio",
        errors: &[".presence\"", "unknown field \"presence\""],
        row: "`presence` in a rule of a `RequestAuthentication`",
    },
    Unknown {
        name: "who manages fields",
        errors: &[".manager: Invalid value", ".manager: Too long"],
        row: "a `manager` in `managedFields`",
    },
];
