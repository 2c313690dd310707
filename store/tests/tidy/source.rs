//! A crate's sources as text: its modules, and which module uses which.
//!
//! A *use* is a path in a `use` line or in the code (`module::item`). It counts for the module that defines the item:
//! names that a module only re-exports (`pub use`) are followed. Declaring a module and re-exporting from it are not
//! uses.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// A module's path below its crate's root, which is the empty path.
pub type Module = Vec<String>;

/// The modules of a crate with their sources, unit tests in files of their own left out.
pub struct Crate {
    pub modules: BTreeMap<Module, String>,
}

impl Crate {
    /// Reads the sources below a folder.
    pub fn read(src: &Path) -> Self {
        let mut files = Vec::new();
        rust_files(src, &mut files);
        let mut modules = BTreeMap::new();
        for file in files {
            let mut module: Module = Vec::new();
            for part in file.strip_prefix(src).unwrap().with_extension("").iter() {
                module.push(part.to_string_lossy().into_owned());
            }
            if module.len() == 1 && ["lib", "main"].contains(&module[0].as_str()) {
                module.clear();
            }
            modules.insert(module, fs::read_to_string(&file).unwrap());
        }
        let tests: Vec<Module> = modules.iter().flat_map(|(module, source)| test_modules(module, source)).collect();
        modules.retain(|module, _| !tests.iter().any(|test| module.starts_with(test)));
        Self { modules }
    }

    /// All pairs of different modules of which the first uses the second.
    pub fn uses(&self) -> BTreeSet<(Module, Module)> {
        let mut uses = BTreeSet::new();
        for (module, source) in &self.modules {
            let code = code(source);
            let imports = imports(&code);
            for import in &imports {
                if !import.is_public {
                    self.add(&mut uses, module, &import.path);
                }
            }
            for path in paths(&without_imports(&code)) {
                match imports.iter().find(|import| import.name == path[0]) {
                    Some(import) => self.add(&mut uses, module, &[&import.path[..], &path[1..]].concat()),
                    None => self.add(&mut uses, module, &path),
                }
            }
        }
        uses
    }

    fn add(&self, uses: &mut BTreeSet<(Module, Module)>, from: &Module, path: &[String]) {
        if let Some(to) = self.definition(from, path, 0).filter(|to| to != from) {
            uses.insert((from.clone(), to));
        }
    }

    /// Returns the module that defines what a path leads to, as seen from a module. Returns none for a path out of the
    /// crate, and for a path that ends at a module: that names the module and uses nothing of it.
    fn definition(&self, from: &Module, path: &[String], depth: usize) -> Option<Module> {
        if depth > 8 {
            return None;
        }
        let (mut at, mut rest) = match path.first()?.as_str() {
            "crate" => (Vec::new(), &path[1..]),
            "self" => (from.clone(), &path[1..]),
            "super" => (from[..from.len().checked_sub(1)?].to_vec(), &path[1..]),
            first => {
                let child = [&from[..], &[first.to_owned()]].concat();
                self.modules.contains_key(&child).then_some((from.clone(), path))?
            }
        };
        while let Some(next) = rest.first() {
            if next == "super" {
                at.pop()?;
                rest = &rest[1..];
                continue;
            }
            let child = [&at[..], std::slice::from_ref(next)].concat();
            if self.modules.contains_key(&child) {
                at = child;
                rest = &rest[1..];
                continue;
            }
            let exported = imports(&code(self.modules.get(&at)?));
            return match exported.iter().find(|import| import.is_public && import.name == *next) {
                Some(import) => {
                    let onward = [&import.path[..], &rest[1..]].concat();
                    self.definition(&at, &onward, depth + 1).or(Some(at))
                }
                None => Some(at),
            };
        }
        None
    }
}

/// The modules that a file declares for tests only.
fn test_modules(module: &Module, source: &str) -> Vec<Module> {
    let mut found = Vec::new();
    for (at, line) in source.lines().enumerate() {
        if line.trim() == "#[cfg(test)]"
            && let Some(next) = source.lines().nth(at + 1)
            && let Some(name) = next.trim().trim_start_matches("pub ").strip_prefix("mod ")
            && let Some(name) = name.strip_suffix(';')
        {
            found.push([&module[..], &[name.to_owned()]].concat());
        }
    }
    found
}

/// All Rust files below a folder.
pub fn rust_files(dir: &Path, found: &mut Vec<PathBuf>) {
    files(dir, &["rs"], found);
}

/// All sources, scripts and documents of the project.
pub fn text_files(dir: &Path, found: &mut Vec<PathBuf>) {
    files(dir, &["rs", "md", "sh"], found);
    found.push(dir.join(".ci/run"));
}

