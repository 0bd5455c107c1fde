//! Server processes: ours or Debian's redis-server, on a free port, in a scratch directory, with a
//! deadline on every wait. A server dies with the value that stands for it.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use super::client::Client;

/// The version whose bytes are the specification.
pub(crate) const REDIS_VERSION: &str = "7.0.15";

const READY_DEADLINE: Duration = Duration::from_secs(120);
const EXIT_DEADLINE: Duration = Duration::from_secs(120);
const PORT_ATTEMPTS: usize = 20;

/// Which program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The binary under test.
    Flintlock,
    /// redis-server 7.0.15 from Debian, the oracle.
    Redis,
}

impl Kind {
    /// What `FLINTLOCK_SUBJECT` says: `flintlock` or `redis`.
    ///
    /// With `redis` redis-server stands in for it, which proves the harness and the corpus.
    pub(crate) fn subject() -> Self {
        match std::env::var("FLINTLOCK_SUBJECT").as_deref() {
            Ok("flintlock") | Err(_) => Self::Flintlock,
            Ok("redis") => Self::Redis,
            Ok(other) => panic!("FLINTLOCK_SUBJECT={other} is not known"),
        }
    }
}

/// A directory of this test alone, removed when dropped.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// A new, empty directory below the target directory.
    pub(crate) fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("blackbox-{}-{number}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("the target directory can be written");
        Self(path)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    kind: Kind,
    args: Vec<String>,
    dir: Scratch,
    process: Option<Process>,
    open_files: OpenFiles,
}

/// The limit of open files that a server is started with.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) enum OpenFiles {
    /// That of the test.
    #[default]
    Inherited,
    /// So many, and no right to have more.
    Hard(u32),
    /// So many, and the right to raise it to that of the test.
    Soft(u32),
}

impl OpenFiles {
    /// A shell that lowers its limit and then becomes `program`. The superuser may raise any limit,
    /// so that right is given up too.
    fn command(self, program: &str) -> Command {
        let limit = match self {
            Self::Inherited => return Command::new(program),
            Self::Hard(limit) => format!("ulimit -n {limit}"),
            Self::Soft(limit) => format!("ulimit -Sn {limit}"),
        };
        let script = format!(
            "{limit} || exit; test $(id -u) -gt 0 || set -- \
             setpriv --bounding-set=-sys_resource --inh-caps=-all \"$@\"; exec \"$@\""
        );
        let mut command = Command::new("sh");
        command.args(["-c", &script, "sh", program]);
        command
    }
}

#[derive(Debug)]
struct Process {
    child: Child,
    port: u16,
    /// What it says, line by line.
    lines: Mutex<Receiver<String>>,
}

impl Server {
    /// Starts `kind` in a new directory and waits until it is ready.
    pub(crate) fn start(kind: Kind, args: &[&str]) -> Self {
        Self::start_limited(OpenFiles::Inherited, kind, args).unwrap_or_else(|why| panic!("{why}"))
    }

    /// As [`start`](Self::start) with a limit of open files; the text is what the server said
    /// instead of being ready.
    pub(crate) fn start_limited(
        open_files: OpenFiles,
        kind: Kind,
        args: &[&str],
    ) -> Result<Self, String> {
        let args = args.iter().map(|&arg| arg.to_owned()).collect();
        let mut server = Self { kind, args, dir: Scratch::new(), process: None, open_files };
        server.try_restart()?;
        Ok(server)
    }

    /// The oracle: redis-server without persistence, checked for its version.
    pub(crate) fn oracle(args: &[&str]) -> Self {
        let all: Vec<&str> = ["--save", "", "--appendonly", "no", "--enable-debug-command", "yes"]
            .iter()
            .chain(args)
            .copied()
            .collect();
        let server = Self::start(Kind::Redis, &all);
        let info = server.connect().run("INFO server");
        let want = format!("redis_version:{REDIS_VERSION}\r\n");
        assert!(
            info.raw.windows(want.len()).any(|window| window == want.as_bytes()),
            "the oracle is not redis-server {REDIS_VERSION}"
        );
        server
    }

