//! Reads the modules of `src`: what each defines, imports and names. What is compiled for tests alone
//! is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};

pub type ModulePath = Vec<String>;

/// One file of `src`.
#[derive(Default)]
pub struct Module {
    pub file: PathBuf,
    /// What it defines.
    items: BTreeSet<String>,
    /// The names of the types that it defines, those inside of functions too.
    pub types: Vec<String>,
    /// What it imports, by the name that it has there.
    pub imports: BTreeMap<String, Vec<String>>,
    pub globs: Vec<Vec<String>>,
    /// All paths that it names: in its code, in the arguments of macros, and in each `use` that is no
    /// re-export, so that a trait counts whose methods alone are used.
    pub paths: Vec<Vec<String>>,
    /// The modules below it that are compiled for tests alone.
    tests: Vec<String>,
    pub is_pure: bool,
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let syn::Meta::List(list) = &attribute.meta else { return false };
        let condition = list.tokens.to_string().replace(' ', "");
        list.path.is_ident("cfg") && (condition == "test" || condition.starts_with("all(test,"))
    })
}

/// The paths in the arguments of a macro, of two segments at least.
fn paths_in(tokens: &str) -> Vec<Vec<String>> {
    let code = without_texts(tokens).replace(" ::", "::").replace(":: ", "::");
    let is_of_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let words = code.split(|c| !is_of_path(c)).filter(|word| word.contains("::"));
    words.map(|word| word.trim_matches(':').split("::").map(str::to_owned).collect()).collect()
}

/// Leaves out strings and characters.
fn without_texts(tokens: &str) -> String {
    let (mut code, mut rest) = (String::new(), tokens);
    while let Some(at) = rest.find(['"', '\'']) {
        let (before, text) = rest.split_at(at);
        code.push_str(before);
        let quote = text.chars().next().unwrap();
        let mut escaped = false;
        let end = text.char_indices().skip(1).find(|(_, c)| {
            let ends = *c == quote && !escaped;
            escaped = *c == '\\' && !escaped;
            ends
        });
        // What has no end near is a lifetime.
        let length = match end {
            Some((end, _)) if quote == '"' || end < "'\\u{10FFFF}'".len() => end + 1,
            _ => 1,
        };
        rest = &text[length..];
    }
    code + rest
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

    fn import(&mut self, tree: &syn::UseTree, mut path: Vec<String>, is_own: bool) {
        match tree {
            syn::UseTree::Path(part) => {
                path.push(part.ident.to_string());
                self.import(&part.tree, path, is_own);
            }
            syn::UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.import(tree, path.clone(), is_own));
            }
            syn::UseTree::Glob(_) => self.globs.push(path),
            syn::UseTree::Name(name) => {
                if name.ident != "self" {
                    path.push(name.ident.to_string());
                }
                self.paths.extend(is_own.then(|| path.clone()));
                self.imports.insert(path.last().unwrap().clone(), path);
            }
            syn::UseTree::Rename(rename) => {
                if rename.ident != "self" {
                    path.push(rename.ident.to_string());
                }
                self.paths.extend(is_own.then(|| path.clone()));
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
            if let syn::Item::Mod(item) = item {
                self.tests.push(item.ident.to_string());
            }
            return;
        }
        if let Some(name) = name {
            self.define(name);
        }
        if let syn::Item::Enum(_)
        | syn::Item::Struct(_)
        | syn::Item::Trait(_)
        | syn::Item::Type(_) = item
        {
            self.types.extend(name.map(ToString::to_string));
        }
        if let syn::Item::Use(item) = item {
            let is_own = matches!(item.vis, syn::Visibility::Inherited);
            self.import(&item.tree, Vec::new(), is_own);
        }
        visit::visit_item(self, item);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.paths.push(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.paths.extend(paths_in(&call.tokens.to_string()));
        visit::visit_macro(self, call);
    }
}

/// All `.rs` files below a folder of the project.
pub fn files_below(folder: &str) -> Vec<PathBuf> {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let file = entry.unwrap().path();
            if file.is_dir() {
                folders.push(file);
            } else if file.extension().is_some_and(|extension| extension == "rs") {
                files.push(file);
            }
        }
    }
    files
}

pub struct Sources(pub BTreeMap<ModulePath, Module>);

impl Sources {
    pub fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut modules = BTreeMap::new();
        for file in files_below("src") {
            let inside = file.strip_prefix(&root).unwrap().with_extension("");
            let mut path: ModulePath =
                inside.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
            // The program is a crate of its own.
            if path == ["main"] {
                continue;
            }
            if matches!(path.last().map(String::as_str), Some("mod" | "lib")) {
                path.pop();
            }
            modules.insert(path, Module::read(&file));
        }
        // Tests may import what they like.
        let tests = modules.iter().flat_map(|(path, module)| {
            module.tests.iter().map(|name| [&path[..], std::slice::from_ref(name)].concat())
        });
        let tests: Vec<ModulePath> = tests.collect();
        modules.retain(|path, _| !tests.iter().any(|test| path.starts_with(test)));
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
    pub fn needs(&self) -> BTreeMap<ModulePath, BTreeSet<ModulePath>> {
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
