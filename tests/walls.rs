//! Who may import whom in `src`: no circles, not even between two files, and the walls between its
//! parts. Reads the sources; what is compiled for tests alone is left out.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test that cannot go on has failed, and nothing is above this crate"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

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
];

/// What a file that calls itself pure must not name.
const IMPURE: &[&str] = &["tokio", "Client", "fs", "net", "now", "spawn", "sleep"];

type ModulePath = Vec<String>;

/// One file of `src`.
#[derive(Default)]
struct Module {
    file: PathBuf,
    /// What it defines.
    items: BTreeSet<String>,
    /// What it imports, by the name that it has there.
    imports: BTreeMap<String, Vec<String>>,
    globs: Vec<Vec<String>>,
    /// All paths that it names.
    paths: Vec<Vec<String>>,
    is_pure: bool,
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let syn::Meta::List(list) = &attribute.meta else { return false };
        list.path.is_ident("cfg") && list.tokens.to_string() == "test"
    })
}

impl Module {
    fn read(file: &Path) -> Self {
        let text = std::fs::read_to_string(file).unwrap();
        let parsed = syn::parse_file(&text).unwrap();
        let header: String = text.lines().take_while(|line| line.starts_with("//!")).collect();
        let mut module =
            Self { file: file.to_owned(), is_pure: header.contains("(pure)"), ..Self::default() };
        module.visit_file(&parsed);
        module
    }

    fn import(&mut self, tree: &syn::UseTree, mut path: Vec<String>) {
        match tree {
            syn::UseTree::Path(part) => {
                path.push(part.ident.to_string());
                self.import(&part.tree, path);
            }
            syn::UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.import(tree, path.clone()));
            }
            syn::UseTree::Glob(_) => self.globs.push(path),
            syn::UseTree::Name(name) => {
                if name.ident != "self" {
                    path.push(name.ident.to_string());
                }
                self.imports.insert(path.last().unwrap().clone(), path);
            }
            syn::UseTree::Rename(rename) => {
                if rename.ident != "self" {
                    path.push(rename.ident.to_string());
                }
                self.imports.insert(rename.rename.to_string(), path);
            }
        }
    }

    fn define(&mut self, name: &syn::Ident) {
        self.items.insert(name.to_string());
    }
}

impl<'ast> Visit<'ast> for Module {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        let (attributes, name) = match item {
            syn::Item::Const(item) => (&item.attrs, Some(&item.ident)),
            syn::Item::Enum(item) => (&item.attrs, Some(&item.ident)),
            syn::Item::Fn(item) => (&item.attrs, Some(&item.sig.ident)),
            syn::Item::Macro(item) => (&item.attrs, item.ident.as_ref()),
            syn::Item::Static(item) => (&item.attrs, Some(&item.ident)),
            syn::Item::Struct(item) => (&item.attrs, Some(&item.ident)),
            syn::Item::Trait(item) => (&item.attrs, Some(&item.ident)),
            syn::Item::Type(item) => (&item.attrs, Some(&item.ident)),
            syn::Item::Impl(item) => (&item.attrs, None),
            syn::Item::Mod(item) => (&item.attrs, None),
            syn::Item::Use(item) => (&item.attrs, None),
            _ => return visit::visit_item(self, item),
        };
        if is_test(attributes) {
            return;
        }
        if let Some(name) = name {
            self.define(name);
        }
        if let syn::Item::Use(item) = item {
            self.import(&item.tree, Vec::new());
        }
        visit::visit_item(self, item);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.paths.push(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        visit::visit_path(self, path);
    }
}

struct Sources(BTreeMap<ModulePath, Module>);

