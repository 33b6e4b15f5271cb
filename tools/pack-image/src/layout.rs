//! The image layout: a folder of blobs, each named after its checksum, and an index that says what they are.
//!
//! Istio's agent takes a module from two kinds of images:
//! - In the first kind, the last layer is an archive with a file `plugin.wasm`, as a build from a Dockerfile makes it.
//!   Every registry and every tool takes this kind.
//! - The second kind has exactly two layers, and one of them is the module itself. It is for those registries and tools
//!   that keep artifacts apart from images.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const WASM_CONFIG: &str = "application/vnd.wasm.config.v0+json";
const WASM_MODULE: &str = "application/vnd.module.wasm.content.layer.v1+wasm";
const WASM_RUNTIME: &str = "application/vnd.module.wasm.config.v1+json";

/// Writes the layout anew: an old one is removed. Returns the references in it, each with the digest of its manifest.
pub fn write(folder: &Path, wasm: &[u8], version: &str) -> Result<Vec<(String, String)>> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("removing {}", folder.display()))?;
    }
    let blobs = folder.join("blobs/sha256");
    fs::create_dir_all(&blobs)?;
    let blob = |content: &[u8], media_type: &str| -> Result<Value> {
        let digest = sha256(content);
        fs::write(blobs.join(&digest), content)?;
        Ok(json!({ "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": content.len() }))
    };

    let archive = archive(wasm)?;
    let image = json!({
        "architecture": "wasm",
        "os": "wasip1",
        "config": { "Labels": labels(version) },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", sha256(&archive))] },
    });
    let image = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": blob(image.to_string().as_bytes(), CONFIG)?,
        "layers": [blob(&compressed(&archive)?, LAYER)?],
        "annotations": labels(version),
    });
    // Says what runs the module. It does not name plugins, because Istio's resources do that.
    let runtime = json!({ "type": "envoy_proxy", "abiVersions": ["v0-2-1"] });
    let config = json!({
        "architecture": "wasm",
        "os": "wasip1",
        "layerDigests": [format!("sha256:{}", sha256(wasm))],
    });
    let artifact = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": blob(config.to_string().as_bytes(), WASM_CONFIG)?,
        "layers": [blob(wasm, WASM_MODULE)?, blob(runtime.to_string().as_bytes(), WASM_RUNTIME)?],
        "annotations": labels(version),
    });

    let (mut manifests, mut references) = (Vec::new(), Vec::new());
    for (reference, manifest) in [(version.to_owned(), image), (format!("{version}-artifact"), artifact)] {
        let mut descriptor = blob(manifest.to_string().as_bytes(), MANIFEST)?;
        let digest = descriptor.get("digest").and_then(Value::as_str).unwrap_or_default().to_owned();
        if let Some(fields) = descriptor.as_object_mut() {
            fields.insert("annotations".to_owned(), json!({ "org.opencontainers.image.ref.name": reference }));
        }
        manifests.push(descriptor);
        references.push((reference, digest));
    }
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": manifests,
    });
    fs::write(folder.join("index.json"), index.to_string())?;
    fs::write(folder.join("oci-layout"), json!({ "imageLayoutVersion": "1.0.0" }).to_string())?;
    Ok(references)
}

fn labels(version: &str) -> Value {
    json!({
        "org.opencontainers.image.title": "mesh-authz",
        "org.opencontainers.image.description": "Istio's AuthorizationPolicy, enforced by a Proxy-Wasm filter",
        "org.opencontainers.image.version": version,
        "org.opencontainers.image.licenses": "Apache-2.0",
    })
}

/// The archive that `FROM scratch` and `COPY mesh_authz.wasm /plugin.wasm` make, without anything that depends on a
/// machine.
fn archive(wasm: &[u8]) -> Result<Vec<u8>> {
    let mut header = tar::Header::new_ustar();
    header.set_size(u64::try_from(wasm.len())?);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_data(&mut header, "plugin.wasm", wasm)?;
    Ok(builder.into_inner()?)
}

fn compressed(archive: &[u8]) -> Result<Vec<u8>> {
    const UNKNOWN_SYSTEM: u8 = 255;
    let header = GzBuilder::new().mtime(0).operating_system(UNKNOWN_SYSTEM);
    let mut encoder = header.write(Vec::new(), Compression::best());
    encoder.write_all(archive)?;
    Ok(encoder.finish()?)
}

