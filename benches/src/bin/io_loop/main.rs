//! What IO threads do to an event loop: a tiny key-value server on the pool, and a load to put on
//! it. It answers GET, SET and PING of RESP; everything else about it is as simple as can be, so
//! that what is measured is the loop, the pool and the system calls.
//!
//! ```text
//! io_loop compare [SECONDS [RUNS]]   all modes, interleaved; prints a table
//! io_loop main [SECONDS [RUNS]]      the main thread when it is the bottleneck; prints a table
//! io_loop serve MODE                 a server on a free port, which it prints
//! io_loop binary PATH [SECONDS [RUNS]]       `compare` with the real server at PATH
//! io_loop binary-main PATH [SECONDS [RUNS]]  its main thread when it is the bottleneck
//! ```
//! PATH may be several, with colons between them: builds of the server, all measured in the same
//! rounds; the ratios are to mode `1` of the first.
//!
//! Modes: `1` no worker; `auto` adaptive; `always` one worker that is always active; `poll` the
//! same, and the poller travels in a job while answers are owed. With `+` behind it, turns begin at
//! least ten milliseconds apart, so that much comes together in each: with enough cores it is that
//! way, the main thread being the bottleneck, whereas on two cores it
//! sleeps for each handful of requests, and what is measured is sleeping and waking.
//!
//! In the last one the main thread shares the first CPU with the load, for which it steps back, and
//! the worker has the second: many requests are there when it gets its turn, as on a machine where
//! it is the bottleneck.
//!
//! Throughput is a ratio to mode `1` in the same round. CPU times are per request, from the
//! scheduler's books, of the main thread and of all threads.

mod client;
mod serve;

use std::io::{self, BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use client::Shape;
use rustix::thread::{CpuSet, sched_setaffinity};

/// Clients and requests in flight of each.
type Loads = [(usize, usize)];

const MODES: [&str; 4] = ["1", "auto", "always", "poll"];
const LOADS: &Loads = &[(1, 1), (50, 1), (200, 1), (50, 10), (50, 16)];
const MAIN_MODES: [&str; 4] = ["1", "1+", "always+", "poll+"];
const MAIN_LOADS: &Loads = &[(1000, 1), (400, 10)];
const BINARY_MODES: [&str; 3] = ["1", "auto", "always"];
const BINARY_LOADS: &Loads = &[(1, 1), (50, 1), (200, 1), (1, 16), (50, 16), (200, 16)];
const BINARY_MAIN_MODES: [&str; 2] = ["1", "always"];
const START_MAX: Duration = Duration::from_secs(10);

/// What is compared: a program in a mode.
struct Contender<'a> {
    program: Program<'a>,
    mode: &'a str,
    label: String,
}