fn files(dir: &Path, extensions: &[&str], found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            files(&path, extensions, found);
        } else if path.extension().is_some_and(|e| extensions.contains(&e.to_string_lossy().as_ref())) {
            found.push(path);
        }
    }
}

/// A source without its unit tests, which come last.
pub fn without_tests(source: &str) -> &str {
    source.split("#[cfg(test)]\nmod tests {").next().unwrap()
}

/// A source without line comments and unit tests.
pub fn code(source: &str) -> String {
    without_tests(source).lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n")
}

struct Import {
    /// The name that it brings into scope.
    name: String,
    path: Vec<String>,
    is_public: bool,
}

/// The `use` lines of a source: where each begins, where its tree begins, and whether it re-exports.
fn use_lines(code: &str) -> impl Iterator<Item = (usize, usize, bool)> {
    code.match_indices("use ").filter_map(|(at, head)| {
        let line = code[..at].rfind('\n').map_or(0, |end| end + 1);
        let before = code[line..at].trim();
        let is_public = before.starts_with("pub");
        (before.is_empty() || is_public).then_some((line, at + head.len(), is_public))
    })
}

/// What the `use` lines of a source bring into scope.
fn imports(code: &str) -> Vec<Import> {
    let mut found = Vec::new();
    for (_, at, is_public) in use_lines(code) {
        let mut paths = Vec::new();
        tree(&code[at..], &[], &mut paths);
        found.extend(paths.into_iter().map(|(path, name)| Import { name, path, is_public }));
    }
    found
}

fn without_imports(code: &str) -> String {
    let (mut left, mut done) = (String::new(), 0);
    for (line, at, _) in use_lines(code) {
        if line >= done {
            left.push_str(&code[done..line]);
            done = at + code[at..].find(';').unwrap_or(code.len() - at);
        }
    }
    left.push_str(&code[done..]);
    left
}

/// Collects the paths that a use tree like `a::{b, c::d as e}` stands for, with the names that they bring into scope.
/// Returns the text after the tree.
fn tree<'a>(text: &'a str, prefix: &[String], paths: &mut Vec<(Vec<String>, String)>) -> &'a str {
    let mut path = prefix.to_vec();
    let mut text = text.trim_start();
    loop {
        if let Some(mut rest) = text.strip_prefix('{') {
            loop {
                rest = rest.trim_start();
                rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
                if let Some(rest) = rest.strip_prefix('}') {
                    return rest;
                }
                rest = tree(rest, &path, paths);
            }
        }
        let end = text.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '*').unwrap_or(text.len());
        if end == 0 {
            return "}";
        }
        path.push(text[..end].to_owned());
        text = text[end..].trim_start();
        match text.strip_prefix("::") {
            Some(rest) => text = rest.trim_start(),
            None => break,
        }
    }
    if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
        path.pop();
    }
    let mut name = path[path.len() - 1].clone();
    if let Some(rest) = text.strip_prefix("as ") {
        let rest = rest.trim_start();
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        name = rest[..end].to_owned();
        text = &rest[end..];
    }
    paths.push((path, name));
    text
}

/// The paths in a source's code that begin with a lower-case name, as modules do.
fn paths(code: &str) -> Vec<Vec<String>> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut found = Vec::new();
    for (at, _) in code.match_indices("::") {
        let begin = code[..at].rfind(|c| !is_word(c)).map_or(0, |end| end + 1);
        let is_first = !code[..begin].ends_with("::") && !code[..begin].ends_with('$');
        if !is_first || !code[begin..at].starts_with(|c: char| c.is_lowercase() || c == '_') {
            continue;
        }
        let mut path = vec![code[begin..at].to_owned()];
        let mut rest = &code[at..];
        while let Some(after) = rest.strip_prefix("::") {
            let end = after.find(|c| !is_word(c)).unwrap_or(after.len());
            if end == 0 {
                break;
            }
            path.push(after[..end].to_owned());
            rest = &after[end..];
        }
        if path.len() > 1 {
            found.push(path);
        }
    }
    found
}

/// How many methods the traits or types of a room have: what follows `head` at the start of a line names them.
pub fn methods(of: &Crate, room: &str, head: &str) -> BTreeMap<String, usize> {
    let mut found: BTreeMap<String, usize> = BTreeMap::new();
    for (module, source) in &of.modules {
        if module.first().is_none_or(|first| first != room) {
            continue;
        }
        let mut current = None;
        for line in code(source).lines() {
            let unindented = line.trim_start_matches("pub ").trim_start_matches("unsafe ");
            if unindented.starts_with(head) && !line.starts_with(' ') {
                current = named(unindented);
            } else if line.starts_with('}') {
                current = None;
            } else if let Some(name) = &current
                && is_method(line)
            {
                *found.entry(name.clone()).or_default() += 1;
            }
        }
    }
    found
}

