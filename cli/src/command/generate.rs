//! `mesh-authz completions` and `mesh-authz man`: shell completion scripts and manual pages.

use std::path::PathBuf;

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::{Answer, Failure};

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
