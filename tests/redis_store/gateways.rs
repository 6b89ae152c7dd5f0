//! Several gateway processes and a primary that is killed under load: what passes in the worst window, and for how long decisions
//! are not those of all together.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{
    PATIENCE,
    fleets::{PASSWORD, Watched},
};

const INSTANCES: usize = 3;
const LIMIT: usize = 60;
const WINDOW: Duration = Duration::from_secs(2);

/// The real binary. It waits for Redis as long as a busy machine may need: an answer that comes late is one that the instance gives for
/// itself, beside what the others count, and here only the outage may do that.
struct Gateway {
    child: Child,
    public: SocketAddr,
    admin: SocketAddr,
    _folder: TempDir,
}

impl Gateway {
    fn start(url: &str, upstream: SocketAddr) -> Self {
        let folder = TempDir::new().unwrap();
        let (public, admin) = (free_address(), free_address());
        let text = format!(
            "[server]\nhttp = [\"{public}\"]\nplaintext = true\nadmin = \"{admin}\"\n\
             [state]\nstore = \"redis\"\n[state.redis]\nurl = \"env:REDIS_URL\"\ntimeout = \"20s\"\n\
             sentinel = {{ master = \"{}\", password = \"env:REDIS_PASSWORD\" }}\n\
             [upstreams.backend]\nservers = [\"{upstream}\"]\n\
             [rate_limits.general]\nlimit = {LIMIT}\nwindow = \"{}s\"\nby = \"global\"\n\
             [[routes]]\nname = \"all\"\npath = \"/**\"\nupstream = \"backend\"\nrate_limits = [\"general\"]\n",
            Watched::MASTER,
            WINDOW.as_secs(),
        );
        let file = folder.path().join("gapura.toml");
        std::fs::write(&file, text).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_gapura"))
            .args(["run", "--config"])
            .arg(&file)
            .envs([("REDIS_URL", url), ("REDIS_PASSWORD", PASSWORD)])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let gateway = Self { child, public, admin, _folder: folder };
        gateway.until(|gateway| gateway.store_is_up());
        gateway
    }

    fn until(&self, holds: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !holds(self) {
            assert!(start.elapsed() < PATIENCE, "it does not happen");
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn store_is_up(&self) -> bool {
        get(self.admin, "/metrics").is_some_and(|text| text.contains("gapura_store_up{store=\"redis\"} 1"))
    }

    /// Whether a request passed.
    fn passes(&self) -> bool {
        let answer = get(self.public, "/").expect("the gateway answers");
        assert!(answer.starts_with("HTTP/1.1 200 ") || answer.starts_with("HTTP/1.1 429 "), "{answer}");
        answer.starts_with("HTTP/1.1 200 ")
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], crate::server::free_port()))
}

/// The whole answer; None while nobody listens.
fn get(address: SocketAddr, target: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    write!(stream, "GET {target} HTTP/1.1\r\nHost: gateway.test\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// Answers whatever comes. As long as the process.
fn upstream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answer = |mut stream: TcpStream| {
        let mut heard = Vec::new();
        let mut piece = [0; 4096];
        while let Ok(read @ 1..) = stream.read(&mut piece) {
            heard.extend_from_slice(&piece[..read]);
            if heard.ends_with(b"\r\n\r\n") {
                heard.clear();
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            }
        }
    };
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || answer(stream));
        }
    });
    address
}

#[test]
fn a_primary_that_is_killed_under_several_gateways() {
    let mut watched = Watched::start();
    let upstream = upstream();
    let gateways = [(); INSTANCES].map(|()| Gateway::start(&watched.url(), upstream));
    let start = Instant::now();
    let (mut killed, mut back, mut passed) = (None, None::<Instant>, Vec::new());
    // Until some windows after another server has taken over.
    while back.is_none_or(|back| back.elapsed() < 3 * WINDOW) {
        assert!(start.elapsed() < PATIENCE, "nobody takes over");
        for gateway in &gateways {
            let sent = start.elapsed();
            if gateway.passes() {
                passed.push((sent, start.elapsed()));
            }
        }
        match (killed, back) {
            (None, _) if start.elapsed() > 2 * WINDOW => {
                watched.servers[0].kill();
                killed = Some(Instant::now());
                // They notice with the next questions.
                gateways[0].passes();
            }
            (Some(killed), None) if killed.elapsed() > WINDOW / 4 && gateways.iter().all(Gateway::store_is_up) => {
                back = Some(Instant::now());
            }
            _ => {}
        }
        thread::sleep(Duration::from_millis(5));
    }
    let (killed, back) = (killed.unwrap() - start, back.unwrap() - start);
    // What certainly passed in one window: sent after it began, and answered before it ended.
    let worst = |from: Duration, to: Duration| {
        let begins = passed.iter().map(|(sent, _)| *sent).filter(|sent| *sent >= from && *sent + WINDOW <= to);
        let within =
            |since: Duration| passed.iter().filter(move |(sent, done)| *sent >= since && *done < since + WINDOW);
        begins.map(|since| within(since).count()).max().unwrap_or(0)
    };
    let (before, during, after) = (
        worst(Duration::ZERO, killed),
        worst(killed.saturating_sub(WINDOW), back + WINDOW),
        worst(back + WINDOW, start.elapsed()),
    );
    println!(
        "{INSTANCES} gateways, primary killed: the worst {} s of {LIMIT} had {before} before, {during} while it was away for {:.1} s \
         (bound {}), {after} from one window after",
        WINDOW.as_secs(),
        (back - killed).as_secs_f64(),
        INSTANCES * LIMIT
    );
    assert!(before <= LIMIT, "{before}");
    // Each counts for itself meanwhile, beside what all had before.
    assert!(during <= INSTANCES * LIMIT, "{during}");
    assert!((1..=LIMIT).contains(&after), "{after}");
}
