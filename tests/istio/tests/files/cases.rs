//! The files to compare: number by number, from a seed.

use std::{fs, path::Path};

use fastrand::Rng;

use super::{grammar::Grammar, mutate, probes, style::Style, tree::Tree};

/// Files that people wrote: those of the examples, and those that `render` prints.
fn examples() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut texts = Vec::new();
    for folder in [
        "examples/ingress",
        "examples/istio",
        "examples/jwt",
        "examples/mistakes",
        "examples/tutorial",
        "tests/golden/rendered",
        "tests/commands/input",
    ] {
        let mut files: Vec<_> = fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        for file in files.iter().filter(|file| file.extension().is_some_and(|name| name == "yaml" || name == "json")) {
            let text = fs::read_to_string(file).unwrap();
            // A mistake in a short document shows.
            let documents = text.split("---\n").filter(|text| text.contains("security.istio.io") && text.len() < 4_000);
            texts.extend(documents.map(str::to_owned));
        }
    }
    assert!(texts.len() > 20, "{} examples", texts.len());
    texts
}

/// What files are made from.
pub struct Material {
    examples: Vec<String>,
    probes: Vec<Tree>,
}

impl Material {
    pub fn new() -> Self {
        Self { examples: examples(), probes: probes::all() }
    }
}

/// The file with this number. Two of three files are probes, until none is left.
pub fn file(seed: u64, number: u64, Material { examples, probes }: &Material) -> String {
    let mut rng = Rng::with_seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number);
    rng.u64(..);
    let (round, turn) = (number / 3, number % 3);
    let probe = round.checked_mul(2).and_then(|at| at.checked_add(turn)).and_then(|at| usize::try_from(at).ok());
    let probe = probe.filter(|_| turn < 2).and_then(|at| probes.get(at));
    if let Some(probe) = probe {
        return Style::of(&mut rng).file(std::slice::from_ref(probe));
    }
    match rng.u32(0..20) {
        0..=4 => written(&mut rng, 0, 0),
        5..=10 => {
            let oddness = *rng.choice(&[6, 12, 25]).unwrap();
            written(&mut rng, oddness, 0)
        }
        11..=14 => {
            let mistakes = rng.u32(1..3);
            written(&mut rng, 0, mistakes)
        }
        15..=17 => {
            let text = written(&mut rng, 0, 0);
            changed(&mut rng, text)
        }
        _ => {
            let text = rng.choice(examples).unwrap().clone();
            changed(&mut rng, text)
        }
    }
}

/// A file with one document, or a few, or a list. One value in `oddness` is odd, and the documents have this many mistakes.
fn written(rng: &mut Rng, oddness: u32, mistakes: u32) -> String {
    let count = *rng.choice(&[1, 1, 1, 1, 2, 3]).unwrap();
    let mut documents: Vec<Tree> = (0..count).map(|_| Grammar { rng, oddness }.resource()).collect();
    if rng.u32(0..8) == 0 {
        documents = vec![list(rng, documents)];
    }
    for _ in 0..mistakes {
        let number = rng.usize(0..documents.len());
        mutate::tree(rng, &mut documents[number]);
    }
    Style::of(rng).file(&documents)
}

/// A list of resources, as `kubectl get` prints one: of any kind, or of one kind, whose items need not say it.
fn list(rng: &mut Rng, items: Vec<Tree>) -> Tree {
    let text = |item: &Tree, field: &str| match item {
        Tree::Map(entries) => entries.iter().find(|(key, _)| key == field).map(|(_, value)| value.clone()),
        _ => None,
    };
    let kinds: Vec<_> = items.iter().filter_map(|item| text(item, "kind").zip(text(item, "apiVersion"))).collect();
    let is_one_kind = kinds.windows(2).all(|pair| pair[0] == pair[1]);
    let mut entries = match kinds.first() {
        Some((Tree::Text(kind), version)) if is_one_kind && rng.bool() => {
            vec![("apiVersion".to_owned(), version.clone()), ("kind".to_owned(), Tree::Text(format!("{kind}List")))]
        }
        _ => vec![("apiVersion".to_owned(), Tree::text("v1")), ("kind".to_owned(), Tree::text("List"))],
    };
    let has_kind = kinds.first().is_some_and(|_| matches!(&entries[1].1, Tree::Text(kind) if kind != "List"));
    let keeps_kind = !has_kind || rng.bool();
    let items = items.into_iter().map(|item| match item {
        Tree::Map(fields) if !keeps_kind => {
            Tree::Map(fields.into_iter().filter(|(key, _)| key != "kind" && key != "apiVersion").collect())
        }
        other => other,
    });
    let items = Tree::List(items.collect());
    if rng.u32(0..4) == 0 {
        entries.push(("metadata".to_owned(), Tree::map([("resourceVersion", Tree::text(""))])));
    }
    entries.insert(rng.usize(0..=entries.len()), ("items".to_owned(), items));
    Tree::Map(entries)
}

fn changed(rng: &mut Rng, mut text: String) -> String {
    for _ in 0..rng.u32(1..4) {
        mutate::text(rng, &mut text);
    }
    text
}
