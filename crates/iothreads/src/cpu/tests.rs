//! Tables of file contents as kernels write them, and a few readings of this machine.

use super::*;

/// A directory that looks like `/` and is removed when dropped.
struct Root(PathBuf);

impl Root {
    fn new(name: &str, files: &[(&str, &str)]) -> Self {
        let root = std::env::temp_dir().join(format!("iothreads-{name}-{}", std::process::id()));
        for (path, text) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().expect("has a parent")).expect("temp dir");
            fs::write(path, text).expect("temp file");
        }
        Self(root)
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const MOUNT_V2: &str = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
const MOUNT_V1: &str = "22 1 0:5 / /proc rw - proc proc rw\n\
     33 25 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n";

#[test]
fn lists_parse_print_and_refuse() {
    for (text, printed, count) in [
        ("0", "0", 1),
        ("0-3", "0-3", 4),
        ("8,0-1", "0-1,8", 3),
        ("1,1,1-2", "1-2", 2),
        ("0,2,4", "0,2,4", 3),
        ("5-5", "5", 1),
    ] {
        let list: CpuList = text.parse().expect(text);
        assert_eq!((list.to_string().as_str(), list.len()), (printed, count), "{text}");
    }
    for text in
        ["", "a", "1-", "-1", "3-1", "0,,1", "0-99999999999", "4096", "1.5", "0:2", "0-3:0", "0-3:"]
    {
        assert_eq!(text.parse::<CpuList>(), Err(BadCpuList), "{text}");
    }
}

#[test]
fn threads_beyond_the_list_start_over() {
    let list: CpuList = "2,5".parse().expect("a list");
    assert_eq!([0, 1, 2, 3].map(|index| list.cpu_for(index)), [2, 5, 2, 5]);
}

#[test]
fn count_is_the_least_of_the_three_and_never_zero() {
    for (online, allowed, quota_permille, count) in [
        (8, 8, None, 8),
        (8, 2, None, 2),
        (8, 8, Some(2500), 2),
        (8, 8, Some(300), 1),
        (2, 8, Some(64_000), 2),
    ] {
        let cpus = UsableCpus { online, allowed, quota_permille };
        assert_eq!(cpus.count(), count, "{cpus:?}");
    }
}

#[test]
fn quota_of_version_two_is_the_tightest_on_the_way_up() {
    let root = Root::new(
        "v2",
        &[
            ("proc/self/cgroup", "0::/outer/inner\n"),
            ("proc/self/mountinfo", MOUNT_V2),
            ("sys/fs/cgroup/outer/inner/cpu.max", "max 100000\n"),
            ("sys/fs/cgroup/outer/cpu.max", "150000 100000\n"),
        ],
    );
    assert_eq!(quota_permille(&root.0), Some(1500));
}

#[test]
fn quota_of_version_two_without_a_limit_is_none() {
    let root = Root::new(
        "v2none",
        &[
            ("proc/self/cgroup", "0::/\n"),
            ("proc/self/mountinfo", MOUNT_V2),
            ("sys/fs/cgroup/cpu.max", "max 100000\n"),
        ],
    );
    assert_eq!(quota_permille(&root.0), None);
}

#[test]
fn quota_of_version_one_is_read_from_its_own_mount() {
    let root = Root::new(
        "v1",
        &[
            ("proc/self/cgroup", "4:memory:/m\n3:cpu,cpuacct:/docker/abc\n0::/\n"),
            ("proc/self/mountinfo", MOUNT_V1),
            ("sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_quota_us", "400000\n"),
            ("sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_period_us", "100000\n"),
            ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n"),
            ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
        ],
    );
    assert_eq!(quota_permille(&root.0), Some(4000));
}

#[test]
fn quota_inside_a_container_uses_the_mounted_group() {
    // The path names the host's view, of which only our own group is mounted.
    let mount = MOUNT_V2.replace(" / /sys", " /docker/abc /sys");
    let root = Root::new(
        "ns",
        &[
            ("proc/self/cgroup", "0::/docker/abc\n"),
            ("proc/self/mountinfo", &mount),
            ("sys/fs/cgroup/cpu.max", "200000 100000\n"),
        ],
    );
    assert_eq!(quota_permille(&root.0), Some(2000));
}