/// All modes of the first program, and of each further one those with workers.
fn contenders<'a>(programs: &[Program<'a>], modes: &[&'a str]) -> Vec<Contender<'a>> {
    let mut all = Vec::new();
    for (number, &program) in programs.iter().enumerate() {
        for &mode in &modes[usize::from(number > 0)..] {
            let label =
                if number == 0 { mode.to_owned() } else { format!("{mode}, build {}", number + 1) };
            all.push(Contender { program, mode, label });
        }
    }
    all
}

/// What serves.
#[derive(Clone, Copy, Debug)]
enum Program<'a> {
    /// The loop of this bench.
    Own,
    /// The server at a path, and whether its threads are pinned.
    Binary { path: &'a str, pinned: bool },
}

fn main() -> io::Result<()> {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    let binary = args.first().is_some_and(|arg| arg.starts_with("binary") && args.len() > 1);
    let path = if binary { args.remove(1) } else { String::new() };
    let number = |index: usize, default: f64| {
        args.get(index).and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let time = Duration::from_secs_f64(number(1, 1.0));
    // A handful; what is lost by the cast is nothing anybody would ask for.
    let runs = number(2, 5.0) as u64;
    match args.first().map(String::as_str) {
        Some("serve") => serve::serve(args.get(1).map_or("auto", String::as_str)),
        Some("compare") => compare(&contenders(&[Program::Own], &MODES), LOADS, time, runs),
        Some("main") => compare(&contenders(&[Program::Own], &MAIN_MODES), MAIN_LOADS, time, runs),
        Some("binary") if binary => {
            let programs = binaries(&path, false);
            compare(&contenders(&programs, &BINARY_MODES), BINARY_LOADS, time, runs)
        }
        Some("binary-main") if binary => {
            pin(None, 0)?;
            let programs = binaries(&path, true);
            compare(&contenders(&programs, &BINARY_MAIN_MODES), MAIN_LOADS, time, runs)
        }
        _ => {
            eprintln!("usage: io_loop compare|main [SECONDS [RUNS]] | io_loop serve MODE");
            eprintln!("       io_loop binary|binary-main PATH [SECONDS [RUNS]]");
            std::process::exit(2);
        }
    }
}

/// The servers at paths with colons between them.
fn binaries(paths: &str, pinned: bool) -> Vec<Program<'_>> {
    paths.split(':').map(|path| Program::Binary { path, pinned }).collect()
}

/// A server process; ended when dropped.
struct Server {
    child: Child,
    port: u16,
}

/// Keeps a thread, or this one, on one CPU.
fn pin(thread: Option<u32>, cpu: usize) -> io::Result<()> {
    let mut cpus = CpuSet::new();
    cpus.set(cpu);
    let raw = thread.and_then(|id| i32::try_from(id).ok());
    Ok(sched_setaffinity(raw.and_then(rustix::thread::Pid::from_raw), &cpus)?)
}

impl Server {
    fn start(program: Program<'_>, mode: &str) -> io::Result<Self> {
        match program {
            Program::Own => Self::start_own(mode),
            Program::Binary { path, pinned } => Self::start_binary(path, mode, pinned),
        }
    }

    fn start_binary(path: &str, mode: &str, pinned: bool) -> io::Result<Self> {
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let threads: &[&str] = match mode {
            "always" => &["--io-threads", "2", "--io-threads-always-active", "yes"],
            mode => &["--io-threads", mode],
        };
        let child = Command::new(path)
            .args(["--bind", "127.0.0.1", "--store", "memory", "--loglevel", "warning"])
            .args(["--port", &port.to_string()])
            .args(threads)
            .stdout(Stdio::null())
            .spawn()?;
        let server = Self { child, port };
        let until = Instant::now() + START_MAX;
        while let Err(error) = TcpStream::connect(("127.0.0.1", port)) {
            if Instant::now() > until {
                return Err(error);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        if pinned {
            server.pin_threads()?;
        }
        Ok(server)
    }

    /// The main thread goes to the CPU of the load, every other to the second one.
    fn pin_threads(&self) -> io::Result<()> {
        let main = self.child.id();
        let id = main.to_string();
        // It neither cuts the load short when an event comes nor gets half of the CPU.
        for (program, args) in
            [("chrt", ["--batch", "--pid", "0", &id]), ("renice", ["-n", "15", "-p", &id])]
        {
            if !Command::new(program).args(args).stdout(Stdio::null()).status()?.success() {
                return Err(io::Error::other(format!("{program} failed: turns would be small")));
            }
        }
        for task in std::fs::read_dir(format!("/proc/{main}/task"))? {
            let name = task?.file_name();
            let thread: u32 = name.to_str().and_then(|id| id.parse().ok()).unwrap_or(main);
            pin(Some(thread), usize::from(thread != main))?;
        }
        Ok(())
    }

    fn start_own(mode: &str) -> io::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["serve", mode])
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let stdout = child.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line)?;
        let port = line.trim().parse().map_err(io::Error::other)?;
        Ok(Self { child, port })
    }

    /// CPU time so far, of the main thread and of all threads, in nanoseconds.
    fn cpu(&self) -> io::Result<(u64, u64)> {
        let pid = self.child.id();
        let (mut main, mut all) = (0, 0);
        for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
            let task = task?;
            let Ok(text) = std::fs::read_to_string(task.path().join("schedstat")) else { continue };
            let cpu: u64 = text.split(' ').next().and_then(|f| f.parse().ok()).unwrap_or(0);
            all += cpu;
            if task.file_name().to_str() == Some(&pid.to_string()) {
                main = cpu;
            }
        }
        Ok((main, all))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Figures of one mode and shape, one entry a run.
#[derive(Default)]
struct Runs {
    rate: Vec<f64>,
    main_ns: Vec<f64>,
    all_ns: Vec<f64>,
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn compare(
    contenders: &[Contender<'_>],
    loads: &Loads,
    time: Duration,
    runs: u64,
) -> io::Result<()> {
    println!(
        "| load | mode | requests/s | against mode 1 | main thread us/request | against mode 1 \
         | all threads us/request |"
    );
    println!("|---|---|---|---|---|---|---|");
    for set in [false, true] {
        for &(clients, pipeline) in loads {
            rows(contenders, Shape { clients, pipeline, set, value_bytes: 512 }, time, runs)?;
        }
    }
    Ok(())
}

fn rows(contenders: &[Contender<'_>], shape: Shape, time: Duration, runs: u64) -> io::Result<()> {
    let servers: Vec<Server> = contenders
        .iter()
        .map(|contender| Server::start(contender.program, contender.mode))
        .collect::<Result<_, _>>()?;
    let mut figures: Vec<Runs> = contenders.iter().map(|_| Runs::default()).collect();
    for run in 0..=runs {
        for turn in 0..contenders.len() {
            // Forth and back, so that a drift of the machine favours nobody.
            let place = if run % 2 == 0 { turn } else { contenders.len() - 1 - turn };
            let server = &servers[place];
            if run == 0 {
                client::fill(server.port, shape.value_bytes)?;
            }
            let before = server.cpu()?;
            let done = client::load(server.port, shape, time)?;
            let after = server.cpu()?;
            if run == 0 {
                continue; // Warms up.
            }
            let requests = done.requests as f64;
            figures[place].rate.push(requests / done.time.as_secs_f64());
            figures[place].main_ns.push((after.0 - before.0) as f64 / requests);
            figures[place].all_ns.push((after.1 - before.1) as f64 / requests);
        }
    }
    let base = &figures[0];
    let ratios = |ours: &[f64], theirs: &[f64]| {
        median(ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect())
    };
    for (contender, ours) in contenders.iter().zip(&figures) {
        println!(
            "| {} {} clients, P {} | {} | {:.0} | {:.2} | {:.2} | {:.3} | {:.2} |",
            if shape.set { "SET" } else { "GET" },
            shape.clients,
            shape.pipeline,
            contender.label,
            median(ours.rate.clone()),
            ratios(&ours.rate, &base.rate),
            median(ours.main_ns.clone()) / 1000.0,
            ratios(&ours.main_ns, &base.main_ns),
            median(ours.all_ns.clone()) / 1000.0,
        );
    }
    Ok(())
}
