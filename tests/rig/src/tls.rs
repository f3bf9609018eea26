//! Certificates for a server on loopback and for one client of it, signed by an authority made for the occasion.

use std::path::PathBuf;

use anyhow::{Context, Result};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

use crate::folder::Folder;

/// PEM files, in the folder of the server that they were made for.
#[derive(Debug, Clone)]
pub struct Certificates {
    /// The authority; clients must trust it.
    pub ca: PathBuf,
    /// For `localhost` and `127.0.0.1`.
    pub server: PathBuf,
    /// The server's key.
    pub server_key: PathBuf,
    /// A client's certificate, for servers that ask for one.
    pub client: PathBuf,
    /// The client's key.
    pub client_key: PathBuf,
}

impl Certificates {
    /// Makes all of them inside `folder`.
    pub fn make(folder: &Folder) -> Result<Self> {
        let ca_key = KeyPair::generate()?;
        let mut authority = CertificateParams::default();
        authority.distinguished_name.push(DnType::CommonName, "sluice rig");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = authority.self_signed(&ca_key).context("signing the authority")?;
        let issuer = Issuer::new(authority, ca_key);

        let names = ["localhost", "127.0.0.1"].map(String::from).to_vec();
        let (server, server_key) = signed(&issuer, names, ExtendedKeyUsagePurpose::ServerAuth)?;
        let (client, client_key) =
            signed(&issuer, vec!["client".into()], ExtendedKeyUsagePurpose::ClientAuth)?;
        Ok(Self {
            ca: folder.write("ca.pem", ca.pem())?,
            server: folder.write("server.pem", server)?,
            server_key: folder.write("server-key.pem", server_key)?,
            client: folder.write("client.pem", client)?,
            client_key: folder.write("client-key.pem", client_key)?,
        })
    }
}

fn signed(
    issuer: &Issuer<'_, KeyPair>,
    names: Vec<String>,
    usage: ExtendedKeyUsagePurpose,
) -> Result<(String, String)> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(names)?;
    params.extended_key_usages = vec![usage];
    let certificate = params.signed_by(&key, issuer).context("signing a certificate")?;
    Ok((certificate.pem(), key.serialize_pem()))
}
