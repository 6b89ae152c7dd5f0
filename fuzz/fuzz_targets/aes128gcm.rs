//! RFC 8188: whole and in pieces it is read alike; what was sealed in any pieces opens; nothing spoiled does.
#![no_main]

use gapura_filters::crypto::aes128gcm::{self, Header, Opener, Writer};
use libfuzzer_sys::fuzz_target;

const KEY: &[u8] = b"an input key";

fn whole(message: &[u8]) -> Option<Vec<u8>> {
    let header = Header::read(message).ok()??;
    let mut records = message[header.end()..].to_vec();
    let len = aes128gcm::open_in_place(&mut records, &header, KEY).ok()?;
    records.truncate(len);
    Some(records)
}

/// In pieces whose lengths the input chooses, over and over.
fn pieces(message: &[u8], lengths: &[u8]) -> Option<Vec<u8>> {
    let header = Header::read(message).ok()??;
    let mut opener = Opener::new(&header, KEY);
    let mut out = Vec::new();
    for piece in cut(&message[header.end()..], lengths) {
        opener.push(piece).ok()?;
        out.extend_from_slice(&opener.take());
    }
    opener.finish().ok()?;
    out.extend_from_slice(&opener.take());
    Some(out)
}

fn cut<'b>(bytes: &'b [u8], lengths: &'b [u8]) -> impl Iterator<Item = &'b [u8]> {
    let mut left = bytes;
    lengths.iter().cycle().map_while(move |length| {
        let (piece, rest) = left.split_at(left.len().min(usize::from(*length) + 1));
        left = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&[size, at, pauses, ref lengths @ ..], content)) = bytes.split_first_chunk::<7>() else { return };
    let size = aes128gcm::MIN_RECORD + u32::from(size);
    // No stranger has the key.
    assert_eq!(whole(content), None);
    assert_eq!(pieces(content, lengths), None);
    let header = Header { salt: [7; 16], record_size: size, key_id: "k" };
    let mut message = aes128gcm::seal(content, KEY, &header);
    assert_eq!(whole(&message).as_deref(), Some(content));
    assert_eq!(pieces(&message, lengths).as_deref(), Some(content));
    // Written in pieces, some of them sent before their record is full.
    let mut writer = Writer::new(KEY, &header);
    let mut by_pieces = Vec::new();
    for (number, piece) in cut(content, lengths).enumerate() {
        writer.push(piece);
        if pauses >> (number % 8) & 1 == 1 {
            writer.flush();
        }
        by_pieces.extend_from_slice(&writer.take());
    }
    by_pieces.extend_from_slice(&writer.finish());
    if pauses == 0 {
        assert_eq!(message, by_pieces);
    }
    assert_eq!(whole(&by_pieces).as_deref(), Some(content));
    assert_eq!(pieces(&by_pieces, lengths).as_deref(), Some(content));
    let at = header.end() + usize::from(at) % (message.len() - header.end());
    message[at] ^= 1;
    assert_eq!(whole(&message), None);
    assert_eq!(pieces(&message, lengths), None);
});
