//! The providers in a mesh configuration: where they can be, and what is wrong with them.

use mesh_authz_cli::load::Resources;
use mesh_authz_cli::load::providers::Providers;

fn providers(text: &str) -> Providers {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mesh.yaml");
    std::fs::write(&file, text).unwrap();
    Providers::of(&Resources::read(&[file]).unwrap())
}

const PROVIDER: &str = "
- name: login
  envoyExtAuthzHttp: { service: login/login.example.com, port: 9000 }
";

#[test]
fn a_mesh_configuration_can_be_in_three_places() {
    let config = format!("extensionProviders:{}", PROVIDER.replace('\n', "\n    "));
    for text in [
        format!("extensionProviders:{PROVIDER}"),
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{ name: istio }}\ndata:\n  mesh: |\n    {config}"),
        format!("apiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\nspec:\n  meshConfig:\n    {config}"),
    ] {
        let found = providers(&text);
        let names: Vec<_> =
            found.valid.iter().map(|provider| (provider.name.as_str(), provider.host.as_str())).collect();
        assert_eq!(
            (names, found.findings.len(), found.are_known),
            (vec![("login", "login.example.com")], 0, true),
            "{text}"
        );
    }
    assert!(!providers("kind: Pod\n").are_known);
}

#[test]
fn every_mistake_in_a_provider_is_found_at_its_place() {
    let found = providers(
        r#"extensionProviders:
- name: Login_1
  envoyExtAuthzHttp:
    service: login/
    port: 0
    pathPrefix: check
    statusOnError: "999"
    timeout: 5 minutes
    headersToUpstreamOnAllow: ["*"]
    includeRequestBodyInCheck: { allowPartialMessage: true }
    failOpenn: true
- name: both
  envoyExtAuthzHttp: { service: a, port: 1 }
  envoyExtAuthzGrpc: { service: a, port: 1 }
- envoyExtAuthzGrpc: { service: a, port: 1, pathPrefix: /a }
- name: traces
  zipkin: { service: b, port: 1 }
- name: twice
  envoyExtAuthzGrpc: { service: a, port: 1 }
- name: twice
  envoyExtAuthzGrpc: { service: a, port: 1 }
"#,
    );
    let lines: Vec<_> = found.findings.iter().map(ToString::to_string).collect();
    let text = lines.join("\n");
    for part in [
        ":2:9: extensionProviders[0].name: `Login_1` is not the name of a provider",
        ":4:14: extensionProviders[0].envoyExtAuthzHttp.service: `login/` is not a service",
        ":5:11: extensionProviders[0].envoyExtAuthzHttp.port: must be a port, 1 to 65535, is 0",
        ":6:17: extensionProviders[0].envoyExtAuthzHttp.pathPrefix: must begin with a slash",
        ":7:20: extensionProviders[0].envoyExtAuthzHttp.statusOnError: `999` is not a status",
        ":8:14: extensionProviders[0].envoyExtAuthzHttp.timeout: `5 minutes` is not a duration",
        "headersToUpstreamOnAllow[0]: `*` is not the name of a header",
        "includeRequestBodyInCheck.maxRequestBytes: is missing",
        "failOpenn: unknown field, did you mean failOpen?",
        "extensionProviders[1]: has both envoyExtAuthzHttp and envoyExtAuthzGrpc",
        "extensionProviders[2].name: is missing",
        "extensionProviders[2].envoyExtAuthzGrpc.pathPrefix: unknown field",
        "another provider is called twice too",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert_eq!(lines.len(), 13, "{text}");
    assert_eq!(found.valid.len(), 1);
}
