//! Links, pictures and the summary.

use std::collections::BTreeSet;
use std::path::Path;

use super::book::{anchors, links, pages, read, root};

fn is_outside(link: &str) -> bool {
    link.contains("://")
}

#[test]
fn every_relative_link_resolves() {
    let mut broken = Vec::new();
    for page in pages() {
        let text = read(&page);
        for link in links(&text).into_iter().filter(|link| !is_outside(link)) {
            let (path, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = match path {
                "" => page.clone(),
                path => page.parent().unwrap().join(path),
            };
            let found = target.exists()
                && (anchor.is_empty() || anchors(&read(&target)).contains(&anchor.to_owned()));
            if !found {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

/// What a chapter links to is in the built book, and not only in the repository.
#[test]
fn chapters_link_to_nothing_outside_of_the_book() {
    let book = root().join("docs/src").canonicalize().unwrap();
    for page in pages().into_iter().filter(|page| page.starts_with(root().join("docs"))) {
        for link in links(&read(&page)).into_iter().filter(|link| !is_outside(link)) {
            let path = link.split('#').next().unwrap_or_default();
            let target = page.parent().unwrap().join(path).canonicalize().unwrap();
            assert!(target.starts_with(&book), "{}: {link}", page.display());
        }
    }
}

#[test]
fn no_page_has_an_anchor_twice() {
    for page in pages() {
        let all = anchors(&read(&page));
        let unique: BTreeSet<&String> = all.iter().collect();
        assert_eq!(unique.len(), all.len(), "{}: {all:?}", page.display());
    }
}

#[test]
fn the_summary_lists_each_chapter_once() {
    let book = root().join("docs/src");
    let summary = book.join("SUMMARY.md");
    let listed = links(&read(&summary));
    let unique: BTreeSet<String> = listed.iter().cloned().collect();
    assert_eq!(unique.len(), listed.len(), "{listed:?}");
    let chapters: BTreeSet<String> = pages()
        .iter()
        .filter(|page| **page != summary)
        .filter_map(|page| Some(page.strip_prefix(&book).ok()?.display().to_string()))
        .collect();
    super::book::same("docs/src/SUMMARY.md", &unique, &chapters);
}

#[test]
fn the_picture_of_the_benchmarks_is_that_of_their_results() {
    let of = |path: &str| std::fs::read(root().join(Path::new(path))).unwrap();
    let [results, book] = ["benches/results/end_to_end.svg", "docs/src/pictures/end_to_end.svg"];
    assert!(of(results) == of(book), "copy {results} to {book}");
}
