//! One real server: a program that is started, asked until it is ready, and ended with the test.
//!
//! - It runs in a process group of its own; dropping the [`Server`] kills the group.
//! - The kernel kills it when this process dies (PDEATHSIG), so nothing survives a killed test. That signal is tied to
//!   the *thread* that started the child, so all are started from one thread that lives as long as the process.
//! - Its output goes to a file; a failed start shows the end of it.

use std::fs::{File, OpenOptions};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{LazyLock, Mutex, mpsc};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::{binaries, http, wait};

/// How long a server may take until it says that it is ready.
const START_LIMIT: Duration = Duration::from_secs(180);
/// How long a server may take to end by itself when told to.
const STOP_LIMIT: Duration = Duration::from_secs(60);
const TAIL_LINES: usize = 30;

/// What to run and how to tell that it is ready.
#[derive(Debug, Clone)]
pub struct Recipe {
    name: String,
    program: PathBuf,
    args: Vec<String>,
    env: Vec<(String, String)>,
    folder: PathBuf,
    ready: Ready,
}

/// What a server shows when it is ready.
#[derive(Debug, Clone)]
pub enum Ready {
    /// GET of this URL is answered with a success.
    Http(String),
    /// A connection is accepted.
    Accepts(SocketAddr),
}

impl Recipe {
    /// `folder` is the working folder; the log goes there too, as `<name>.log`.
    pub fn new(name: &str, program: PathBuf, folder: &Path, ready: Ready) -> Self {
        let (args, env) = Default::default();
        Self { name: name.to_owned(), program, args, env, folder: folder.to_owned(), ready }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: Into<String>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts it and waits until it is ready.
    pub async fn start(self) -> Result<Server> {
        let mut server = Server { recipe: self, child: Mutex::new(None) };
        server.start_again().await?;
        Ok(server)
    }

    fn log(&self) -> PathBuf {
        self.folder.join(format!("{}.log", self.name))
    }

    fn spawn(&self) -> Result<Child> {
        let log = OpenOptions::new().create(true).append(true).open(self.log())?;
        let mut command = Command::new(binaries::packaged("setpriv")?);
        command.args(["--pdeathsig", "KILL", "--"]).arg(&self.program).args(&self.args);
        command.envs(self.env.iter().map(|(name, value)| (name, value))).current_dir(&self.folder);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        spawn_from_lasting_thread(command).with_context(|| format!("starting {}", self.program.display()))
    }
}

/// A server that runs, or that ran and can run again in the same folder and on the same ports.
#[derive(Debug)]
pub struct Server {
    recipe: Recipe,
    child: Mutex<Option<Child>>,
}

impl Server {
    /// Starts what was stopped or killed, with the same arguments, folder and ports, and waits until it is ready.
    pub async fn start_again(&mut self) -> Result<()> {
        self.revive()?;
        let ready = self.wait_until_ready().await;
        if ready.is_err() {
            self.kill();
        }
        ready
    }

    /// The same without waiting: as an init system does, which knows only that it has ended.
    pub fn revive(&mut self) -> Result<()> {
        if self.is_running() {
            bail!("{} is running already", self.recipe.name);
        }
        *self.slot() = Some(self.recipe.spawn()?);
        Ok(())
    }

    /// Asks the server until it says that it is ready.
    pub async fn wait_until_ready(&self) -> Result<()> {
        let name = &self.recipe.name;
        let client = http::client()?;
        let what = format!("{name} to be ready");
        let ready = wait::until(&what, START_LIMIT, || async {
            match self.exit_status() {
                Some(status) => Ok(Some(Err(anyhow!("{name} ended at once ({status})")))),
                None => self.ask(&client).await.map(|()| Some(Ok(()))),
            }
        });
        ready
            .await
            .flatten()
            .with_context(|| format!("the end of {}:\n{}", self.log_path().display(), self.log_tail()))
    }

