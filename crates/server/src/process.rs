//! What the operating system says of this process. Any thread; reads /proc, for INFO only.

use std::fs;

/// Kernel name, release and machine, as INFO's `os` shows them.
pub(crate) fn os() -> String {
    let name = rustix::system::uname();
    let part = |s: &std::ffi::CStr| s.to_string_lossy().into_owned();
    format!("{} {} {}", part(name.sysname()), part(name.release()), part(name.machine()))
}

fn field_of(path: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let number = line.trim_start_matches(':').split_whitespace().next()?;
    number.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Resident memory in bytes; 0 where there is no /proc.
pub(crate) fn resident_bytes() -> u64 {
    field_of("/proc/self/status", "VmRSS").unwrap_or(0)
}

/// Memory of the machine in bytes; 0 where there is no /proc.
pub(crate) fn system_memory_bytes() -> u64 {
    field_of("/proc/meminfo", "MemTotal").unwrap_or(0)
}

/// User and system CPU seconds of a stat file.
fn cpu_of(path: &str) -> (f64, f64) {
    let text = fs::read_to_string(path).unwrap_or_default();
    // The name of the process may hold spaces and parentheses: fields count from the last one.
    let fields: Vec<&str> =
        text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    let seconds =
        |i: usize| fields.get(i).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0) / ticks;
    (seconds(11), seconds(12))
}

/// User and system CPU seconds of all threads.
pub(crate) fn cpu_seconds() -> (f64, f64) {
    cpu_of("/proc/self/stat")
}

/// User and system CPU seconds of the main thread.
pub(crate) fn main_thread_cpu_seconds() -> (f64, f64) {
    let id = std::process::id();
    cpu_of(&format!("/proc/self/task/{id}/stat"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_plausible() {
        assert!(os().starts_with("Linux "));
        assert!(resident_bytes() > 1 << 16);
        assert!(system_memory_bytes() > resident_bytes());
        let (user, system) = cpu_seconds();
        assert!(user >= 0.0 && system >= 0.0);
    }
}
