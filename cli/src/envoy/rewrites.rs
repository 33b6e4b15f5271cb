//! Routes that change what the policies look at.

use mesh_authz::attribute::Attribute;

use super::catalogue::REWRITTEN;
use super::chain::Chain;
use super::needs::{Because, Needs};
use super::place::Place;
use crate::load::finding::Finding;

/// Fields of routes that change the path, and whether a client chooses the result.
const PATHS: [(&str, bool); 4] =
    [("prefix_rewrite", false), ("regex_rewrite", false), ("path_rewrite_policy", false), ("path_rewrite", false)];

/// Fields of routes that change the host, and whether a client chooses the result.
const HOSTS: [(&str, bool); 5] = [
    ("host_rewrite_literal", false),
    ("host_rewrite", false),
    ("auto_host_rewrite", false),
    ("host_rewrite_header", true),
    ("host_rewrite_path_regex", true),
];

/// Findings about routes that change the request after the decision.
pub fn after_the_decision(chain: &Chain<'_>, needs: &Needs) -> Vec<Finding> {
    let paths = needs.attribute(Attribute::Path, "paths");
    let hosts = needs.attribute(Attribute::Host, "hosts");
    let mut findings = Vec::new();
    for routes in &chain.routes {
        find(routes, (paths.as_ref(), hosts.as_ref()), needs, &mut findings);
    }
    findings
}

fn find(
    place: &Place<'_>,
    (paths, hosts): (Option<&Because>, Option<&Because>),
    needs: &Needs,
    findings: &mut Vec<Finding>,
) {
    for (name, child) in place.children() {
        let of_path = PATHS.iter().find(|(field, _)| *field == name).map(|(_, is_chosen)| (paths, *is_chosen));
        let of_host = HOSTS.iter().find(|(field, _)| *field == name).map(|(_, is_chosen)| (hosts, *is_chosen));
        if let Some((because, is_chosen)) = of_path.or(of_host) {
            // A text can have operators, which take something from the request.
            let is_chosen = is_chosen || child.node.as_str().is_some_and(|text| text.contains('%'));
            findings.extend(because.map(|because| rewritten(&child, because, is_chosen)));
            continue;
        }
        match &*name {
            "request_headers_to_add" => {
                for added in place.items("request_headers_to_add") {
                    let Some(header) = added.get("header") else { continue };
                    let key = header.text("key").unwrap_or_default().to_ascii_lowercase();
                    let is_chosen = header.text("value").is_some_and(|value| value.contains('%'));
                    findings.extend(needs.header(&[&key]).map(|because| rewritten(&header, &because, is_chosen)));
                }
            }
            // The one filter whose configuration for a route changes the host.
            "typed_per_filter_config" => {
                let configs = child.fields().map(|(_, config)| config.message());
                for (_, config) in configs.filter(|(name, _)| name.contains("dynamic_forward_proxy")) {
                    find(&config, (paths, hosts), needs, findings);
                }
            }
            // Nothing goes to an application, or only a copy does.
            "redirect" | "direct_response" | "request_mirror_policies" => {}
            _ => find(&child, (paths, hosts), needs, findings),
        }
    }
}

fn rewritten(place: &Place<'_>, because: &Because, is_chosen: bool) -> Finding {
    if is_chosen {
        let and = "this changes it after the decision, into something that a client chooses";
        because.report(place, &REWRITTEN, and, "remove it")
    } else {
        let and = "this changes it after the decision: the policies see what the client sends";
        because.clone().milder().report(place, &REWRITTEN, and, "write the policies about what clients send")
    }
}
