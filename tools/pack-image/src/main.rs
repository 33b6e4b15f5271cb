//! `pack-image MODULE CRATES VERSION FOLDER`: the filter as an OCI image, without a container engine.
//!
//! Out comes an image layout, `FOLDER/image`, with the module twice, once for each way in which a registry is asked for it,
//! and `FOLDER/sbom.cdx.json`, which lists the crates in the module. `CRATES` is what `cargo tree` prints of them, one a
//! line: name, version and licence.
//!
//! The same module gives the same bytes: no time, no user and no machine is in them.

mod layout;
mod sbom;

use std::env;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

fn main() -> Result<()> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let [module, crates, version, folder] = arguments.as_slice() else {
        bail!("usage: pack-image MODULE CRATES VERSION FOLDER")
    };
    let (wasm, crates) = (read(module)?, String::from_utf8(read(crates)?)?);
    let folder = Path::new(folder);
    let bill = sbom::of(&crates, version, &wasm)?;
    fs::create_dir_all(folder)?;
    fs::write(folder.join("sbom.cdx.json"), format!("{bill:#}\n"))?;
    for (reference, digest) in layout::write(&folder.join("image"), &wasm, version)? {
        println!("{reference}\t{digest}");
    }
    Ok(())
}

fn read(file: &str) -> Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("reading {file}"))
}
