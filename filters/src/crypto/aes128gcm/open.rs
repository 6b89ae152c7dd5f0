//! The reader: a whole body in place, or a stream record by record.

use zeroize::{Zeroize, Zeroizing};

use super::{Header, OpenError, Records};

/// Opens all records of a body, and moves their content together at its beginning. How long the content is. What was opened
/// before a record that does not open is wiped.
pub fn open_in_place(records: &mut [u8], header: &Header<'_>, input_key: &[u8]) -> Result<usize, OpenError> {
    let opened = open_all(records, header, input_key);
    if opened.is_err() {
        records.zeroize();
    }
    opened
}

fn open_all(records: &mut [u8], header: &Header<'_>, input_key: &[u8]) -> Result<usize, OpenError> {
    let mut cipher = Records::new(input_key, &header.salt);
    let size = header.record_size as usize;
    let (mut read, mut written) = (0, 0);
    while read < records.len() {
        let end = records.len().min(read + size);
        let (content, last) = cipher.open(&mut records[read..end])?;
        records.copy_within(read..read + content, written);
        written += content;
        read = end;
        if last {
            return if read == records.len() { Ok(written) } else { Err(OpenError) };
        }
    }
    Err(OpenError)
}

/// Opens a stream. It holds one record at most; nothing of a record comes out before it has proved itself.
pub struct Opener {
    records: Records,
    size: usize,
    held: Zeroizing<Vec<u8>>,
    ended: bool,
}

impl Opener {
    pub fn new(header: &Header<'_>, input_key: &[u8]) -> Self {
        Self {
            records: Records::new(input_key, &header.salt),
            size: header.record_size as usize,
            held: Zeroizing::default(),
            ended: false,
        }
    }

    /// Takes any piece of the records, and appends the content of those that are complete. After an error, or a success
    /// before an error, the stream must be broken off: what came out so far is authentic, yet not all of it.
    pub fn push(&mut self, mut piece: &[u8], out: &mut Vec<u8>) -> Result<(), OpenError> {
        while !piece.is_empty() {
            if self.ended {
                return Err(OpenError);
            }
            let (now, later) = piece.split_at(piece.len().min(self.size - self.held.len()));
            self.held.extend_from_slice(now);
            piece = later;
            if self.held.len() == self.size {
                self.open_held(out)?;
            }
        }
        Ok(())
    }

    /// The stream has ended. An error where its last record is missing.
    pub fn finish(mut self, out: &mut Vec<u8>) -> Result<(), OpenError> {
        if !self.held.is_empty() {
            self.open_held(out)?;
        }
        if self.ended { Ok(()) } else { Err(OpenError) }
    }

    fn open_held(&mut self, out: &mut Vec<u8>) -> Result<(), OpenError> {
        let (content, last) = self.records.open(&mut self.held)?;
        out.extend_from_slice(&self.held[..content]);
        self.held.clear();
        self.ended = last;
        Ok(())
    }
}
