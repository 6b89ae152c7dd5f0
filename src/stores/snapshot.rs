//! The file that keeps counters over a restart. What cannot be such a file, or is not ours, stops the start before it could be
//! destroyed at the stop. A file of ours that is broken stops nothing: the gateway starts with counters at zero, and says so.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufReader, Read as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use gapura_config::model::Config;
use gapura_filters::{
    contract::Now,
    rate_limit::{Amount, MemoryCounters, Restored, SNAPSHOT_MAGIC},
};
use nix::libc;

/// For its owner: who reads it can test whether he guesses the address or id of a client.
const MODE: u32 = 0o600;

/// Why a path cannot be that of the snapshot, and what to do about it.
#[derive(Debug)]
pub(crate) struct Wrong {
    pub(crate) what: String,
    pub(crate) help: &'static str,
}

const ANOTHER: &str = "name a file of its own, in a folder that the gateway may write to: \"/var/lib/gapura/counters\"";
const FOLDER: &str = "make the folder, and give it to the user that the gateway runs as";
const TRUST: &str = "who could write it could set counts: `chown` it to the user that the gateway runs as and `chmod 600` it, \
                     or remove it";

/// What can be known before there is anything to write. What stands there already must be a snapshot that nobody else could
/// have written: it is trusted at the start, and replaced at the stop.
pub(crate) fn check(path: &Path) -> Result<(), Wrong> {
    let folder = folder(path);
    match fs::metadata(folder) {
        Ok(found) if !found.is_dir() => {
            return Err(Wrong { what: format!("`{}` is no folder", folder.display()), help: ANOTHER });
        }
        Ok(_) if path.is_dir() || path.file_name().is_none() => {
            return Err(Wrong {
                what: format!("`{}` is a folder, and should be a file", path.display()),
                help: ANOTHER,
            });
        }
        Ok(_) => {}
        Err(why) => {
            let what = format!("the folder `{}` cannot be used: {why}", folder.display());
            return Err(Wrong { what, help: FOLDER });
        }
    }
    let owner = probe(path).map_err(|why| {
        let what = format!("nothing can be written to the folder `{}`: {why}", folder.display());
        Wrong { what, help: FOLDER }
    })?;
    look(path, owner)
}

/// Whose a file is that is made beside the snapshot. Permissions do not tell whether one can be made: not on a file system
/// that is read-only, nor to root.
fn probe(path: &Path) -> io::Result<u32> {
    let probe = beside(path, &format!(".{}", std::process::id()));
    remove(&probe)?;
    let made = OpenOptions::new().write(true).create_new(true).mode(MODE).open(&probe)?;
    let owner = made.metadata().map(|about| about.uid());
    fs::remove_file(&probe)?;
    owner
}

