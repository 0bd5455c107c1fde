//! A discrete-event model of an event loop with workers: one main thread, up to 63 workers, a
//! number of cores, clients that wait for answers or that do not.
//!
//! What is modelled: loop turns that take a batch of ready requests; hand-over cost on the main
//! thread against the cost of doing it inline; a shared queue; service times from a distribution;
//! wake-up latency; spinning before parking; slowing down of everybody when more threads are
//! runnable than there are cores. What is not: caches, the scheduler's slices, the network.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

/// What a scaler may look at, once a loop turn.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) now: Duration,
    /// Useful and waiting time of the main thread so far.
    pub(crate) main_busy: Duration,
    pub(crate) main_waited: Duration,
    pub(crate) workers_busy: Duration,
    pub(crate) workers_spun: Duration,
    pub(crate) workers_jobs: u64,
    /// Idle time summed over the cores so far.
    pub(crate) idle: Duration,
    pub(crate) depth: usize,
    pub(crate) oldest_age: Duration,
    pub(crate) jobs: usize,
    pub(crate) completed: u64,
    pub(crate) active: usize,
}

/// A scaling policy under test.
pub(crate) trait Scaler {
    /// The number of workers wanted from now on.
    fn turn(&mut self, view: &View) -> usize;
    /// How long a worker without work burns its core before it parks; `None` is for ever.
    fn spin(&self) -> Option<Duration>;
    /// Fewer jobs than this in one turn and in flight are done inline.
    fn jobs_that_pay(&self) -> usize;
    /// When the scaler wants a turn even without events.
    fn wake_by(&self) -> Option<Duration>;
}

/// How long a worker needs for one request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Service {
    Constant,
    Exponential,
    /// One in a hundred takes fifty times as long as the others.
    Bimodal,
}

/// Who sends the requests.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Load {
    /// Requests per second as they come, until the given time.
    Open { rate: f64, until: Duration },
    /// Clients with one request each in flight, which take so long between answer and request.
    Closed { clients: usize, think: Duration },
}

/// One run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    pub(crate) cores: usize,
    pub(crate) workers_max: usize,
    pub(crate) load: Load,
    /// When the load starts.
    pub(crate) from: Duration,
    pub(crate) time: Duration,
    pub(crate) service: Service,
    /// Main-thread time of a request done inline, and of one that is handed over.
    pub(crate) inline_ns: u64,
    pub(crate) handed_ns: u64,
    /// Worker time of a request that is handed over.
    pub(crate) worker_ns: u64,
    /// Client time per request on the same machine; 0 if the clients are elsewhere.
    pub(crate) client_ns: u64,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    pub(crate) completed: u64,
    /// Every change of the number of active workers.
    pub(crate) changes: Vec<(Duration, usize)>,
    /// Time that workers burnt without work, in thread-seconds.
    pub(crate) wasted: f64,
    /// The same after the load had ended.
    pub(crate) wasted_after: f64,
    /// Worker time that was useful, in thread-seconds.
    pub(crate) useful: f64,
}

impl Report {
    /// When `count` workers were first active.
    pub(crate) fn reached(&self, count: usize) -> Option<Duration> {
        self.changes.iter().find(|change| change.1 >= count).map(|change| change.0)
    }

    /// Changes after `from`.
    pub(crate) fn changes_after(&self, from: Duration) -> usize {
        self.changes.iter().filter(|change| change.0 >= from).count()
    }
}

/// Pseudo-random numbers with a seed: the same run every time.
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    fn unit(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        // 53 bits are all a double holds; zero is excluded, since its logarithm is infinite.
        ((self.0 >> 11) as f64 + 1.0) / 9_007_199_254_740_993.0
    }

    fn exponential(&mut self, mean: f64) -> f64 {
        -self.unit().ln() * mean
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Event {
    Arrival,
    TurnEnd,
    WorkerEnd(usize),
    /// The scaler's timer.
    Timer,
}

#[derive(Clone, Copy, Debug)]
enum Worker {
    /// Without work; burns its core from `since` to `until`, and then is parked.
    Free {
        since: u64,
        until: u64,
    },
    Busy {
        since: u64,
    },
}

/// A wake-up, as measured for this project.
const WAKE_NS: u64 = 17_000;
/// Cost of one loop turn: epoll_wait and its surroundings.
const TURN_NS: u64 = 1_500;
/// Requests taken up in one turn at most.
const TURN_JOBS_MAX: usize = 200;
/// A turn takes up no more once it has taken so long: timers and policy want their turn too.
const TURN_TIME_MAX_NS: u64 = 2_000_000;
/// Workers that spin at the same time, where spinning has a limit.
const SEARCHERS_MAX: usize = 2;
/// Jobs in flight at most.
const CREDITS: usize = 1024;

pub(crate) struct Engine<'a> {
    scenario: Scenario,
    scaler: &'a mut dyn Scaler,
    dice: Dice,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    order: u64,
    now: u64,
    ready: VecDeque<u64>,
    queue: VecDeque<u64>,
    answers: usize,
    workers: Vec<Worker>,
    active: usize,
    main_running: bool,
    in_flight: usize,
    main_busy: u64,
    main_waited: u64,
    workers_busy: u64,
    workers_spun: u64,
    workers_jobs: u64,
    spun_after: u64,
    client_busy: u64,
    /// When the one timer of the loop fires.
    timer: Option<u64>,
    report: Report,
}

