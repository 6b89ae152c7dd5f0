//! Pure cryptography of envelopes: bytes in, bytes out.
