//! HTTP/2 by hand, for requests that no client would write: frames (RFC 9113), and HPACK without any compression (RFC 7541).

use std::net::SocketAddr;

use super::wire::Wire;

/// One connection with one stream.
pub struct H2(Wire);

/// What became of the stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The header block as it came, and the body.
    Answered { headers: Vec<u8>, body: String },
    /// RST_STREAM.
    Reset,
    /// GOAWAY, or the end of the connection.
    Ended,
}

impl H2 {
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Self {
        let mut wire = Wire::tls(address, &["h2"]);
        wire.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").send(frame(SETTINGS, 0, 0, &[]));
        Self(wire)
    }

    /// HEADERS, and DATA where there is a body, on stream 1.
    pub fn send(&mut self, fields: &[(&[u8], &[u8])], body: Option<&[u8]>) -> &mut Self {
        let block: Vec<u8> = fields.iter().flat_map(|(name, value)| literal(name, value)).collect();
        let end = if body.is_none() { END_STREAM } else { 0 };
        self.0.send(frame(HEADERS, END_HEADERS | end, 1, &block));
        if let Some(body) = body {
            self.0.send(frame(DATA, END_STREAM, 1, body));
        }
        self
    }

    /// Reads until the stream has ended. SETTINGS and PING need no answer for that long.
    #[track_caller]
    pub fn outcome(&mut self) -> Outcome {
        let (mut headers, mut body) = (Vec::new(), Vec::new());
        loop {
            let Some(head) = self.0.take(9) else { return Outcome::Ended };
            let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
            let Some(payload) = self.0.take(length) else { return Outcome::Ended };
            match head[3] {
                HEADERS => headers.extend(&payload),
                DATA => body.extend(&payload),
                RST_STREAM => return Outcome::Reset,
                GOAWAY => return Outcome::Ended,
                _ => continue,
            }
            if head[4] & END_STREAM != 0 {
                return Outcome::Answered { headers, body: String::from_utf8_lossy(&body).into_owned() };
            }
        }
    }
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A field without indexing, name and value as they are.
fn literal(name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0];
    for text in [name, value] {
        // A length in a prefix of seven bits (RFC 7541, section 5.1).
        match text.len() {
            short @ 0..127 => bytes.push(u8::try_from(short).unwrap()),
            long => {
                bytes.push(127);
                let mut rest = long - 127;
                while rest >= 128 {
                    bytes.push(0x80 | u8::try_from(rest % 128).unwrap());
                    rest /= 128;
                }
                bytes.push(u8::try_from(rest).unwrap());
            }
        }
        bytes.extend(text);
    }
    bytes
}
