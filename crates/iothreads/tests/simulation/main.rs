//! The scaling policy over minutes and up to 64 cores, against the published policy of Valkey.
//!
//! A discrete-event simulation (`engine.rs`) with a seed; figures are the model's, not a server's.
//! `make simulation` holds the table of the README to what the simulation says, and prints it;
//! with `BLESS=1` it writes it there. It is the same on every machine: the clock is the model's,
//! and random numbers come from a fixed seed.

mod engine;
mod scalers;

use std::time::Duration;

use engine::{Engine, Load, Report, Scaler, Scenario, Service};
use scalers::{Ours, Published, Single, Told};

const SEC: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

/// Costs as measured on a small virtual machine: 7.5 us of main thread for a request done inline,
/// 0.7 us if handed over, 6 us on the worker.
fn scenario(cores: usize, load: Load, time: Duration) -> Scenario {
    Scenario {
        cores,
        workers_max: cores - 1,
        load,
        from: 200 * MS,
        time,
        service: Service::Constant,
        inline_ns: 7_500,
        handed_ns: 700,
        worker_ns: 6_000,
        client_ns: 0,
    }
}

fn open(rate: f64) -> Load {
    Load::Open { rate, until: 3600 * SEC }
}

fn run(scenario: Scenario, mut scaler: impl Scaler) -> Report {
    Engine::new(scenario, &mut scaler).run()
}

fn ours(scenario: Scenario) -> Report {
    run(scenario, Ours::new(scenario.workers_max, scenario.cores, Told::All))
}

/// Ours where the system tells no CPU times.
fn untold(scenario: Scenario) -> Report {
    run(scenario, Ours::new(scenario.workers_max, scenario.cores, Told::Nothing))
}

fn published(scenario: Scenario) -> Report {
    run(scenario, Published::new(scenario.workers_max))
}

/// Main thread 80 % busy when handing over, eight workers needed.
fn step(cores: usize, service: Service) -> Scenario {
    Scenario { service, ..scenario(cores, open(1_140_000.0), 1200 * MS) }
}

#[test]
fn a_step_to_eight_workers_takes_a_tenth_of_a_second() {
    for service in [Service::Constant, Service::Exponential, Service::Bimodal] {
        let scenario = step(16, service);
        for (name, policy) in [OURS, UNTOLD] {
            let report = policy(scenario);
            let ramp = report.reached(7).expect("reached") - scenario.from;
            assert!(ramp <= 100 * MS, "{name} {service:?}: {ramp:?} {:?}", report.changes);
        }
    }
}

#[test]
fn the_published_policy_takes_more_than_a_second_for_the_same_step() {
    // Keeps the model honest: the known figure of the published policy is 1.32 s.
    let scenario = step(9, Service::Constant);
    let ramp = published(Scenario { time: 2 * SEC, ..scenario }).reached(8).expect("reached");
    assert!((SEC..1700 * MS).contains(&(ramp - scenario.from)), "{ramp:?}");
}

#[test]
fn a_constant_load_changes_at_most_once_in_ten_seconds() {
    for service in [Service::Constant, Service::Exponential, Service::Bimodal] {
        for (cores, load) in [(4, 0.35), (4, 0.5), (4, 0.9), (8, 2.5)] {
            let rate = load / 7.5e-6;
            let scenario = Scenario { service, ..scenario(cores, open(rate), 12 * SEC) };
            for (name, policy) in [OURS, UNTOLD] {
                let report = policy(scenario);
                // The first second is the ramp.
                let changes = report.changes_after(1200 * MS);
                let seen = &report.changes;
                assert!(changes <= 1, "{name} {service:?} {cores} {load}: {seen:?}");
            }
        }
    }
}

/// Where no CPU time is told, jobs that come together ignite: a main thread that is nearly busy
/// with two or three at a time goes on alone.
#[test]
fn without_cpu_times_it_takes_jobs_that_come_together() {
    for (load, ignites, ignites_untold) in
        [(0.5, false, false), (0.9, true, false), (2.5, true, true)]
    {
        let scenario = scenario(4, open(load / 7.5e-6), SEC);
        assert_eq!(ours(scenario).reached(1).is_some(), ignites, "{load}");
        assert_eq!(untold(scenario).reached(1).is_some(), ignites_untold, "{load}");
    }
}

#[test]
fn the_published_policy_flips_under_the_same_constant_load() {
    let report = published(scenario(4, open(0.5 / 7.5e-6), 12 * SEC));
    assert!(report.changes_after(1200 * MS) >= 5, "{:?}", report.changes);
}

#[test]
fn workers_are_quiet_when_the_load_stops() {
    let load = Load::Open { rate: 1_140_000.0, until: SEC };
    let scenario = scenario(16, load, 6 * SEC);
    for (name, policy) in [OURS, UNTOLD] {
        let report = policy(scenario);
        assert!(report.wasted_after < 0.01, "{name}: {} thread-seconds", report.wasted_after);
        assert_eq!(report.changes.last().map(|change| change.1), Some(0), "{name}");
    }
    let published = published(scenario);
    assert!(published.wasted_after > 10.0, "{} thread-seconds", published.wasted_after);
}

/// Clients on the machine of the server, as many as keep it busy.
fn shared_machine(cores: usize, clients: usize) -> Scenario {
    Scenario {
        client_ns: 6_000,
        ..scenario(
            cores,
            Load::Closed { clients, think: 5_000 * Duration::from_nanos(1) },
            10 * SEC,
        )
    }
}