/// The SHA-256 checksum, in hexadecimal digits.
pub fn sha256(content: &[u8]) -> String {
    let digits = Sha256::digest(content).into_iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
    digits.filter_map(|digit| char::from_digit(u32::from(digit), 16)).collect()
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
    use std::collections::BTreeMap;
    use std::io::Read as _;
    use std::path::PathBuf;

    use flate2::read::GzDecoder;
    use oci_spec::image::{Descriptor, ImageConfiguration, ImageIndex, ImageManifest, MediaType, OciLayout};

    use super::*;

    const MODULE: &[u8] = b"\0asm\x01\0\0\0";

    /// Every file below a folder, by its path relative to the folder.
    fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut found = BTreeMap::new();
        let mut folders = vec![folder.to_owned()];
        while let Some(next) = folders.pop() {
            for entry in fs::read_dir(next).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    found.insert(path.strip_prefix(folder).unwrap().to_owned(), fs::read(path).unwrap());
                }
            }
        }
        found
    }

    fn written() -> (tempfile::TempDir, Vec<(String, String)>) {
        let folder = tempfile::tempdir().unwrap();
        let references = write(&folder.path().join("image"), MODULE, "1.2.3").unwrap();
        (folder, references)
    }

    #[test]
    fn the_same_module_gives_the_same_bytes() {
        let ((one, references), (other, _)) = (written(), written());
        assert_eq!(files(one.path()), files(other.path()));
        // Writing also leaves nothing of an earlier layout behind.
        write(&other.path().join("image"), b"\0asm", "1.2.3").unwrap();
        assert_ne!(files(one.path()), files(other.path()));
        assert_eq!(write(&other.path().join("image"), MODULE, "1.2.3").unwrap(), references);
        assert_eq!(files(one.path()), files(other.path()));
    }

    #[test]
    fn it_is_a_layout_and_both_images_hold_the_module_where_istio_looks() {
        let (folder, references) = written();
        let image = folder.path().join("image");
        OciLayout::from_file(image.join("oci-layout")).unwrap();
        let blob = |descriptor: &Descriptor| {
            let content = fs::read(image.join("blobs/sha256").join(descriptor.digest().digest())).unwrap();
            assert_eq!(descriptor.digest().digest(), sha256(&content));
            assert_eq!(descriptor.size(), content.len() as u64);
            content
        };
        let index = ImageIndex::from_file(image.join("index.json")).unwrap();
        let manifests = index.manifests().iter().zip(&references);
        let manifests: Vec<_> = manifests
            .map(|(descriptor, (reference, digest))| {
                let name = &descriptor.annotations().as_ref().unwrap()["org.opencontainers.image.ref.name"];
                assert_eq!((name, &descriptor.digest().to_string()), (reference, digest));
                ImageManifest::from_reader(blob(descriptor).as_slice()).unwrap()
            })
            .collect();
        let [plain, artifact] = manifests.as_slice() else { panic!("{manifests:?}") };

        let layer = plain.layers().last().unwrap();
        assert_eq!(*layer.media_type(), MediaType::ImageLayerGzip);
        let mut archive = Vec::new();
        GzDecoder::new(blob(layer).as_slice()).read_to_end(&mut archive).unwrap();
        let config = ImageConfiguration::from_reader(blob(plain.config()).as_slice()).unwrap();
        assert_eq!(*config.rootfs().diff_ids(), [format!("sha256:{}", sha256(&archive))]);
        let mut entries = Vec::new();
        for entry in tar::Archive::new(archive.as_slice()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            entries.push((entry.path().unwrap().to_str().unwrap().to_owned(), content));
        }
        assert_eq!(entries, [("plugin.wasm".to_owned(), MODULE.to_vec())]);

        let [module, _] = artifact.layers().as_slice() else { panic!("Istio wants two layers") };
        assert_eq!(module.media_type().to_string(), WASM_MODULE);
        assert_eq!(artifact.config().media_type().to_string(), WASM_CONFIG);
        assert_eq!(blob(module), MODULE);
        // One for each manifest, each configuration and each layer.
        assert_eq!(fs::read_dir(image.join("blobs/sha256")).unwrap().count(), 7);
    }
}
