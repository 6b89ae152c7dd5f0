//! The file that keeps counters over a restart. Whatever is wrong with it, the gateway starts: with counters at zero, and says so.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufReader},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use gapura_config::model::Config;
use gapura_filters::{
    contract::Now,
    rate_limit::{Amount, MemoryCounters, Restored},
};

/// For its owner: who reads it can test whether he guesses the address or id of a client.
const MODE: u32 = 0o600;

/// What can be known before there is anything to write.
pub(crate) fn check(path: &Path) -> Result<(), String> {
    let folder = folder(path);
    match fs::metadata(folder) {
        Ok(found) if !found.is_dir() => Err(format!("`{}` is no folder", folder.display())),
        Ok(_) if path.is_dir() || path.file_name().is_none() => {
            Err(format!("`{}` is a folder, and should be a file", path.display()))
        }
        Ok(_) => Ok(()),
        Err(why) => Err(format!("the folder `{}` cannot be used: {why}", folder.display())),
    }
}

/// None: counters begin at zero.
pub(crate) fn restore(path: &Path, config: &Config, unix_ms: u64) -> Option<Restored> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(why) if why.kind() == io::ErrorKind::NotFound => {
            log::info!("counters begin at zero: there is no {} yet", path.display());
            return None;
        }
        Err(why) => {
            log::warn!("counters begin at zero: {} cannot be read: {why}", path.display());
            return None;
        }
    };
    match MemoryCounters::restore(config.state.max_keys, &config.rate_limits, unix_ms, BufReader::new(file)) {
        Ok(restored) => {
            let Restored { age, kept, dropped, .. } = &restored;
            let Amount { rules, counters } = kept;
            log::info!("{counters} counters of {rules} rules go on from {}, written {age:?} ago", path.display());
            if dropped.counters > 0 {
                let Amount { rules, counters } = dropped;
                log::info!("{counters} counters of {rules} rules begin at zero: their rule is gone, or is another now");
            }
            Some(restored)
        }
        Err(why) => {
            log::warn!("counters begin at zero: {} is not used: {why}", path.display());
            None
        }
    }
}

/// Whole or not at all: what stood there stays until the new file is complete and on the disk.
pub(crate) fn save(path: &Path, counters: &MemoryCounters, now: Now) -> io::Result<Amount> {
    let beside = beside(path);
    // Left over from a process that was killed meanwhile, or put there by somebody to be written through: never opened.
    match fs::remove_file(&beside) {
        Err(why) if why.kind() != io::ErrorKind::NotFound => return Err(why),
        _ => {}
    }
    let write = || {
        let file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(&beside)?;
        let amount = counters.save(now, &file)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        // So that the new name outlives a power cut.
        File::open(folder(path))?.sync_all()?;
        Ok(amount)
    };
    write().inspect_err(|_| {
        let _ = fs::remove_file(&beside);
    })
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::fs::{PermissionsExt as _, symlink},
        time::Duration,
    };

    use super::*;

    const NOW: Now = Now { monotonic: Duration::from_secs(10), unix_ms: 0 };

    #[test]
    fn a_file_is_replaced_whole_and_is_its_owners() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("counters");
        let counters = MemoryCounters::new(1000);
        // Neither followed nor kept.
        let elsewhere = folder.path().join("elsewhere");
        symlink(&elsewhere, folder.path().join("counters.new")).unwrap();
        for _ in 0..2 {
            save(&path, &counters, NOW).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(!elsewhere.exists());
    }

    #[test]
    fn a_file_that_cannot_be_written_leaves_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("counters");
        // Nothing replaces a folder that is not empty.
        fs::create_dir_all(path.join("full")).unwrap();
        assert!(save(&path, &MemoryCounters::new(1000), NOW).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(save(&folder.path().join("no/such/folder"), &MemoryCounters::new(1000), NOW).is_err());
    }

    #[test]
    fn what_can_never_be_written_is_known_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("counters");
        assert_eq!(check(&path), Ok(()));
        assert_eq!(check(Path::new("counters")), Ok(()));
        assert!(check(Path::new("")).is_err() && check(Path::new("/")).is_err());
        fs::write(&path, b"").unwrap();
        assert_eq!(check(&path), Ok(()));
        assert!(check(&path.join("below")).unwrap_err().ends_with("/counters` is no folder"));
        assert!(check(folder.path()).unwrap_err().ends_with("is a folder, and should be a file"));
        assert!(check(&folder.path().join("no/such")).unwrap_err().contains("cannot be used: No such file"));
    }
}
