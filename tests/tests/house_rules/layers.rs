//! Layers of the core: its modules use each other in one direction, and transitions are above data.
//!
//! A module is what `lib.rs` declares, with all files below it. It uses another by naming it: `crate::other::…`
//! or as many `super::` as lead there, in `use` and elsewhere alike. Tests beside the code may use anything.
//! A method that one module gives a type of another is called without naming the module, so that would be a
//! way round; hence types have their methods beside them, and `apply` alone adds some, which only it can call.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;

use super::{read, root, tracked};

/// A file of a crate: its path below `src`, such as `state/groups.rs`, and its text.
type File = (String, String);

/// A line that uses a module: the file, the line's number, and the line.
type Line = (String, usize, String);

/// A file without what only tests have: its path, its place, and its lines by number.
type Shipped<'f> = (&'f str, Vec<String>, Vec<(usize, String)>);

/// Which modules each module uses, and where.
type Graph = BTreeMap<String, BTreeMap<String, Vec<Line>>>;

fn core() -> Vec<File> {
    let source = root().join("cluster-core/src");
    let below = |path: &Path| Some(path.strip_prefix(&source).ok()?.to_str()?.to_owned());
    let files = tracked(".rs").into_iter();
    let mut files: Vec<File> =
        files.filter_map(|path| Some((below(&path)?, read(&path)))).collect();
    files.sort();
    files
}

/// The place of a file: `state/groups.rs` is the module `state`, `groups`.
fn place(file: &str) -> Vec<String> {
    file.trim_end_matches(".rs").split('/').map(str::to_owned).collect()
}

/// The lines of a file by number, without comments and without what only tests have; and the modules that only
/// tests have and that are files of their own.
fn code(text: &str) -> (Vec<(usize, String)>, Vec<String>) {
    let (mut lines, mut hidden) = (Vec::new(), Vec::new());
    // The indentation of an item of tests, once its attribute was met; and whether the item has begun.
    let mut skipped: Option<(usize, bool)> = None;
    for (number, line) in text.lines().enumerate() {
        let line = line.split("//").next().unwrap_or_default().trim_end();
        let (bare, indent) = (line.trim_start(), line.len() - line.trim_start().len());
        if let Some((depth, begun)) = skipped {
            let is_attribute = !begun && (bare.starts_with("#[") || bare.is_empty());
            let ends = !begun && bare.ends_with(['}', ';']) || begun && bare.starts_with('}');
            if !begun && bare.ends_with(';') {
                let words = bare.trim_end_matches(';').split_whitespace();
                hidden.extend(words.skip_while(|it| *it != "mod").nth(1).map(str::to_owned));
            }
            let is_over = !is_attribute && indent == depth && ends;
            skipped = (!is_over).then_some((depth, begun || !is_attribute));
        } else if bare.starts_with("#[cfg(test)]") {
            skipped = Some((indent, false));
        } else {
            lines.push((number + 1, line.to_owned()));
        }
    }
    (lines, hidden)
}

fn is_of_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// The first names of what follows `crate::`, with where they begin: one, or those of a list in braces.
fn heads(rest: &str) -> Vec<(usize, &str)> {
    let word = |at: usize| {
        let from = &rest[at..];
        &from[..from.find(|c| !is_of_word(c)).unwrap_or(from.len())]
    };
    if !rest.starts_with('{') {
        return vec![(0, word(0))];
    }
    let (mut depth, mut begins, mut found) = (0_usize, false, Vec::new());
    for (at, c) in rest.char_indices() {
        match c {
            '{' => (depth, begins) = (depth + 1, depth == 0),
            '}' if depth == 1 => break,
            '}' => depth -= 1,
            ',' => begins = depth == 1,
            c if begins && is_of_word(c) => {
                found.push((at, word(at)));
                begins = false;
            }
            _ => {}
        }
    }
    found
}

