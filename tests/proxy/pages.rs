//! docs/configuration.md and `--help` tell the same story.

use std::{collections::BTreeSet, fs, process::Stdio};

use crate::binary::command;

/// The words of `text` that pass `test`, cut at anything that is not part of a name.
fn names(text: &str, test: impl Fn(&str) -> bool) -> BTreeSet<&str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || "-_".contains(c)))
        .filter(|word| test(word))
        .collect()
}

fn is_option(word: &str) -> bool {
    word.strip_prefix("--").is_some_and(|name| name.starts_with(|c: char| c.is_ascii_lowercase()))
        && !["--help", "--version"].contains(&word)
}

fn is_environment_name(word: &str) -> bool {
    word.starts_with("QWEN_")
        || ["HOST", "PORT", "API_KEY", "RUST_LOG", "LOG_LEVEL"].contains(&word)
}

#[test]
fn the_configuration_table_is_that_of_the_help() {
    let output = command().arg("--help").stdout(Stdio::piped()).output().expect("it runs");
    let help = String::from_utf8(output.stdout).expect("UTF-8");
    // The value name of --listen is no environment name.
    let help = help.replace("HOST:PORT", "");
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");
    let page = fs::read_to_string(page).expect("the page");
    let (_, table) = page.split_once("## Options").expect("a section on options");
    let table = table.split("\n## ").next().expect("split gives one part at least");
    let table: String =
        table.lines().filter(|line| line.starts_with('|')).flat_map(|line| [line, "\n"]).collect();
    assert_eq!(names(&table, is_option), names(&help, is_option));
    assert_eq!(names(&table, is_environment_name), names(&help, is_environment_name));
}
