//! `proxy man` and `proxy completions`: what packages install beside the program.

use std::io::{self, Write};

use clap::{Args, Command};
use clap_complete::Shell;
use clap_mangen::Man;

/// What `proxy man` is asked for.
#[derive(Debug, Args)]
pub(crate) struct ManPage {
    /// Of which command, such as `check` [default: of the proxy itself]
    #[arg(value_name = "COMMAND")]
    command: Option<String>,
}

impl ManPage {
    /// Writes the page of `program`, or of its command.
    ///
    /// # Errors
    ///
    /// A message where there is no such command, or where `out` takes nothing.
    pub(crate) fn write(self, out: &mut impl Write, program: &Command) -> Result<(), String> {
        let mut program = program.clone();
        program.build();
        let page = match &self.command {
            None => program,
            Some(name) => {
                let command = program.find_subcommand(name);
                command.cloned().ok_or_else(|| format!("man: there is no command {name:?}"))?
            }
        };
        Man::new(page).render(out).map_err(unwritten)
    }
}

/// Writes what has `shell` complete the command line of `program`.
///
/// # Errors
///
/// A message where `out` takes nothing.
pub(crate) fn completions(
    out: &mut impl Write,
    shell: Shell,
    program: &Command,
) -> Result<(), String> {
    let mut program = program.clone();
    let name = program.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut program, name, &mut script);
    out.write_all(&script).map_err(unwritten)
}

fn unwritten(error: io::Error) -> String {
    format!("cannot write to standard output: {error}")
}
