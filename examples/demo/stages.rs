//! What the demo shows: the same four requests under five sets of policies.

use std::fmt;

/// The sender of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// `cluster.local/ns/default/sa/frontend`.
    Frontend,
    /// `cluster.local/ns/default/sa/stranger`: in the same mesh, but unknown to the backend.
    Stranger,
}

/// A request to the backend.
#[derive(Clone, Copy, Debug)]
pub struct DemoRequest {
    pub peer: Peer,
    pub method: &'static str,
    pub path: &'static str,
}

impl fmt::Display for DemoRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let peer = match self.peer {
            Peer::Frontend => "frontend",
            Peer::Stranger => "stranger",
        };
        write!(f, "{peer} {} {}", self.method, self.path)
    }
}

/// The tutorial's four requests.
pub const REQUESTS: [DemoRequest; 4] = [
    DemoRequest { peer: Peer::Frontend, method: "GET", path: "/api/v1/data" },
    DemoRequest { peer: Peer::Frontend, method: "POST", path: "/api/v1/data" },
    DemoRequest { peer: Peer::Frontend, method: "GET", path: "/api/v1/other" },
    DemoRequest { peer: Peer::Stranger, method: "GET", path: "/api/v1/data" },
];

/// Policies, and the expected outcome of each request under them.
#[derive(Debug)]
pub struct Stage {
    pub title: &'static str,
    /// The names of files in `examples/tutorial`, without `.yaml`.
    pub policies: &'static [&'static str],
    pub combining: &'static str,
    /// The expected status for each of [`REQUESTS`].
    pub expected: [u16; 4],
    pub lesson: &'static str,
}

pub const STAGES: [Stage; 5] = [
    Stage {
        title: "No policy",
        policies: &[],
        combining: "deny-overrides",
        expected: [200, 200, 200, 200],
        lesson: "→ Where no ALLOW policy applies, everything passes.",
    },
    Stage {
        title: "The tutorial's deny-all",
        policies: &["deny-all-backend"],
        combining: "deny-overrides",
        expected: [403, 403, 403, 403],
        lesson: "→ A DENY with an empty rule matches every request.",
    },
    Stage {
        title: "deny-all plus allow, under Istio's rules",
        policies: &["deny-all-backend", "allow-frontend-get-data"],
        combining: "deny-overrides",
        expected: [403, 403, 403, 403],
        lesson: "→ A DENY that matches beats every ALLOW: the policies let nobody in.",
    },
    Stage {
        title: "The same, with ALLOW as an exception to DENY",
        policies: &["deny-all-backend", "allow-frontend-get-data"],
        combining: "permit-overrides",
        expected: [200, 403, 403, 403],
        lesson: "→ What the tutorial tells; Istio does not combine policies this way.",
    },
    Stage {
        title: "allow-nothing plus allow: the tutorial's outcomes under Istio's rules",
        policies: &["allow-nothing-backend", "allow-frontend-get-data"],
        combining: "deny-overrides",
        expected: [200, 403, 403, 403],
        lesson: "→ \"Deny by default\" is an ALLOW policy without rules.",
    },
];
