//! `--config FILE.toml`: the flags of a command under the same names. Flags on the command line win.
//!
//! The file is turned into flags and parsed with the others, so a flag is defined in one place only.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Command;

use crate::failure::{Failure, Result};

/// The command line extended by a file.
pub struct Lines {
    /// The file's flags after the subcommand, the user's after them.
    pub without_positionals: Vec<OsString>,
    /// The same with the file's positional arguments (`model = "…"`) at the end; for a user who gave none.
    pub with_positionals: Vec<OsString>,
}

/// The file named by `--config` on a command line.
///
/// # Errors
/// The flag has no value.
pub fn file_named_in(given: &[OsString]) -> Result<Option<PathBuf>> {
    for (i, argument) in given.iter().enumerate().skip(1) {
        let Some(text) = argument.to_str() else { continue };
        if text == "--" {
            break;
        }
        if let Some(path) = text.strip_prefix("--config=") {
            return Ok(Some(PathBuf::from(path)));
        }
        if text == "--config" {
            return match given.get(i + 1) {
                Some(path) => Ok(Some(PathBuf::from(path))),
                None => Err(Failure::Usage("--config needs the name of a TOML file".into())),
            };
        }
    }
    Ok(None)
}

/// Adds what the file at `path` says to the command line `given`.
///
/// # Errors
/// The file cannot be read, is no TOML, or has a key that is no flag.
pub fn extend(command: &Command, given: &[OsString], path: &Path) -> Result<Lines> {
    let text = std::fs::read_to_string(path).map_err(|e| Failure::Usage(format!("configuration {}: {e}", path.display())))?;
    let file: toml::Table = text.parse().map_err(|e| Failure::Usage(format!("configuration {} is no valid TOML:\n{e}", path.display())))?;
    let place = given.iter().skip(1).position(|a| command.find_subcommand(a).is_some()).map(|p| p + 1);
    let Some((place, sub)) = place.and_then(|p| command.find_subcommand(&given[p]).map(|s| (p, s))) else {
        // Without a command there is nothing to extend; clap says so.
        return Ok(Lines { without_positionals: given.to_vec(), with_positionals: given.to_vec() });
    };
    let mut flags: Vec<OsString> = Vec::new();
    let mut positionals: Vec<OsString> = Vec::new();
    let mut take = |key: &str, value: &toml::Value, must: bool| -> Result<()> {
        let Some(argument) = find(command, sub, key) else {
            let elsewhere = command.get_subcommands().any(|s| find(command, s, key).is_some());
            if elsewhere && !must {
                return Ok(());
            }
            return Err(Failure::Usage(format!(
                "configuration {}: `{key}` is no flag of `{}`; there are {}",
                path.display(),
                sub.get_name(),
                known(sub)
            )));
        };
        for text in texts(value).ok_or_else(|| {
            Failure::Usage(format!("configuration {}: `{key}` must be a text, a number, true or false, or a list of them", path.display()))
        })? {
            if argument.is_positional() {
                positionals.push(text.into());
            } else if argument.get_action().takes_values() {
                flags.push(format!("--{key}={text}").into());
            } else if text == "true" {
                flags.push(format!("--{key}").into());
            } else if text != "false" {
                return Err(Failure::Usage(format!("configuration {}: `{key}` is a switch; write `{key} = true`", path.display())));
            }
        }
        Ok(())
    };
    for (key, value) in &file {
        match value {
            toml::Value::Table(section) => {
                if command.find_subcommand(key).is_none() {
                    let all: Vec<&str> = command.get_subcommands().filter(|s| !s.is_hide_set()).map(Command::get_name).collect();
                    return Err(Failure::Usage(format!(
                        "configuration {}: [{key}] is no command; there are {}",
                        path.display(),
                        all.join(", ")
                    )));
                }
                if key == sub.get_name() {
                    for (key, value) in section {
                        take(key, value, true)?;
                    }
                }
            }
            value => take(key, value, false)?,
        }
    }
    let mut without = given[..=place].to_vec();
    without.append(&mut flags);
    without.extend_from_slice(&given[place + 1..]);
    let mut with = without.clone();
    with.append(&mut positionals);
    Ok(Lines { without_positionals: without, with_positionals: with })
}

fn find<'a>(command: &'a Command, sub: &'a Command, key: &str) -> Option<&'a clap::Arg> {
    let global = command.get_arguments().filter(|a| a.is_global_set());
    sub.get_arguments().chain(global).find(|a| names(a, key)).filter(|_| key != "config")
}

fn names(argument: &clap::Arg, key: &str) -> bool {
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
    use super::*;
    use clap::CommandFactory;

    fn lines(toml: &str, given: &[&str]) -> Result<Vec<String>> {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("c.toml");
        std::fs::write(&path, toml).expect("write");
        let given: Vec<OsString> = given.iter().map(Into::into).collect();
        let lines = extend(&crate::arguments::Cli::command(), &given, &path)?;
        Ok(lines.with_positionals.iter().map(|a| a.to_string_lossy().into_owned()).collect())
    }

    #[test]
    fn the_file_comes_first_so_that_flags_win() {
        let all = lines("budget = '50%'\nno-depth = true\nmodel = 'm.onnx'", &["secateur", "prune", "--budget", "2x"]).expect("extends");
        assert_eq!(all, ["secateur", "prune", "--budget=50%", "--no-depth", "--budget", "2x", "m.onnx"]);
    }

    #[test]
    fn keys_of_other_commands_are_left_alone_and_unknown_ones_are_not() {
        let all = lines("budget = '50%'\ndata = 'synthetic'\n[prune]\nsteps = 3", &["secateur", "eval", "m.onnx"]).expect("extends");
        assert_eq!(all, ["secateur", "eval", "--data=synthetic", "m.onnx"]);
        let e = lines("budgett = '50%'", &["secateur", "prune"]).expect_err("unknown").to_string();
        assert!(e.contains("`budgett`") && e.contains("budget") && e.contains("c.toml"), "{e}");
        let e = lines("[prune]\nimages = 3", &["secateur", "prune"]).expect_err("other command's").to_string();
        assert!(e.contains("`images`"), "{e}");
    }

    #[test]
    fn the_file_is_found_as_clap_finds_it() {
        for given in [&["s", "prune", "--config", "a.toml"][..], &["s", "--config=a.toml", "prune"]] {
            let given: Vec<OsString> = given.iter().map(Into::into).collect();
            assert_eq!(file_named_in(&given).expect("finds"), Some("a.toml".into()));
        }
    }
}