/// What a file names at the root of its crate, with the numbers of the lines.
fn named(place: &[String], lines: &[(usize, String)]) -> Vec<(usize, String)> {
    let mut text = String::new();
    let mut begins = Vec::new();
    for (number, line) in lines {
        begins.push((text.len(), *number));
        text.push_str(line);
        text.push('\n');
    }
    let line_of = |at: usize| begins[begins.partition_point(|(begin, _)| *begin <= at) - 1].1;
    let to_root = "super::".repeat(place.len());
    let mut all = Vec::new();
    for way in ["crate::", to_root.as_str()] {
        for (at, _) in text.match_indices(way) {
            let before = text[..at].chars().next_back();
            if before.is_some_and(|c| is_of_word(c) || c == ':') {
                continue;
            }
            let rest = at + way.len();
            let found = heads(&text[rest..]).into_iter();
            all.extend(found.map(|(head, name)| (line_of(rest + head), name.to_owned())));
        }
    }
    all
}

/// The files without those of tests.
fn shipped(files: &[File]) -> Vec<Shipped<'_>> {
    let mut hidden: BTreeSet<Vec<String>> = BTreeSet::new();
    let mut shipped = Vec::new();
    for (file, text) in files {
        let place = if file == "lib.rs" { Vec::new() } else { place(file) };
        let (lines, only_tests) = code(text);
        hidden.extend(only_tests.into_iter().map(|name| [place.as_slice(), &[name]].concat()));
        shipped.push((file.as_str(), place, lines));
    }
    shipped.retain(|(_, place, _)| (0..=place.len()).all(|n| !hidden.contains(&place[..n])));
    shipped
}

fn graph(files: &[File]) -> Graph {
    let shipped = shipped(files);
    let mut graph: Graph = shipped
        .iter()
        .filter_map(|(_, place, _)| Some((place.first()?.clone(), BTreeMap::new())))
        .collect();
    let modules: BTreeSet<String> = graph.keys().cloned().collect();
    for (file, place, lines) in &shipped {
        let Some(module) = place.first() else { continue };
        // In there `super::` would lead less far.
        let inner = |line: &str| line.trim().ends_with('{') && line.contains("mod ");
        let inner: Vec<_> = lines.iter().filter(|(_, line)| inner(line)).collect();
        assert!(inner.is_empty(), "{file}: a module has a file of its own: {inner:?}");
        for (number, name) in named(place, lines) {
            assert!(modules.contains(&name), "{file}:{number}: {name} is no module");
            if name == *module {
                continue;
            }
            let line = lines.iter().find(|(it, _)| *it == number).map(|(_, line)| line.trim());
            let line = ((*file).to_owned(), number, line.unwrap_or_default().to_owned());
            let uses = graph.get_mut(module).expect("it was put there");
            uses.entry(name).or_default().push(line);
        }
    }
    graph
}

/// The shortest way from a module back to it, if there is one: the modules in order, that one last.
fn way_back(graph: &Graph, module: &str) -> Option<Vec<String>> {
    let mut ways = VecDeque::from([vec![module.to_owned()]]);
    let mut seen = BTreeSet::new();
    while let Some(way) = ways.pop_front() {
        for next in graph[way.last().expect("it has a beginning")].keys() {
            let longer = [way.as_slice(), std::slice::from_ref(next)].concat();
            if next == module {
                return Some(longer);
            }
            if seen.insert(next.clone()) {
                ways.push_back(longer);
            }
        }
    }
    None
}

/// Circles of modules, each with the lines that make it.
fn circles(files: &[File]) -> Vec<String> {
    let graph = graph(files);
    let (mut told, mut circles) = (BTreeSet::new(), Vec::new());
    for module in graph.keys() {
        let Some(way) = way_back(&graph, module).filter(|_| !told.contains(module)) else {
            continue;
        };
        let mut circle = way.join(" -> ");
        for pair in way.windows(2) {
            for (file, number, line) in &graph[&pair[0]][&pair[1]] {
                circle.push_str(&format!("\n  {file}:{number}: {line}"));
            }
        }
        told.extend(way);
        circles.push(circle);
    }
    circles
}

