//! The pages of the documentation can be read in an editor. Every link on the site, which `make site` builds, leads somewhere.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "tests fail by panicking"
)]

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The files with this extension in a folder and below it.
fn pages(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let pages = entries.flat_map(|path| if path.is_dir() { pages(&path, extension) } else { vec![path] });
    pages.filter(|path| path.extension().is_some_and(|its| its == extension)).collect()
}

/// The pages in their source.
fn sources() -> Vec<PathBuf> {
    let project = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let of_project = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"].map(|page| project.join(page));
    let below = ["docs", "examples", "envoy"].into_iter().flat_map(|folder| pages(&project.join(folder), "md"));
    of_project.into_iter().chain(below).collect()
}

/// The lines of a page with their numbers, without the outputs of programs, which are as long as they are.
fn written(page: &str) -> Vec<(usize, &str)> {
    let (mut lines, mut block) = (Vec::new(), None);
    for (number, line) in (1..).zip(page.lines()) {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            block = block.is_none().then_some(language);
        }
        if !matches!(block, Some("console" | "text")) {
            lines.push((number, line));
        }
    }
    lines
}

#[test]
fn no_line_of_a_page_is_too_long() {
    let sources = sources();
    let mut too_long = Vec::new();
    for path in &sources {
        let page = fs::read_to_string(path).unwrap();
        let lines = written(&page).into_iter().filter(|(_, line)| line.chars().count() > 120);
        too_long.extend(lines.map(|(number, line)| format!("{}:{number}: {line}", path.display())));
    }
    assert!(too_long.is_empty(), "lines of more than 120 characters:\n{}", too_long.join("\n"));
    assert!(sources.len() > 30, "{} pages", sources.len());
}

/// The values of an attribute in a page.
fn values<'p>(page: &'p str, attribute: &str) -> Vec<&'p str> {
    let begin = format!(" {attribute}=\"");
    page.split(&begin).skip(1).filter_map(|rest| rest.split('"').next()).collect()
}

/// The page of a file or a folder, without `..` in its path.
fn target(from: &Path, link: &str) -> Option<PathBuf> {
    let path = if link.is_empty() { from.to_owned() } else { from.parent()?.join(link.replace("%20", " ")) };
    let path = path.canonicalize().ok()?;
    Some(if path.is_dir() { path.join("index.html") } else { path })
}

#[test]
#[ignore = "`make site` builds the site, and runs this"]
fn every_link_leads_somewhere() {
    let site = PathBuf::from(std::env::var("SITE").expect("SITE is set to the folder of the site"));
    let site = site.canonicalize().unwrap();
    let texts: HashMap<_, _> =
        pages(&site, "html").into_iter().map(|page| (page.clone(), fs::read_to_string(page).unwrap())).collect();
    let (mut count, mut broken) = (0, Vec::new());
    for (page, text) in &texts {
        let links = values(text, "href").into_iter().chain(values(text, "src"));
        let is_of_the_site =
            |link: &&str| !link.contains("://") && !link.starts_with("mailto:") && !link.starts_with("data:");
        for link in links.filter(is_of_the_site).filter(|_| !page.ends_with("404.html")) {
            count += 1;
            let link = link.split('?').next().unwrap();
            let (path, fragment) = link.split_once('#').unwrap_or((link, ""));
            let found = target(page, path).filter(|target| target.exists());
            let has_fragment = || {
                let text = found.as_ref().and_then(|target| texts.get(target));
                fragment.is_empty() || text.is_none_or(|text| values(text, "id").contains(&fragment))
            };
            if found.is_none() || !has_fragment() {
                broken.push(format!("{}: {link}", page.strip_prefix(&site).unwrap().display()));
            }
        }
    }
    broken.sort();
    broken.dedup();
    assert!(broken.is_empty(), "links that lead nowhere:\n{}", broken.join("\n"));
    assert!(texts.len() > 25 && count > 1000, "{} pages, {count} links", texts.len());
}
