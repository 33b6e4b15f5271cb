//! What the request has in place of an attribute that it does not have.

use mesh_authz::request::metadata::JWT_AUTHN;
use mesh_authz::request::{Attributes, Lookup, metadata};

use crate::explain::actual::{Actual, RequestView, header, lossy};

impl<A: Attributes> RequestView<'_, A> {
    /// Why there is no issuer and subject, if there is a token.
    pub(super) fn missing_subject(&self) -> Option<String> {
        if !self.has_token() {
            return None;
        }
        let missing = ["iss", "sub"].into_iter().find_map(|name| match self.claim(&[name]) {
            Lookup::Value(metadata::Value::String(_)) | Lookup::Unreadable => None,
            Lookup::Absent => Some(format!("the token has no `{name}`")),
            Lookup::Value(_) => Some(format!("`{name}` of the token is not a string")),
        });
        missing.map(|missing| format!("{missing}: a request principal needs an issuer, `iss`, and a subject, `sub`"))
    }

    /// Why the token does not have this claim, if it has something near.
    pub(super) fn missing_claim(&self, path: &[String]) -> Option<String> {
        let keys: Vec<_> = path.iter().map(String::as_str).collect();
        if !self.has_token() || matches!(self.claim(&keys), Lookup::Value(_)) {
            return None;
        }
        let value = |outer: &[&str]| if outer.is_empty() { None } else { self.claim(outer).known() };
        let present =
            (0..keys.len()).rev().find(|length| *length == 0 || keys.get(..*length).and_then(value).is_some())?;
        let (outer, missing) = (keys.get(..present)?, keys.get(present)?);
        if let Some(near) = self.near_claim(outer, missing) {
            return Some(format!("the token has no claim `{missing}`, but it has `{near}`"));
        }
        let inner: Vec<_> = missing.split('.').collect();
        if inner.len() > 1 && self.claim(&[outer, &inner].concat()).known().is_some() {
            return Some(format!("`{missing}` is one name here: the token has the claim [{}]", inner.join("][")));
        }
        let name = outer.join("][");
        Some(match value(outer)? {
            metadata::Value::String(_) => format!("the claim [{name}] is a string, and has no `{missing}` in it"),
            metadata::Value::List(_) => format!("the claim [{name}] is a list, and has no `{missing}` in it"),
            metadata::Value::Other => format!("the claim [{name}] is there, and has no `{missing}` in it"),
        })
    }

    /// A claim beside this one whose name looks like it.
    fn near_claim(&self, outer: &[&str], missing: &str) -> Option<String> {
        let plain = |name: &str| {
            let letters = name.chars().filter(|character| character.is_alphanumeric());
            letters.flat_map(char::to_lowercase).collect::<String>()
        };
        let keys: Vec<_> = std::iter::once(self.payload_key).chain(outer.iter().copied()).collect();
        let all = self.request.metadata().known()?.keys(JWT_AUTHN.as_bytes(), &keys);
        let name = all.into_iter().map(lossy).find(|name| plain(name) == plain(missing))?;
        Some(name)
    }

    /// A header of the request whose name looks like this one.
    pub(super) fn near_header(&self, name: &str) -> Option<String> {
        let name = name.to_ascii_lowercase();
        let bare = name.trim_matches(['"', '\'', ' ']);
        let candidates = [bare.to_owned(), bare.replace('_', "-"), bare.replace('-', "_"), format!("x-{bare}")];
        let has = |other: &&String| **other != name && matches!(header(self.request, other), Actual::Values(_));
        let near = candidates.iter().chain(bare.strip_prefix("x-").map(str::to_owned).as_ref()).find(has)?.clone();
        Some(format!("the request has no header `{name}`, but it has `{near}`"))
    }

    fn has_token(&self) -> bool {
        let token = self.request.metadata().and_then(|all| all.get(JWT_AUTHN.as_bytes(), &[self.payload_key]));
        matches!(token, Lookup::Value(_))
    }
}