impl Sources {
    fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut folders = vec![root.clone()];
        let mut modules = BTreeMap::new();
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let file = entry.unwrap().path();
                if file.is_dir() {
                    folders.push(file);
                    continue;
                }
                let name = file.file_stem().unwrap().to_str().unwrap();
                // The program is a crate of its own; tests may import what they like.
                if file == root.join("main.rs") || name == "tests" || name.ends_with("_tests") {
                    continue;
                }
                let inside = file.strip_prefix(&root).unwrap().with_extension("");
                let mut path: ModulePath =
                    inside.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
                if matches!(path.last().map(String::as_str), Some("mod" | "lib")) {
                    path.pop();
                }
                modules.insert(path, Module::read(&file));
            }
        }
        Self(modules)
    }

    /// The path from the crate's root, where `path`, as `module` names it, is one of this crate.
    fn absolute(&self, module: &[String], path: &[String]) -> Option<Vec<String>> {
        let (first, rest) = path.split_first()?;
        let mut from = module.to_vec();
        match first.as_str() {
            "crate" => return Some(rest.to_vec()),
            "self" => {}
            "super" => {
                from.pop();
            }
            name => {
                let mut child = module.to_vec();
                child.push(name.to_owned());
                if self.0.contains_key(&child) {
                    return Some([&child, rest].concat());
                }
                let imported = self.0[module].imports.get(name)?;
                // A path that begins with its own name is one of another crate.
                if imported.first() == Some(first) {
                    return None;
                }
                return self.absolute(module, &[imported, rest].concat());
            }
        }
        let supers = rest.iter().take_while(|segment| *segment == "super").count();
        from.truncate(from.len().saturating_sub(supers));
        Some([&from[..], &rest[supers..]].concat())
    }

    /// The file in which what is at this path is defined, through re-exports; `None` where the path
    /// names a whole module.
    fn definition(&self, path: &[String]) -> Option<ModulePath> {
        let mut module = ModulePath::new();
        for (at, segment) in path.iter().enumerate() {
            let mut child = module.clone();
            child.push(segment.clone());
            if self.0.contains_key(&child) {
                module = child;
                continue;
            }
            let here = &self.0[&module];
            if here.items.contains(segment) {
                return Some(module);
            }
            let rest = &path[at + 1..];
            let import = here.imports.get(segment).map(|import| [import, rest].concat());
            let globs = here.globs.iter().map(|glob| [&glob[..], &path[at..]].concat());
            for import in import.into_iter().chain(globs) {
                if let Some(path) = self.absolute(&module, &import)
                    && let Some(definition) = self.definition(&path)
                {
                    return Some(definition);
                }
            }
            return None;
        }
        None
    }

    /// Which files each file needs.
    fn needs(&self) -> BTreeMap<ModulePath, BTreeSet<ModulePath>> {
        let needs = |(path, module): (&ModulePath, &Module)| {
            // A re-export, as of a folder's `mod.rs`, needs nothing; its use is counted.
            let named = module.paths.iter();
            let files = named
                .filter_map(|named| self.definition(&self.absolute(path, named)?))
                .filter(|needed| needed != path);
            (path.clone(), files.collect())
        };
        self.0.iter().map(needs).collect()
    }
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
    let needs = Sources::read().needs();
    assert!(needs.values().map(BTreeSet::len).sum::<usize>() > 300, "imports were found");
    let circles = circles(&needs);
    let told = circles.iter().map(|circle| {
        let steps = circle.iter().map(|module| {
            let within = needs[module].iter().filter(|needed| circle.contains(needed));
            let within: Vec<String> = within.map(|needed| needed.join("::")).collect();
            format!("  {} -> {}\n", module.join("::"), within.join(", "))
        });
        steps.collect::<String>()
    });
    let told: Vec<String> = told.collect();
    assert!(told.is_empty(), "{} circles:\n{}", told.len(), told.join("\n"));
}

#[test]
fn no_part_imports_what_is_behind_a_wall() {
    let mut breaches = Vec::new();
    for (module, needed) in Sources::read().needs() {
        let wall = WALLS.iter().find(|(part, _)| module.first().is_some_and(|first| first == part));
        let Some((_, forbidden)) = wall else { continue };
        for needed in needed {
            if needed.first().is_some_and(|part| forbidden.contains(&part.as_str())) {
                breaches.push(format!("{} imports {}", module.join("::"), needed.join("::")));
            }
        }
    }
    assert!(breaches.is_empty(), "{breaches:#?}");
}

#[test]
fn what_calls_itself_pure_is() {
    let sources = Sources::read();
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
