//! Base64 of whole bodies, by the vectors of the processor: byte by byte it takes longer than the cipher.
//!
//! Strict and canonical (RFC 4648, section 3.5), as the crate `base64` is, which serves the short texts everywhere else: one
//! message has one spelling. The tests hold the two to each other.

pub(crate) use base64_simd::{STANDARD, URL_SAFE_NO_PAD};

#[cfg(test)]
mod tests {
    use base64::{
        Engine,
        engine::general_purpose::{STANDARD as PLAIN, URL_SAFE_NO_PAD as PLAIN_URL},
    };
    use proptest::prelude::*;

    use super::*;

    fn agree(text: &[u8]) {
        assert_eq!(STANDARD.decode_to_vec(text).ok(), PLAIN.decode(text).ok(), "{text:?}");
        assert_eq!(URL_SAFE_NO_PAD.decode_to_vec(text).ok(), PLAIN_URL.decode(text).ok(), "{text:?}");
    }

    #[test]
    fn every_byte_at_every_place_is_taken_or_refused_alike() {
        // Long enough for every width of vectors, with each length of the last group.
        for len in [90, 91, 92] {
            let bytes: Vec<u8> = (0..len).map(|at| (at * 151) as u8).collect();
            for text in [PLAIN.encode(&bytes), PLAIN_URL.encode(&bytes)] {
                for at in 0..text.len() {
                    for byte in 0..=255 {
                        let mut text = text.clone().into_bytes();
                        text[at] = byte;
                        agree(&text);
                    }
                }
            }
        }
    }

    #[test]
    fn every_short_text_of_the_last_group_is_taken_or_refused_alike() {
        let characters = b"AQBg/_-+= .\n";
        for a in characters {
            for b in characters {
                for c in characters {
                    for d in characters {
                        for len in 0..=4 {
                            agree(&[*a, *b, *c, *d][..len]);
                        }
                        agree(&[*b"AAAA", [*a, *b, *c, *d]].concat());
                    }
                }
            }
        }
    }

    proptest! {
        #[test]
        fn bytes_are_written_alike(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(STANDARD.encode_to_string(&bytes), PLAIN.encode(&bytes));
            prop_assert_eq!(URL_SAFE_NO_PAD.encode_to_string(&bytes), PLAIN_URL.encode(&bytes));
            agree(PLAIN.encode(&bytes).as_bytes());
            agree(PLAIN_URL.encode(&bytes).as_bytes());
        }
    }
}
