//! The image without a container runtime: a root made as `deploy/Dockerfile` says, in which the program runs as in the
//! StatefulSet: as nobody in particular, with its environment and probes, on a root that cannot be written to.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use sluice_rig::folder::Folder;
use sluice_rig::nats::Release;
use sluice_rig::ports::Port;
use sluice_rig::tls::Certificates;
use sluice_rig::{binaries, http, wait};
use sluice_tests::{LIMIT, binary, story};
use tokio::process::Command;

use crate::rights::Gate;
use crate::text;

/// What the base image has of shared libraries (Debian's libc6, libgcc-s1, libstdc++6 and libssl3).
const LIBRARIES: [&str; 7] = [
    "libc.so.6",
    "libm.so.6",
    "libgcc_s.so.1",
    "libstdc++.so.6",
    "libssl.so.3",
    "libcrypto.so.3",
    "ld-linux-x86-64.so.2",
];
/// Makes the root read-only, with the host's /proc, and enters it as the image's user, without any rights.
const ENTER: &str = r#"root=$1 user=$2 && shift 2 && mount --bind "$root" "$root" && mount --rbind /proc "$root/proc" &&
    mount -o remount,bind,ro "$root" &&
    exec unshare --user --map-user="$user" --map-group="$user" --root="$root" --wd=/ -- "$@""#;

/// What the Dockerfile's last stage comes to.
struct Image {
    root: Folder,
    user: String,
    entrypoint: String,
}

impl Image {
    async fn build() -> Result<Image> {
        let image = Image::described()?;
        let program = binary::sluice().await?;
        image.copy(&program, &image.entrypoint)?;
        for library in libraries(&program).await? {
            let place = library.display().to_string();
            image.copy(&library, &place)?;
        }
        // The base has the usual authorities; here one of ours is there in their place.
        let authorities = Folder::new("authorities")?;
        image.copy(&Certificates::make(&authorities)?.ca, "/etc/ssl/certs/ca-certificates.crt")?;
        for folder in ["proc", "etc/sluice/policies", "etc/sluice/nats", "etc/sluice/http"] {
            std::fs::create_dir_all(image.root.path().join(folder))?;
        }
        Ok(image)
    }

    /// Reads the last stage; an instruction that is not known here fails, so that nothing goes untested.
    fn described() -> Result<Image> {
        let dockerfile = text("Dockerfile")?;
        let (_, stage) = dockerfile.rsplit_once("\nFROM ").context("no stage")?;
        let mut lines = stage.lines();
        ensure!(lines.next() == Some("gcr.io/distroless/cc-debian12:nonroot"), "another base: {stage}");
        let (mut user, mut entrypoint, mut copied) = (String::new(), String::new(), String::new());
        for line in lines {
            match line.split_once(' ').context("an instruction without words")? {
                ("COPY", words) => copied = words.rsplit(' ').next().unwrap_or_default().to_owned(),
                ("USER", words) => user = words.split(':').next().unwrap_or_default().to_owned(),
                // In the form without a shell: the base has none.
                ("ENTRYPOINT", words) => entrypoint = serde_json::from_str::<[String; 1]>(words)?.concat(),
                ("EXPOSE", "7878") => {}
                other => bail!("this test does not know what {other:?} comes to"),
            }
        }
        ensure!(entrypoint == copied && user.parse::<u32>()? > 0, "{entrypoint} {copied} {user}");
        Ok(Image { root: Folder::new("image")?, user, entrypoint })
    }

    fn copy(&self, from: &Path, to: &str) -> Result<()> {
        let place = self.root.path().join(to.trim_start_matches('/'));
        std::fs::create_dir_all(place.parent().context("a place at the root")?)?;
        std::fs::copy(from, &place).with_context(|| format!("{} to {to}", from.display()))?;
        Ok(())
    }

    /// The entrypoint with these arguments and this environment, and nothing else of either.
    fn command(&self, args: &[&str], env: &[(String, String)]) -> Result<Command> {
        let mut command = Command::new(binaries::packaged("unshare")?);
        command
            .args(["--user", "--map-root-user", "--mount", "--", "sh", "-c", ENTER, "sh"])
            .arg(self.root.path())
            .args([&self.user, &self.entrypoint])
            .args(args)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(env.iter().cloned())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        Ok(command)
    }

