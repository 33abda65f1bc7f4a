//! The command line chapter, held against `--help`.

use std::collections::BTreeSet;
use std::process::Command;

use super::book::{chapter, code, rows, same};

const CHAPTER: &str = "reference/command-line";

fn help(arguments: &[&str]) -> String {
    let mut program = Command::new(env!("CARGO_BIN_EXE_octoprint2mqtt"));
    let output = program.args(arguments).arg("--help").output().unwrap();
    assert!(output.status.success(), "{arguments:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The commands that the program has with the features of this build.
fn commands() -> BTreeSet<String> {
    let help = help(&[]);
    let (_, list) = help.split_once("Commands:\n").unwrap();
    let lines = list.lines().take_while(|line| !line.is_empty());
    let names = lines.filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

#[test]
fn every_command_is_listed_and_every_listed_command_exists() {
    let listed: BTreeSet<String> = rows(CHAPTER, ["command", "exit code"])
        .iter()
        .flat_map(|[command, _]| code(command))
        .collect();
    let mut existing = commands();
    // Those of features that this build has not.
    existing.extend(listed.iter().filter(|name| !has(name)).cloned());
    same(CHAPTER, &listed, &existing);
}

/// Whether the feature of this command, if it is one of a feature, is built in.
fn has(command: &str) -> bool {
    match command {
        "simulate" => cfg!(feature = "simulator"),
        "demo" => cfg!(feature = "demo"),
        _ => true,
    }
}

/// The long options in a text.
fn options(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
    words.filter(|word| word.starts_with("--") && word.len() > 2).map(str::to_owned).collect()
}

#[test]
fn every_option_is_listed_with_its_command() {
    let chapter = chapter(CHAPTER);
    for command in commands() {
        let mut existing = options(&help(&[&command]));
        for general in ["--help", "--version", "--config"] {
            existing.remove(general);
            assert!(options(&chapter).contains(general), "{general}");
        }
        let heading = format!("### `{command}`\n");
        let section = chapter.split(&heading).nth(1).unwrap_or_default();
        let section = section.split("\n#").next().unwrap_or_default();
        let rows = super::book::tables(section);
        let rows = rows.iter().filter_map(|table| table.cells(["option"])).flatten();
        let listed: Vec<String> = rows.flat_map(|[option]| options(&option)).collect();
        same(&heading, &listed.into_iter().collect(), &existing);
    }
}
