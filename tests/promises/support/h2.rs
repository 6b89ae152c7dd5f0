//! HTTP/2 by hand, for requests that no client would write: frames (RFC 9113), and HPACK without any compression (RFC 7541).

use std::net::SocketAddr;

use super::wire::Wire;

/// One connection. Whoever opens one stream only reads its [`Outcome`]; of several, frames are read one by one.
pub struct H2(Wire);

/// A frame as it came, of whatever stream.
#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The last one of its stream, which came to its end as it should.
    pub fn ends_stream(&self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }
}

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
        self.0.send(request(1, fields, body));
        self
    }

    /// Frames as they are, of [`request`], [`begun`], [`reset`] and [`window`]. False once the gateway has gone.
    pub fn frames(&mut self, frames: &[u8]) -> bool {
        self.0.try_send(frames)
    }

    /// The next frame. SETTINGS and PING need no answer for as long as a test takes.
    #[track_caller]
    pub fn frame(&mut self) -> Option<Frame> {
        let head = self.0.take(9)?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let payload = self.0.take(length)?;
        Some(Frame { kind: head[3], flags: head[4], payload })
    }

    /// Reads until the stream has ended.
    #[track_caller]
    pub fn outcome(&mut self) -> Outcome {
        let (mut headers, mut body) = (Vec::new(), Vec::new());
        loop {
            let Some(frame) = self.frame() else { return Outcome::Ended };
            let ends = frame.ends_stream();
            match frame.kind {
                HEADERS => headers.extend(frame.payload),
                DATA => body.extend(frame.payload),
                RST_STREAM => return Outcome::Reset,
                GOAWAY => return Outcome::Ended,
                _ => continue,
            }
            if ends {
                return Outcome::Answered { headers, body: String::from_utf8_lossy(&body).into_owned() };
            }
        }
    }
}

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
pub const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// RFC 9113, section 7.
const CANCEL: u32 = 8;

/// A whole request: HEADERS, and DATA where there is a body.
pub fn request(stream: u32, fields: &[(&[u8], &[u8])], body: Option<&[u8]>) -> Vec<u8> {
    let end = if body.is_none() { END_STREAM } else { 0 };
    let mut frames = frame(HEADERS, END_HEADERS | end, stream, &block(fields));
    if let Some(body) = body {
        frames.extend(frame(DATA, END_STREAM, stream, body));
    }
    frames
}

/// A request whose body has begun, and of which more is to come.
pub fn begun(stream: u32, fields: &[(&[u8], &[u8])], body: &[u8]) -> Vec<u8> {
    let mut frames = frame(HEADERS, END_HEADERS, stream, &block(fields));
    frames.extend(frame(DATA, 0, stream, body));
    frames
}

/// The client wants no answer any more.
pub fn reset(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes())
}

/// So many more bytes may come; on stream 0 of the whole connection.
pub fn window(stream: u32, more: usize) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &u32::try_from(more).unwrap().to_be_bytes())
}

fn block(fields: &[(&[u8], &[u8])]) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| literal(name, value)).collect()
}

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
