//! How `src` is built: who may import whom, with no circles, not even between two files or folders;
//! what is pure; one name for one thing; and the names of tests that `tests/run` goes by. Reads the
//! sources; what is compiled for tests alone is left out.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test that cannot go on has failed, and nothing is above this crate"
)]

#[path = "walls/sources.rs"]
mod sources;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use sources::{Module, ModulePath, Sources, files_below};
use syn::visit::{self, Visit};

/// What a part of `src` must not import. Parts are paths of modules.
const WALLS: &[(&str, &[&str])] = &[
    (
        "octoprint",
        &[
            "mqtt",
            "bridge",
            "config",
            "cli",
            "http",
            "homeassistant",
            "store",
            "journal",
            "metrics",
            "topics",
        ],
    ),
    (
        "mqtt",
        &[
            "octoprint",
            "bridge",
            "config",
            "cli",
            "http",
            "homeassistant",
            "store",
            "journal",
            "metrics",
        ],
    ),
    (
        "store",
        &["octoprint", "bridge", "config", "cli", "http", "homeassistant", "journal", "metrics"],
    ),
    ("journal", &["octoprint", "bridge", "config", "cli", "http", "homeassistant", "metrics"]),
    ("metrics", &["bridge", "config", "cli", "http", "homeassistant", "store", "journal"]),
    (
        "homeassistant",
        &["bridge", "cli", "http", "mqtt", "octoprint", "store", "journal", "metrics"],
    ),
    ("config", &["bridge", "cli", "http", "mqtt", "homeassistant", "store", "journal", "metrics"]),
    ("bridge", &["http", "cli"]),
    (
        "finding",
        &[
            "octoprint",
            "mqtt",
            "bridge",
            "cli",
            "http",
            "homeassistant",
            "store",
            "journal",
            "metrics",
            "topics",
        ],
    ),
    (
        "gcode",
        &[
            "octoprint",
            "mqtt",
            "bridge",
            "config",
            "cli",
            "http",
            "homeassistant",
            "store",
            "journal",
            "metrics",
            "topics",
        ],
    ),
    ("http", &["cli"]),
    ("octoprint::rest", &["octoprint::socket", "octoprint::wire"]),
    ("octoprint::wire", &["octoprint::socket"]),
];

/// What a file that calls itself pure must not name.
const IMPURE: &[&str] =
    &["tokio", "Client", "Store", "env", "fs", "net", "now", "sleep", "spawn", "tracing"];

/// What does no I/O, reads no clock and spawns nothing, and calls itself so: files and folders.
const PURE: &[&str] =
    &["topic", "topics", "mqtt::outbox", "bridge::printer::snapshot", "homeassistant"];

/// Names that stand for two types, as the module's own name makes plain.
const TWICE: &[(&str, &str)] = &[
    (
        "Printer",
        "config::Printer is what the user writes of one, bridge::printer::Printer its task",
    ),
    (
        "Socket",
        "config::Socket is what the user writes of one, octoprint::Socket the socket itself",
    ),
];

/// What `tests/run` leaves out by the beginning of its name. `cargo test` looks for it anywhere in
/// the name, with the modules' names.
const SKIPPED: &[&str] = &["long_", "pictures_"];

fn sources() -> &'static Sources {
    static SOURCES: LazyLock<Sources> = LazyLock::new(Sources::read);
    &SOURCES
}

/// Files that need each other, directly or by others.
fn circles(needs: &BTreeMap<ModulePath, BTreeSet<ModulePath>>) -> Vec<Vec<ModulePath>> {
    let reach = |from: &ModulePath| {
        let mut seen = BTreeSet::new();
        let mut todo = vec![from];
        while let Some(module) = todo.pop() {
            todo.extend(needs[module].iter().filter(|needed| seen.insert((*needed).clone())));
        }
        seen
    };
    let reached: BTreeMap<_, _> = needs.keys().map(|module| (module, reach(module))).collect();
    let mut circles: Vec<Vec<ModulePath>> = Vec::new();
    for (module, others) in &reached {
        if others.contains(*module) && !circles.iter().flatten().any(|known| known == *module) {
            let circle = others.iter().filter(|other| reached[other].contains(*module));
            circles.push(circle.cloned().collect());
        }
    }
    circles
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let needs = sources().needs();
    assert!(needs.values().map(BTreeSet::len).sum::<usize>() > 300, "imports were found");
    let circles = circles(&needs);
    let shown = circles.iter().map(|circle| {
        let steps = circle.iter().map(|module| {
            let within = needs[module].iter().filter(|needed| circle.contains(needed));
            let within: Vec<String> = within.map(|needed| needed.join("::")).collect();
            format!("  {} -> {}\n", module.join("::"), within.join(", "))
        });
        steps.collect::<String>()
    });
    let shown: Vec<String> = shown.collect();
    assert!(shown.is_empty(), "{} circles:\n{}", shown.len(), shown.join("\n"));
}

