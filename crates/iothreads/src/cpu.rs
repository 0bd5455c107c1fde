//! What the operating system says about CPUs: how many this process may use, how much CPU time a
//! thread took, how long it waited for a CPU, how much of the machine is idle; and pinning.
//!
//! Any thread, except [`Meter`], which belongs to the thread it measures. Every call into the
//! system is in this file; all of them go through safe wrappers (rustix, `core_affinity`). Nothing
//! here decides anything, and nothing here may be called per job: a reading costs a system call.
//!
//! A container's quota does not show in the number of CPUs, so the number that counts is the least
//! of the CPUs online, the affinity mask, and the CFS quota of every cgroup above us (v1 or v2).
//!
//! Source: kernel documentation, cgroup-v2 (cpu.max), cgroup-v1 (cpu.cfs_quota_us), proc (uptime,
//! stat, schedstat).

use std::fmt;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

#[cfg(target_os = "linux")]
use std::fs::File;
#[cfg(target_os = "linux")]
use std::os::unix::fs::FileExt;

/// The highest CPU number that a [`CpuList`] may name; guards against `0-4000000000`.
const CPU_INDEX_MAX: usize = 4095;
/// The highest CPU that a thread can be pinned to: masks of the system calls have so many bits, and
/// `core_affinity` panics instead of refusing.
const PINNABLE_MAX: usize = if cfg!(windows) { 63 } else { 1023 };

/// How many CPUs this process may use, and why not more.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct UsableCpus {
    /// CPUs online in the machine.
    pub online: usize,
    /// CPUs in the affinity mask of the calling thread.
    pub allowed: usize,
    /// The tightest cgroup quota, in thousandths of one CPU; `None` without a quota.
    pub quota_permille: Option<u64>,
}

impl UsableCpus {
    /// Reads all three limits. Any thread; opens a few small files of /proc and /sys.
    ///
    /// ```
    /// assert!(flintlock_iothreads::UsableCpus::read().count() >= 1);
    /// ```
    #[must_use]
    pub fn read() -> Self {
        Self::read_under(Path::new("/"))
    }

    fn read_under(root: &Path) -> Self {
        let known = std::thread::available_parallelism().map_or(1, usize::from);
        let online = fs::read_to_string(root.join("sys/devices/system/cpu/online"))
            .ok()
            .and_then(|text| text.trim().parse::<CpuList>().ok())
            .map_or(known, |list| list.len());
        Self {
            online,
            allowed: affinity().map_or(online, |mask| mask.len()),
            quota_permille: quota_permille(root),
        }
    }

    /// The same with the limits read afresh that do not depend on the calling thread: a thread that
    /// pinned itself since would see only its own CPU.
    #[must_use]
    pub fn refreshed(&self) -> Self {
        Self { allowed: self.allowed, ..Self::read() }
    }

    /// Whole CPUs that can run at the same time, at least 1: a quota of 2.5 CPUs counts 2, since
    /// the third thread would be throttled half of the time and stall whoever waits for it.
    #[must_use]
    pub fn count(&self) -> usize {
        let quota = self
            .quota_permille
            .map_or(usize::MAX, |quota| usize::try_from(quota / 1000).unwrap_or(usize::MAX));
        self.online.min(self.allowed).min(quota).max(1)
    }
}

/// A list of CPU numbers as in `taskset -c`: `0-3,8`, or `0-6:2` for every second one. Never empty;
/// sorted, each number once.
///
/// ```
/// use flintlock_iothreads::CpuList;
///
/// let list: CpuList = "4,0-2".parse().expect("a list");
/// assert_eq!(list.to_string(), "0-2,4");
/// assert!("3-1".parse::<CpuList>().is_err());
/// ```
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct CpuList {
    cpus: Vec<usize>,
}

impl CpuList {
    /// The number of CPUs in the list, at least 1.
    #[expect(clippy::len_without_is_empty, reason = "an empty list cannot be built")]
    #[must_use]
    pub fn len(&self) -> usize {
        self.cpus.len()
    }

    /// The CPU for thread number `index`; lists shorter than the threads are used again from the
    /// start.
    #[must_use]
    pub fn cpu_for(&self, index: usize) -> usize {
        self.cpus[index % self.cpus.len()]
    }

    /// The CPUs that the calling thread may use; `None` where the system has no masks.
    #[must_use]
    pub fn allowed() -> Option<Self> {
        affinity()
    }

    /// Lets the calling thread use all CPUs of the list again, after a thread that it inherited its
    /// mask from was pinned. Returns whether the system did it; never on systems without masks.
    #[must_use]
    pub fn allow_current(&self) -> bool {
        #[cfg(target_os = "linux")]
        return linux::allow(self);
        #[cfg(not(target_os = "linux"))]
        return false;
    }

