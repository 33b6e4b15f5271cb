//! The bill of materials in the `CycloneDX` format: a list of the crates in the module.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::layout::sha256;

/// The bill of materials for a module. `crates` has one crate per line: `NAME vVERSION …`, a tab, and the licence. One
/// of the crates is the module's own.
pub fn of(crates: &str, version: &str, wasm: &[u8]) -> Result<Value> {
    const OWN: &str = "mesh-authz";
    let mut lines: Vec<_> = crates.lines().collect();
    lines.sort_unstable();
    lines.dedup();
    let (mut components, mut own) = (Vec::new(), None);
    for line in lines {
        let (name, version, licence) = parse(line).with_context(|| format!("`{line}` is no crate"))?;
        if name == OWN {
            own = Some((version, licence));
            continue;
        }
        let purl = format!("pkg:cargo/{name}@{version}");
        components.push(json!({
            "type": "library",
            "bom-ref": purl,
            "name": name,
            "version": version,
            "licenses": [{ "expression": licence }],
            "purl": purl,
        }));
    }
    let (own, licence) = own.with_context(|| format!("{OWN} is not among the crates"))?;
    ensure!(own == version, "{OWN} is {own}, and {version} is packed");
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": { "component": {
            "type": "application",
            "bom-ref": format!("pkg:cargo/{OWN}@{version}"),
            "name": OWN,
            "version": version,
            "licenses": [{ "expression": licence }],
            "hashes": [{ "alg": "SHA-256", "content": sha256(wasm) }],
        } },
        "components": components,
    }))
}

fn parse(line: &str) -> Option<(&str, &str, &str)> {
    let (package, licence) = line.split_once('\t')?;
    let mut words = package.split(' ');
    Some((words.next()?, words.next()?.strip_prefix('v')?, licence))
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    reason = "tests fail by panicking"
)]
mod tests {
    use super::*;

    #[test]
    fn every_crate_is_listed_once_and_the_module_apart() {
        let crates = "mesh-authz v1.2.3 (/somewhere)\tApache-2.0\nlog v0.4.1\tMIT OR Apache-2.0\nlog v0.4.1\tMIT OR Apache-2.0\n";
        let bill = of(crates, "1.2.3", b"module").unwrap();
        let [component] = bill["components"].as_array().unwrap().as_slice() else { panic!("{bill}") };
        assert_eq!(component["purl"], "pkg:cargo/log@0.4.1");
        assert_eq!(component["licenses"][0]["expression"], "MIT OR Apache-2.0");
        assert_eq!(bill["metadata"]["component"]["hashes"][0]["content"], sha256(b"module"));
        assert!(!bill.to_string().contains("/somewhere"));
    }

    #[test]
    fn what_is_no_list_of_crates_is_refused() {
        for (crates, cause) in [
            ("", "mesh-authz is not among the crates"),
            ("mesh-authz v1.0.0\tApache-2.0", "mesh-authz is 1.0.0, and 1.2.3 is packed"),
            ("log", "`log` is no crate"),
        ] {
            assert!(of(crates, "1.2.3", b"").unwrap_err().to_string().contains(cause));
        }
    }
}
