//! The command line with `--config FILE.toml`: the flags of a command under the same names. Flags on the command line win.
//!
//! The file is turned into flags and parsed with the others, so a flag is defined in one place only.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::builder::Resettable;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command, CommandFactory, FromArgMatches, Id};

use crate::arguments::Cli;
use crate::failure::{Failure, Result};

/// Why there is no command to run.
#[derive(Debug)]
pub enum Early {
    /// What clap has to say: help, the version, or what is wrong with the command line.
    Clap(clap::Error),
    /// The file does not do.
    Failure(Failure),
}

impl From<clap::Error> for Early {
    fn from(e: clap::Error) -> Self {
        Self::Clap(e)
    }
}

impl From<Failure> for Early {
    fn from(f: Failure) -> Self {
        Self::Failure(f)
    }
}

/// Parses a command line, with what the configuration file that it names adds to it.
///
/// # Errors
/// Flags that make no sense; a file that cannot be read, is no TOML, or has a key that is no flag.
pub fn parse(given: &[OsString]) -> Result<Cli, Early> {
    let command = Cli::command();
    let alone = match command.clone().try_get_matches_from(given) {
        // What is missing may stand in the file.
        Err(e) if e.kind() == ErrorKind::MissingRequiredArgument => Err(e),
        other => Ok(other?),
    };
    let typed = command.clone().ignore_errors(true).try_get_matches_from(given)?;
    let matches = match (typed.get_one::<PathBuf>("config"), typed.subcommand()) {
        (Some(path), Some((name, typed))) => {
            let (command, line) = extend(command, name, given, typed, path)?;
            command.try_get_matches_from(line)?
        }
        _ => alone?,
    };
    Ok(Cli::from_arg_matches(&matches).map_err(|e| e.format(&mut Cli::command()))?)
}

/// An argument that the file gives, with its values.
struct Entry<'a> {
    argument: &'a Arg,
    values: Vec<String>,
}

/// The command line `given`, of which `typed` is known, with what the file at `path` adds to it, and the command to parse it
/// with. The file's flags come before the user's, its positional arguments to the end; an argument that the user gave, or that
/// cannot be together with one, is not taken from it.
///
/// # Errors
/// As [`read`].
fn extend(command: Command, name: &str, given: &[OsString], typed: &ArgMatches, path: &Path) -> Result<(Command, Vec<OsString>)> {
    let place = given.iter().skip(1).position(|a| a == name).map(|p| p + 1);
    let (Some(sub), Some(place)) = (command.find_subcommand(name), place) else { return Ok((command, given.to_vec())) };
    let excludes = |a: &Arg, b: &Arg| sub.get_arg_conflicts_with(a).iter().any(|c| c.get_id() == b.get_id());
    let beats = |a: &Arg, b: &Arg| a.get_id() == b.get_id() || excludes(a, b) || excludes(b, a);
    let by_user: Vec<&Arg> =
        arguments(&command, sub).filter(|a| typed.value_source(a.get_id().as_str()) == Some(ValueSource::CommandLine)).collect();

    let (mut entries, own) = read(&command, sub, path)?;
    entries.retain(|e| !own.iter().any(|o| beats(o.argument, e.argument)));
    entries.extend(own);
    entries.retain(|e| !by_user.iter().any(|a| beats(a, e.argument)));

    let mut line = given[..=place].to_vec();
    for Entry { argument, values } in &entries {
        let Some(flag) = argument.get_long() else { continue };
        if argument.get_action().takes_values() {
            line.extend(values.iter().map(|v| OsString::from(format!("--{flag}={v}"))));
        } else {
            line.extend(values.iter().filter(|v| *v == "true").map(|_| OsString::from(format!("--{flag}"))));
        }
    }
    line.extend_from_slice(&given[place + 1..]);
    // They are told apart by their order: behind one that is missing none can be given.
    let open = sub.get_positionals().filter(|a| by_user.iter().all(|u| u.get_id() != a.get_id()));
    for entry in open.map_while(|a| entries.iter().find(|e| e.argument.get_id() == a.get_id())) {
        line.extend(entry.values.iter().map(OsString::from));
    }

    // The file may hold a flag for other calls of the command, with others than it serves here: nothing is asked for on its account.
    let from_file: Vec<Id> = entries.iter().map(|e| e.argument.get_id().clone()).collect();
    let free = |a: Arg| if from_file.contains(a.get_id()) { a.requires(Resettable::<Id>::Reset) } else { a };
    Ok((command.mut_subcommand(name, |s| s.mut_args(free)), line))
}

