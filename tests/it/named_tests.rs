//! The table of the tests that the first design named: each row's tests must be in the tree.

use std::{collections::HashSet, fs, path::Path};

/// As many as were asked for.
const ASKED_FOR: usize = 44;

/// The table, from the project's root.
const TABLE: &str = "tests/named-tests.md";

struct Row {
    name: String,
    /// `file::function`
    tests: Vec<String>,
    expectation: String,
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).ok()
}

/// What stands between backquotes.
fn quoted(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// `None` for what is no row: headings, rules, text.
fn row(line: &str) -> Option<Row> {
    let cells = line.strip_prefix("| `")?.strip_suffix(" |")?;
    let (name, rest) = cells.split_once("` | ").expect("a name, and more cells");
    let (tests, expectation) = rest.split_once(" | ").expect("three cells");
    Some(Row { name: name.into(), tests: quoted(tests), expectation: expectation.into() })
}

/// Whether `text` has a test function of that name that is run: its attributes are the lines above it.
fn has_test(text: &str, function: &str) -> bool {
    let Some(at) = text.find(&format!("fn {function}(")) else { return false };
    let line_start = text[..at].rfind('\n').map_or(0, |end| end + 1);
    let above = text[..line_start].lines().rev().map(str::trim);
    let attributes: Vec<_> = above.take_while(|line| line.starts_with("#[")).collect();
    attributes.iter().any(|line| line.ends_with("test]"))
        && !attributes.iter().any(|line| line.contains("ignore"))
}

#[test]
fn every_test_that_was_asked_for_is_there() {
    let table = read(TABLE).expect("the table is there");
    let rows: Vec<_> = table.lines().filter_map(row).collect();
    let names: HashSet<_> = rows.iter().map(|row| &row.name).collect();
    assert_eq!((rows.len(), names.len()), (ASKED_FOR, ASKED_FOR), "rows, and names of their own");
    let mut missing = Vec::new();
    for row in &rows {
        assert!(!row.tests.is_empty() && !row.expectation.is_empty(), "{}", row.name);
        for test in &row.tests {
            let (path, function) = test.split_once("::").expect("a file and a function");
            if !read(path).is_some_and(|text| has_test(&text, function)) {
                missing.push(format!("{}: {test}", row.name));
            }
        }
    }
    assert!(missing.is_empty(), "not in the tree: {missing:#?}");
}

#[test]
fn a_function_that_is_no_test_or_is_left_out_is_not_taken_for_one() {
    let text = "#[test]\nfn a() {}\n\nfn b() {}\n\n    #[actix_web::test]\n    async fn c() {}\n\n\
                #[test]\n#[ignore]\nfn d() {}\n\n#[test]\nfn e(x in 0..3) {}\n";
    let found = ["a", "b", "c", "d", "e", "f"].map(|name| has_test(text, name));
    assert_eq!(found, [true, false, true, false, true, false]);
}