    /// Pins the calling thread to the CPU for `index`. Threads that it starts afterwards inherit
    /// that: make pools first, they remember what was allowed. Returns whether the system did it; a
    /// CPU that is offline or outside the mask is refused and the thread stays as it was.
    #[must_use]
    pub fn pin_current(&self, index: usize) -> bool {
        let id = self.cpu_for(index);
        id <= PINNABLE_MAX && core_affinity::set_for_current(core_affinity::CoreId { id })
    }
}

/// A text that is not a list of CPUs.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct BadCpuList;

impl fmt::Display for BadCpuList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a list of CPUs such as 0-3,8 (numbers up to {CPU_INDEX_MAX})")
    }
}

impl std::error::Error for BadCpuList {}

impl FromStr for CpuList {
    type Err = BadCpuList;

    fn from_str(text: &str) -> Result<Self, BadCpuList> {
        let number = |part: &str| match part.trim().parse::<usize>() {
            Ok(cpu) if cpu <= CPU_INDEX_MAX => Ok(cpu),
            _ => Err(BadCpuList),
        };
        let mut cpus = Vec::new();
        for part in text.split(',') {
            let Some((first, rest)) = part.split_once('-') else {
                cpus.push(number(part)?);
                continue;
            };
            let (last, step) = rest.split_once(':').unwrap_or((rest, "1"));
            let (first, last, step) = (number(first)?, number(last)?, number(step)?);
            if first > last || step == 0 {
                return Err(BadCpuList);
            }
            cpus.extend((first..=last).step_by(step));
        }
        cpus.sort_unstable();
        cpus.dedup();
        Ok(Self { cpus })
    }
}

impl fmt::Display for CpuList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.cpus.as_slice();
        let mut comma = "";
        while let Some(&first) = rest.first() {
            let run = rest.iter().zip(first..).take_while(|&(&cpu, want)| cpu == want).count();
            let last = rest[run - 1];
            if run > 1 {
                write!(f, "{comma}{first}-{last}")?;
            } else {
                write!(f, "{comma}{first}")?;
            }
            rest = &rest[run..];
            comma = ",";
        }
        Ok(())
    }
}

/// One reading of [`Meter`]. Everything counts up from some origin; only differences mean anything.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub struct Reading {
    /// CPU time of the thread; `None` where the system cannot tell.
    pub cpu_time: Option<Duration>,
    /// Time the thread was runnable without a CPU; `None` where the system cannot tell.
    pub run_delay: Option<Duration>,
    /// Idle time summed over the CPUs this process may use; `None` if unknown or not asked for.
    pub idle: Option<Duration>,
    /// CPU time of the whole process; `None` where the system cannot tell.
    pub process_cpu_time: Option<Duration>,
}

/// Reads the CPU use of one thread and the idleness of its CPUs. Belongs to the thread that
/// created it; readings by any other thread would mix two threads.
#[derive(Debug)]
pub struct Meter {
    #[cfg(target_os = "linux")]
    files: linux::Files,
}

impl Meter {
    /// A meter for the calling thread and the CPUs that it may use. What cannot be opened reads as
    /// `None`.
    #[must_use]
    pub fn new() -> Self {
        Self::with_idle_of(affinity())
    }

    /// A meter for the calling thread and the idle time of other CPUs: it may be pinned.
    #[cfg_attr(not(target_os = "linux"), expect(unused_variables, reason = "no idle time"))]
    pub(crate) fn with_idle_of(cpus: Option<CpuList>) -> Self {
        Self {
            #[cfg(target_os = "linux")]
            files: linux::Files::open(cpus),
        }
    }

    /// Reads all counters; `with_idle` adds the idle time, which costs the system some
    /// microseconds per CPU. Two to four system calls, never blocks.
    #[must_use]
    pub fn read(&mut self, with_idle: bool) -> Reading {
        #[cfg(target_os = "linux")]
        let reading = self.files.read(with_idle);
        #[cfg(not(target_os = "linux"))]
        let reading = {
            let _ = with_idle;
            Reading::default()
        };
        reading
    }
}

impl Default for Meter {
    fn default() -> Self {
        Self::new()
    }
}

/// CPU time of the calling thread, `None` where the system cannot tell.
#[must_use]
pub fn thread_cpu_time() -> Option<Duration> {
    #[cfg(target_os = "linux")]
    return linux::cpu_clock(rustix::time::ClockId::ThreadCPUTime);
    #[cfg(not(target_os = "linux"))]
    return None;
}

/// The CPUs in the affinity mask of the calling thread; `None` where the system has no masks.
fn affinity() -> Option<CpuList> {
    #[cfg(target_os = "linux")]
    return linux::affinity();
    #[cfg(not(target_os = "linux"))]
    return None;
}

