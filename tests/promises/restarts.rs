//! What was used up of a limit stays used up over a restart, where the operator wants it kept; whatever happens to the file, the
//! gateway starts.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use crate::support::{Gateway, Setup, Upstream, expect_problem, wait::until_true};

const TABLES: &str = r#"
[state]
snapshot = "@FOLDER@/counters"

[upstreams.backend]
servers = ["@UPSTREAM@"]

[rate_limits.hourly]
limit = 5
window = "@WINDOW@"
by = "header:x-tenant"
algorithm = "@ALGORITHM@"

[[routes]]
name = "all"
path = "/**"
upstream = "backend"
rate_limits = ["hourly"]
"#;

const ALGORITHMS: [&str; 3] = ["sliding_window", "sliding_log", "gcra"];

fn start(upstream: &Upstream, folder: &Path, (algorithm, window): (&str, &str)) -> Gateway {
    let setup = Setup::plain(TABLES).put("UPSTREAM", upstream.address()).put("FOLDER", folder.display());
    setup.put("ALGORITHM", algorithm).put("WINDOW", window).start()
}

#[track_caller]
fn stop(gateway: &Gateway) {
    gateway.signal("TERM");
    assert_eq!(gateway.exit().code(), Some(0));
}

fn passes(gateway: &Gateway, tenant: &str) -> usize {
    (0..6).take_while(|_| gateway.request("GET", "/", &[("X-Tenant", tenant)], b"").status == 200).count()
}

#[track_caller]
fn expect_refused(gateway: &Gateway, tenant: &str) {
    expect_problem(&gateway.request("GET", "/", &[("X-Tenant", tenant)], b""), 429, "RATE_LIMITED");
}

/// A reload before it, and one after it, change nothing.
#[test]
fn what_is_used_up_stays_used_up() {
    let upstream = Upstream::ok();
    for algorithm in ALGORITHMS {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("counters");
        let first = start(&upstream, folder.path(), (algorithm, "1h"));
        assert_eq!(passes(&first, "acme"), 5);
        assert_eq!(first.request("GET", "/", &[("X-Tenant", "other")], b"").status, 200);
        assert_eq!(first.reload().status, 200);
        expect_refused(&first, "acme");
        assert!(!file.exists(), "it is written when the gateway stops");
        stop(&first);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let bytes = fs::read(&file).unwrap();
        for tenant in ["acme", "other"] {
            assert!(bytes.windows(tenant.len()).all(|text| text != tenant.as_bytes()), "{tenant} can be read in it");
        }
        let second = start(&upstream, folder.path(), (algorithm, "1h"));
        expect_refused(&second, "acme");
        assert_eq!(second.reload().status, 200);
        expect_refused(&second, "acme");
        assert_eq!(passes(&second, "other"), 4);
        assert_eq!(passes(&second, "new"), 5);
        stop(&second);
        let third = start(&upstream, folder.path(), (algorithm, "1h"));
        ["acme", "other", "new"].iter().for_each(|tenant| expect_refused(&third, tenant));
    }
}

#[test]
fn another_rule_begins_anew() {
    let upstream = Upstream::ok();
    let folder = tempfile::tempdir().unwrap();
    let mut before = ("sliding_window", "1h");
    for now in [("sliding_window", "2h"), ("sliding_log", "2h"), ("sliding_log", "299s"), ("sliding_log", "299s")] {
        let gateway = start(&upstream, folder.path(), before);
        passes(&gateway, "acme");
        stop(&gateway);
        // The last of them: windows this short are not kept.
        assert_eq!(passes(&start(&upstream, folder.path(), now), "acme"), 5, "{before:?} then {now:?}");
        before = now;
    }
}

/// Counts begin at zero, the log says why, and the next one is sound again.
#[test]
fn a_file_that_is_broken_stops_nothing() {
    let upstream = Upstream::ok();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("counters");
    let hourly = ("sliding_window", "1h");
    let gateway = start(&upstream, folder.path(), hourly);
    passes(&gateway, "acme");
    stop(&gateway);
    let whole = fs::read(&file).unwrap();
    let mut other = whole.clone();
    other[60] ^= 1;
    let cases: [(&[u8], &str); 4] = [
        (b"", "it ends too early"),
        (&whole[..whole.len() - 5], "it ends too early"),
        (&other, "it"),
        (&[&whole[..], b"more"].concat(), "it goes on behind its end"),
    ];
    for (bytes, why) in cases {
        fs::write(&file, bytes).unwrap();
        let gateway = start(&upstream, folder.path(), hourly);
        let told = format!("counters begin at zero: {} is not used: {why}", file.display());
        until_true(&told, || gateway.log().contains(&told));
        assert_eq!(passes(&gateway, "acme"), 5);
        stop(&gateway);
        expect_refused(&start(&upstream, folder.path(), hourly), "acme");
    }
    // What cannot be written is told, and the stop is an orderly one all the same.
    let gateway = start(&upstream, folder.path(), hourly);
    fs::remove_file(&file).unwrap();
    fs::create_dir_all(file.join("full")).unwrap();
    stop(&gateway);
    until_true("the log says so", || gateway.log().contains("the counters cannot be written to"));
}

#[test]
fn a_place_where_nothing_can_be_written_is_a_fault() {
    let setup = Setup::plain(TABLES).put("FOLDER", "/no/such/folder").put("UPSTREAM", "127.0.0.1:1");
    let setup = setup.put("ALGORITHM", "gcra").put("WINDOW", "1h");
    let checked = setup.command(&["check"]);
    let told = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert_eq!(checked.status.code(), Some(1), "{told}");
    assert!(told.contains("the folder `/no/such/folder` cannot be used: No such file"), "{told}");
    assert!(told.contains("gapura.toml:8:12"), "{told}");
    assert_eq!(setup.command(&["run"]).status.code(), Some(1));
}

/// By `check` and by the start, which never waits for what has no end.
#[test]
fn what_stands_there_and_is_not_ours_is_a_fault_and_stays() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("counters");
    let setup = Setup::plain(TABLES).put("FOLDER", folder.path().display()).put("UPSTREAM", "127.0.0.1:1");
    let setup = setup.put("ALGORITHM", "gcra").put("WINDOW", "1h");
    let refused = |why: &str| {
        for command in ["check", "run"] {
            let done = setup.command(&[command]);
            let told = String::from_utf8_lossy(&done.stderr).into_owned();
            assert_eq!(done.status.code(), Some(1), "{command}: {told}");
            assert!(told.contains(why) && told.contains("help"), "{command}: {told}");
        }
    };
    fs::write(&file, b"precious").unwrap();
    refused("is another file, which would be replaced when the gateway stops");
    assert_eq!(fs::read(&file).unwrap(), b"precious");
    fs::write(&file, b"gapura counters\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    refused("can be written by others (mode 666)");
    fs::remove_file(&file).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&file).status().unwrap().success());
    refused("is no regular file");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

/// What came while the gateway ran is not replaced either; the stop is an orderly one all the same.
#[test]
fn a_file_that_came_meanwhile_stays() {
    let upstream = Upstream::ok();
    let folder = tempfile::tempdir().unwrap();
    let gateway = start(&upstream, folder.path(), ("gcra", "1h"));
    let file = folder.path().join("counters");
    fs::write(&file, b"precious").unwrap();
    stop(&gateway);
    until_true("the log says so", || gateway.log().contains("the counters cannot be written to"));
    assert_eq!(fs::read(&file).unwrap(), b"precious");
}
