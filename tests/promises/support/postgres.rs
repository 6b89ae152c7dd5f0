//! A PostgreSQL of the test's own: a new cluster on a unix socket, by a user without privileges, gone when dropped.

use std::{
    os::unix::fs::{MetadataExt as _, chown},
    path::{Path, PathBuf},
    process::Command,
};

pub struct Postgres {
    folder: tempfile::TempDir,
    programs: PathBuf,
}

/// Debian's `nobody`. PostgreSQL does not run as root.
const NOBODY: u32 = 65_534;

impl Postgres {
    #[track_caller]
    pub fn start() -> Self {
        let postgres =
            Self { folder: tempfile::Builder::new().prefix("gapura-pg-").tempdir().unwrap(), programs: programs() };
        if running_as_root() {
            chown(postgres.folder.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let data = postgres.data();
        postgres.run("initdb", &["-D", &data, "-A", "trust", "-U", "gapura", "--no-sync"]);
        let socket = postgres.folder.path().display();
        let options = format!("-c listen_addresses= -c unix_socket_directories={socket} -c fsync=off");
        let log = format!("{socket}/log");
        postgres.run("pg_ctl", &["-D", &data, "-o", &options, "-l", &log, "-w", "start"]);
        postgres
    }

    pub fn url(&self) -> String {
        format!("postgres://gapura@localhost/postgres?host={}", self.folder.path().display())
    }

    /// As its owner works with it.
    #[track_caller]
    pub fn execute(&self, statements: &str) {
        let socket = self.folder.path().display().to_string();
        let end = ["-h", &socket, "-U", "gapura", "-d", "postgres", "-v", "ON_ERROR_STOP=1", "-q"];
        self.run("psql", &[&end[..], &["-c", statements]].concat());
    }

    /// As a crash ends it.
    #[track_caller]
    pub fn kill(&self) {
        self.run("pg_ctl", &["-D", &self.data(), "-m", "immediate", "-w", "stop"]);
    }

    fn data(&self) -> String {
        format!("{}/data", self.folder.path().display())
    }

    #[track_caller]
    fn run(&self, program: &str, arguments: &[&str]) {
        let path = self.programs.join(program);
        let mut command = if running_as_root() {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"]).arg(path);
            command
        } else {
            Command::new(path)
        };
        // Its own standard output stays open as long as the server runs: nobody may wait for its end.
        let told = std::fs::File::create(self.folder.path().join("told")).unwrap();
        let status = command.args(arguments).stdout(told.try_clone().unwrap()).stderr(told).status();
        let status = status.unwrap_or_else(|error| panic!("{program}: {error}"));
        let told = std::fs::read_to_string(self.folder.path().join("told")).unwrap();
        assert!(status.success(), "{program}: {told}");
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if Path::new(&self.data()).join("postmaster.pid").exists() {
            self.kill();
        }
    }
}

/// Debian has them in a folder for each version, outside the path.
#[track_caller]
fn programs() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<_> = versions.map(|version| version.path().join("bin")).collect();
    found.retain(|folder| folder.join("initdb").exists());
    found.sort();
    found.pop().unwrap_or_else(|| panic!("PostgreSQL is missing; run `scripts/install.sh test` once"))
}

fn running_as_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}
