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

use std::ffi::OsString;
use std::process::ExitCode;

use clap::CommandFactory;

use crate::arguments::Cli;
use crate::configuration::Early;
use crate::failure::{Failure, exit};

fn main() -> ExitCode {
    let filter =
        tracing_subscriber::EnvFilter::try_from_env("SECATEUR_LOG").unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("error"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();

    let given: Vec<OsString> = std::env::args_os().collect();
    let cli = match configuration::parse(&given) {
        Ok(cli) => cli,
        Err(early) => return refused(early, &given),
    };
    match commands::run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {}", failure.message());
            // Commands that print their answer before they judge it have written their JSON already.
            failed(cli.command.name(), &failure, cli.shared.json && !matches!(failure, Failure::Budget(_) | Failure::Noise(_)))
        }
    }
}

/// Tells why there is no command to run, or the help that was asked for.
fn refused(early: Early, given: &[OsString]) -> ExitCode {
    let failure = match early {
        Early::Clap(e) => {
            if e.print().is_err() {
                return ExitCode::from(exit::ERROR);
            }
            // Help and version are no errors; clap prints them to standard output.
            if !e.use_stderr() {
                return ExitCode::SUCCESS;
            }
            let text = e.render().to_string();
            Failure::Usage(text.strip_prefix("error: ").unwrap_or(&text).trim_end().to_owned())
        }
        Early::Failure(failure) => {
            eprintln!("error: {}", failure.message());
            failure
        }
    };
    let command = Cli::command();
    let name = given.iter().skip(1).find_map(|a| command.find_subcommand(a)).map_or("secateur", clap::Command::get_name);
    failed(name, &failure, given.iter().skip(1).take_while(|a| *a != "--").any(|a| a == "--json"))
}

/// The exit code of `command`, which failed; why is told as JSON where that is wanted.
fn failed(command: &str, failure: &Failure, json: bool) -> ExitCode {
    let untold = json && output::json_error(command, failure).is_err();
    ExitCode::from(if untold { exit::ERROR } else { failure.code() })
}