impl<'a> Engine<'a> {
    pub(crate) fn new(scenario: Scenario, scaler: &'a mut dyn Scaler) -> Self {
        Self {
            scaler,
            dice: Dice(0x9E37_79B9_7F4A_7C15),
            events: BinaryHeap::new(),
            order: 0,
            now: 0,
            ready: VecDeque::new(),
            queue: VecDeque::new(),
            answers: 0,
            workers: vec![Worker::Free { since: 0, until: 0 }; scenario.workers_max],
            active: 0,
            main_running: false,
            in_flight: 0,
            main_busy: 0,
            main_waited: 0,
            workers_busy: 0,
            workers_spun: 0,
            workers_jobs: 0,
            spun_after: 0,
            client_busy: 0,
            timer: None,
            report: Report::default(),
            scenario,
        }
    }

    pub(crate) fn run(mut self) -> Report {
        let from = nanos(self.scenario.from);
        match self.scenario.load {
            Load::Open { .. } => self.push(from, Event::Arrival),
            Load::Closed { clients, .. } => {
                for _ in 0..clients {
                    self.push(from, Event::Arrival);
                }
            }
        }
        while let Some(Reverse((at, _, event))) = self.events.pop() {
            if at > nanos(self.scenario.time) {
                break;
            }
            self.now = at;
            match event {
                Event::Arrival => self.arrive(),
                Event::TurnEnd => self.end_turn(),
                Event::WorkerEnd(index) => self.end_job(index),
                Event::Timer => self.timer = None,
            }
            let more = !self.ready.is_empty() || self.answers > 0 || event == Event::Timer;
            if more && !self.main_running {
                self.start_turn();
            }
        }
        self.now = nanos(self.scenario.time);
        for index in 0..self.workers.len() {
            self.settle(index);
        }
        self.report.wasted = self.workers_spun as f64 / 1e9;
        self.report.wasted_after = self.spun_after as f64 / 1e9;
        self.report.useful = self.workers_busy as f64 / 1e9;
        self.report
    }

    fn push(&mut self, at: u64, event: Event) {
        self.order += 1;
        self.events.push(Reverse((at, self.order, event)));
    }

    fn arrive(&mut self) {
        self.ready.push_back(self.now);
        if let Load::Open { rate, until } = self.scenario.load
            && self.now < nanos(until)
        {
            let gap = self.dice.exponential(1e9 / rate);
            self.push(self.now + gap as u64, Event::Arrival);
        }
    }

    /// By how much everybody is slower than alone: runnable threads over cores.
    fn slowdown(&self) -> f64 {
        let busy = self.workers.iter().filter(|w| matches!(w, Worker::Busy { .. })).count();
        let spinning = match self.scaler.spin() {
            None => self.active - busy.min(self.active),
            Some(_) => 0,
        };
        let client = usize::from(self.scenario.client_ns > 0);
        let runnable = busy + spinning + usize::from(self.main_running) + client;
        (runnable as f64 / self.scenario.cores as f64).max(1.0)
    }

    fn start_turn(&mut self) {
        let scenario = self.scenario;
        let jobs = self.ready.len().min(TURN_JOBS_MAX);
        self.scale(jobs);
        self.main_running = true;
        let mut cost = TURN_NS + self.answers as u64 * scenario.handed_ns / 2;
        self.complete(self.answers);
        self.in_flight -= self.answers;
        self.answers = 0;
        let pays = jobs + self.in_flight >= self.scaler.jobs_that_pay();
        let hand_over = self.active > 0 && pays;
        let mut inline = 0;
        for _ in 0..jobs {
            if cost > TURN_TIME_MAX_NS {
                break;
            }
            let at = self.ready.pop_front().expect("counted");
            if hand_over && self.in_flight < CREDITS {
                self.queue.push_back(at);
                self.in_flight += 1;
                cost += scenario.handed_ns / 2;
            } else {
                inline += 1;
                cost += scenario.inline_ns;
            }
        }
        self.complete(inline);
        let took = (cost as f64 * self.slowdown()) as u64;
        self.main_busy += cost;
        self.main_waited += took - cost;
        self.push(self.now + took, Event::TurnEnd);
        self.feed_workers();
    }

