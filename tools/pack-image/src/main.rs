//! `pack-image MODULE CRATES VERSION FOLDER`: packs the filter into an OCI image, without a container engine.
//!
//! | result | content |
//! | --- | --- |
//! | `FOLDER/image` | an image layout with the module twice, once for each way to ask a registry for it |
//! | `FOLDER/sbom.cdx.json` | the list of the crates in the module |
//!
//! `CRATES` is a file with the crates in the module, as `cargo tree` prints them. It has one crate per line: name,
//! version and licence.
//!
//! The same module gives the same bytes, because they hold no time, no user and no machine.

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