/// The name of the trait or type of `trait Name`, `impl<T> Name<T>` or `impl Trait for Name`.
fn named(head: &str) -> Option<String> {
    let head = head.trim_start_matches("trait ").split(" where").next()?.trim_end_matches(['{', '}', ' ']);
    let head = match head.strip_prefix("impl") {
        Some(rest) => {
            // The generic parameters end before the first space that is not inside of them.
            let mut depth = 0i32;
            let end = rest.find(|c: char| {
                depth += i32::from(c == '<') - i32::from(c == '>');
                c == ' ' && depth == 0
            });
            rest[end?..].trim()
        }
        None => head,
    };
    let name = head.rsplit(" for ").next()?.split([':', '<']).next()?.trim();
    Some(name.to_owned())
}

/// Whether a line begins a method: `fn` one level deep, with or without visibility and qualifiers.
fn is_method(line: &str) -> bool {
    let Some(inner) = line.strip_prefix("    ").filter(|inner| !inner.starts_with(' ')) else { return false };
    let mut words = inner.split(' ').map(|word| word.split('(').next().unwrap_or_default());
    let mut word = words.next();
    while word.is_some_and(|word| ["pub", "const", "async", "unsafe"].contains(&word)) {
        word = words.next();
    }
    // `pub(in some::path)` has a space inside.
    word == Some("fn") || inner.starts_with("pub(") && inner.contains(") fn ")
}

/// How many fields a struct has; none if the source does not define it.
pub fn fields(code: &str, name: &str) -> Option<usize> {
    let body = code.split(&format!("struct {name} {{\n")).nth(1)?.split("\n}").next()?;
    Some(body.lines().filter(|line| line.starts_with("    ") && line.contains(": ")).count())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn a_crate(files: &[(&str, &str)]) -> Crate {
        let module = |name: &str| name.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect();
        Crate { modules: files.iter().map(|(name, source)| (module(name), (*source).to_owned())).collect() }
    }

    fn uses(files: &[(&str, &str)]) -> Vec<String> {
        a_crate(files).uses().iter().map(|(from, to)| format!("{} > {}", from.join("::"), to.join("::"))).collect()
    }

    #[test]
    fn uses_are_found_where_items_are_defined() {
        let found = uses(&[
            ("", "mod a;\nmod b;\npub use a::Item;"),
            ("a", "mod inner;\npub use inner::{Deep, Other as Renamed};\npub struct Item;"),
            ("a::inner", "use super::Item;\nuse crate::b::{self, helper};\nfn f() { b::call(); }"),
            (
                "b",
                "use crate::{a::{Deep, Renamed}, Item};\n// use crate::c::Gone;\nuse std::fs;\nfn f() { fs::read(); }",
            ),
        ]);
        assert_eq!(found, ["a::inner > a", "a::inner > b", "b > a", "b > a::inner"]);
    }

    #[test]
    fn naming_a_module_uses_nothing_of_it() {
        assert!(uses(&[("", "mod a;\nmod b;"), ("a", "use crate::b;"), ("b", "")]).is_empty());
        assert_eq!(uses(&[("", "mod a;\nfn main() { a::run(); }"), ("a", "")]), [" > a"]);
        let tests = "fn f() {}\n#[cfg(test)]\nmod tests {\n    use crate::a::X;\n}";
        assert!(uses(&[("", ""), ("a", ""), ("b", tests)]).is_empty());
    }

    #[test]
    fn methods_are_counted_by_type() {
        let source = "impl<'a> One<'a> {\n    pub(super) fn a() {}\n    fn b() {\n        fn inner() {}\n    }\n}\n\
                      impl Trait for One<'_> {\n    fn c() {}\n}\npub struct Two;\n\
                      impl Two {\n    const fn d() {}\n}\n";
        let of = a_crate(&[("room", source), ("other", "impl One {\n    fn e() {}\n}")]);
        assert_eq!(methods(&of, "room", "impl"), BTreeMap::from([("One".into(), 3), ("Two".into(), 1)]));
        let of = a_crate(&[("room", "pub trait Three: Send {\n    fn a();\n\n    fn b();\n}")]);
        assert_eq!(methods(&of, "room", "trait "), BTreeMap::from([("Three".into(), 2)]));
        assert_eq!(fields("pub struct S {\n    a: u8,\n    pub b: Vec<u8>,\n}\n", "S"), Some(2));
    }
}
