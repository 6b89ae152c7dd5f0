//! RFC 8188: whole and in pieces it is read alike; what was sealed in any pieces opens; nothing spoiled does.
#![no_main]

use gapura_filters::crypto::aes128gcm::{self, Header, Opener, Sealer};
use libfuzzer_sys::fuzz_target;

const KEY: &[u8] = b"an input key";

fn whole(message: &[u8]) -> Option<Vec<u8>> {
    let header = Header::read(message).ok()??;
    let mut records = message[header.end()..].to_vec();
    let len = aes128gcm::open_in_place(&mut records, &header, KEY).ok()?;
    records.truncate(len);
    Some(records)
}

fn pieces(message: &[u8], size: usize) -> Option<Vec<u8>> {
    let header = Header::read(message).ok()??;
    let mut opener = Opener::new(&header, KEY);
    let mut out = Vec::new();
    for piece in message[header.end()..].chunks(size) {
        opener.push(piece, &mut out).ok()?;
    }
    opener.finish(&mut out).ok()?;
    Some(out)
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&[size, piece, at], content)) = bytes.split_first_chunk::<3>() else { return };
    let (size, piece) = (aes128gcm::MIN_RECORD + u32::from(size), usize::from(piece) + 1);
    // No stranger has the key.
    assert_eq!(whole(content), None);
    assert_eq!(pieces(content, piece), None);
    let header = Header { salt: [7; 16], record_size: size, key_id: "k" };
    let mut message = aes128gcm::seal(content, KEY, &header);
    let mut by_pieces = Vec::new();
    let mut sealer = Sealer::new(KEY, &header, &mut by_pieces);
    for piece in content.chunks(piece) {
        sealer.push(piece, &mut by_pieces);
    }
    sealer.finish(&mut by_pieces);
    assert_eq!(message, by_pieces);
    assert_eq!(whole(&message).as_deref(), Some(content));
    assert_eq!(pieces(&message, piece).as_deref(), Some(content));
    let at = header.end() + usize::from(at) % (message.len() - header.end());
    message[at] ^= 1;
    assert_eq!(whole(&message), None);
    assert_eq!(pieces(&message, piece), None);
});
