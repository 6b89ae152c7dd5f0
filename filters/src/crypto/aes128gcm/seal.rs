//! The writer: the whole at once, or a stream record by record.

use super::{FIXED, Header, LAST, MORE, Records, TAG};

/// A body of one piece. The salt must be fresh and random.
pub fn seal(plaintext: &[u8], input_key: &[u8], header: &Header<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(sealed_len(plaintext.len(), header));
    header.write(&mut out);
    let mut records = Records::new(input_key, &header.salt);
    let mut rest = plaintext;
    // Its bytes are here to stay, so that none has to wait in `out` as those of a stream do.
    while let Some((content, more)) = rest.split_at_checked(content_of(header)).filter(|(_, more)| !more.is_empty()) {
        records.append(content, MORE, &mut out);
        rest = more;
    }
    records.append(rest, LAST, &mut out);
    out
}

/// The length of what [`seal`] writes for a plaintext of this length.
pub fn sealed_len(plaintext_len: usize, header: &Header<'_>) -> usize {
    let content = content_of(header);
    FIXED + header.key_id.len() + plaintext_len + plaintext_len.div_ceil(content).max(1) * (1 + TAG)
}

fn content_of(header: &Header<'_>) -> usize {
    header.record_size as usize - 1 - TAG
}

/// Seals a stream. What does not fill a record yet stands in `out` of the caller, who hands the same one in again or takes
/// what [`Sealer::ready`] says is complete.
pub struct Sealer {
    records: Records,
    content: usize,
    /// Bytes at the end of `out` that are not encrypted yet.
    open: usize,
}

impl Sealer {
    /// Writes the header.
    pub fn new(input_key: &[u8], header: &Header<'_>, out: &mut Vec<u8>) -> Self {
        header.write(out);
        Self { records: Records::new(input_key, &header.salt), content: content_of(header), open: 0 }
    }

    /// A record is written only when a byte beyond it is known: the last one says that it is the last.
    pub fn push(&mut self, mut piece: &[u8], out: &mut Vec<u8>) {
        while !piece.is_empty() {
            if self.open == self.content {
                let start = out.len() - self.open;
                self.records.seal(out, start, MORE);
                self.open = 0;
            }
            let (now, later) = piece.split_at(piece.len().min(self.content - self.open));
            out.extend_from_slice(now);
            self.open += now.len();
            piece = later;
        }
    }

    /// Ends the record in progress with padding, so that what is in it need not wait for more.
    pub fn flush(&mut self, out: &mut Vec<u8>) {
        if self.open > 0 {
            let start = out.len() - self.open;
            self.records.seal_padded(out, start, MORE, self.content - self.open);
            self.open = 0;
        }
    }

    /// How many bytes of `out` are ready to be sent; the rest is plaintext of the record to come.
    pub fn ready(&self, out: &[u8]) -> usize {
        out.len() - self.open
    }

    pub fn finish(mut self, out: &mut Vec<u8>) {
        let start = out.len() - self.open;
        self.records.seal(out, start, LAST);
    }
}