    async fn ask(&self, client: &reqwest::Client) -> Result<()> {
        match &self.recipe.ready {
            Ready::Http(url) => http::get_text(client, url).await.map(drop),
            Ready::Accepts(address) => Ok(tokio::net::TcpStream::connect(address).await.map(drop)?),
        }
    }

    /// Ends it as an operator would (SIGTERM) and waits for the end.
    pub async fn stop(&mut self) -> Result<()> {
        self.signal(Signal::TERM)?;
        let name = &self.recipe.name;
        let gone =
            wait::until(&format!("{name} to end"), STOP_LIMIT, || async { Ok(self.exit_status()) }).await;
        self.kill();
        gone.map(drop)
    }

    /// Ends it as a power cut would (SIGKILL), and returns when it is gone.
    pub fn kill(&mut self) {
        end(self.slot().take());
    }

    /// Stops it from doing anything while its ports stay open (SIGSTOP): a server that hangs.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on after [`Server::freeze`].
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// Whether the process is there.
    pub fn is_running(&self) -> bool {
        self.pid().is_some() && self.exit_status().is_none()
    }

    /// The process's id while there is one.
    pub fn pid(&self) -> Option<u32> {
        self.slot().as_ref().map(Child::id)
    }

    /// Where its output goes.
    pub fn log_path(&self) -> PathBuf {
        self.recipe.log()
    }

    /// All of its output so far, over all its starts.
    pub fn log(&self) -> String {
        std::fs::read(self.log_path())
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// The last lines of its output.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self.slot().as_ref().and_then(group);
        let pid = pid.with_context(|| format!("{} is not running", self.recipe.name))?;
        kill_process_group(pid, signal).with_context(|| format!("sending {signal:?} to {}", self.recipe.name))
    }

    fn exit_status(&self) -> Option<ExitStatus> {
        self.slot().as_mut().and_then(|child| child.try_wait().ok().flatten())
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn end(child: Option<Child>) {
    let Some(mut child) = child else { return };
    if let Some(pid) = group(&child) {
        // An error means that the group is gone, which is what is wanted.
        let _ = kill_process_group(pid, Signal::KILL);
    }
    let _ = child.wait();
}

fn group(child: &Child) -> Option<Pid> {
    Pid::from_raw(i32::try_from(child.id()).ok()?)
}

type Order = (Command, mpsc::Sender<std::io::Result<Child>>);

fn spawn_from_lasting_thread(command: Command) -> std::io::Result<Child> {
    static THREAD: LazyLock<Mutex<mpsc::Sender<Order>>> = LazyLock::new(|| {
        let (orders, inbox) = mpsc::channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, answer) in inbox {
                let _ = answer.send(command.spawn());
            }
        });
        Mutex::new(orders)
    });
    let gone = || std::io::Error::other("the thread that starts servers is gone");
    let (answer, child) = mpsc::channel();
    let orders = THREAD.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    orders.send((command, answer)).map_err(|_| gone())?;
    child.recv().map_err(|_| gone())?
}

/// Runs a program to its end and gives what it wrote; a failure shows that too. `input` goes to its standard input.
pub async fn output(program: &Path, args: &[&str], input: Option<&str>) -> Result<String> {
    use tokio::io::AsyncWriteExt;
    let mut command = tokio::process::Command::new(binaries::packaged("setpriv")?);
    command.args(["--pdeathsig", "KILL", "--"]).arg(program).args(args).stdin(if input.is_some() {
        Stdio::piped()
    } else {
        Stdio::null()
    });
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let shown = || format!("{} {}", program.display(), args.join(" "));
    let mut child = command.spawn().with_context(shown)?;
    if let (Some(mut pipe), Some(text)) = (child.stdin.take(), input) {
        pipe.write_all(text.as_bytes()).await.with_context(shown)?;
    }
    let output = child.wait_with_output().await.with_context(shown)?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!("{} failed ({}): {stdout}{}", shown(), output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(stdout)
}

/// Opens a server's own log-like file for reading from a place on.
pub(crate) fn open(path: &Path) -> Result<File> {
    File::open(path).with_context(|| format!("opening {}", path.display()))
}
