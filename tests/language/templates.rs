//! Path templates: `{*}` and `{**}`.

use crate::support::{Attribute, Matched, MatchedWhereItDenies, Unmatched, check_all, get};

const PATHS: Attribute = Attribute::field("operation", "paths", "notPaths");

#[test]
fn one_segment() {
    check_all(
        &PATHS,
        &[
            ("/a/{*}", get("/a/b"), Matched),
            ("/a/{*}", get("/a/*"), Matched),
            ("/a/{*}", get("/a/%7C"), Matched),
            ("/a/{*}", get("/a/"), Unmatched),
            ("/a/{*}", get("/a"), Unmatched),
            ("/a/{*}", get("/a/b/"), Unmatched),
            ("/a/{*}", get("/a/b/c"), Unmatched),
            ("/a/{*}", get("/x/a/b"), Unmatched),
            ("/{*}", get("/a"), Matched),
            ("/{*}", get("/"), Unmatched),
            ("/{*}/b", get("/a/b"), Matched),
            ("/{*}/b", get("/a/c"), Unmatched),
            ("/{*}/b", get("/a/b/b"), Unmatched),
            ("/{*}/b", get("//b"), Unmatched),
            ("/a/{*}/c/{*}", get("/a/b/c/d"), Matched),
            ("/a/{*}/c/{*}", get("/a/b/x/d"), Unmatched),
            ("/{*}/{*}", get("/a/b"), Matched),
            ("/{*}/{*}", get("/a"), Unmatched),
            ("/a/{*}/", get("/a/b/"), Matched),
            ("/a/{*}/", get("/a/b"), Unmatched),
            ("/A/{*}", get("/a/b"), Unmatched),
        ],
    );
}

#[test]
fn any_run() {
    check_all(
        &PATHS,
        &[
            ("/a/{**}", get("/a/"), Matched),
            ("/a/{**}", get("/a/b"), Matched),
            ("/a/{**}", get("/a/b/c/"), Matched),
            ("/a/{**}", get("/a//"), Matched),
            ("/a/{**}", get("/a/*x"), Matched),
            ("/a/{**}", get("/a/{x}"), MatchedWhereItDenies),
            ("/a/{**}", get("/a"), Unmatched),
            ("/a/{**}", get("/ab"), Unmatched),
            ("/a/{**}", get("/x/a/b"), Unmatched),
            ("/{**}", get("/"), Matched),
            ("/{**}", get("/anything/at/all"), Matched),
            ("/{**}", get("anything"), Unmatched),
            ("/{**}", get(""), Unmatched),
            ("/a/{**}/z", get("/a/b/c/z"), Matched),
            ("/a/{**}/z", get("/a//z"), Matched),
            ("/a/{**}/z", get("/a/z"), Unmatched),
            ("/a/{**}/z", get("/a/b/z/"), Unmatched),
            ("/a/{**}/z", get("/a/z/z/z"), Matched),
            ("/a/{**}/", get("/a/b/"), Matched),
            ("/{**}/a", get("/x/a"), Matched),
            ("/{*}/b/{**}", get("/a/b/c/d"), Matched),
            ("/{*}/b/{**}", get("/a/b/"), Matched),
            ("/{*}/b/{**}", get("//b/"), Unmatched),
            ("/{*}/b/{**}/z/y", get("/a/b/c/z/y"), Matched),
        ],
    );
}

#[test]
fn a_template_sees_the_path_without_query_and_fragment() {
    check_all(
        &PATHS,
        &[
            ("/a/{*}", get("/a/b?c/d"), Matched),
            ("/a/{*}", get("/a/b#c/d"), Matched),
            ("/a/{*}", get("/a/?b"), Unmatched),
            ("/a/{**}", get("/a?/b"), Unmatched),
            ("/a/{**}/z", get("/a/b/z?x"), Matched),
            ("/a/{**}/z", get("/a/b?/z"), Unmatched),
        ],
    );
}

#[test]
fn the_text_of_a_template_is_literal() {
    check_all(
        &PATHS,
        &[
            ("/a.b/{*}", get("/aXb/c"), Unmatched),
            ("/a.b/{*}", get("/a.b/c"), Matched),
            ("/$(x)+/{*}", get("/$(x)+/c"), Matched),
            ("/%41/{*}", get("/A/c"), Unmatched),
        ],
    );
}

#[test]
fn wildcards_take_the_characters_of_envoys_wildcards() {
    let taken = "abcXYZ0189-._~%!$&'()+,;:@=*";
    for character in taken.chars() {
        let (one, any) = (format!("/a/{character}"), format!("/a/x/{character}"));
        PATHS.check(&["/a/{*}"], &get(&one), Matched);
        PATHS.check(&["/a/{**}"], &get(&any), Matched);
    }
    for odd in ["[", "]", "|", "\"", "<", ">", "\\", "^", "`", "{", "}", " ", "\n", "\r", "\t", "\0", "\u{7f}", "é"] {
        PATHS.check(&["/a/{*}"], &get(&format!("/a/x{odd}")), MatchedWhereItDenies);
        PATHS.check(&["/a/{*}/b"], &get(&format!("/a/{odd}/b")), MatchedWhereItDenies);
        PATHS.check(&["/a/{**}"], &get(&format!("/a/b/{odd}/c")), MatchedWhereItDenies);
        PATHS.check(&["/a/{**}/z"], &get(&format!("/a/{odd}/z")), MatchedWhereItDenies);
        PATHS.check(&["/a/{*}"], &get(&format!("/{odd}/a")), Unmatched);
        PATHS.check(&["/a/{*}"], &get(&format!("/a/{odd}/b")), Unmatched);
    }
}

#[test]
fn a_single_star_is_no_template() {
    check_all(&PATHS, &[("/a/*", get("/a/b/[c]"), Matched), ("/a/*/b", get("/a/x/b"), Unmatched)]);
}
