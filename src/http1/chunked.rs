//! Where a chunked body ends, found before anybody else reads it (RFC 9112, section 7.1).
//!
//! Pingora's parser is lenient about line ends and reads on into whatever follows a body. Here each byte of framing is
//! checked, so that gateway and client agree on the last byte of a request: a disagreement is how requests are smuggled.

use bytes::{Buf, Bytes, BytesMut};

/// Follows the framing of one body.
#[derive(Debug, Default)]
pub(crate) struct Chunks {
    state: State,
    /// Bytes left in the chunk.
    left: u64,
    /// Digits of its size seen, then bytes of its extension or of the trailers.
    line: usize,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Size,
    Extension,
    SizeEnd,
    Data,
    DataEnd,
    DataEndLine,
    /// At the start of a line behind the last chunk.
    Trailer,
    InTrailer,
    TrailerEnd,
    LastEnd,
    Done,
}

/// Digits of a size: 2^60 bytes are more than any body.
const MAX_DIGITS: usize = 15;
/// Extensions of a chunk, and all trailers together. Nobody uses the first, and few the second.
const MAX_EXTENSION: usize = 256;
const MAX_TRAILERS: usize = 8 * 1024;

impl Chunks {
    pub(crate) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// How many of these bytes belong to the body. An error names the rule that they break.
    pub(crate) fn scan(&mut self, bytes: &[u8]) -> Result<usize, &'static str> {
        let mut at = 0;
        while at < bytes.len() && self.state != State::Done {
            if self.state == State::Data {
                let skip = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len() - at);
                at += skip;
                self.left -= skip as u64;
                if self.left == 0 {
                    self.state = State::DataEnd;
                }
                continue;
            }
            self.step(bytes[at])?;
            at += 1;
        }
        Ok(at)
    }

    /// The next piece of data, taken off `buffer`. None: more bytes are needed, or [`Self::is_done`].
    pub(crate) fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Bytes>, &'static str> {
        let mut framing = 0;
        while framing < buffer.len() && !matches!(self.state, State::Data | State::Done) {
            self.step(buffer[framing])?;
            framing += 1;
        }
        buffer.advance(framing);
        if self.state != State::Data || buffer.is_empty() {
            return Ok(None);
        }
        let take = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        self.left -= take as u64;
        if self.left == 0 {
            self.state = State::DataEnd;
        }
        Ok(Some(buffer.split_to(take).freeze()))
    }

    fn step(&mut self, byte: u8) -> Result<(), &'static str> {
        self.state = match (self.state, byte) {
            (State::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                self.line += 1;
                if self.line > MAX_DIGITS {
                    return Err("a chunk size has too many digits");
                }
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                self.left = self.left * 16 + u64::from(digit);
                State::Size
            }
            (State::Size, b'\r') if self.line > 0 => State::SizeEnd,
            (State::Size, b';') if self.line > 0 => {
                self.line = 0;
                State::Extension
            }
            (State::Size, _) => return Err("a chunk size is not hexadecimal"),
            (State::Extension, b'\r') => State::SizeEnd,
            (State::Extension, 0x20..=0x7e | b'\t') => {
                self.line += 1;
                if self.line > MAX_EXTENSION {
                    return Err("a chunk extension is too long");
                }
                State::Extension
            }
            (State::Extension, _) => return Err("a chunk extension holds a control character"),
            (State::SizeEnd, b'\n') => {
                self.line = 0;
                if self.left == 0 { State::Trailer } else { State::Data }
            }
            (State::DataEnd, b'\r') => State::DataEndLine,
            (State::DataEndLine, b'\n') => State::Size,
            (State::Trailer, b'\r') => State::LastEnd,
            (State::Trailer | State::InTrailer, 0x20..=0x7e | b'\t' | 0x80..) => {
                self.line += 1;
                if self.line > MAX_TRAILERS {
                    return Err("the trailers are too long");
                }
                State::InTrailer
            }
            (State::InTrailer, b'\r') => State::TrailerEnd,
            (State::TrailerEnd, b'\n') => State::Trailer,
            (State::LastEnd, b'\n') => State::Done,
            (State::Trailer | State::InTrailer, _) => return Err("a trailer holds a control character"),
            _ => return Err("a line of chunk framing does not end with CR LF"),
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of the body, fed in pieces of every size.
    fn scan(bytes: &[u8]) -> Result<Option<usize>, &'static str> {
        let mut outcome = None;
        for piece in 1..=bytes.len() {
            let (mut chunks, mut total) = (Chunks::default(), 0);
            let found = bytes.chunks(piece).try_for_each(|piece| {
                total += chunks.scan(piece)?;
                Ok(())
            });
            let found = found.map(|()| chunks.is_done().then_some(total));
            assert!(*outcome.get_or_insert(found) == found, "pieces of {piece} differ: {found:?}");
        }
        outcome.unwrap_or(Ok(None))
    }

    #[test]
    fn the_end_is_exact() {
        for body in
            ["0\r\n\r\n", "3\r\nabc\r\n0\r\n\r\n", "a;x=1\r\n0123456789\r\n00\r\nT: v\r\n\r\n", "1\r\n\r\r\n0\r\n\r\n"]
        {
            let pipelined = format!("{body}GET / HTTP/1.1\r\n");
            assert_eq!(scan(pipelined.as_bytes()), Ok(Some(body.len())), "{body:?}");
        }
        assert_eq!(scan(b"3\r\nabc\r\n0\r\n"), Ok(None));
    }

    #[test]
    fn data_comes_out_whatever_the_pieces() {
        let wire = b"3\r\nabc\r\na;x=1\r\n0123456789\r\n0\r\nT: v\r\n\r\nrest";
        for piece in 1..=wire.len() {
            let (mut chunks, mut buffer, mut data) = (Chunks::default(), BytesMut::new(), Vec::new());
            for piece in wire.chunks(piece) {
                buffer.extend_from_slice(piece);
                while let Some(bytes) = chunks.decode(&mut buffer).unwrap() {
                    data.extend_from_slice(&bytes);
                }
            }
            assert!(chunks.is_done());
            assert_eq!((&data[..], &buffer[..]), (&b"abc0123456789"[..], &b"rest"[..]), "pieces of {piece}");
        }
    }

    #[test]
    fn what_two_parsers_could_read_differently_is_refused() {
        for body in [
            "3\nabc\r\n0\r\n\r\n",
            "3\r\nabc\n0\r\n\r\n",
            "3\r\nabcd\r\n0\r\n\r\n",
            "0x3\r\nabc\r\n0\r\n\r\n",
            "+3\r\nabc\r\n0\r\n\r\n",
            " 3\r\nabc\r\n0\r\n\r\n",
            "3 \r\nabc\r\n0\r\n\r\n",
            "\r\n0\r\n\r\n",
            ";x\r\n",
            "3;\nabc\r\n0\r\n\r\n",
            "3;a\0b\r\nabc\r\n0\r\n\r\n",
            "0000000000000003\r\nabc\r\n",
            "ffffffffffffffffffff\r\n",
            "0\r\n\n",
            "0\r\nT: a\nb\r\n\r\n",
            "0\n\r\n",
        ] {
            assert!(scan(body.as_bytes()).is_err(), "{body:?}");
        }
    }
}
