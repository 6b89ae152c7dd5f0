//! The reader of whole bodies: in place.

use zeroize::Zeroize;

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
