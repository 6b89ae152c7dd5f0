//! The form of keys that the gateway issues: `gk_ID_SECRET_CHECKSUM`.
//!
//! The prefix is what scanners of repositories look for; the checksum keeps typos and keys that a pattern matched by chance
//! from everything behind it. It proves nothing: anybody can compute it.

/// What all of them begin with.
const PREFIX: &str = "gk_";
const ID: usize = 12;
/// 43 digits of 62: more than 256 bits.
const SECRET: usize = 43;
const CHECKSUM: usize = 6;
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A new key, and its id, which is not secret.
#[derive(Clone)]
pub struct NewKey {
    pub id: String,
    /// Shown once, and kept nowhere.
    pub text: String,
}

impl NewKey {
    /// `random` gives uniform numbers below its argument; it must be fit for keys.
    pub fn make(mut random: impl FnMut(u32) -> u32) -> Self {
        let mut digits = |count: usize, base: u32| -> String {
            (0..count).map(|_| char::from(DIGITS[random(base) as usize % DIGITS.len()])).collect()
        };
        // Ids in one case: they are read aloud.
        let id = digits(ID, 36).to_ascii_lowercase();
        let body = format!("{PREFIX}{id}_{}", digits(SECRET, 62));
        let text = format!("{body}_{}", checksum(body.as_bytes()));
        Self { id, text }
    }
}

/// What a presented key is, by its form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form<'k> {
    /// One of ours: its id.
    Ours(&'k str),
    /// It looks like one of ours, and was never issued: a typo.
    Damaged,
    /// Of another issuer.
    Other,
}

pub(super) fn form(key: &[u8]) -> Form<'_> {
    let Some(rest) = key.strip_prefix(PREFIX.as_bytes()) else { return Form::Other };
    let fits = key.len() == PREFIX.len() + ID + 1 + SECRET + 1 + CHECKSUM
        && rest[ID] == b'_'
        && key[key.len() - CHECKSUM - 1] == b'_'
        && checksum(&key[..key.len() - CHECKSUM - 1]).as_bytes() == &key[key.len() - CHECKSUM..];
    let id = str::from_utf8(rest.get(..ID).unwrap_or_default()).ok().filter(|_| fits);
    id.map_or(Form::Damaged, Form::Ours)
}

/// CRC-32 (ISO 3309) in six digits of 62.
fn checksum(body: &[u8]) -> String {
    let mut crc = !0_u32;
    for byte in body {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 };
        }
    }
    let mut rest = !crc;
    let mut digits = [b'0'; CHECKSUM];
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS[(rest % 62) as usize];
        rest /= 62;
    }
    digits.map(char::from).iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_its_form_and_no_other_text_has() {
        let mut state = 1_u32;
        let key = NewKey::make(|below| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) % below
        });
        assert_eq!(form(key.text.as_bytes()), Form::Ours(&key.id));
        assert!(key.id.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_lowercase()));
        for at in 3..key.text.len() {
            let mut typo = key.text.clone().into_bytes();
            typo[at] = if typo[at] == b'x' { b'y' } else { b'x' };
            assert_eq!(form(&typo), Form::Damaged, "{at}");
            assert_eq!(form(&key.text.as_bytes()[..at]), Form::Damaged, "{at}");
        }
        for other in ["", "gk", "GK_x", "sk_live_x", "Bearer"] {
            assert_eq!(form(other.as_bytes()), Form::Other, "{other}");
        }
        assert_eq!(form(b"gk_"), Form::Damaged);
    }

    #[test]
    fn the_checksum_is_crc_32() {
        // "123456789" has the CRC cbf43926, the check value of every catalogue: 3421780262.
        let mut value = 0_u64;
        for digit in checksum(b"123456789").bytes() {
            value = value * 62 + DIGITS.iter().position(|known| *known == digit).unwrap() as u64;
        }
        assert_eq!(value, 0xcbf4_3926);
    }
}