#[test]
fn two_cores_shared_with_the_clients_lose_less_than_a_twentieth() {
    for told in [Told::All, Told::Main, Told::Nothing] {
        for clients in [1, 2, 8, 50, 200] {
            let scenario = shared_machine(2, clients);
            let single = run(scenario, Single).completed;
            let report = run(scenario, Ours::new(1, 2, told));
            let permille = report.completed * 1000 / single;
            assert!(permille >= 950, "{clients} clients, told {told:?}: {permille} permille");
        }
    }
}

#[test]
fn more_cores_are_used_when_they_pay() {
    for cores in [4, 8, 16] {
        let load = Load::Closed { clients: 400, think: 50 * Duration::from_micros(1) };
        let scenario = scenario(cores, load, 3 * SEC);
        let single = run(scenario, Single).completed;
        let want = [(4, 25), (8, 60), (16, 80)].iter().find(|w| w.0 == cores).expect("listed").1;
        for (name, policy) in [OURS, UNTOLD] {
            let report = policy(scenario);
            let gain = report.completed * 10 / single;
            assert!(gain >= want, "{name}, {cores} cores: {gain} tenths, {:?}", report.changes);
        }
    }
}

/// The rows of 2 cores cost little, so each run of the tests compares them.
#[test]
fn the_table_of_the_readme_is_what_the_simulation_prints_for_two_cores() {
    if blesses() {
        return;
    }
    let readme = readme();
    let table = table_of(&readme);
    for policy in policies(2, Service::Exponential) {
        let row = row(2, Service::Exponential, policy);
        assert!(table.contains(&row), "not in README.md (make simulation BLESS=1): {row}");
    }
}

#[test]
#[ignore = "takes a minute: make simulation"]
fn the_table_of_the_readme_is_what_the_simulation_prints() {
    let table = table();
    print!("{table}");
    let readme = readme();
    let old = table_of(&readme);
    if blesses() {
        std::fs::write(README, readme.replace(old, &table)).expect("the README can be written");
    } else {
        assert_eq!(old, table, "README.md is out of date: make simulation BLESS=1");
    }
}

const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
const HEAD: &str = "| cores | service times | policy | ramp to 80 % of the need (ms) \
    | changes in a constant minute | spun away in it (thread-s) \
    | spun away after the load stops (thread-s) |\n|---|---|---|---|---|---|---|\n";
type Policy = fn(Scenario) -> Report;
const OURS: (&str, Policy) = ("ours", ours);
const UNTOLD: (&str, Policy) = ("ours, no CPU times", untold);
const PUBLISHED: (&str, Policy) = ("published", published);
const ROWS: [(usize, Service); 8] = [
    (2, Service::Exponential),
    (4, Service::Exponential),
    (8, Service::Constant),
    (8, Service::Exponential),
    (8, Service::Bimodal),
    (16, Service::Exponential),
    (32, Service::Exponential),
    (64, Service::Exponential),
];

/// Whether the table is to be written.
fn blesses() -> bool {
    std::env::var_os("FLINTLOCK_BLESS").is_some()
}

fn readme() -> String {
    std::fs::read_to_string(README).expect("the README is beside the sources")
}

/// The table of the simulation in the README, with its head.
fn table_of(readme: &str) -> &str {
    let from = readme.find(HEAD).expect("README.md has the table, with the head of today");
    let table = &readme[from..];
    &table[..table.find("\n\n").map_or(table.len(), |end| end + 1)]
}

fn table() -> String {
    let mut table = HEAD.to_owned();
    for (cores, service) in ROWS {
        for policy in policies(cores, service) {
            table.push_str(&row(cores, service, policy));
        }
    }
    table
}

/// The rows of one machine. That without CPU times differs in nothing that the table shows, as long
/// as the load is there or gone: twice is enough.
fn policies(cores: usize, service: Service) -> Vec<(&'static str, Policy)> {
    match (cores, service) {
        (2 | 8, Service::Exponential) => vec![OURS, UNTOLD, PUBLISHED],
        _ => vec![OURS, PUBLISHED],
    }
}

fn row(cores: usize, service: Service, (name, run): (&str, Policy)) -> String {
    let workers = (cores - 1).min(63);
    // Longer jobs on larger machines, or the main thread could not feed the workers.
    let worker_ns = if cores <= 8 { 6_000 } else { 200_000 };
    // A step that needs all of the workers at 85 %, and half of that for a minute.
    let rate = workers as f64 * 0.85e9 / worker_ns as f64;
    let burst = Scenario {
        service,
        worker_ns,
        inline_ns: worker_ns + 1_500,
        ..scenario(cores, Load::Open { rate, until: 3 * SEC }, 20 * SEC)
    };
    let needed = (workers * 4).div_ceil(5);
    let report = run(burst);
    let ramp = report
        .reached(needed)
        .map_or("never".to_owned(), |at| (at - burst.from).as_millis().to_string());
    let minute = Scenario { load: open(rate / 2.0), time: 62 * SEC, ..burst };
    let constant = run(minute);
    format!(
        "| {cores} | {service:?} | {name} | {ramp} | {} | {:.1} | {:.2} |\n",
        constant.changes_after(2 * SEC),
        constant.wasted,
        report.wasted_after,
    )
}