    async fn run(&self, args: &[&str]) -> Result<(Option<i32>, String)> {
        let output = tokio::time::timeout(LIMIT, self.command(args, &[])?.output()).await??;
        Ok((
            output.status.code(),
            String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
        ))
    }
}

/// What the program is linked to; nothing that the base image lacks.
async fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).output().await.context("ldd")?;
    let told = String::from_utf8(output.stdout)?;
    ensure!(!told.contains("not found"), "{told}");
    let paths: Vec<PathBuf> =
        told.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect();
    for path in &paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        ensure!(LIBRARIES.contains(&&*name), "{name} is not in the image's base: {told}");
    }
    ensure!(!paths.is_empty(), "{told}");
    Ok(paths)
}

/// The StatefulSet's one container.
fn container() -> Result<Value> {
    let manifest = text("kubernetes/sluice.yaml")?;
    let set = manifest
        .split("\n---\n")
        .find(|part| part.contains("kind: StatefulSet"))
        .context("no StatefulSet")?;
    let set: Value = serde_saphyr::from_str(set)?;
    Ok(set["spec"]["template"]["spec"]["containers"][0].clone())
}

/// The container's environment, with what differs here: where NATS is, the port, and the pod's name.
fn environment(container: &Value, nats: &str, listen: &str) -> Result<Vec<(String, String)>> {
    let entries = container["env"].as_array().context("no env")?;
    let name = |entry: &Value| entry["name"].as_str().unwrap_or_default().to_owned();
    let value = |entry: &Value| match &*name(entry) {
        "SLUICE_NATS" => nats.to_owned(),
        "SLUICE_LISTEN" => listen.to_owned(),
        "SLUICE_DAEMON" => "sluice-0".to_owned(),
        _ => entry["value"].as_str().unwrap_or_default().to_owned(),
    };
    Ok(entries.iter().map(|entry| (name(entry), value(entry))).collect())
}

#[test]
fn the_image_runs_as_its_user_on_a_root_that_cannot_be_written_to() -> Result<()> {
    story(async {
        let image = Image::build().await?;
        let (code, said) = image.run(&["--version"]).await?;
        ensure!(code == Some(0) && said.starts_with("sluice "), "{code:?}: {said}");
        let (code, said) =
            image.run(&["run", "--policies", "/etc/sluice/policies", "--data", "/data"]).await?;
        ensure!(code == Some(3) && said.contains("Read-only") && said.contains("--data"), "{code:?}: {said}");
        Ok(())
    })
}

#[test]
fn the_probes_of_the_statefulset_are_answered_by_the_image() -> Result<()> {
    story(async {
        let (image, container, port) = (Image::build().await?, container()?, Port::free()?);
        let gate = Gate::open(Release::Latest, "image").await?;
        let made = gate.as_user("sluice-admin", &["init"]).await?;
        ensure!(made.code == 0, "{made:?}");
        image.root.write("etc/sluice/nats/password", "pw")?;
        image.root.write("etc/sluice/http/tokens", "ann 0123456789abcdef\n")?;
        let args: Vec<&str> =
            container["args"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let env = environment(&container, &gate.nats.url(), &port.address().to_string())?;
        let log = std::fs::File::create(gate.password.path().join("log"))?;
        let mut daemon = image.command(&args, &env)?.stdout(log.try_clone()?).stderr(log).spawn()?;
        let client = http::client()?;
        for probe in ["livenessProbe", "readinessProbe"] {
            let path = container[probe]["httpGet"]["path"].as_str().context("no path")?;
            let url = format!("http://{}{path}", port.address());
            let answered = wait::until(probe, LIMIT, || async {
                Ok(client.get(&url).send().await?.status().is_success().then_some(()))
            });
            let log = || std::fs::read_to_string(gate.password.path().join("log")).unwrap_or_default();
            answered.await.with_context(log)?;
        }
        // Beyond loopback nobody gets in without a token, and here nobody does either.
        let status = client.get(format!("http://{}/api/v1/rollouts", port.address())).send().await?.status();
        ensure!(status.as_u16() == 401, "{status}");
        daemon.kill().await.context("the daemon had ended")
    })
}