    /// The server under test; `args` are for our binary only.
    pub(crate) fn subject(args: &[&str]) -> Self {
        Self::subject_or(args, &[])
    }

    /// As [`subject`](Self::subject), with the arguments by which redis-server does the same.
    pub(crate) fn subject_or(ours: &[&str], theirs: &[&str]) -> Self {
        match Kind::subject() {
            Kind::Flintlock => {
                let all = [&["--enable-debug-command", "yes"], ours].concat();
                Self::start(Kind::Flintlock, &all)
            }
            Kind::Redis => Self::oracle(theirs),
        }
    }

    /// Which program this is.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// The port it listens on.
    pub(crate) fn port(&self) -> u16 {
        self.process().port
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process().child.id()
    }

    /// Its data directory.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A new connection.
    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.port()).unwrap_or_else(|error| panic!("cannot connect: {error}"))
    }

    /// Resident bytes, from /proc.
    pub(crate) fn resident_bytes(&self) -> u64 {
        self.status_bytes("VmRSS:")
    }

    /// The most resident memory that it ever had.
    pub(crate) fn peak_bytes(&self) -> u64 {
        self.status_bytes("VmHWM:")
    }

    /// CPU time of its main thread, from /proc.
    pub(crate) fn main_cpu_time(&self) -> Duration {
        let pid = self.pid();
        let times = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/schedstat"))
            .expect("the server runs");
        let nanos = times.split(' ').next().and_then(|nanos| nanos.parse().ok());
        Duration::from_nanos(nanos.expect("a number"))
    }

    /// Sockets that it has open, from /proc.
    pub(crate) fn sockets(&self) -> usize {
        let open = std::fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("it runs");
        let links = open.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
        links.filter(|link| link.to_string_lossy().starts_with("socket:")).count()
    }

    fn status_bytes(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))
            .expect("the server runs");
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("has the line");
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number of kB");
        kib * 1024
    }

    /// kill -9, and waits for the end.
    pub(crate) fn kill_9(&mut self) {
        drop(self.process.take());
    }

    /// Sends `signal` (as `kill -SIGNAL` names it).
    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.pid().to_string();
        // Not every system has a program of that name; each shell has the command.
        let status = Command::new("sh").args(["-c", &format!("kill -{signal} {pid}")]).status();
        assert!(status.expect("sh can be run").success(), "kill -{signal} {pid} failed");
    }

    /// Sends SIGTERM and waits for the end.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait()
    }

    /// Waits until the process ends by itself.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut process = self.process.take().expect("the server was started");
        let until = Instant::now() + EXIT_DEADLINE;
        loop {
            if let Some(status) = process.child.try_wait().expect("our own child") {
                return status;
            }
            assert!(Instant::now() < until, "the server did not exit in {EXIT_DEADLINE:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until the server says a line with `text` in it, from the last such call on.
    pub(crate) fn wait_for_line(&self, text: &str) {
        let until = Instant::now() + EXIT_DEADLINE;
        let lines = self.process().lines.lock().expect("no waiter panicked");
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match lines.recv_timeout(left) {
                Ok(line) if line.contains(text) => return,
                Ok(_) => {}
                Err(error) => panic!("the server did not say '{text}': {error}"),
            }
        }
    }

    /// Starts again in the same directory, after [`kill_9`](Self::kill_9) or
    /// [`terminate`](Self::terminate).
    pub(crate) fn restart(&mut self) {
        self.try_restart().unwrap_or_else(|why| panic!("{why}"));
    }

    /// As [`restart`](Self::restart), with more arguments for this one start.
    pub(crate) fn restart_with(&mut self, more: &[&str]) {
        let own = self.args.len();
        self.args.extend(more.iter().map(|&arg| arg.to_owned()));
        self.restart();
        self.args.truncate(own);
    }

    /// As [`restart`](Self::restart); the text is what the server said instead of being ready.
    pub(crate) fn try_restart(&mut self) -> Result<(), String> {
        assert!(self.process.is_none(), "stop it first");
        self.process =
            Some(Process::start(self.kind, self.open_files, self.dir.path(), &self.args)?);
        Ok(())
    }

    fn process(&self) -> &Process {
        self.process.as_ref().expect("the server was started")
    }
}

