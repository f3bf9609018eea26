//! NATS' decentralised authentication, as `nsc` would set it up: an operator, a system account, an account with
//! JetStream, and a user with a credentials file. The JWTs are NATS' version 2, signed with ed25519 ("ed25519-nkey").

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use data_encoding::BASE64URL_NOPAD;
use nkeys::KeyPair;
use serde_json::{Value, json};

use crate::folder::Folder;

/// What a server in operator mode needs, and what a client of it needs.
#[derive(Debug)]
pub struct OperatorMode {
    /// Lines for the server's configuration.
    pub config: String,
    /// The user's credentials file.
    pub credentials: PathBuf,
}

impl OperatorMode {
    /// Makes new keys for everybody.
    pub fn make(folder: &Folder) -> Result<Self> {
        let (operator, system) = (KeyPair::new_operator(), KeyPair::new_account());
        let (account, user) = (KeyPair::new_account(), KeyPair::new_user());

        let operator_jwt = jwt(&operator, &operator, "operator", operator_claims(&system))?;
        let system_jwt = jwt(&operator, &system, "SYS", account_claims(0))?;
        let account_jwt = jwt(&operator, &account, "shop", account_claims(-1))?;
        let user_jwt = jwt(&account, &user, "sluice", user_claims())?;

        let (system, account) = (system.public_key(), account.public_key());
        let config = format!(
            "operator: {operator_jwt}\nsystem_account: {system}\nresolver: MEMORY\n\
             resolver_preload: {{ {system}: {system_jwt}, {account}: {account_jwt} }}"
        );
        let seed = user.seed().context("the user's seed")?;
        let credentials = folder.write("user.creds", credentials(&user_jwt, &seed))?;
        Ok(Self { config, credentials })
    }
}

/// A new user key: its seed (the secret) and its public key.
pub fn nkey_seed() -> Result<(String, String)> {
    let pair = KeyPair::new_user();
    Ok((pair.seed().context("the seed of a new key")?, pair.public_key()))
}

fn operator_claims(system: &KeyPair) -> Value {
    json!({"type": "operator", "version": 2, "system_account": system.public_key()})
}

/// Storage of -1 is unlimited JetStream, 0 is none (as the system account must have).
fn account_claims(storage: i64) -> Value {
    json!({
        "type": "account", "version": 2, "default_permissions": {"pub": {}, "sub": {}},
        "limits": {
            "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1,
            "leaf": -1, "mem_storage": storage, "disk_storage": storage, "streams": storage, "consumer": storage,
        },
    })
}

fn user_claims() -> Value {
    json!({"type": "user", "version": 2, "pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1})
}

fn jwt(issuer: &KeyPair, subject: &KeyPair, name: &str, claims: Value) -> Result<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?.as_secs();
    let subject = subject.public_key();
    let body = json!({
        "jti": format!("{name}-{subject}"), "iat": now, "iss": issuer.public_key(),
        "name": name, "sub": subject, "nats": claims,
    });
    let header = json!({"typ": "JWT", "alg": "ed25519-nkey"});
    let encode = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let signed = format!("{}.{}", encode(&header), encode(&body));
    let signature = issuer.sign(signed.as_bytes()).context("signing a JWT")?;
    Ok(format!("{signed}.{}", BASE64URL_NOPAD.encode(&signature)))
}

fn credentials(jwt: &str, seed: &str) -> String {
    format!(
        "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )
}