/// What the file at `path` says to `sub`: above its sections, for every command, and in the section of `sub`.
///
/// # Errors
/// The file cannot be read, is no TOML, or has a key that is no flag.
fn read<'a>(command: &'a Command, sub: &'a Command, path: &Path) -> Result<(Vec<Entry<'a>>, Vec<Entry<'a>>)> {
    let wrong = |what: String| Failure::Usage(format!("configuration {}{what}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|e| wrong(format!(": {e}")))?;
    let file = text.parse::<toml::Table>().map_err(|e| wrong(format!(" is no valid TOML:\n{e}")))?;
    let entry = |key: &str, value: &toml::Value| -> Result<Option<Entry<'a>>> {
        let Some(argument) = arguments(command, sub).find(|a| names(a, key)) else { return Ok(None) };
        let Some(values) = texts(value) else {
            return Err(wrong(format!(": `{key}` must be a text, a number, true or false, or a list of them")));
        };
        let switch = !argument.is_positional() && !argument.get_action().takes_values();
        if switch && values.iter().any(|v| v != "true" && v != "false") {
            return Err(wrong(format!(": `{key}` is a switch; write `{key} = true`")));
        }
        Ok(Some(Entry { argument, values }))
    };
    let no_flag = |key: &str| wrong(format!(": `{key}` is no flag of `{}`; there are {}", sub.get_name(), known(sub)));
    let of_another = |key: &str| command.get_subcommands().any(|s| arguments(command, s).any(|a| names(a, key)));
    let (mut general, mut own) = (Vec::new(), Vec::new());
    for (key, value) in &file {
        match value {
            toml::Value::Table(section) => {
                if command.find_subcommand(key).is_none() {
                    let all: Vec<&str> = command.get_subcommands().filter(|s| !s.is_hide_set()).map(Command::get_name).collect();
                    return Err(wrong(format!(": [{key}] is no command; there are {}", all.join(", "))));
                }
                if key == sub.get_name() {
                    for (key, value) in section {
                        own.push(entry(key, value)?.ok_or_else(|| no_flag(key))?);
                    }
                }
            }
            value => match entry(key, value)? {
                Some(e) => general.push(e),
                None if of_another(key) => {}
                None => return Err(no_flag(key)),
            },
        }
    }
    Ok((general, own))
}

/// What `sub` can be given in a file, with what every command can be given.
fn arguments<'a>(command: &'a Command, sub: &'a Command) -> impl Iterator<Item = &'a Arg> {
    let global = command.get_arguments().filter(|a| a.is_global_set());
    sub.get_arguments().chain(global).filter(|a| a.get_id() != "config")
}

fn names(argument: &Arg, key: &str) -> bool {
    argument.get_long() == Some(key) || (argument.is_positional() && argument.get_id() == key)
}

fn known(sub: &Command) -> String {
    let mut all: Vec<String> = sub
        .get_arguments()
        .filter_map(|a| a.get_long().map(str::to_owned).or_else(|| a.is_positional().then(|| a.get_id().to_string())))
        .filter(|n| !matches!(n.as_str(), "help" | "version" | "config"))
        .collect();
    all.sort();
    all.join(", ")
}

fn texts(value: &toml::Value) -> Option<Vec<String>> {
    Some(match value {
        toml::Value::String(s) => vec![s.clone()],
        toml::Value::Integer(i) => vec![i.to_string()],
        toml::Value::Float(f) => vec![f.to_string()],
        toml::Value::Boolean(b) => vec![b.to_string()],
        toml::Value::Array(items) => items.iter().map(texts).collect::<Option<Vec<_>>>()?.concat(),
        toml::Value::Datetime(_) | toml::Value::Table(_) => return None,
    })
}

#[cfg(test)]
mod tests {
    use secateur::Keep;

    use super::*;
    use crate::arguments::{ApplyArgs, Command as Parsed, DoctorArgs, PruneArgs};

    /// A command line parsed with a file of these contents, or the message.
    fn parsed(toml: &str, given: &[&str]) -> Result<Parsed, String> {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("c.toml");
        std::fs::write(&path, toml).expect("write");
        let mut line: Vec<OsString> = std::iter::once(&"secateur").chain(given).map(Into::into).collect();
        line.push("--config".into());
        line.push(path.into());
        match parse(&line) {
            Ok(cli) => Ok(cli.command),
            Err(Early::Clap(e)) => Err(e.to_string()),
            Err(Early::Failure(f)) => Err(f.to_string()),
        }
    }

    fn prune(toml: &str, given: &[&str]) -> PruneArgs {
        match parsed(toml, &[&["prune", "m.onnx", "--out", "run"][..], given].concat()) {
            Ok(Parsed::Prune(a)) => *a,
            other => panic!("{other:?}"),
        }
    }

    fn doctor(toml: &str, given: &[&str]) -> DoctorArgs {
        match parsed(toml, &[&["doctor"][..], given].concat()) {
            Ok(Parsed::Doctor(a)) => a,
            other => panic!("{other:?}"),
        }
    }

