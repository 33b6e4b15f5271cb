//! Keys, and whether Envoy accepts them. An end-to-end test asks Envoy.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

const X: &str = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
const Y: &str = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0";
const ED: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

/// A number of this many bits. Envoy does not look for its factors.
fn modulus(bits: usize) -> String {
    let mut bytes = vec![0; bits.div_ceil(8)];
    bytes[0] = 1 << ((bits - 1) % 8);
    *bytes.last_mut().unwrap() |= 1;
    URL_SAFE_NO_PAD.encode(bytes)
}

fn rsa(rest: &str) -> String {
    format!(r#"{{"kty":"RSA","n":"{}",{rest}}}"#, modulus(2048))
}

fn ec(rest: &str) -> String {
    format!(r#"{{"kty":"EC","x":"{X}","y":"{Y}"{rest}}}"#)
}

/// Keys that Envoy accepts.
pub fn accepted() -> Vec<String> {
    let mut keys = vec![
        rsa(r#""e":"AQAB""#),
        rsa(r#""e":"Aw""#),
        rsa(r#""e":"AAAAAQAB""#),
        rsa(r#""e":"AQAB","alg":"RS256","use":"sig","kid":"1""#),
        rsa(r#""e":"AQAB","alg":"PS512""#),
        rsa(r#""e":"AQAB","alg":"RSA-OAEP","use":"enc""#),
        rsa(r#""e":"AQAB","alg":"""#),
        rsa(r#""e":"AQAB","alg":5,"kid":5"#),
        rsa(r#""e":"AQAB","d":"AQ","p":"AQ","q":"AQ""#),
        rsa(r#""e":"AQAB","x5c":["MIIB"]"#),
        format!(r#"{{"kty":"RSA","n":"AAAA{}","e":"AQAB"}}"#, modulus(2048)),
        format!(r#"{{"kty":"RSA","n":"{}==","e":"AQAB"}}"#, modulus(2048)),
        ec(""),
        ec(r#","crv":"P-256""#),
        ec(r#","crv":"","alg":"ES256""#),
        ec(r#","crv":"P-256","alg":"ES256","d":"AQ","use":"enc""#),
        format!(r#"{{"kty":"EC","x":"AAAA{X}","y":"AAAAAAAA{Y}"}}"#),
        format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{ED}"}}"#),
        format!(r#"{{"kty":"OKP","crv":"Ed25519","alg":"EdDSA","x":"{ED}"}}"#),
        format!(r#"{{"kty":"OKP","crv":"Ed25519","alg":"","x":"{ED}="}}"#),
    ];
    keys.extend(
        [512, 513, 1024, 4096, 16384].map(|bits| format!(r#"{{"kty":"RSA","n":"{}","e":"AQAB"}}"#, modulus(bits))),
    );
    for key in ["eA", "eA==", "eA..", "eB", " e A\\n", "a-b_", "e\\u000bA"] {
        keys.push(format!(r#"{{"kty":"oct","k":"{key}"}}"#));
    }
    keys.extend(["HS256", "HS384", "HS512"].map(|alg| format!(r#"{{"kty":"oct","k":"eA","alg":"{alg}"}}"#)));
    keys
}

/// Keys that Envoy does not accept, and a part of what the lint says about each.
pub fn refused() -> Vec<(String, &'static str)> {
    let mut keys = vec![
        (format!(r#"{{"kty":"RSA","n":"{}"}}"#, modulus(2048)), "it has no `e`"),
        (r#"{"kty":"RSA","e":"AQAB"}"#.to_owned(), "it has no `n`"),
        (r#"{"kty":"RSA","d":"AQ"}"#.to_owned(), "it has no `n`"),
        (r#"{"kty":"RSA","x5c":["MIIB"]}"#.to_owned(), "it has no `n`, and Envoy does not read `x5c`"),
        (r#"{"kty":"RSA","n":null,"e":"AQAB"}"#.to_owned(), "its `n` is not a string"),
        (r#"{"kty":"RSA","n":"","e":"AQAB"}"#.to_owned(), "its `n` has 0 bits, and needs 512 to 16384"),
        (r#"{"kty":"RSA","n":"AAAA","e":"AQAB"}"#.to_owned(), "its `n` has 0 bits"),
        (r#"{"kty":"RSA","n":"MIIB+/8=","e":"AQAB"}"#.to_owned(), "its `n` is not base64url"),
        (format!(r#"{{"kty":"RSA","n":"{}","e":"AQAB"}}"#, "_".repeat(341)), "its `n` is not base64url"),
        (format!(r#"{{"kty":"RSA","n":"{}","e":"AQAB"}}"#, "_".repeat(340) + "_g"), "its `n` is even"),
        (rsa(r#""e":"EQ""#), "its `e` is not 65537"),
        (rsa(r#""e":"""#), "its `e` is not 65537"),
        (rsa(r#""e":65537"#), "its `e` is not a string"),
        (rsa(r#""e":"AQAB","alg":"rs256""#), "its `alg` is `rs256`, and Envoy knows RS… or PS… for its `kty`"),
        (rsa(r#""e":"AQAB","alg":"ES256""#), "its `alg` is `ES256`"),
        (rsa(r#""e":"AQAB","e":"AQAB""#), "`e` stands twice"),
        (rsa(r#""e":"AQAB","x":[{"y":1,"y":1}]"#), "`y` stands twice"),
        (r#"{"kty":"EC"}"#.to_owned(), "it has no `x`"),
        (format!(r#"{{"kty":"EC","x":"{X}"}}"#), "it has no `y`"),
        (r#"{"kty":"EC","x":"","y":""}"#.to_owned(), "its `x` and `y` are zero"),
        (format!(r#"{{"kty":"EC","x":"AQID{X}","y":"{Y}"}}"#), "longer than the 32 bytes of P-256"),
        (
            format!(r#"{{"kty":"EC","x":"f83OJ3D2xF1Bg8vub+tLe1gHMzV76e8Tus9uPHvRVEU","y":"{Y}"}}"#),
            "its `x` is not base64url",
        ),
        (ec(r#","crv":"secp256k1""#), "does not know the `crv` `secp256k1` of an EC key"),
        (ec(r#","crv":"p-256""#), "does not know the `crv` `p-256`"),
        (ec(r#","crv":null"#), "its `crv` is not a string"),
        (ec(r#","crv":"P-256","alg":"ES384""#), "its `alg` is ES384, and that of P-256 is ES256"),
        (ec(r#","crv":"P-256","alg":"ECDH-ES""#), "its `alg` is `ECDH-ES`"),
        (ec(r#","alg":"ES256K""#), "its `alg` is `ES256K`"),
        (format!(r#"{{"kty":"OKP","crv":"X25519","x":"{ED}"}}"#), "the `crv` `X25519` of an OKP key, but Ed25519"),
        (format!(r#"{{"kty":"OKP","x":"{ED}"}}"#), "it has no `crv`"),
        (r#"{"kty":"OKP","crv":"Ed25519"}"#.to_owned(), "it has no `x`"),
        (r#"{"kty":"OKP","crv":"Ed25519","x":"eA"}"#.to_owned(), "its `x` has not 32 bytes, but 1"),
        (format!(r#"{{"kty":"OKP","crv":"Ed25519","alg":"Ed25519","x":"{ED}"}}"#), "its `alg` is `Ed25519`"),
        (r#"{"kty":"oct"}"#.to_owned(), "it has no `k`"),
        (r#"{"kty":"oct","k":5}"#.to_owned(), "its `k` is not a string"),
        (r#"{"kty":"oct","k":""}"#.to_owned(), "its `k` is empty"),
        (r#"{"kty":"oct","k":"="}"#.to_owned(), "its `k` is empty"),
        (r#"{"kty":"oct","k":"a+b/"}"#.to_owned(), "its `k` is not base64url"),
        (r#"{"kty":"oct","k":"YWI=YWI="}"#.to_owned(), "its `k` is not base64url"),
        (r#"{"kty":"oct","k":"eA","alg":"RS256"}"#.to_owned(), "its `alg` is `RS256`"),
        (r#"{"kty":"OCT","k":"eA"}"#.to_owned(), "does not know the `kty` `OCT`, but `oct`"),
        (r#"{"kty":"rsa","n":"AQ","e":"AQAB"}"#.to_owned(), "does not know the `kty` `rsa`, but `RSA`"),
        (r#"{"kty":"AKP","alg":"ML-DSA-44","pub":"eA"}"#.to_owned(), "does not know the `kty` `AKP`"),
    ];
    keys.extend(
        [33, 511].map(|bits| (format!(r#"{{"kty":"RSA","n":"{}","e":"AQAB"}}"#, modulus(bits)), "bits, and needs 512")),
    );
    keys.push((format!(r#"{{"kty":"RSA","n":"{}","e":"AQAB"}}"#, modulus(16385)), "its `n` has 16385 bits"));
    keys
}

/// Keys that Envoy does not accept, about which the lint says nothing.
pub fn untold() -> Vec<String> {
    vec![r#"{"kty":"EC","x":"BQ","y":"BQ"}"#.to_owned(), r#"{"kty":"oct","k":"eA="}"#.to_owned()]
}