/// Modules of the core use each other in one direction.
#[test]
fn no_modules_of_the_core_go_in_a_circle() {
    let circles = circles(&core());
    assert!(circles.is_empty(), "in cluster-core/src:\n{}", circles.join("\n"));
}

/// The topics of a table such as `| vocabulary | [`id`], [`time`] |`: modules, by line.
fn topics(text: &str) -> Vec<Vec<&str>> {
    let rows = text.lines().filter_map(|line| line.strip_prefix("//! | "));
    rows.map(|row| row.split("[`").skip(1).filter_map(|it| Some(it.split_once("`]")?.0)).collect())
        .filter(|modules: &Vec<&str>| !modules.is_empty())
        .collect()
}

/// What the table of topics says and the modules do not: each is in it once, and uses none of a line below its own.
fn untrue(text: &str, graph: &Graph) -> Vec<String> {
    let topics = topics(text);
    let line_of = |module: &str| topics.iter().position(|modules| modules.contains(&module));
    let told = |module: &str| topics.iter().flatten().filter(|it| **it == module).count();
    let modules = graph.keys().filter(|module| *module != "fixture");
    let mut untrue: Vec<String> = modules
        .filter(|module| told(module) != 1)
        .map(|module| format!("{module} is {} times in the table", told(module)))
        .collect();
    for (module, uses) in graph.iter().filter(|(module, _)| *module != "fixture") {
        let below = |used: &&String| line_of(used) > line_of(module);
        untrue.extend(uses.keys().filter(below).map(|used| format!("{module} uses {used}")));
    }
    untrue
}

/// The table at the head of the core is true.
#[test]
fn topics_are_in_the_order_of_use() {
    let files = core();
    let lib = files.iter().find(|(file, _)| file == "lib.rs").expect("the crate has one");
    assert_eq!(untrue(&lib.1, &graph(&files)), [""; 0]);
    // It would be noticed.
    let table = "//! | one | [`a`] |\n//! | two | [`b`], [`b`] |\n";
    let files = [("a.rs", "use crate::b::It;"), ("b.rs", ""), ("c.rs", "")];
    let files = files.map(|(file, text)| (file.to_owned(), text.to_owned()));
    let found = ["b is 2 times in the table", "c is 0 times in the table", "a uses b"];
    assert_eq!(untrue(table, &graph(&files)), found);
}

/// Types that files give methods, where the module has no type of that name: file, line and type.
fn foreign_methods(files: &[File]) -> Vec<(String, usize, String)> {
    let shipped = shipped(files);
    let mut own: BTreeMap<&str, String> = BTreeMap::new();
    for (_, place, lines) in &shipped {
        let Some(module) = place.first() else { continue };
        let text = own.entry(module).or_default();
        lines.iter().for_each(|(_, line)| *text += &format!("{line}\n"));
    }
    let mut foreign = Vec::new();
    for (file, place, lines) in &shipped {
        for (number, line) in lines {
            let Some(rest) = line.strip_prefix("impl").filter(|_| !line.contains(" for ")) else {
                continue;
            };
            let parameters = rest.starts_with('<').then(|| rest.split_once("> ")).flatten();
            let rest = parameters.map_or(rest, |(_, rest)| rest).trim_start();
            let name: String = rest.chars().take_while(|c| is_of_word(*c)).collect();
            let ways = ["struct", "enum"].map(|kind| format!("{kind} {name}"));
            let text = &own[place[0].as_str()];
            // The macros for statuses and codes begin with the name.
            let body = format!("\n    {name} {{");
            let mut bodies = text.match_indices(&body);
            let by_macro = bodies.any(|(at, _)| text[..at].trim_end().ends_with("! {"));
            let is_own = |way: &String| {
                let mut found = text.match_indices(way.as_str());
                found.any(|(at, _)| !text[at + way.len()..].starts_with(is_of_word))
            };
            if !by_macro && !ways.iter().any(is_own) {
                foreign.push(((*file).to_owned(), *number, name));
            }
        }
    }
    foreign
}

