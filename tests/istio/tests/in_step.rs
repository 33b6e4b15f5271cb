//! The commands of docs/in-step.md.

use serde_json::json;

use crate::{
    place::eventually,
    plugin::{Backend, ENFORCED, OPEN, frontend_reads_data, policy},
    rendered::render,
};

#[test]
fn an_apply_set_prunes_what_is_no_longer_rendered_and_diff_says_what_would_change() {
    let backend = Backend::new();
    let place = &backend.place;
    let other = policy("other", "other", "ALLOW", json!([{}]));
    let both = render(place, &[frontend_reads_data(place, "backend"), other.clone()], &[]);
    let one = render(place, &[other], &[]);
    let set = ["apply", "--server-side", "--prune", "--applyset=mesh-authz", "-f", "-"];
    let apply = |rendered: &str| {
        place.mesh.kubectl_with(
            &[("KUBECTL_APPLYSET", "true")],
            &[&["-n", &place.namespace], &set[..]].concat(),
            rendered,
        )
    };
    let differs = |rendered: &str| {
        place.mesh.kubectl(&["-n", &place.namespace, "diff", "--server-side", "-f", "-"], rendered).is_err()
    };
    assert!(differs(&both), "before the first apply");
    place.apply(&both);
    eventually("both", &ENFORCED, || backend.answers());
    assert!(!differs(&both), "after it");
    assert!(differs(&render(place, &[frontend_reads_data(place, "elsewhere")], &[])));
    apply(&both).unwrap();
    assert_eq!(backend.answers(), ENFORCED);
    apply(&one).unwrap();
    eventually("pruned", &OPEN, || backend.answers());
    let left = place.kubectl(&["get", "wasmplugins,envoyfilters,authorizationpolicies", "-o", "name"], "");
    assert_eq!(left.lines().filter(|name| name.contains("backend") || name.contains("frontend")).count(), 0, "{left}");
    assert!(left.contains("/other"), "{left}");
}
