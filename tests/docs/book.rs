//! The chapters as a test reads them: their tables, code blocks and headings.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The root of the repository.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The text of one chapter, such as `reference/topics`.
pub fn chapter(name: &str) -> String {
    read(&root().join("docs/src").join(format!("{name}.md")))
}

pub fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// README.md and every chapter, the summary included.
pub fn pages() -> Vec<PathBuf> {
    let mut pages = vec![root().join("README.md")];
    let mut directories = vec![root().join("docs/src")];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                pages.push(path);
            }
        }
    }
    pages.sort();
    pages
}

/// One table.
#[derive(Debug)]
pub struct Table {
    pub columns: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// The cells of these columns, row by row; `None` where the table lacks one of them.
    pub fn cells<const N: usize>(&self, columns: [&str; N]) -> Option<Vec<[String; N]>> {
        let mut places = [0; N];
        for (place, column) in places.iter_mut().zip(columns) {
            *place = self.columns.iter().position(|known| known == column)?;
        }
        Some(self.rows.iter().map(|row| places.map(|place| row[place].clone())).collect())
    }
}

/// The lines of a chapter outside of its code blocks.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut in_code = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        in_code ^= fence;
        !in_code && !fence
    })
}

/// All tables of a chapter.
pub fn tables(text: &str) -> Vec<Table> {
    let mut tables: Vec<Table> = Vec::new();
    let mut inside = false;
    for line in prose(text) {
        let Some(cells) = line.strip_prefix('|').and_then(|line| line.strip_suffix('|')) else {
            inside = false;
            continue;
        };
        let cells: Vec<String> = cells.split('|').map(|cell| cell.trim().to_owned()).collect();
        match tables.last_mut().filter(|_| inside) {
            None => tables.push(Table { columns: cells, rows: Vec::new() }),
            Some(_) if cells.iter().all(|cell| cell.chars().all(|c| c == '-')) => {}
            Some(table) => {
                assert_eq!(cells.len(), table.columns.len(), "cells of the row {line}");
                table.rows.push(cells);
            }
        }
        inside = true;
    }
    tables
}

/// The rows of all tables of a chapter that have these columns; at least one.
pub fn rows<const N: usize>(name: &str, columns: [&str; N]) -> Vec<[String; N]> {
    let tables = tables(&chapter(name));
    let rows: Vec<_> = tables.iter().filter_map(|t| t.cells(columns)).flatten().collect();
    assert!(!rows.is_empty(), "{name} has no table with the columns {columns:?}");
    rows
}

/// What stands in backticks in a line or cell.
pub fn code(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The only text in backticks of a cell, which has nothing else.
pub fn only_code(cell: &str) -> String {
    let bare = cell.strip_prefix('`').and_then(|cell| cell.strip_suffix('`'));
    let bare = bare.filter(|bare| !bare.contains('`'));
    bare.unwrap_or_else(|| panic!("{cell:?} is not one text in backticks")).to_owned()
}

/// The code blocks of one language, without their indentation.
pub fn blocks(text: &str, language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut block: Option<(usize, bool, String)> = None;
    for line in text.lines() {
        let bare = line.trim_start();
        match (&mut block, bare.strip_prefix("```")) {
            (None, Some(found)) => {
                block = Some((line.len() - bare.len(), found == language, String::new()));
            }
            (Some((_, wanted, text)), Some(_)) => {
                if *wanted {
                    blocks.push(std::mem::take(text));
                }
                block = None;
            }
            (Some((indent, _, text)), None) => {
                *text += line.get(*indent..).unwrap_or(bare);
                *text += "\n";
            }
            (None, None) => {}
        }
    }
    blocks
}

/// The anchors of the headings of a page.
pub fn anchors(text: &str) -> Vec<String> {
    prose(text)
        .filter(|line| line.starts_with('#'))
        .map(|line| {
            let heading = line.trim_start_matches('#').trim().to_lowercase();
            let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

/// The targets of the links and pictures of a page.
pub fn links(text: &str) -> Vec<String> {
    let text: Vec<&str> = prose(text).collect();
    let text = text.join("\n");
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    targets.map(|(target, _)| target.to_owned()).collect()
}

/// Fails where the two lists differ, naming what is missing on either side.
pub fn same(what: &str, documented: &BTreeSet<String>, existing: &BTreeSet<String>) {
    let missing: Vec<_> = existing.difference(documented).collect();
    let invented: Vec<_> = documented.difference(existing).collect();
    assert!(
        missing.is_empty() && invented.is_empty(),
        "{what}: not documented: {missing:?}; documented, and not in the program: {invented:?}"
    );
}
