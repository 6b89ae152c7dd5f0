//! The reader and the writer of streams: record by record, with the memory of one.
//!
//! Both own their buffer and hand out only what is finished: the reader nothing of a record that has not proved itself, the writer
//! nothing that is not sealed. What comes in is copied once, into the place where it is opened or sealed and from which it is sent.

use bytes::{Bytes, BytesMut};

use super::{Header, OpenError, Records, Sealer};

/// What is read of a connection at once, as a rule.
const PIECE: usize = 64 * 1024;

/// Opens a stream.
pub struct Opener {
    records: Records,
    size: usize,
    /// What may come at most.
    left: u64,
    /// Content that is ready, and behind it the record in progress as it was received.
    buffer: BytesMut,
    ready: usize,
    opened: u64,
    ended: bool,
}

impl Opener {
    pub fn new(header: &Header<'_>, input_key: &[u8]) -> Self {
        Self {
            records: Records::new(input_key, &header.salt),
            size: header.record_size as usize,
            left: u64::MAX,
            buffer: BytesMut::new(),
            ready: 0,
            opened: 0,
            ended: false,
        }
    }

    /// No more than this many bytes will come: room is made for no more.
    pub fn at_most(mut self, bytes: u64) -> Self {
        self.left = bytes;
        self
    }

    /// Takes any piece of the records. After an error, or a success before an error, the stream must be broken off: what came out so
    /// far is authentic, yet not all of it.
    pub fn push(&mut self, mut piece: &[u8]) -> Result<(), OpenError> {
        self.make_room(piece.len());
        while !piece.is_empty() {
            if self.ended {
                return Err(OpenError);
            }
            let (now, later) = piece.split_at(piece.len().min(self.size - self.in_progress()));
            self.buffer.extend_from_slice(now);
            piece = later;
            if self.in_progress() == self.size {
                self.open()?;
            }
        }
        Ok(())
    }

    /// For a whole record, and for what of the next may come with its end: a buffer that grows bit by bit is moved again and again, and
    /// is there twice each time. The last record that is complete in a piece makes room for what follows it.
    fn make_room(&mut self, piece: usize) {
        if self.buffer.capacity() - self.buffer.len() < piece {
            let record = self.size - self.in_progress() + self.size.min(PIECE);
            self.buffer.reserve(record.min(usize::try_from(self.left).unwrap_or(usize::MAX)).max(piece));
        }
        self.left = self.left.saturating_sub(piece as u64);
    }

    /// The content of all records that have opened since the last call.
    pub fn take(&mut self) -> Bytes {
        let ready = std::mem::take(&mut self.ready);
        self.buffer.split_to(ready).freeze()
    }

    /// A record has proved that the message is for this key and its context.
    pub fn is_authentic(&self) -> bool {
        self.opened > 0
    }

    /// The last record has opened: there must be nothing behind it.
    pub fn is_last(&self) -> bool {
        self.ended
    }

    /// The stream has ended; its last content is to be taken. An error where its last record is missing.
    pub fn finish(&mut self) -> Result<(), OpenError> {
        if self.in_progress() > 0 {
            self.open()?;
        }
        if self.ended { Ok(()) } else { Err(OpenError) }
    }

    fn in_progress(&self) -> usize {
        self.buffer.len() - self.ready
    }

    fn open(&mut self) -> Result<(), OpenError> {
        let (content, last) = self.records.open(&mut self.buffer[self.ready..])?;
        self.ready += content;
        self.buffer.truncate(self.ready);
        self.opened += 1;
        self.ended = last;
        Ok(())
    }
}

/// Seals a stream.
pub struct Writer {
    sealer: Sealer,
    /// What is sealed, and behind it the content of the record in progress.
    buffer: Vec<u8>,
}

impl Writer {
    /// The salt must be fresh and random. The header is the first that is to be taken.
    pub fn new(input_key: &[u8], header: &Header<'_>) -> Self {
        let mut buffer = Vec::new();
        Self { sealer: Sealer::new(input_key, header, &mut buffer), buffer }
    }

    pub fn push(&mut self, piece: &[u8]) {
        self.sealer.push(piece, &mut self.buffer);
    }

    /// There is content that is not sealed yet.
    pub fn is_open(&self) -> bool {
        self.sealer.ready(&self.buffer) < self.buffer.len()
    }

    /// Seals what there is, in a record that padding makes as long as all others.
    pub fn flush(&mut self) {
        self.sealer.flush(&mut self.buffer);
    }

    /// All that is sealed since the last call.
    pub fn take(&mut self) -> Bytes {
        let ready = self.sealer.ready(&self.buffer);
        // The rest is of less than a record.
        let rest = self.buffer[ready..].to_vec();
        let mut sealed = std::mem::replace(&mut self.buffer, rest);
        sealed.truncate(ready);
        sealed.into()
    }

    /// The last record, and all before it that was not taken.
    pub fn finish(mut self) -> Bytes {
        self.sealer.finish(&mut self.buffer);
        self.buffer.into()
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{MAX_RECORD, seal},
        *,
    };

    const HEADER: Header<'static> = Header { salt: [9; 16], record_size: MAX_RECORD, key_id: "k" };

    /// Whatever the pieces, and wherever in them a record ends.
    #[test]
    fn the_reader_holds_no_more_than_a_record_and_a_piece() {
        let message = seal(&vec![b'x'; 3 << 20], b"key", &HEADER);
        let (first, rest) = message[HEADER.end()..].split_at(10);
        for piece in [1000, 16_384, PIECE] {
            let mut opener = Opener::new(&HEADER, b"key");
            let mut content = 0;
            for piece in std::iter::once(first).chain(rest.chunks(piece)) {
                opener.push(piece).expect("nothing was changed");
                assert!(opener.buffer.capacity() <= opener.size + PIECE, "{} bytes", opener.buffer.capacity());
                content += opener.take().len();
            }
            opener.finish().expect("whole");
            assert_eq!(content + opener.take().len(), 3 << 20);
        }
    }

    #[test]
    fn a_short_message_makes_no_room_for_a_long_record() {
        let message = seal(b"short", b"key", &HEADER);
        let records = &message[HEADER.end()..];
        let mut opener = Opener::new(&HEADER, b"key").at_most(records.len() as u64);
        for piece in records.chunks(3) {
            opener.push(piece).expect("nothing was changed");
            assert!(opener.buffer.capacity() <= records.len(), "{} bytes", opener.buffer.capacity());
        }
        opener.finish().expect("whole");
        assert_eq!(&opener.take()[..], b"short");
    }
}