    fn end_turn(&mut self) {
        self.main_running = false;
    }

    fn complete(&mut self, count: usize) {
        self.report.completed += count as u64;
        self.client_busy += count as u64 * self.scenario.client_ns;
        if let Load::Closed { think, .. } = self.scenario.load {
            for place in 1..=count as u64 {
                // One client process serves its answers one after the other.
                let think = nanos(think) + place * self.scenario.client_ns;
                let think = (think as f64 * self.slowdown()) as u64;
                self.push(self.now + think, Event::Arrival);
            }
        }
    }

    fn feed_workers(&mut self) {
        for index in 0..self.active {
            if self.queue.is_empty() {
                return;
            }
            if let Worker::Free { until, .. } = self.workers[index] {
                let asleep = self.now > until;
                self.settle(index);
                self.start_job(index, if asleep { WAKE_NS } else { 0 });
            }
        }
    }

    fn start_job(&mut self, index: usize, delay: u64) {
        self.queue.pop_front().expect("the caller looked");
        let mean = self.scenario.worker_ns as f64;
        let time = match self.scenario.service {
            Service::Constant => mean,
            Service::Exponential => self.dice.exponential(mean),
            Service::Bimodal if self.dice.unit() < 0.01 => mean * 50.0 / 1.49,
            Service::Bimodal => mean / 1.49,
        };
        self.workers[index] = Worker::Busy { since: self.now + delay };
        let took = (time * self.slowdown()) as u64;
        self.push(self.now + delay + took.max(1), Event::WorkerEnd(index));
    }

    fn end_job(&mut self, index: usize) {
        self.settle(index);
        self.workers[index] = self.free(index);
        self.answers += 1;
        self.workers_jobs += 1;
        // The first worker finishes what is left even when no worker is active any more.
        if !self.queue.is_empty() && (index < self.active || index == 0) {
            self.start_job(index, 0);
        }
    }

    /// Books the time of a worker up to now.
    fn settle(&mut self, index: usize) {
        match self.workers[index] {
            Worker::Busy { since } => {
                self.workers_busy += self.now.saturating_sub(since);
                self.workers[index] = Worker::Busy { since: self.now.max(since) };
            }
            Worker::Free { since, until } => {
                let spun = self.now.min(until).saturating_sub(since);
                self.workers_spun += spun;
                if let Load::Open { until, .. } = self.scenario.load
                    && self.now > nanos(until)
                {
                    self.spun_after += spun;
                }
                self.workers[index] = Worker::Free { since: self.now, until };
            }
        }
    }

    /// A worker that has just run out of work.
    fn free(&self, index: usize) -> Worker {
        let searching = |worker: &&Worker| match worker {
            Worker::Free { until, .. } => *until > self.now,
            Worker::Busy { .. } => false,
        };
        let until = match self.scaler.spin() {
            None if index < self.active => u64::MAX,
            Some(spin) if self.workers.iter().filter(searching).count() < SEARCHERS_MAX => {
                self.now + nanos(spin)
            }
            _ => self.now,
        };
        Worker::Free { since: self.now, until }
    }

    fn scale(&mut self, jobs: usize) {
        if self.scaler.spin().is_none() {
            for index in 0..self.workers.len() {
                self.settle(index);
            }
        }
        let capacity = self.now * self.scenario.cores as u64;
        let used = self.main_busy + self.workers_busy + self.workers_spun + self.client_busy;
        let view = View {
            now: Duration::from_nanos(self.now),
            main_busy: Duration::from_nanos(self.main_busy),
            main_waited: Duration::from_nanos(self.main_waited),
            workers_busy: Duration::from_nanos(self.workers_busy),
            workers_spun: Duration::from_nanos(self.workers_spun),
            workers_jobs: self.workers_jobs,
            idle: Duration::from_nanos(capacity.saturating_sub(used)),
            depth: self.queue.len(),
            oldest_age: Duration::from_nanos(self.queue.front().map_or(0, |at| self.now - at)),
            jobs,
            completed: self.report.completed,
            active: self.active,
        };
        let wanted = self.scaler.turn(&view);
        if wanted != self.active {
            let before = std::mem::replace(&mut self.active, wanted);
            for index in before.min(wanted)..before.max(wanted) {
                self.settle(index);
                if let Worker::Free { .. } = self.workers[index] {
                    self.workers[index] = self.free(index);
                }
            }
            self.report.changes.push((view.now, wanted));
        }
        if let (None, Some(at)) = (self.timer, self.scaler.wake_by()) {
            let at = nanos(at).max(self.now + 1);
            self.timer = Some(at);
            self.push(at, Event::Timer);
        }
    }
}

pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).expect("a run is short")
}
