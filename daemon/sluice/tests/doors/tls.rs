//! The HTTP API over TLS, as the command line meets it: a daemon as a process with a certificate of its own, which is renewed.

use std::process::Stdio;
use std::time::Duration;

use sluice_rig::folder::Folder;
use sluice_rig::ports::Port;
use sluice_rig::tls::Certificates;
use tokio::process::{Child, Command};

use super::cli::{Ran, binary, ran};

const LIMIT: Duration = Duration::from_secs(180);

/// A daemon without policies, whose certificate stands in files of its own.
struct Site {
    folder: Folder,
    port: Port,
    _daemon: Child,
}

impl Site {
    async fn open(shown: &Certificates) -> Site {
        let (folder, port) = (Folder::new("tls").unwrap(), Port::free().unwrap());
        std::fs::create_dir(folder.path().join("policies")).unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let listen = port.address().to_string();
        let mut run = binary(&["run", "--listen", &listen, "--tls-cert", "cert.pem", "--tls-key", "key.pem"]);
        run.current_dir(folder.path()).stdout(Stdio::null()).stderr(log);
        copy(shown, &folder, &["cert.pem", "key.pem"]);
        let daemon = run.spawn().unwrap();
        let site = Site { folder, port, _daemon: daemon };
        site.until_it_answers(shown).await;
        site
    }

    /// As somebody who trusts this authority.
    async fn status(&self, trusted: &Certificates) -> Ran {
        self.asked("https", |status| status.arg("--ca").arg(&trusted.ca)).await
    }

    async fn asked(&self, scheme: &str, more: impl FnOnce(&mut Command) -> &mut Command) -> Ran {
        let mut status = binary(&["status", "--server", &format!("{scheme}://{}", self.port.address())]);
        more(&mut status);
        ran(status).await
    }

    async fn until_it_answers(&self, trusted: &Certificates) {
        let asking = async {
            loop {
                let asked = self.status(trusted).await;
                if asked.code == 0 {
                    return;
                }
                assert!(asked.err.contains("refused"), "{asked:?} {}", self.log());
            }
        };
        let never = |_| panic!("it never answered: {}", self.log());
        tokio::time::timeout(LIMIT, asking).await.unwrap_or_else(never);
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }
}

/// Certificate and key under the names that the daemon was given, one of them or both.
fn copy(from: &Certificates, to: &Folder, names: &[&str]) {
    for name in names {
        let file = if *name == "cert.pem" { &from.server } else { &from.server_key };
        sluice_rig::folder::replace(&to.path().join(name), std::fs::read(file).unwrap()).unwrap();
    }
}

fn certificates() -> (Folder, Certificates) {
    let folder = Folder::new("certificates").unwrap();
    let made = Certificates::make(&folder).unwrap();
    (folder, made)
}

#[tokio::test]
async fn the_api_speaks_tls_and_takes_a_renewed_certificate_with_the_next_connection() {
    let ((_kept, first), (_kept_too, second)) = (certificates(), certificates());
    let site = Site::open(&first).await;
    let untrusted = site.asked("https", |status| status).await;
    assert!(untrusted.code == 3 && untrusted.err.contains("--ca FILE"), "{untrusted:?}");
    let plain = site.asked("http", |status| status).await;
    assert!(plain.code == 2 && plain.err.contains("this port speaks TLS"), "{plain:?}");

    copy(&second, &site.folder, &["cert.pem"]);
    let half = site.status(&first).await;
    assert_eq!(half.code, 0, "a certificate without its key leaves the former one: {half:?}");
    assert!(site.log().contains("do not go together"), "{}", site.log());
    copy(&second, &site.folder, &["key.pem"]);
    let renewed = site.status(&second).await;
    assert_eq!(renewed.code, 0, "{renewed:?}");
    assert_eq!(site.status(&first).await.code, 3, "the former authority signs nothing any more");
    assert!(site.log().contains("was renewed"), "{}", site.log());
}

#[tokio::test]
async fn a_daemon_without_a_usable_certificate_does_not_begin() {
    let (folder, made) = certificates();
    let begin = async |certificate: &str, key: &str| {
        let mut run =
            binary(&["run", "--listen", "127.0.0.1:0", "--tls-cert", certificate, "--tls-key", key]);
        run.current_dir(folder.path());
        ran(run).await
    };
    let missing = begin("nowhere.pem", "server-key.pem").await;
    assert!(missing.code == 3 && missing.err.contains("nowhere.pem: No such file"), "{missing:?}");
    let mixed = begin("client.pem", "server-key.pem").await;
    assert!(mixed.code == 3 && mixed.err.contains("do not go together"), "{mixed:?}");
    let no_key = begin("server.pem", made.ca.to_str().unwrap()).await;
    assert!(no_key.code == 3 && no_key.err.contains("both are PEM"), "{no_key:?}");
}