#[cfg(target_os = "linux")]
mod linux {
    use super::{CpuList, Duration, File, FileExt, Reading, UsableCpus};
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
    use rustix::time::{ClockId, Timespec, clock_gettime};

    /// /proc/stat counts in ticks of this many milliseconds (`USER_HZ` is 100 on all ports).
    const TICK_MS: u64 = 10;
    /// Enough for the CPU lines of 256 CPUs; what comes after them is not needed.
    const STAT_BYTES_MAX: usize = 32 * 1024;

    /// Where the idle time is read: the sum over all CPUs is far cheaper than the table.
    #[derive(Debug)]
    enum Idle {
        AllCpus(File),
        SomeCpus(File, CpuList),
        Unknown,
    }

    #[derive(Debug)]
    pub(super) struct Files {
        schedstat: Option<File>,
        idle: Idle,
        buffer: Vec<u8>,
    }

    impl Files {
        pub(super) fn open(cpus: Option<CpuList>) -> Self {
            let online = UsableCpus::read().online;
            let idle = match cpus.filter(|mask| mask.len() != online) {
                None => File::open("/proc/uptime").map_or(Idle::Unknown, Idle::AllCpus),
                Some(mask) => File::open("/proc/stat")
                    .map_or(Idle::Unknown, |file| Idle::SomeCpus(file, mask)),
            };
            Self {
                // Resolved when opened: it goes on meaning this thread.
                schedstat: File::open("/proc/thread-self/schedstat").ok(),
                idle,
                buffer: vec![0; STAT_BYTES_MAX],
            }
        }

        pub(super) fn read(&mut self, with_idle: bool) -> Reading {
            let run_delay = self
                .schedstat
                .as_ref()
                .and_then(|file| text_of(file, &mut self.buffer))
                .and_then(super::run_delay_of);
            let idle = match &self.idle {
                Idle::AllCpus(file) if with_idle => {
                    text_of(file, &mut self.buffer).and_then(super::idle_of_uptime)
                }
                Idle::SomeCpus(file, mask) if with_idle => text_of(file, &mut self.buffer)
                    .and_then(|text| super::idle_of_stat(text, mask, TICK_MS)),
                _ => None,
            };
            Reading {
                cpu_time: cpu_clock(ClockId::ThreadCPUTime),
                run_delay,
                idle,
                process_cpu_time: cpu_clock(ClockId::ProcessCPUTime),
            }
        }
    }

    /// The first block of a file of /proc, as text. Reading at offset 0 makes it anew.
    fn text_of<'a>(file: &File, buffer: &'a mut [u8]) -> Option<&'a str> {
        let len_bytes = file.read_at(buffer, 0).ok()?;
        let bytes = &buffer[..len_bytes];
        // A block may end inside a character only in names, which the fields we want come before.
        std::str::from_utf8(bytes).ok()
    }

    pub(super) fn cpu_clock(id: ClockId) -> Option<Duration> {
        let Timespec { tv_sec, tv_nsec } = clock_gettime(id);
        Some(Duration::new(u64::try_from(tv_sec).ok()?, u32::try_from(tv_nsec).ok()?))
    }

    pub(super) fn allow(list: &CpuList) -> bool {
        let mut mask = CpuSet::new();
        for &cpu in list.cpus.iter().filter(|&&cpu| cpu < CpuSet::MAX_CPU) {
            mask.set(cpu);
        }
        sched_setaffinity(None, &mask).is_ok()
    }

    pub(super) fn affinity() -> Option<CpuList> {
        let mask = sched_getaffinity(None).ok()?;
        let cpus: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&cpu| mask.is_set(cpu)).collect();
        (!cpus.is_empty()).then_some(CpuList { cpus })
    }
}

/// Field 2 of schedstat: nanoseconds spent runnable on a run queue.
fn run_delay_of(text: &str) -> Option<Duration> {
    text.split_ascii_whitespace().nth(1)?.parse().ok().map(Duration::from_nanos)
}

/// Field 2 of /proc/uptime: idle seconds, summed over all CPUs.
fn idle_of_uptime(text: &str) -> Option<Duration> {
    let (seconds, hundredths) = text.split_ascii_whitespace().nth(1)?.split_once('.')?;
    let hundredths: u64 = hundredths.parse().ok()?;
    Some(Duration::from_secs(seconds.parse().ok()?) + Duration::from_millis(hundredths * 10))
}

