//! Any policy and any request, with arbitrarily broken data from the host. There is no panic, and broken data never
//! allows a request.

use mesh_authz::engine::Verdict;
use mesh_authz::request::{Headers, Lookup, PeerName, Request};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::json;

use crate::cases;
use crate::policies::{engine, node, several};
use crate::requests::{Attribute, readable};
use crate::wire::message;

#[test]
fn any_bytes_in_any_attribute() {
    let bytes = || vec(any::<u8>(), 0..40);
    let names = (bytes(), bytes(), bytes(), bytes());
    let headers = vec((prop_oneof![Just(b":path".to_vec()), Just(b"x".to_vec()), bytes()], bytes()), 0..5);
    TestRunner::new(cases(300))
        .run(&(several(), names, headers, vec(any::<u8>(), 0..120)), |(policies, names, headers, metadata)| {
            let (uri, dns, subject, sni) = names;
            let mut request = Request::default()
                .peer_name(PeerName::Uri, Lookup::Value(&uri))
                .peer_name(PeerName::Dns, Lookup::Value(&dns))
                .peer_name(PeerName::Subject, Lookup::Value(&subject))
                .sni(Lookup::Value(&sni))
                .encoded_metadata(Lookup::Value(metadata));
            for (name, value) in &headers {
                request = request.header(name, value);
            }
            let engine = engine(&policies);
            let decision = engine.decide(&request);
            prop_assert!(matches!(decision.outcome.verdict(), Verdict::Allow | Verdict::Deny));
            Ok(())
        })
        .unwrap();
}

#[test]
fn metadata_cut_short_allows_nothing_that_was_denied() {
    // The message has a single entry. Wherever it is cut, it is unreadable, and that counts against the request.
    TestRunner::new(cases(250))
        .run(&(several(), readable(), any::<prop::sample::Index>()), |(policies, facts, cut)| {
            let fields = node(&json!({ "payload": { "iss": "i", "sub": "s", "role": "v" } }));
            let whole = message("envoy.filters.http.jwt_authn", &fields);
            let cut = 1 + cut.index(whole.len() - 1);
            let engine = engine(&policies);
            let broken = facts.request().encoded_metadata(Lookup::Value(whole[..cut].to_vec()));
            let dark = facts.with(Attribute::Metadata, Lookup::Unreadable).request();
            prop_assert_eq!(engine.decide(&broken).outcome.verdict(), engine.decide(&dark).outcome.verdict());
            Ok(())
        })
        .unwrap();
}

#[test]
fn any_bytes_as_an_encoding_of_headers() {
    TestRunner::new(cases(1_000))
        .run(&vec(prop_oneof![Just(0_u8), 0..9_u8, any::<u8>()], 0..80), |bytes| {
            if let Lookup::Value(headers) = Headers::read(&bytes) {
                let pairs: Vec<_> = headers.iter().collect();
                prop_assert!(pairs.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() <= bytes.len());
                prop_assert!(bytes.starts_with(&Headers::encode(&pairs)) || bytes.is_empty());
            }
            Ok(())
        })
        .unwrap();
}
