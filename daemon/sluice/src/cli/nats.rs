//! How a NATS server is reached. Secrets come from files, never from the command line, where `ps` would show them.

use std::path::PathBuf;

use clap::Args;

const HEADING: &str = "NATS";
const REACHING: &str = "How the daemon is reached";

#[derive(Debug, Clone, Default, Args)]
pub struct NatsAccess {
    /// The bus on a NATS server; commands go over its request door in place of HTTP. Several: separated by commas.
    #[arg(long = "nats", global = true, env = "SLUICE_NATS", value_name = "URL", value_delimiter = ',', help_heading = REACHING)]
    pub servers: Vec<String>,
    /// User name, with --nats-password-file.
    #[arg(long = "nats-user", global = true, env = "SLUICE_NATS_USER", value_name = "NAME", requires = "password_file", help_heading = HEADING, hide_short_help = true)]
    pub nats_user: Option<String>,
    /// File with its password.
    #[arg(long = "nats-password-file", global = true, env = "SLUICE_NATS_PASSWORD_FILE", value_name = "FILE", requires = "nats_user", help_heading = HEADING, hide_short_help = true)]
    pub password_file: Option<PathBuf>,
    /// File with a token.
    #[arg(long = "nats-token-file", global = true, env = "SLUICE_NATS_TOKEN_FILE", value_name = "FILE", help_heading = HEADING, hide_short_help = true)]
    pub nats_token_file: Option<PathBuf>,
    /// File with an nkey seed.
    #[arg(long = "nats-nkey-file", global = true, env = "SLUICE_NATS_NKEY_FILE", value_name = "FILE", help_heading = HEADING, hide_short_help = true)]
    pub nkey_file: Option<PathBuf>,
    /// Credentials file (JWT and seed).
    #[arg(long = "nats-creds-file", global = true, env = "SLUICE_NATS_CREDS_FILE", value_name = "FILE", help_heading = HEADING, hide_short_help = true)]
    pub creds_file: Option<PathBuf>,
    /// Certificates that sign the server's, in place of the system's.
    #[arg(long = "nats-ca-file", global = true, env = "SLUICE_NATS_CA_FILE", value_name = "FILE", help_heading = HEADING, hide_short_help = true)]
    pub ca_file: Option<PathBuf>,
    /// Our own certificate, with --nats-key-file.
    #[arg(long = "nats-cert-file", global = true, env = "SLUICE_NATS_CERT_FILE", value_name = "FILE", requires = "key_file", help_heading = HEADING, hide_short_help = true)]
    pub cert_file: Option<PathBuf>,
    /// Our certificate's key.
    #[arg(long = "nats-key-file", global = true, env = "SLUICE_NATS_KEY_FILE", value_name = "FILE", requires = "cert_file", help_heading = HEADING, hide_short_help = true)]
    pub key_file: Option<PathBuf>,
    /// In place of _INBOX, where the account grants each client an inbox of its own.
    #[arg(long = "nats-inbox-prefix", global = true, env = "SLUICE_NATS_INBOX_PREFIX", value_name = "SUBJECT", help_heading = HEADING, hide_short_help = true)]
    pub inbox_prefix: Option<String>,
}

impl NatsAccess {
    pub fn is_given(&self) -> bool {
        !self.servers.is_empty()
    }
}