/// Idle and iowait of the CPUs in `mask`, from the lines `cpuN user nice system idle iowait ...`.
fn idle_of_stat(text: &str, mask: &CpuList, tick_ms: u64) -> Option<Duration> {
    let mut ticks = 0_u64;
    let mut found = 0;
    for line in text.lines() {
        let Some(rest) = line.strip_prefix("cpu") else { break };
        let mut fields = rest.split_ascii_whitespace();
        // The first line sums all CPUs and has no number.
        if rest.starts_with(' ') {
            continue;
        }
        let cpu: usize = fields.next()?.parse().ok()?;
        if mask.cpus.binary_search(&cpu).is_ok() {
            let idle: u64 = fields.nth(3)?.parse().ok()?;
            let waiting: u64 = fields.next()?.parse().ok()?;
            ticks += idle + waiting;
            found += 1;
        }
    }
    (found == mask.len()).then(|| Duration::from_millis(ticks * tick_ms))
}

/// The tightest CFS quota above this process, in thousandths of a CPU.
fn quota_permille(root: &Path) -> Option<u64> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let mounts = fs::read_to_string(root.join("proc/self/mountinfo")).ok()?;
    let mut tightest: Option<u64> = None;
    for group in groups.lines() {
        // hierarchy-ID:controllers:path; version 2 has no controllers.
        let mut parts = group.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        let version_two = controllers.is_empty();
        if !version_two && !controllers.split(',').any(|controller| controller == "cpu") {
            continue;
        }
        let visible = || mounts.lines().filter_map(|line| cgroup_mount(line, version_two));
        // Inside a container the path may name the host's view, of which only our own group is
        // mounted.
        let ours = visible().find(|mount| mount.below(path).is_some());
        let Some(mount) = ours.or_else(|| visible().next()) else { continue };
        let read = if version_two { quota_v2 } else { quota_v1 };
        for directory in directories_up(root, &mount, path) {
            if let Some(quota) = read(Path::new(&directory)) {
                tightest = Some(tightest.map_or(quota, |other| other.min(quota)));
            }
        }
    }
    tightest
}

/// A mounted cgroup file system.
struct CgroupMount {
    /// Which directory of the hierarchy is mounted.
    root: String,
    /// Where.
    point: String,
}

impl CgroupMount {
    /// The way from here to the group of `path`, if that is below.
    fn below<'a>(&self, path: &'a str) -> Option<&'a Path> {
        let way = Path::new(path).strip_prefix(&self.root).ok()?;
        // Groups outside of our namespace are shown as parents of its root.
        (!way.components().any(|part| part == Component::ParentDir)).then_some(way)
    }
}

/// The mount that `line` of mountinfo describes, if it is the cgroup one we look for.
fn cgroup_mount(line: &str, version_two: bool) -> Option<CgroupMount> {
    let (left, right) = line.split_once(" - ")?;
    let mut right = right.split_ascii_whitespace();
    let kind = right.next()?;
    let options = right.nth(1).unwrap_or("");
    let wanted = if version_two {
        kind == "cgroup2"
    } else {
        kind == "cgroup" && options.split(',').any(|option| option == "cpu")
    };
    let mut left = left.split_ascii_whitespace().skip(3);
    let (root, point) = (left.next()?, left.next()?);
    wanted.then(|| CgroupMount { root: unescaped(root), point: unescaped(point) })
}

/// A field of mountinfo, in which white space and `\` are written as three octal digits.
fn unescaped(field: &str) -> String {
    let mut parts = field.split('\\');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match digits.filter(u8::is_ascii) {
            Some(byte) => {
                out.push(char::from(byte));
                out.push_str(&part[3..]);
            }
            None => {
                out.push('\\');
                out.push_str(part);
            }
        }
    }
    out
}

/// The directory of our group and every one above it, as far as they are visible, innermost first.
fn directories_up(root: &Path, mount: &CgroupMount, path: &str) -> Vec<PathBuf> {
    let top = root.join(mount.point.trim_start_matches('/'));
    let inside = mount.below(path).unwrap_or(Path::new(""));
    let ours = top.join(inside);
    let up = ours.ancestors().take_while(|directory| directory.starts_with(&top));
    up.map(Path::to_owned).collect()
}

/// `cpu.max`: `max 100000` or `150000 100000`.
fn quota_v2(directory: &Path) -> Option<u64> {
    let text = fs::read_to_string(directory.join("cpu.max")).ok()?;
    let mut fields = text.split_ascii_whitespace();
    permille(fields.next()?.parse().ok()?, fields.next()?.parse().ok()?)
}

/// `cpu.cfs_quota_us` (-1 = none) over `cpu.cfs_period_us`.
fn quota_v1(directory: &Path) -> Option<u64> {
    let field = |name: &str| -> Option<u64> {
        fs::read_to_string(directory.join(name)).ok()?.trim().parse().ok()
    };
    permille(field("cpu.cfs_quota_us")?, field("cpu.cfs_period_us")?)
}

fn permille(quota_us: u64, period_us: u64) -> Option<u64> {
    quota_us.checked_mul(1000)?.checked_div(period_us)
}

#[cfg(test)]
mod tests;
