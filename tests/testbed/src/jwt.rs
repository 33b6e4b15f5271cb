//! JSON Web Tokens for Envoy's `jwt_authn` filter.

use anyhow::{Result, anyhow};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use serde_json::{Value, json};

/// The key id of every issuer. It is always the same, so that only the signature tells a forger's token from a real
/// one.
const KEY_ID: &str = "testbed";

/// Signs tokens (ES256) with its own key. If the verifier does not have an issuer's key set, that issuer is a forger.
pub struct Issuer {
    key: EcdsaKeyPair,
    random: SystemRandom,
}

impl Issuer {
    /// A new issuer with its own key.
    pub fn new() -> Result<Self> {
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random)
            .map_err(|_| anyhow!("cannot generate a key for tokens"))?;
        let key = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random)
            .map_err(|error| anyhow!("cannot use the key for tokens: {error}"))?;
        Ok(Self { key, random })
    }

    /// The public key as a JSON Web Key Set, for `local_jwks.inline_string`.
    pub fn jwks(&self) -> String {
        // An uncompressed point: 4, then 32 bytes of x, then 32 bytes of y.
        let (x, y) = self.key.public_key().as_ref()[1..].split_at(32);
        json!({ "keys": [{
            "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": KEY_ID,
            "x": URL_SAFE_NO_PAD.encode(x),
            "y": URL_SAFE_NO_PAD.encode(y),
        }] })
        .to_string()
    }

    /// A token with exactly these claims. It has an issuer and an expiry only if they are among the claims.
    pub fn token(&self, claims: &Value) -> Result<String> {
        let header = json!({ "alg": "ES256", "typ": "JWT", "kid": KEY_ID });
        let signed =
            format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims.to_string()),);
        let signature = self.key.sign(&self.random, signed.as_bytes()).map_err(|_| anyhow!("cannot sign a token"))?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}
