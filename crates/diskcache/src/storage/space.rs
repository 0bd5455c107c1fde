//! How much is free on the disk of a store. Worker: the system is asked, now and then.

use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// An answer of the system holds for so long.
const AGE_MAX: Duration = Duration::from_millis(500);

/// A disk; each in bytes.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct DiskSpace {
    /// What a process without privileges may still write.
    pub free: u64,
    /// All that the disk holds.
    pub total: u64,
}

impl DiskSpace {
    /// Whether less than `min` bytes are free. Of a disk so small that this would be more than a
    /// twentieth of it, a twentieth counts.
    #[must_use]
    pub fn is_low(self, min: u64) -> bool {
        self.free < min.min(self.total / 20)
    }
}

/// What the system said last.
#[derive(Debug, Default)]
pub(super) struct LastLook(Mutex<Option<(Instant, Option<DiskSpace>)>>);

impl LastLook {
    /// The disk that `dir` is on; `None` if the system does not say.
    pub(super) fn space(&self, dir: &Path) -> Option<DiskSpace> {
        let mut last = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((at, space)) = *last
            && at.elapsed() < AGE_MAX
        {
            return space;
        }
        let space = rustix::fs::statvfs(dir).ok().map(|disk| DiskSpace {
            free: disk.f_bavail.saturating_mul(disk.f_frsize),
            total: disk.f_blocks.saturating_mul(disk.f_frsize),
        });
        *last = Some((Instant::now(), space));
        space
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_disk_is_not_low_for_ever() {
        let disk = |free, total| DiskSpace { free, total };
        assert!(disk(99, 1 << 40).is_low(100) && !disk(100, 1 << 40).is_low(100));
        assert!(disk(4, 100).is_low(1 << 30) && !disk(5, 100).is_low(1 << 30));
        assert!(!disk(0, 100).is_low(0), "no bound");
    }

    #[test]
    fn the_system_is_asked() {
        let dir = tempfile::tempdir().expect("a directory");
        let look = LastLook::default();
        let space = look.space(dir.path()).expect("it knows");
        assert!(space.free > 0 && space.free <= space.total);
        assert_eq!(look.space(Path::new("/nowhere")), Some(space), "not each time");
        assert_eq!(LastLook::default().space(Path::new("/nowhere")), None);
    }
}