/// What stands there, if anything does.
fn look(path: &Path, owner: u32) -> Result<(), Wrong> {
    let shown = path.display();
    let refuse = |what: String, help| Err(Wrong { what, help });
    let cannot = |why: io::Error| {
        let help = if why.kind() == io::ErrorKind::PermissionDenied { TRUST } else { ANOTHER };
        Wrong { what: format!("`{shown}` cannot be read: {why}"), help }
    };
    let regular = |about: &fs::Metadata| match about.is_file() {
        true => Ok(()),
        false => refuse(format!("`{shown}` is no regular file, and would be replaced by one"), ANOTHER),
    };
    match fs::metadata(path) {
        // Before it is opened, which some devices do not take lightly.
        Ok(about) => regular(&about)?,
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(why) => return Err(cannot(why)),
    }
    // It may be a pipe by now: one that nobody writes to would hold up the start for ever.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(cannot)?;
    let about = file.metadata().map_err(cannot)?;
    regular(&about)?;
    let mut first = Vec::with_capacity(SNAPSHOT_MAGIC.len());
    (&file).take(SNAPSHOT_MAGIC.len() as u64).read_to_end(&mut first).map_err(cannot)?;
    // Cut off, or empty, there is nothing in it to be lost.
    if !SNAPSHOT_MAGIC.starts_with(&first) {
        return refuse(format!("`{shown}` is another file, which would be replaced when the gateway stops"), ANOTHER);
    }
    // Root can do all that the gateway can.
    if about.uid() != owner && about.uid() != 0 {
        return refuse(format!("`{shown}` belongs to another user (uid {})", about.uid()), TRUST);
    }
    if about.mode() & 0o022 != 0 {
        return refuse(format!("`{shown}` can be written by others (mode {:03o})", about.mode() & 0o777), TRUST);
    }
    Ok(())
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
    let beside = beside(path, ".new");
    // Left over from a process that was killed meanwhile, or put there by somebody to be written through: never opened.
    remove(&beside)?;
    let write = || {
        let file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(&beside)?;
        // It may have come since the start.
        look(path, file.metadata()?.uid()).map_err(|wrong| io::Error::other(wrong.what))?;
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

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(why) if why.kind() != io::ErrorKind::NotFound => Err(why),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::{
            fs::{PermissionsExt as _, symlink},
            net::UnixListener,
        },
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

    fn wrong(path: &Path) -> String {
        check(path).map_or_else(|wrong| wrong.what, |()| "nothing".into())
    }

    #[test]
    fn what_can_never_be_written_is_known_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("counters");
        assert_eq!(wrong(&path), "nothing");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left of the look");
        assert!(check(Path::new("")).is_err() && check(Path::new("/")).is_err());
        assert!(wrong(&path.join("below")).contains("/counters` cannot be used: No such file"));
        fs::write(&path, b"").unwrap();
        assert!(wrong(&path.join("below")).ends_with("/counters` is no folder"));
        assert!(wrong(folder.path()).ends_with("is a folder, and should be a file"));
        assert!(wrong(&folder.path().join("no/such")).contains("cannot be used: No such file"));
        // Where permissions allow root everything.
        assert!(wrong(Path::new("/proc/counters")).starts_with("nothing can be written to the folder `/proc`: "));
    }

    /// Never replaced, neither at once nor at the stop.
    #[test]
    fn what_is_not_ours_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("precious");
        let counters = MemoryCounters::new(1000);
        let private = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, b"do not lose me").unwrap();
        private(&path);
        assert!(wrong(&path).contains("is another file, which would be replaced"));
        assert!(save(&path, &counters, NOW).unwrap_err().to_string().contains("is another file"));
        assert_eq!(fs::read(&path).unwrap(), b"do not lose me");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);

        for mode in [0o620, 0o602, 0o666] {
            let path = folder.path().join(format!("shared{mode:o}"));
            save(&path, &counters, NOW).unwrap();
            assert_eq!(wrong(&path), "nothing");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert!(wrong(&path).ends_with(&format!("can be written by others (mode {mode:03o})")));
        }
        let owner = probe(&path).unwrap();
        let others = folder.path().join("others");
        save(&others, &counters, NOW).unwrap();
        assert!(look(&others, owner).is_ok());
        if owner != 0 {
            assert!(look(&others, owner + 1).unwrap_err().what.contains("belongs to another user"));
        } else {
            std::os::unix::fs::chown(&others, Some(65_534), None).unwrap();
            assert!(wrong(&others).ends_with("belongs to another user (uid 65534)"));
        }
        for cut in [0, 7, SNAPSHOT_MAGIC.len()] {
            fs::write(&path, &SNAPSHOT_MAGIC[..cut]).unwrap();
            assert_eq!(wrong(&path), "nothing", "{cut} bytes of ours");
        }
    }

    #[test]
    fn what_is_no_file_is_refused_and_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        assert!(wrong(&pipe).ends_with("is no regular file, and would be replaced by one"));
        let socket = folder.path().join("socket");
        let _listener = UnixListener::bind(&socket).unwrap();
        assert!(check(&socket).is_err());
        symlink("/dev/null", folder.path().join("null")).unwrap();
        assert!(wrong(&folder.path().join("null")).ends_with("is no regular file, and would be replaced by one"));
        assert!(save(&pipe, &MemoryCounters::new(1000), NOW).is_err());
    }
}
