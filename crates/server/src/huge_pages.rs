//! Huge pages for keys and values: a look at a random key misses the TLB several times with small
//! ones. What it gave is in docs/measurements.md.
//!
//! Redis asks its users to switch them off, since after a fork each change of a byte copies a whole
//! page. This server never forks. The C library asks for huge pages only if a variable says so that
//! it reads before `main`, so the process sets it and executes itself, once.
//!
//! Main thread, before anything is opened.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::{env, fs, iter};

/// Settings of the C library, with colons between them.
const VARIABLE: &str = "GLIBC_TUNABLES";
/// Says how memory is asked for: 1 is "huge pages where they are to be had".
const SETTING: &str = "glibc.malloc.hugetlb";
/// In which cases the kernel gives huge pages; the one that holds is in brackets.
const KERNEL_POLICY: &str = "/sys/kernel/mm/transparent_hugepage/enabled";

/// Executes the program anew with huge pages for its heap, if that makes a difference: where the
/// kernel gives them to those who ask, and nobody has decided on it in the environment. Returns if
/// it makes none, or fails; then the process goes on with the pages it has.
pub(crate) fn ask() {
    let policy = fs::read_to_string(KERNEL_POLICY).unwrap_or_default();
    let Some(settings) = wanted(&policy, env::var_os(VARIABLE).as_deref()) else { return };
    let mut args = env::args_os();
    let (Ok(program), Some(name)) = (env::current_exe(), args.next()) else { return };
    // It only returns if it failed.
    let _ = Command::new(program).arg0(name).args(args).env(VARIABLE, settings).exec();
}

/// The settings to start with, if other ones than `settings`.
fn wanted(policy: &str, settings: Option<&OsStr>) -> Option<OsString> {
    if !cfg!(target_env = "gnu") || !policy.contains("[madvise]") {
        return None;
    }
    let settings = settings.unwrap_or_default();
    if settings.to_string_lossy().split(':').any(|setting| setting.starts_with(SETTING)) {
        return None;
    }
    let ours = OsString::from(format!("{SETTING}=1"));
    let parts: Vec<&OsStr> =
        iter::once(settings).filter(|all| !all.is_empty()).chain([ours.as_os_str()]).collect();
    Some(parts.join(OsStr::new(":")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MADVISE: &str = "always [madvise] never\n";

    fn wanted_of(policy: &str, settings: Option<&str>) -> Option<String> {
        let wanted = wanted(policy, settings.map(OsStr::new));
        wanted.map(|settings| settings.into_string().expect("was text"))
    }

    #[cfg(target_env = "gnu")]
    #[test]
    fn the_c_library_is_told_where_the_kernel_wants_to_be_asked() {
        assert_eq!(wanted_of(MADVISE, None).as_deref(), Some("glibc.malloc.hugetlb=1"));
        assert_eq!(wanted_of(MADVISE, Some("")).as_deref(), Some("glibc.malloc.hugetlb=1"));
    }

    #[cfg(target_env = "gnu")]
    #[test]
    fn other_settings_stay() {
        let settings = wanted_of(MADVISE, Some("glibc.malloc.check=0"));
        assert_eq!(settings.as_deref(), Some("glibc.malloc.check=0:glibc.malloc.hugetlb=1"));
    }

    #[test]
    fn nothing_is_done_where_it_makes_no_difference() {
        assert_eq!(wanted_of("[always] madvise never\n", None), None);
        assert_eq!(wanted_of("always madvise [never]\n", None), None);
        assert_eq!(wanted_of("", None), None, "no such kernel");
    }

    #[test]
    fn who_has_decided_is_not_overruled_nor_asked_again() {
        for decided in ["glibc.malloc.hugetlb=0", "a=1:glibc.malloc.hugetlb=1"] {
            assert_eq!(wanted_of(MADVISE, Some(decided)), None);
        }
    }
}