/// The same between the rooms of each folder, which are its folders and its files.
#[test]
fn no_folders_import_each_other_in_a_circle() {
    let needs = sources().needs();
    let folders: BTreeSet<&[String]> =
        needs.keys().flat_map(|module| (0..module.len()).map(|depth| &module[..depth])).collect();
    assert!(folders.len() > 15, "folders were found");
    for folder in folders {
        let room = |module: &ModulePath| {
            let is_inside = module.starts_with(folder) && module.len() > folder.len();
            is_inside.then(|| module[..=folder.len()].to_vec())
        };
        let mut rooms: BTreeMap<ModulePath, BTreeSet<ModulePath>> = BTreeMap::new();
        for (module, needed) in &needs {
            let Some(here) = room(module) else { continue };
            let others = needed.iter().filter_map(room).filter(|other| *other != here);
            rooms.entry(here.clone()).or_default().extend(others);
        }
        let circles = circles(&rooms);
        let found: Vec<String> = circles
            .iter()
            .flatten()
            .flat_map(|from| {
                let within = needs.iter().filter(move |(module, _)| module.starts_with(from));
                within.flat_map(move |(module, needed)| needed.iter().map(move |n| (module, n)))
            })
            .filter(|(module, needed)| {
                let is_between = room(needed).is_some_and(|to| Some(to) != room(module));
                is_between && circles.iter().flatten().any(|to| needed.starts_with(to))
            })
            .map(|(module, needed)| format!("{} -> {}", module.join("::"), needed.join("::")))
            .collect();
        assert!(found.is_empty(), "in {folder:?}: {found:#?}");
    }
}

/// Whether a module is `part`, such as `octoprint::rest`, or inside of it.
fn is_below(module: &[String], part: &str) -> bool {
    let part: Vec<String> = part.split("::").map(str::to_owned).collect();
    module.starts_with(&part)
}

#[test]
fn no_part_imports_what_is_behind_a_wall() {
    let mut breaches = Vec::new();
    for (module, needed) in sources().needs() {
        for (_, forbidden) in WALLS.iter().filter(|(part, _)| is_below(&module, part)) {
            for needed in needed.iter().filter(|it| forbidden.iter().any(|f| is_below(it, f))) {
                breaches.push(format!("{} imports {}", module.join("::"), needed.join("::")));
            }
        }
    }
    assert!(breaches.is_empty(), "{breaches:#?}");
}

#[test]
fn what_calls_itself_pure_is() {
    let sources = sources();
    let pure: Vec<&Module> = sources.0.values().filter(|module| module.is_pure).collect();
    assert!(pure.len() > 10, "pure modules were found");
    let mut breaches = Vec::new();
    for module in pure {
        let imports = module.imports.values().chain(&module.globs);
        // The pausable clock's points in time are no clock.
        let tokio_instant = ["tokio", "time", "Instant"];
        for path in module.paths.iter().chain(imports).filter(|path| **path != tokio_instant) {
            // A variable may have such a name.
            let is_impure = |segment: &String| IMPURE.contains(&segment.as_str());
            if path.len() > 1 && path.iter().any(is_impure) {
                breaches.push(format!("{} names {}", module.file.display(), path.join("::")));
            }
        }
    }
    assert!(breaches.is_empty(), "{breaches:#?}");
}

#[test]
fn what_decides_is_pure() {
    for (path, module) in &sources().0 {
        let demanded = PURE.iter().any(|part| is_below(path, part));
        assert!(module.is_pure || !demanded, "{} lacks (pure)", module.file.display());
    }
}

#[test]
fn a_type_has_a_name_of_its_own() {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (path, module) in &sources().0 {
        for name in &module.types {
            found.entry(name.clone()).or_default().push(path.join("::"));
        }
    }
    assert!(found.len() > 300, "types were found");
    found.retain(|_, places| places.len() > 1);
    for (name, reason) in TWICE {
        let places = found.remove(*name);
        assert_eq!(places.map_or(0, |places| places.len()), 2, "{name} is excepted: {reason}");
    }
    assert!(found.is_empty(), "{found:#?}");
}

/// The tests of a file, those of its modules too.
#[derive(Default)]
struct Tests(Vec<String>);

impl<'ast> Visit<'ast> for Tests {
    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        let is_test = function.attrs.iter().any(|attribute| {
            attribute.path().segments.last().is_some_and(|segment| segment.ident == "test")
        });
        self.0.extend(is_test.then(|| function.sig.ident.to_string()));
        visit::visit_item_fn(self, function);
    }

    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        // A module would be left out with all its tests.
        self.0.push(format!("mod_{}", module.ident));
        visit::visit_item_mod(self, module);
    }
}

#[test]
fn what_is_left_out_by_its_name_begins_with_it() {
    let mut tests = Tests::default();
    for file in [files_below("src"), files_below("tests")].concat() {
        tests.visit_file(&syn::parse_file(&std::fs::read_to_string(file).unwrap()).unwrap());
    }
    assert!(tests.0.len() > 500, "tests were found");
    assert!(tests.0.iter().any(|name| name.starts_with("long_")), "and those that take long");
    tests.0.retain(|name| SKIPPED.iter().any(|text| name.get(1..).unwrap().contains(text)));
    assert!(tests.0.is_empty(), "{:#?}", tests.0);
}
