//! An upstream that answers with the head that it got, or switches protocols, and closes.

use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    /// The heads that it got.
    heads: Arc<Mutex<Vec<String>>>,
}

impl Upstream {
    /// `chooses`: the subprotocol of its WebSockets.
    pub(crate) fn start(chooses: Option<&'static str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&heads);
        thread::spawn(move || {
            for stream in listener.incoming() {
                answer(&stream.unwrap(), chooses, &seen);
            }
        });
        Self { address, heads }
    }

    /// The last head, in lower case.
    pub(crate) fn last(&self) -> String {
        self.heads.lock().unwrap().last().unwrap().to_lowercase()
    }

    pub(crate) fn count(&self) -> usize {
        self.heads.lock().unwrap().len()
    }
}

fn answer(mut stream: &TcpStream, chooses: Option<&str>, seen: &Mutex<Vec<String>>) {
    let lines = BufReader::new(stream).lines().map_while(Result::ok);
    let head: String = lines.take_while(|line| !line.is_empty()).map(|line| line + "\n").collect();
    let upgrade = head.to_lowercase().contains("upgrade: websocket");
    seen.lock().unwrap().push(head);
    let answer = if upgrade {
        let chosen = chooses.map(|name| format!("Sec-WebSocket-Protocol: {name}\r\n")).unwrap_or_default();
        format!("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{chosen}\r\n")
    } else {
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok".to_owned()
    };
    // The gateway may have been stopped meanwhile.
    let _ = stream.write_all(answer.as_bytes());
}
