//! Circles in a graph of modules: groups of modules that reach each other.

use std::collections::{BTreeMap, BTreeSet};

use crate::source::Module;

/// One circle of each group of modules that reach each other, as the names along the way; empty if there are none.
pub fn find(uses: &BTreeSet<(Module, Module)>) -> Vec<Vec<String>> {
    let mut graph: BTreeMap<&Module, BTreeSet<&Module>> = BTreeMap::new();
    for (from, to) in uses {
        graph.entry(from).or_default().insert(to);
    }
    let mut found = Vec::new();
    let mut done: BTreeSet<&Module> = BTreeSet::new();
    for start in graph.keys() {
        if done.contains(*start) {
            continue;
        }
        if let Some(circle) = shortest(&graph, start) {
            done.extend(circle.iter().copied());
            let first = circle[0];
            found.push(circle.into_iter().chain([first]).map(name).collect());
        }
    }
    found
}

fn name(module: &Module) -> String {
    if module.is_empty() { "the crate's root".to_owned() } else { module.join("::") }
}

/// The shortest way from a module back to itself.
fn shortest<'a>(graph: &BTreeMap<&'a Module, BTreeSet<&'a Module>>, start: &'a Module) -> Option<Vec<&'a Module>> {
    let mut before: BTreeMap<&Module, &Module> = BTreeMap::new();
    let mut layer = vec![start];
    while !layer.is_empty() {
        let mut next = Vec::new();
        for from in layer {
            for to in graph.get(from).into_iter().flatten() {
                if *to == start {
                    let mut way = vec![from];
                    while let Some(earlier) = before.get(way[way.len() - 1]) {
                        way.push(earlier);
                    }
                    way.reverse();
                    return Some(way);
                }
                if !before.contains_key(to) {
                    before.insert(to, from);
                    next.push(*to);
                }
            }
        }
        layer = next;
    }
    None
}

#[test]
fn circles_are_found() {
    let module = |name: &str| vec![name.to_owned()];
    let edges = |pairs: &[(&str, &str)]| pairs.iter().map(|(from, to)| (module(from), module(to))).collect();
    assert!(find(&edges(&[("a", "b"), ("b", "c"), ("a", "c")])).is_empty());
    assert_eq!(find(&edges(&[("a", "b"), ("b", "c"), ("c", "b")])), [["b", "c", "b"]]);
    assert_eq!(find(&edges(&[("a", "b"), ("b", "c"), ("c", "a"), ("x", "a")])), [["a", "b", "c", "a"]]);
}
