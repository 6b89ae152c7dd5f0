//! Where a WebSocket frame ends and the next begins (RFC 6455, section 5.2): what the gateway must know to say something itself
//! between two of them. Payloads are skipped, not read.

/// Follows the bytes of one direction.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// Of a frame whose length is not known yet.
    head: [u8; LONGEST],
    have: usize,
    /// Of a frame whose length is known.
    left: u64,
}

/// Two bytes, and eight for the length. The mask counts with the payload.
const LONGEST: usize = 10;
/// A status, and a text of at most 123 bytes.
const CLOSE: u8 = 0x88;
const MASKED: u8 = 0x80;
const POLICY_VIOLATION: u16 = 1008;
const MAX_TEXT: usize = 123;

impl Frames {
    /// These bytes have passed.
    pub(super) fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let skip = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
                self.left -= skip as u64;
                bytes = &bytes[skip..];
                continue;
            }
            self.head[self.have] = bytes[0];
            self.have += 1;
            bytes = &bytes[1..];
            if let Some(length) = length(&self.head[..self.have]) {
                (self.have, self.left) = (0, length);
            }
        }
    }

    /// Whatever comes next begins a frame.
    pub(super) fn at_border(&self) -> bool {
        self.have == 0 && self.left == 0
    }
}

/// Of mask and payload; None as long as the head does not say.
fn length(head: &[u8]) -> Option<u64> {
    let [_, second, rest @ ..] = head else { return None };
    let mask = if second & MASKED != 0 { 4 } else { 0 };
    let payload = match (second & !MASKED, rest) {
        (126, [high, low, ..]) => u16::from_be_bytes([*high, *low]).into(),
        (127, rest) => u64::from_be_bytes(*rest.first_chunk()?),
        (126, _) => return None,
        (short, _) => short.into(),
    };
    Some(payload.saturating_add(mask))
}

/// "You may not go on", as a server says it, or as a client does: then with a mask, which hides nothing here.
pub(super) fn close(text: &str, as_client: bool) -> Vec<u8> {
    let text = &text.as_bytes()[..text.len().min(MAX_TEXT)];
    let mut frame = vec![CLOSE, (text.len() + 2) as u8];
    if as_client {
        frame[1] |= MASKED;
        frame.extend([0; 4]);
    }
    frame.extend(POLICY_VIOLATION.to_be_bytes());
    frame.extend(text);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame with this payload, its length written with so many bytes.
    fn frame(payload: usize, masked: bool) -> Vec<u8> {
        let mask = if masked { MASKED } else { 0 };
        let mut frame = vec![0x82];
        match payload {
            0..126 => frame.push(payload as u8 | mask),
            126..65536 => {
                frame.push(126 | mask);
                frame.extend((payload as u16).to_be_bytes());
            }
            _ => {
                frame.push(127 | mask);
                frame.extend((payload as u64).to_be_bytes());
            }
        }
        // Bytes that look like heads.
        frame.extend(vec![0x7f; payload + if masked { 4 } else { 0 }]);
        frame
    }

    #[test]
    fn borders_are_found_however_the_bytes_come() {
        let (mut all, mut borders) = (Vec::new(), vec![0]);
        for payload in [0, 1, 125, 126, 127, 300, 65535, 65536, 70000, 0] {
            for masked in [false, true] {
                all.extend(frame(payload, masked));
                borders.push(all.len());
            }
        }
        for piece in [1, 2, 3, 7, 1000, 16384, all.len()] {
            let (mut frames, mut at) = (Frames::default(), 0);
            for bytes in all.chunks(piece) {
                frames.pass(bytes);
                at += bytes.len();
                assert_eq!(frames.at_border(), borders.contains(&at), "{at} in pieces of {piece}");
            }
        }
    }

    #[test]
    fn what_is_no_websocket_does_no_harm() {
        let mut frames = Frames::default();
        frames.pass(&[0xff; 100]);
        assert!(!frames.at_border(), "a frame without end");
    }

    #[test]
    fn a_close_is_one_frame() {
        for as_client in [false, true] {
            let said = close("the credential is revoked", as_client);
            let mut frames = Frames::default();
            frames.pass(&said);
            assert!(frames.at_border() && said.ends_with(b"revoked"));
            assert!(said.windows(2).any(|two| two == [0x03, 0xf0]));
        }
        assert_eq!(close(&"x".repeat(500), false).len(), 127);
    }
}
