//! Files that a configuration names: read whole, and never more than they can sensibly be.

use std::{fs::File, io::Read as _, path::Path};

/// Larger than any key, key set or bundle of certificates; more than that is a log file or a disk image, named by mistake.
const MAX_BYTES: u64 = 1 << 20;

/// The bytes of a regular file of at most 1 MiB. Anything else is refused before it is opened: a device has no end, and a
/// pipe nobody writes to would hold up the start or the reload for ever. The error names the file and the reason.
pub fn read(path: &Path) -> Result<Vec<u8>, String> {
    read_up_to(path, MAX_BYTES)
}

/// The same of a file that may be larger, or must be smaller.
pub fn read_up_to(path: &Path, max: u64) -> Result<Vec<u8>, String> {
    let shown = path.display();
    let cannot = |why: std::io::Error| format!("`{shown}` cannot be read: {why}");
    let about = std::fs::metadata(path).map_err(cannot)?;
    if about.is_dir() {
        return Err(format!("`{shown}` is a folder, not a file"));
    }
    if !about.is_file() {
        return Err(format!("`{shown}` is no regular file: a pipe, a socket or a device is not read"));
    }
    let too_large = |size: u64| format!("`{shown}` has {size} bytes; at most {max} are read");
    if about.len() > max {
        return Err(too_large(about.len()));
    }
    // Of its size at once: a vector that grows leaves copies of a secret behind.
    let mut bytes = Vec::with_capacity(usize::try_from(about.len()).unwrap_or_default() + 1);
    // Some files tell their size as 0, as all of /proc do, and others grow.
    File::open(path).and_then(|file| file.take(max + 1).read_to_end(&mut bytes)).map_err(cannot)?;
    if bytes.len() as u64 > max { Err(too_large(bytes.len() as u64)) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_of_sensible_size_is_not_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let large = folder.path().join("large");
        // A hole: it takes no disk.
        File::create(&large).and_then(|file| file.set_len(MAX_BYTES + 1)).expect("a file");
        let _listener = std::os::unix::net::UnixListener::bind(folder.path().join("socket")).expect("a socket");
        for (path, part) in [
            (large.as_path(), "has 1048577 bytes; at most 1048576 are read"),
            (folder.path(), "is a folder"),
            (&folder.path().join("socket"), "is no regular file"),
            (&folder.path().join("absent"), "cannot be read: No such file"),
            (Path::new("/dev/zero"), "is no regular file"),
        ] {
            let why = read(path).expect_err("refused");
            assert!(why.starts_with(&format!("`{}` ", path.display())) && why.contains(part), "{why}");
        }
        let exact = folder.path().join("exact");
        std::fs::write(&exact, vec![7; MAX_BYTES as usize]).expect("a file");
        assert_eq!(read(&exact).expect("just fits").len() as u64, MAX_BYTES);
    }
}
