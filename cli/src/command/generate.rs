//! `mesh-authz completions`, `mesh-authz man` and `mesh-authz schema`: what shells, readers and editors want to know.

use std::path::PathBuf;

use clap::{CommandFactory as _, ValueEnum};
use clap_complete::Shell;

use super::{Answer, Failure};
use crate::schema;

const NAME: &str = "mesh-authz";

/// Arguments of `mesh-authz completions`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  mesh-authz completions bash > /etc/bash_completion.d/mesh-authz
  mesh-authz completions zsh > \"${fpath[1]}/_mesh-authz\"
  mesh-authz completions fish > ~/.config/fish/completions/mesh-authz.fish")]
pub struct Completions {
    /// Shell that the script is for.
    shell: Shell,
}

/// Arguments of `mesh-authz man`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  mesh-authz man | man -l -
  mesh-authz man --output /usr/local/share/man/man1")]
pub struct Man {
    /// Write the pages of the command and all subcommands to this folder. Create the folder if it does not exist.
    /// Without this option, print only the page of the command itself.
    #[arg(long, value_name = "FOLDER")]
    output: Option<PathBuf>,
}

/// Arguments of `mesh-authz schema`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  mesh-authz schema test-file > tests.schema.json
  mesh-authz schema plugin-config > plugin-config.schema.json

In the first line of a test file, for editors with the YAML language server:
  # yaml-language-server: $schema=tests.schema.json")]
pub struct Schema {
    /// Kind of file that the schema is for.
    of: File,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum File {
    /// A file that `mesh-authz test` runs.
    TestFile,
    /// The plugin configuration of the filter.
    PluginConfig,
}

pub fn schema(arguments: &Schema, out: &mut String) -> Result<Answer, Failure> {
    let schema = match arguments.of {
        File::TestFile => schema::test_file(),
        File::PluginConfig => schema::plugin_config(),
    };
    *out = super::json(&schema)?;
    Ok(Answer::Good)
}

pub fn completions(arguments: &Completions, out: &mut String) -> Result<Answer, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut super::Arguments::command(), NAME, &mut script);
    print(script, out)
}

pub fn man(arguments: &Man, out: &mut String) -> Result<Answer, Failure> {
    let command = super::Arguments::command();
    let Some(folder) = &arguments.output else {
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page).map_err(Failure::unusable)?;
        return print(page, out);
    };
    let write = || {
        std::fs::create_dir_all(folder)?;
        clap_mangen::generate_to(command, folder)
    };
    write().map_err(|error| Failure::Unusable(format!("{}: {error}", folder.display())))?;
    Ok(Answer::Good)
}

fn print(text: Vec<u8>, out: &mut String) -> Result<Answer, Failure> {
    *out = String::from_utf8(text).map_err(Failure::unusable)?;
    Ok(Answer::Good)
}
