#!/usr/bin/env bash
# Builds the documentation site from the pages of the repository, into the folder that is given: build.sh FOLDER MDBOOK. Every
# file keeps its place, so that the same links lead to the same pages.
set -euo pipefail
site=$1
mdbook=$2
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

rm -rf "$site"
mkdir -p "$site/pages"
cp docs/site/book.toml "$site/"
# What pages link to, and what is beside it.
for file in README.md CHANGELOG.md CONTRIBUTING.md SECURITY.md LICENSE docs examples envoy src cli benches tests; do
    mkdir -p "$site/pages/$(dirname "$file")"
    cp -r "$file" "$site/pages/$(dirname "$file")/"
done
cp docs/site/SUMMARY.md "$site/pages/"
rm -r "$site/pages/docs/site"
"$mdbook" build "$site"
# mdBook calls the page of README.md index.html, and links to it by its old name.
find "$site/book" -name '*.html' -exec sed -i 's/README\.html/index.html/g' {} +

# Pages link to folders, too. On the site, a folder without a page gets a list of its files.
find "$site/book" -type d | while read -r folder; do
    [ -e "$folder/index.html" ] && continue
    (
        cd "$folder"
        echo '<!doctype html><html lang="en"><meta charset="utf-8"><title>Files</title><ul>'
        for file in *; do printf '<li><a href="%s">%s</a></li>\n' "$file" "$file"; done
        echo '</ul></html>'
    ) >"$folder/index.html"
done
echo "site: $site/book/index.html"