/// No module reaches another by the methods of a type, unseen by the rule about circles: types have their
/// methods beside them, but for transitions.
#[test]
fn types_of_the_core_have_their_methods_beside_them() {
    let is_transition = |file: &str| place(file)[0] == "apply";
    let foreign: Vec<_> =
        foreign_methods(&core()).into_iter().filter(|(file, ..)| !is_transition(file)).collect();
    assert!(foreign.is_empty(), "{foreign:#?}");
}

/// What changes the state is in `apply` and called by it alone: `state` has nothing that could, and of the
/// transitions others see the whole, and what example clusters are made with.
#[test]
fn the_state_is_changed_by_apply_alone() {
    let seen = ["pub fn apply(", "pub(crate) fn install("];
    let own = ["pub(crate) fn advance("];
    let files = core();
    let mut wrong = Vec::new();
    for (file, place, lines) in shipped(&files) {
        let module = place.first().map_or("", String::as_str);
        for (number, line) in lines {
            let bare = line.trim_start();
            let is_wrong = match module {
                "apply" => {
                    let is_open = bare.starts_with("pub fn") || bare.starts_with("pub(crate) fn");
                    is_open && !seen.iter().any(|it| bare.starts_with(it))
                }
                "state" => {
                    let changes = bare.contains("&mut self") || bare.contains("&mut ClusterState");
                    changes && !own.iter().any(|it| bare.starts_with(it))
                }
                _ => false,
            };
            if is_wrong {
                wrong.push(format!("{file}:{number}: {bare}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn files(all: &[(&str, &str)]) -> Vec<File> {
    all.iter().map(|(file, text)| ((*file).to_owned(), (*text).to_owned())).collect()
}

/// The rule sees a circle however it is written, and says which lines make it.
#[test]
fn a_circle_is_told_with_its_lines() {
    let long = files(&[
        ("lib.rs", "pub mod a;\npub mod b;\npub mod c;\npub mod d;\n"),
        ("a.rs", "//! Uses `crate::d` in words alone.\nuse crate::b::B;\n"),
        ("b.rs", "mod part;\npub struct B;\n"),
        ("b/part.rs", "use std::fmt;\nuse super::super::{\n    c::{C, D},\n};\n"),
        ("c.rs", "pub struct C;\nfn f() -> u8 {\n    crate::a::g()\n}\n"),
        ("d.rs", "use crate::{a, b::B};\n"),
    ]);
    let told = "a -> b -> c -> a\n  a.rs:2: use crate::b::B;\n  b/part.rs:3: c::{C, D},\n  \
                c.rs:3: crate::a::g()";
    assert_eq!(circles(&long), [told]);
}

/// Tests beside the code may use what is above it, in files of their own too; a module may name itself.
#[test]
fn what_tests_use_makes_no_circle() {
    let beside =
        "use crate::a::A;\n\n#[cfg(test)]\nmod tests {\n    use crate::b::B;\n\n    fn f() {}\n}\n";
    let apart = "#[cfg(test)]\npub(crate) mod tests;\nuse super::b::part::P;\n";
    let one = files(&[("a.rs", beside), ("b.rs", "use crate::a::A;\n")]);
    let other = files(&[
        ("a.rs", "use super::b::B;\n"),
        ("b.rs", apart),
        ("b/tests.rs", "use crate::a::A;\n"),
        ("b/tests/more.rs", "use crate::a::A;\n"),
    ]);
    assert_eq!((circles(&one), circles(&other)), (vec![], vec![]));
}

/// A method that reaches up past the rule is seen where it is written.
#[test]
fn methods_elsewhere_are_told() {
    let all = files(&[
        ("a.rs", "pub struct A<'a>(&'a u8);\n\nimpl<'a> A<'a> {}\n"),
        (
            "b.rs",
            "use crate::a::A;\n\npub struct Able;\n\nimpl A<'_> {}\nimpl Clone for A<'_> {}\n",
        ),
    ]);
    assert_eq!(foreign_methods(&all), [("b.rs".to_owned(), 5, "A".to_owned())]);
}
