//! PKCS#7 unpadding without a branch on secret data (Vaudenay 2002: whoever can tell good padding from bad decrypts CBC).

use subtle::{Choice, ConditionallySelectable, ConstantTimeEq, ConstantTimeGreater, ConstantTimeLess};

/// Looks at one last block. Says whether its padding is right, and how many bytes it has (1 to 16); 1 where it is not right,
/// so that what follows can go on over the same data either way.
pub fn unpad(last_block: &[u8; 16]) -> (Choice, u8) {
    let count = last_block[15];
    let mut good = !count.ct_eq(&0) & !count.ct_gt(&16);
    for (distance, byte) in (0_u8..).zip(last_block.iter().rev()) {
        let is_padding = distance.ct_lt(&count);
        good &= !is_padding | byte.ct_eq(&count);
    }
    (good, u8::conditional_select(&1, &count, good))
}

/// Writes blanks over the padding. JSON may end in blanks, so that the check of the content then runs over every byte of
/// every message, whatever its padding was.
pub(super) fn blank(last_block: &mut [u8; 16], padding: u8) {
    for (distance, byte) in (0_u8..).zip(last_block.iter_mut().rev()) {
        byte.conditional_assign(&b' ', distance.ct_lt(&padding));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naive(block: &[u8; 16]) -> Option<u8> {
        let count = block[15];
        let right = (1..=16).contains(&count) && block[16 - usize::from(count)..].iter().all(|b| *b == count);
        right.then_some(count)
    }

    #[test]
    fn agrees_with_the_plain_definition_around_every_boundary() {
        for count in 0..=255_u8 {
            for run in 0..=16_usize {
                for other in [0, 1, 16, count.wrapping_sub(1), count.wrapping_add(1), 255] {
                    let mut block = [other; 16];
                    block[16 - run..].fill(count);
                    let (good, padding) = unpad(&block);
                    assert_eq!(bool::from(good).then_some(padding), naive(&block), "{block:?}");
                }
            }
        }
    }

    #[test]
    fn blanks_exactly_the_padding() {
        for padding in 1..=16_u8 {
            let mut block = [7; 16];
            blank(&mut block, padding);
            let start = 16 - usize::from(padding);
            assert!(block[..start].iter().all(|b| *b == 7) && block[start..].iter().all(|b| *b == b' '));
        }
    }
}
