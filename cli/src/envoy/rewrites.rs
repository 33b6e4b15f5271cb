//! Routes that change what the policies look at.

use mesh_authz::attribute::Attribute;

use super::catalogue::REWRITTEN;
use super::chain::Chain;
use super::needs::{Because, Needs};
use super::place::Place;
use super::routes::Rewritten;
use crate::load::finding::Finding;

/// Findings about routes that change the request after the decision.
pub fn after_the_decision(chain: &Chain<'_>, needs: &Needs) -> Vec<Finding> {
    let paths = needs.attribute(Attribute::Path, "paths");
    let hosts = needs.attribute(Attribute::Host, "hosts");
    let rewrites = chain.routes.iter().flat_map(|routes| &routes.rewrites);
    let found = rewrites.filter_map(|rewrite| {
        let because = match &rewrite.what {
            Rewritten::Path => paths.clone()?,
            Rewritten::Host => hosts.clone()?,
            Rewritten::Header(name) => needs.header(&[&name.to_ascii_lowercase()])?,
        };
        Some(rewritten(&rewrite.place, because, rewrite.is_chosen))
    });
    found.collect()
}

fn rewritten(place: &Place<'_>, because: Because, is_chosen: bool) -> Finding {
    if is_chosen {
        let and = "this changes it after the decision, into something that a client chooses";
        because.report(place, &REWRITTEN, and, "remove it")
    } else {
        let and = "this changes it after the decision: the policies see what the client sends";
        because.milder().report(place, &REWRITTEN, and, "write the policies about what clients send")
    }
}
