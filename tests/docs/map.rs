//! The map of the program, held against the folders and files of `src`.

use std::collections::BTreeSet;

use super::book::{code, root, rows, same};

const CHAPTER: &str = "internals/map";

#[test]
fn everything_directly_below_src_is_on_the_map() {
    let rows = rows(CHAPTER, ["path in `src`", "purpose"]);
    let listed: Vec<String> = rows.iter().flat_map(|[path, _]| code(path)).collect();
    for path in &listed {
        assert!(root().join("src").join(path).exists(), "{path} is on the map, and not in src");
    }
    let first = |path: &String| path.split('/').next().unwrap().to_owned();
    let listed: BTreeSet<String> = listed.iter().map(first).collect();
    let entries = std::fs::read_dir(root().join("src")).unwrap();
    let existing = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    same(CHAPTER, &listed, &existing.collect());
}
