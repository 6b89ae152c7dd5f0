//! A client's certificate, from its DER to the names in it. In use the handshake has verified it before.
#![no_main]

use gapura::fuzzing::certificate;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some(read) = certificate(bytes) else { return };
    // What is compared with the configuration, and what a name of it must not hold.
    if let Some(subject) = &read.subject {
        assert!(subject.contains('=') && !subject.chars().any(char::is_control), "{subject:?}");
    }
    assert_eq!(certificate(bytes), Some(read));
    assert_eq!(certificate(&[bytes, b"\0"].concat()), None, "what follows a certificate is not part of it");
});
