//! The `secateur` command: flags in, tables out. Everything it does is a call of the library.

mod arguments;
mod commands;
mod configuration;
mod failure;
mod files;
mod interrupt;
mod numbers;
mod output;
mod progress;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};

use crate::arguments::Cli;
use crate::failure::{Failure, exit};

fn main() -> ExitCode {
    let filter =
        tracing_subscriber::EnvFilter::try_from_env("SECATEUR_LOG").unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("error"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();

    let cli = match parse() {
        Ok(cli) => cli,
        Err(Early::Clap(e)) => {
            // Help and version are no errors; clap prints them to standard output.
            let code = if e.use_stderr() { exit::USAGE } else { 0 };
            return match e.print() {
                Ok(()) => ExitCode::from(code),
                Err(_) => ExitCode::from(exit::ERROR),
            };
        }
        Err(Early::Failure(f)) => {
            eprintln!("error: {}", f.message());
            return ExitCode::from(f.code());
        }
    };
    let name = cli.command.name();
    match commands::run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {}", failure.message());
            // Commands that print their answer before they judge it have written their JSON already.
            if cli.shared.json && !matches!(failure, Failure::Budget(_) | Failure::Noise(_)) && output::json_error(name, &failure).is_err()
            {
                return ExitCode::from(exit::ERROR);
            }
            ExitCode::from(failure.code())
        }
    }
}

enum Early {
    Clap(clap::Error),
    Failure(Failure),
}

/// The command line, with what the configuration file adds to it.
fn parse() -> Result<Cli, Early> {
    let command = Cli::command();
    let given: Vec<std::ffi::OsString> = std::env::args_os().collect();
    let matches = match configuration::file_named_in(&given).map_err(Early::Failure)? {
        None => command.try_get_matches_from(given).map_err(Early::Clap)?,
        Some(path) => {
            let lines = configuration::extend(&command, &given, &path).map_err(Early::Failure)?;
            match command.clone().try_get_matches_from(&lines.without_positionals) {
                Err(e) if e.kind() == clap::error::ErrorKind::MissingRequiredArgument => {
                    command.try_get_matches_from(&lines.with_positionals).map_err(Early::Clap)?
                }
                other => other.map_err(Early::Clap)?,
            }
        }
    };
    Cli::from_arg_matches(&matches).map_err(|e| Early::Clap(e.format(&mut Cli::command())))
}
