//! Requests of the profile `hpke`: nothing opens but what was sealed; a header reads as it was written.
#![no_main]

use gapura_filters::{
    crypto::{
        Curve,
        hpke::{self, Header, ResponseHeader},
    },
    keyring::AgreementKey,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let key = AgreementKey::new(Curve::X25519, &[7; 32]).expect("a key");
    assert!(hpke::open(&mut bytes.to_vec(), (&key).into(), b"context").is_err());
    let _ = ResponseHeader::read(bytes);
    let Ok((header, end)) = Header::read(bytes) else { return };
    let key = AgreementKey::new(header.curve, &[7; 32]).expect("a key");
    let (mut sealed, client) = hpke::seal(&bytes[end..], &header, &key.public, b"context").expect("sealed");
    // What was read is written again byte for byte.
    assert_eq!(sealed[..end], bytes[..end]);
    assert_eq!(Header::read(&sealed), Ok((header, end)));
    let opened = hpke::open(&mut sealed, (&key).into(), b"context").expect("opens");
    assert_eq!(sealed[opened.plaintext], bytes[end..]);
    let answer = ResponseHeader { iat: header.iat, id: header.id, content_type: header.content_type };
    let mut answer = opened.response.seal(bytes, &answer, [1; 32], b"answer");
    let plaintext = client.open(&mut answer, b"answer").expect("opens");
    assert_eq!(answer[plaintext], *bytes);
});