impl Process {
    fn start(
        kind: Kind,
        open_files: OpenFiles,
        dir: &Path,
        args: &[String],
    ) -> Result<Self, String> {
        let program = match kind {
            Kind::Flintlock => env!("CARGO_BIN_EXE_flintlock"),
            Kind::Redis => "redis-server",
        };
        let command = || open_files.command(program);
        match kind {
            Kind::Flintlock => Self::start_once(kind, command(), dir, args, 0),
            // Redis cannot choose a port itself; another process may take ours in between.
            Kind::Redis => {
                let mut last = String::new();
                for _ in 0..PORT_ATTEMPTS {
                    match Self::start_once(kind, command(), dir, args, free_port()) {
                        Ok(process) => return Ok(process),
                        Err(why) => last = why,
                    }
                }
                Err(last)
            }
        }
    }

    fn start_once(
        kind: Kind,
        mut command: Command,
        dir: &Path,
        args: &[String],
        port: u16,
    ) -> Result<Self, String> {
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--dir"]).arg(dir);
        command.args(args);
        if kind == Kind::Flintlock {
            let extra = std::env::var("FLINTLOCK_TEST_ARGS").unwrap_or_default();
            command.args(extra.split_whitespace());
            // A disk that takes longer than usual is no reason to refuse the end.
            command.args(["--shutdown-timeout", "3600"]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child =
            command.spawn().map_err(|error| format!("cannot start {command:?}: {error}"))?;
        let (sender, lines) = channel();
        let stdout = child.stdout.take().expect("piped");
        let stderr = child.stderr.take().expect("piped");
        drain(stdout, sender.clone());
        drain(stderr, sender);
        let mut process = Self { child, port, lines: Mutex::new(lines) };
        let ready = wait_for_ready(&process.lines.lock().expect("nobody else has it yet"));
        match ready {
            Ok(printed) => {
                process.port = printed.unwrap_or(port);
                Ok(process)
            }
            Err(said) => Err(format!("{command:?} did not become ready; it said:\n{said}")),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            // A panic of the server is most of what there is to know; nobody has read it.
            let lines = self.lines.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner());
            while let Ok(line) = lines.recv_timeout(Duration::from_secs(1)) {
                eprintln!("server: {line}");
            }
        }
    }
}

/// Passes lines on while anybody listens, and keeps the pipe empty for as long as the server lives.
fn drain(pipe: impl std::io::Read + Send + 'static, lines: std::sync::mpsc::Sender<String>) {
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
            let _ = lines.send(String::from_utf8_lossy(&line).into_owned());
        }
    });
}

/// The port in the ready line, if it names one; what was said instead when there is no such line.
fn wait_for_ready(lines: &Receiver<String>) -> Result<Option<u16>, String> {
    let until = Instant::now() + READY_DEADLINE;
    let mut said = String::new();
    loop {
        match lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(line) if line.contains("Ready to accept connections") => {
                let port = line.trim_end().rsplit_once(':').map(|(_, port)| port.parse());
                return Ok(port.and_then(Result::ok));
            }
            Ok(line) => said.push_str(&(line + "\n")),
            Err(RecvTimeoutError::Disconnected) => return Err(said + "(and ended)"),
            Err(RecvTimeoutError::Timeout) => return Err(said + "(and went on)"),
        }
    }
}

/// A port nobody listens on at this moment.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("a bound address").port()
}

/// Runs our binary with `args` until it ends by itself, which it must within the deadline.
pub(crate) fn run_to_end<A: AsRef<OsStr>>(args: &[A]) -> std::process::Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_flintlock"))
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("our binary can be started");
    let until = Instant::now() + EXIT_DEADLINE;
    while child.try_wait().expect("our own child").is_none() {
        if Instant::now() > until {
            let _ = child.kill();
            panic!("flintlock did not exit");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().expect("its output can be read")
}
