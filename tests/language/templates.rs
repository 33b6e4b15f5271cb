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

/// A long path is split before templates are compared with it. That must change no answer.
#[test]
fn a_long_prefix_in_the_template_and_in_the_path_changes_nothing() {
    use mesh_authz::matcher::Polarity;
    use mesh_authz::matcher::template::Template;

    const TEMPLATES: [&str; 10] = [
        "/{*}",
        "/{**}",
        "/a/{*}",
        "/{*}/b",
        "/{*}/{*}",
        "/a/{**}",
        "/{*}/b/{**}",
        "/{**}/b",
        "/{*}/{*}/{**}",
        "/{*}/c/{*}/d",
    ];
    const PARTS: [&str; 9] = ["a", "b", "", "[", "a[", "é", "c", "d", "ab"];
    let long = format!("/{}/{}", "x".repeat(150), "y/".repeat(40));
    let long = long.trim_end_matches('/');
    let mut paths = vec![String::new(), "/".to_owned()];
    for one in PARTS {
        for two in PARTS {
            paths.push(format!("/{one}"));
            paths.push(format!("/{one}/{two}"));
            paths.extend(PARTS.map(|three| format!("/{one}/{two}/{three}")));
            paths.extend(PARTS.map(|four| format!("/{one}/{two}/b/{four}")));
        }
    }
    let mut matched = 0;
    for text in TEMPLATES {
        for polarity in [Polarity::Permits, Polarity::Denies] {
            let (short, prefixed) = (Template::new(text, polarity), Template::new(&format!("{long}{text}"), polarity));
            for path in &paths {
                let expected = short.matches(path.as_bytes());
                assert_eq!(
                    prefixed.matches(format!("{long}{path}").as_bytes()),
                    expected,
                    "{text} {path} {polarity:?}"
                );
                matched += usize::from(expected);
            }
        }
    }
    assert!(matched > 1_000);
    // Odd bytes before the wildcard do not matter, and those within it do.
    let odd = format!("/{}", "[".repeat(200));
    let template = |text: &str| Template::new(&format!("{odd}{text}"), Polarity::Permits);
    assert!(template("/{*}").matches(format!("{odd}/a").as_bytes()));
    assert!(!template("/{*}").matches(format!("{odd}/a[").as_bytes()));
    assert!(!template("/{*}").matches(format!("{odd}/[a").as_bytes()));
    assert!(template("/{*}/[").matches(format!("{odd}/a/[").as_bytes()));
}