    fn apply(toml: &str, given: &[&str]) -> ApplyArgs {
        match parsed(toml, &[&["apply"][..], given].concat()) {
            Ok(Parsed::Apply(a)) => a,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn flags_win_over_the_file_and_lists_are_replaced_as_a_whole() {
        let file = "budget = '50%'\nseed = 3\nno-depth = true\naffinity = [2, 3]\nkeep = ['heads', 'stem']\nshape = ['x=1,2', 'y=3']";
        let a = prune(file, &["--budget-params", "70%", "--affinity", "0", "--keep", "head-width", "--shape", "z=4"]);
        assert_eq!(a.job.target.options.affinity, [0]);
        assert_eq!(a.job.choice.keep, [Keep::HeadWidth]);
        assert_eq!(a.shape.iter().map(|s| s.0.as_str()).collect::<Vec<_>>(), ["z"]);
        assert!(a.job.choice.no_depth && a.job.seed == 3);
        let a = prune(file, &["--budget", "2x"]);
        assert_eq!((a.budget, a.job.target.options.affinity), (Some(secateur::Budget::Share(0.5)), vec![2, 3]));
    }

    #[test]
    fn what_cannot_be_together_with_a_flag_given_is_left_out() {
        let file = "[prune]\nbudget = '50%'\nepochs = 3";
        let a = prune(file, &["--budget-params", "70%"]);
        assert!(a.budget.is_none() && a.budget_params.is_some() && a.job.tuning.epochs == 3.0);
        let file = "[prune]\nbudget-params = '70%'\nwrite-twin = true\nscheme = 'filter'\nrate = 2";
        let a = prune(file, &["--budget", "50%", "--mapping", "m.toml"]);
        assert!(a.budget_params.is_none() && a.schemes.scheme.is_none() && a.schemes.mapping.is_some());
        // Within the file neither wins.
        let e = parsed("[prune]\nbudget = '50%'\nbudget-params = '70%'", &["prune", "m.onnx", "--out", "run"]).expect_err("both");
        assert!(e.contains("--budget-params"), "{e}");
    }

    #[test]
    fn a_section_wins_over_what_is_said_to_all_commands() {
        let file =
            "target = 'ort'\nkeep = 'heads'\nno-depth = true\n[prune]\nbudget = '50%'\ntarget = 'tract'\nkeep = 'stem'\nno-depth = false";
        let a = prune(file, &[]);
        assert_eq!(a.job.target.target, latency::TargetSpec::tract());
        assert_eq!(a.job.choice.keep, [Keep::Layer("stem".into())]);
        assert!(!a.job.choice.no_depth);
    }

    #[test]
    fn a_flag_of_the_file_asks_for_no_other_and_one_given_does() {
        let file = "sms = 4\nbalanced = true\npenalty = 0.1\nscheme-training = 'gradual'\nrate = 4\nwrite-twin = true";
        assert!(parsed(file, &["profile", "m.onnx"]).is_ok_and(|c| matches!(c, Parsed::Profile(_))));
        assert!(prune(file, &["--budget", "50%"]).schemes.balanced);
        let e = parsed("sms = 4", &["prune", "m.onnx", "--out", "run", "--budget", "50%", "--balanced"]).expect_err("without a scheme");
        assert!(e.contains("--scheme") && e.contains("--mapping"), "{e}");
    }

    #[test]
    fn positional_arguments_are_taken_where_the_user_gave_none() {
        let model = |a: DoctorArgs| a.model.map(|m| m.display().to_string());
        assert_eq!(model(doctor("[doctor]\nmodel = 'file.onnx'", &[])).as_deref(), Some("file.onnx"));
        assert_eq!(model(doctor("[doctor]\nmodel = 'file.onnx'", &["mine.onnx"])).as_deref(), Some("mine.onnx"));
        let file = "model = 'file.onnx'\nplan = 'file.json'";
        for (given, plan) in [(&["--out", "o.onnx"][..], "file.json"), (&["mine.json", "--out", "o.onnx"][..], "mine.json")] {
            let a = apply(file, given);
            assert_eq!((a.plan, a.model), (plan.into(), "file.onnx".into()));
        }
        let e = parsed(file, &["prune", "mine.onnx", "--budget", "50%"]).expect_err("nowhere to write");
        assert!(e.contains("--out") && !e.contains("unexpected"), "{e}");
    }

    #[test]
    fn keys_of_other_commands_are_left_alone_and_unknown_ones_are_not() {
        let file = "budget = '50%'\ndata = 'synthetic'\n[prune]\nsteps = 3";
        assert!(parsed(file, &["eval", "m.onnx"]).is_ok_and(|c| matches!(c, Parsed::Eval(a) if a.data.data.is_some())));
        let e = parsed("budgett = '50%'", &["prune"]).expect_err("unknown");
        assert!(e.contains("`budgett`") && e.contains("budget") && e.contains("c.toml"), "{e}");
        let e = parsed("[prune]\nimages = 3", &["prune"]).expect_err("other command's");
        assert!(e.contains("`images`"), "{e}");
        let e = parsed("[prune]\nno-depth = 'yes'", &["prune"]).expect_err("a switch");
        assert!(e.contains("`no-depth`") && e.contains("true"), "{e}");
    }
}