/// A group that is hidden or gone is held to the limits of those above it; neither another mount
/// nor a name that begins alike is ours.
#[test]
fn quota_is_that_of_our_group_and_of_no_other() {
    let other = MOUNT_V2.replace(" / /sys/fs/cgroup", " /other /run/cgroup");
    let both = format!("{other}{MOUNT_V2}");
    let own = MOUNT_V2.replace(" / /sys", " /docker/abc /sys");
    let spaced = MOUNT_V2.replace(" / /sys/fs/cgroup", r" /my\040own /sys/fs/cgroup/a\134b\011c");
    let cases = [
        ("hidden", "0::/a/b/c\n", MOUNT_V2, "a", "ab", Some(3000)),
        ("deleted", "0::/a/b (deleted)\n", MOUNT_V2, "a", "a/b", Some(3000)),
        ("mounts", "0::/pod\n", &both, "pod", "../../../run/cgroup", Some(3000)),
        ("alike", "0::/docker/abcd\n", &own, "", "d", Some(3000)),
        ("spaced", "0::/my own/a\n", &spaced, "a\\b\tc/a", "a", Some(3000)),
        ("outside", "0::/../peer\n", MOUNT_V2, "", "../peer", Some(3000)),
    ];
    for (name, group, mounts, ours, not_ours, quota) in cases {
        let file = |group: &str| format!("sys/fs/cgroup/{group}/cpu.max");
        let files = [
            ("proc/self/cgroup", group),
            ("proc/self/mountinfo", mounts),
            (&file(ours), "300000 100000\n"),
            (&file(not_ours), "100000 100000\n"),
        ];
        let root = Root::new(name, &files);
        assert_eq!(quota_permille(&root.0), quota, "{name}");
    }
}

#[test]
fn broken_files_mean_no_quota_and_one_cpu_at_least() {
    let root = Root::new(
        "broken",
        &[
            ("proc/self/cgroup", "nonsense\n0::/\n"),
            ("proc/self/mountinfo", MOUNT_V2),
            ("sys/fs/cgroup/cpu.max", "100000 0\n"),
            ("sys/devices/system/cpu/online", "zero"),
        ],
    );
    let cpus = UsableCpus::read_under(&root.0);
    assert_eq!(cpus.quota_permille, None);
    assert!(cpus.count() >= 1);
}

#[test]
fn idle_time_of_a_mask_sums_its_lines_only() {
    let text = "cpu  9 9 9 900 90 0\ncpu0 1 0 2 100 5 0\ncpu1 1 0 2 200 7 0\nintr 5\ncpu9 x\n";
    let mask = |text: &str| text.parse::<CpuList>().expect("a list");
    assert_eq!(idle_of_stat(text, &mask("1"), 10), Some(Duration::from_millis(2070)));
    assert_eq!(idle_of_stat(text, &mask("0-1"), 10), Some(Duration::from_millis(3120)));
    assert_eq!(idle_of_stat(text, &mask("0-2"), 10), None, "a line is missing");
}

#[test]
fn proc_fields_parse_or_are_unknown() {
    assert_eq!(idle_of_uptime("10.00 3559.44\n"), Some(Duration::from_millis(3_559_440)));
    assert_eq!(idle_of_uptime("10.00"), None);
    assert_eq!(run_delay_of("879434 77 2\n"), Some(Duration::from_nanos(77)));
    assert_eq!(run_delay_of(""), None);
}

#[cfg(target_os = "linux")]
#[test]
fn a_meter_counts_work_and_not_sleep() {
    let mut meter = Meter::new();
    let before = meter.read(true);
    let deadline = Duration::from_millis(20);
    while thread_cpu_time().expect("linux tells") < before.cpu_time.expect("linux tells") + deadline
    {
        std::hint::spin_loop();
    }
    let worked = meter.read(true);
    assert!(worked.cpu_time.expect("linux tells") - before.cpu_time.expect("read") >= deadline);
    assert!(worked.process_cpu_time >= worked.cpu_time);
    std::thread::sleep(Duration::from_millis(50));
    let slept = meter.read(false);
    let asleep = slept.cpu_time.expect("linux tells") - worked.cpu_time.expect("read");
    assert!(asleep < Duration::from_millis(40), "{asleep:?} of CPU while asleep");
    assert_eq!(slept.idle, None, "not asked for");
}

#[cfg(target_os = "linux")]
#[test]
fn a_pinned_thread_can_be_let_go_again() {
    let before = CpuList::allowed().expect("linux has masks");
    let first: CpuList = before.cpu_for(0).to_string().parse().expect("one CPU");
    assert!(before.pin_current(0));
    assert_eq!(CpuList::allowed(), Some(first));
    assert!(before.allow_current());
    assert_eq!(CpuList::allowed(), Some(before));
}

#[cfg(target_os = "linux")]
#[test]
fn a_cpu_that_no_mask_can_name_is_refused_as_one_that_is_not_there() {
    let before = CpuList::allowed();
    for cpu in ["1000", "1023", "1024", "4095"] {
        let nowhere: CpuList = cpu.parse().expect("a list");
        assert!(!nowhere.pin_current(0), "{cpu}");
        assert!(!nowhere.allow_current(), "{cpu}");
        assert_eq!(CpuList::allowed(), before, "nothing changed");
    }
}

#[test]
fn a_refresh_keeps_the_mask_of_the_first_reading() {
    let cpus = UsableCpus { online: 1, allowed: 77, quota_permille: None };
    let fresh = cpus.refreshed();
    assert_eq!(fresh.allowed, 77);
    assert_eq!(fresh.online, UsableCpus::read().online);
}
