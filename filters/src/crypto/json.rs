//! Is it JSON? Answered by looking at every byte, whatever the answer.
//!
//! A parser stops at the first fault, so that its time tells where a decrypted message stops making sense: for 1 MiB, bad
//! padding behind good JSON would take a millisecond longer to refuse than a wrong first byte. This recogniser is a state
//! machine of one look-up per byte that waits for the one before it; nothing cuts that chain short, so that it is as long as
//! the text, whatever the text is. After a fault it goes on, to no effect, over what is left. Where a bracket leads stands in the
//! table, too: which row that is was known when the bracket before it was read.
//! Nesting costs a byte of memory per level and no call, so that no depth overflows.

/// Well-formed UTF-8 JSON (RFC 8259), nothing but white space around it.
///
/// As in `JSON.stringify`, an escaped surrogate may stand alone, and numbers have any size: the grammar does not mind.
pub fn is_json(bytes: &[u8]) -> bool {
    // What the next byte stands in, and what that stands in; of all that is around them, a list.
    let (mut within, mut outer) = (TOP, TOP);
    let mut around = Vec::new();
    let mut state = START;
    for byte in bytes {
        let row = ROWS[outer][usize::from(*byte)];
        // Only this look-up waits for the byte before.
        state = TABLE[usize::from(row)][usize::from(state)];
        if row >= BRACKETS {
            let opened = match row {
                OPEN_ARRAY if state == number(ARRAY, FIRST) => ARRAY,
                OPEN_OBJECT if state == number(OBJECT, FIRST) => OBJECT,
                OPEN_ARRAY | OPEN_OBJECT => continue,
                _ => {
                    // A bracket closes only what was opened, so that something is there.
                    if state == number(outer, AFTER) {
                        (within, outer) = (outer, around.pop().map_or(TOP, usize::from));
                    }
                    continue;
                }
            };
            around.push(outer as u8);
            (outer, within) = (within, opened);
        }
    }
    ENDS.contains(&state)
}

// What a value stands in.
const TOP: usize = 0;
const ARRAY: usize = 1;
const OBJECT: usize = 2;

// States, one set for each of these. What may come next:
const VALUE: usize = 0;
const FIRST: usize = 1; // the first item or member, or the end
const AFTER: usize = 2; // a comma or the end
const TRUE: usize = 3; // `rue`, `ue`, `e`
const FALSE: usize = 6;
const NULL: usize = 10;
const MINUS: usize = 13;
const ZERO: usize = 14;
const INTEGER: usize = 15;
const POINT: usize = 16;
const FRACTION: usize = 17;
const EXPONENT: usize = 18;
const EXPONENT_SIGN: usize = 19;
const POWER: usize = 20;
const STRING: usize = 21;
const NAME: usize = STRING + IN_STRING; // a string before a colon
const BEFORE_NAME: usize = NAME + IN_STRING;
const COLON: usize = BEFORE_NAME + 1;
const STATES: usize = COLON + 1;

// Within a string, counted from its first state.
const TEXT: usize = 0;
const ESCAPE: usize = 1;
const HEX: usize = 2; // four digits, three, two, one
const ONE_MORE: usize = 6; // continuation bytes of UTF-8 (RFC 3629, section 4)
const TWO_MORE: usize = 7;
const THREE_MORE: usize = 8;
const AFTER_E0: usize = 9; // no overlong form
const AFTER_ED: usize = 10; // no surrogate
const AFTER_F0: usize = 11; // no overlong form
const AFTER_F4: usize = 12; // nothing above U+10FFFF
const IN_STRING: usize = 13;

// In the table each state has a number for each place.
const DEAD: u8 = (3 * STATES) as u8;
const START: u8 = number(TOP, VALUE);
const ENDS: [u8; 5] =
    [number(TOP, AFTER), number(TOP, ZERO), number(TOP, INTEGER), number(TOP, FRACTION), number(TOP, POWER)];

const fn number(within: usize, state: usize) -> u8 {
    (within * STATES + state) as u8
}

/// A byte of each class, in the order of the classes: bytes of one class are alike in every state. Brackets come last.
const EXAMPLES: [u8; CLASSES] = [
    b' ', b'\n', 0, b'"', b'\\', b'/', b':', b',', b'-', b'+', b'.', b'0', b'1', b'a', b'b', b'c', b'e', b'E', b'f',
    b'l', b'n', b'r', b's', b't', b'u', b'x', 0x80, 0x90, 0xA0, 0xC2, 0xE0, 0xE1, 0xED, 0xF0, 0xF1, 0xF4, 0xFF, b'[',
    b'{', b']', b'}',
];
const CLASSES: usize = 41;

// Rows of the table: one for each class, and the two that close once more for each place that they may lead back to.
const BRACKETS: u8 = 37;
const OPEN_ARRAY: u8 = 37;
const OPEN_OBJECT: u8 = 38;
const CLOSE: usize = 39;
const ROW_COUNT: usize = CLOSE + 2 * 3;

/// The byte that stands for all of its class.
const fn example(byte: u8) -> u8 {
    match byte {
        b'\t' | b'\r' => b'\n',
        0..=0x1F if byte != b'\n' => 0,
        b'2'..=b'9' => b'1',
        b'd' | b'A'..=b'D' | b'F' => b'c',
        0x81..=0x8F => 0x80,
        0x91..=0x9F => 0x90,
        0xA1..=0xBF => 0xA0,
        0xC3..=0xDF => 0xC2,
        0xE2..=0xEC | 0xEE | 0xEF => 0xE1,
        0xF2 | 0xF3 => 0xF1,
        0xC0 | 0xC1 | 0xF5..=0xFF => 0xFF,
        b'g'..=b'k' | b'm' | b'o'..=b'q' | b'v'..=b'z' | b'G'..=b'Z' | 0x7F => b'x',
        b'!' | b'#'..=b'*' | b';'..=b'@' | b'^'..=b'`' | b'|' | b'~' => b'x',
        _ => byte,
    }
}

/// The row of each byte, by what the place stands in that the byte stands in.
static ROWS: [[u8; 256]; 3] = {
    let mut rows = [[0; 256]; 3];
    let mut outer = 0;
    while outer < 3 {
        let mut byte = 0;
        while byte < 256 {
            let mut class = 0;
            while EXAMPLES[class] != example(byte as u8) {
                class += 1;
            }
            rows[outer][byte] = (if class < CLOSE { class } else { class + 2 * outer }) as u8;
            byte += 1;
        }
        outer += 1;
    }
    rows
};

/// By row, then by state: the next state. Rows have 256 places so that no state can miss them.
static TABLE: [[u8; 256]; ROW_COUNT] = {
    let mut table = [[DEAD; 256]; ROW_COUNT];
    let mut row = 0;
    while row < ROW_COUNT {
        let (class, outer) = if row < CLOSE { (row, TOP) } else { (CLOSE + (row - CLOSE) % 2, (row - CLOSE) / 2) };
        let mut state = 0;
        while state < 3 * STATES {
            table[row][state] = step((outer, state / STATES), state % STATES, EXAMPLES[class]);
            state += 1;
        }
        row += 1;
    }
    table
};

const fn step((outer, within): (usize, usize), state: usize, byte: u8) -> u8 {
    let next = match (state, byte) {
        (VALUE | FIRST | AFTER | BEFORE_NAME | COLON, b' ' | b'\n') => state,
        (FIRST, b'}') if within == OBJECT => return number(outer, AFTER),
        (FIRST | BEFORE_NAME, b'"') if within == OBJECT => NAME,
        (FIRST | BEFORE_NAME, _) if within == OBJECT => return DEAD,
        (COLON, b':') => VALUE,
        (FIRST, b']') => return number(outer, AFTER),
        (FIRST | VALUE, b'{') => return number(OBJECT, FIRST),
        (FIRST | VALUE, b'[') => return number(ARRAY, FIRST),
        (FIRST | VALUE, b'"') => STRING,
        (FIRST | VALUE, b't') => TRUE,
        (FIRST | VALUE, b'f') => FALSE,
        (FIRST | VALUE, b'n') => NULL,
        (FIRST | VALUE, b'-') => MINUS,
        (FIRST | VALUE | MINUS, b'0') => ZERO,
        (FIRST | VALUE | MINUS, b'1') => INTEGER,
        (TRUE..MINUS, _) => return number_or_dead(within, literal(state, byte)),
        (ZERO | INTEGER, b'.') => POINT,
        (INTEGER, b'0' | b'1') => INTEGER,
        (POINT | FRACTION, b'0' | b'1') => FRACTION,
        (ZERO | INTEGER | FRACTION, b'e' | b'E') => EXPONENT,
        (EXPONENT, b'+' | b'-') => EXPONENT_SIGN,
        (EXPONENT | EXPONENT_SIGN | POWER, b'0' | b'1') => POWER,
        // A number has no end of its own: what ends it is what follows any value.
        (ZERO | INTEGER | FRACTION | POWER, b' ' | b'\n' | b',' | b']' | b'}') => {
            return step((outer, within), AFTER, byte);
        }
        (AFTER, b',') if within == ARRAY => VALUE,
        (AFTER, b',') if within == OBJECT => BEFORE_NAME,
        (AFTER, b']') if within == ARRAY => return number(outer, AFTER),
        (AFTER, b'}') if within == OBJECT => return number(outer, AFTER),
        (STRING..NAME, _) => return number_or_dead(within, in_string(STRING, AFTER, state, byte)),
        (NAME..BEFORE_NAME, _) => return number_or_dead(within, in_string(NAME, COLON, state, byte)),
        _ => return DEAD,
    };
    number(within, next)
}

const fn number_or_dead(within: usize, next: Option<usize>) -> u8 {
    match next {
        Some(next) => number(within, next),
        None => DEAD,
    }
}

const fn literal(state: usize, byte: u8) -> Option<usize> {
    // The letters expected in the states from TRUE on.
    if byte != b"ruealseull"[state - TRUE] {
        None
    } else if state + 1 == FALSE || state + 1 == NULL || state + 1 == MINUS {
        Some(AFTER)
    } else {
        Some(state + 1)
    }
}

const fn in_string(first: usize, after: usize, state: usize, byte: u8) -> Option<usize> {
    let next = match (state - first, byte) {
        (TEXT, b'"') => return Some(after),
        (TEXT, b'\\') => ESCAPE,
        (TEXT, b' '..=0x7F) => TEXT,
        (TEXT, 0xC2) => ONE_MORE,
        (TEXT, 0xE0) => AFTER_E0,
        (TEXT, 0xE1) => TWO_MORE,
        (TEXT, 0xED) => AFTER_ED,
        (TEXT, 0xF0) => AFTER_F0,
        (TEXT, 0xF1) => THREE_MORE,
        (TEXT, 0xF4) => AFTER_F4,
        (ESCAPE, b'u') => HEX,
        (ESCAPE, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => TEXT,
        (HEX..ONE_MORE, b'0' | b'1' | b'a' | b'b' | b'c' | b'e' | b'E' | b'f') => {
            if state - first + 1 == ONE_MORE {
                TEXT
            } else {
                state - first + 1
            }
        }
        (ONE_MORE, 0x80 | 0x90 | 0xA0) => TEXT,
        (TWO_MORE, 0x80 | 0x90 | 0xA0) | (AFTER_E0, 0xA0) | (AFTER_ED, 0x80 | 0x90) => ONE_MORE,
        (THREE_MORE, 0x80 | 0x90 | 0xA0) | (AFTER_F0, 0x90 | 0xA0) | (AFTER_F4, 0x80) => TWO_MORE,
        _ => return None,
    };
    Some(first + next)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn by_serde(bytes: &[u8]) -> bool {
        std::str::from_utf8(bytes).is_ok_and(|text| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok())
    }

    /// Alone, in an array, as a member, and with each byte of the neighbourhood after it.
    #[track_caller]
    fn agree(text: &[u8]) {
        for (before, after) in
            [("", ""), (" ", "\n"), ("[", "]"), ("[1,", ",2]"), ("{\"a\":", "}"), ("{", ":0}"), ("", "]")]
        {
            let whole = [before.as_bytes(), text, after.as_bytes()].concat();
            assert_eq!(is_json(&whole), by_serde(&whole), "{:?}", String::from_utf8_lossy(&whole));
        }
    }

    #[test]
    fn agrees_with_serde_on_all_short_texts() {
        let alphabet = b"{}[]:,\"\\-+.01eEtrufalsn \nx\0\xC3\xA9";
        for a in alphabet {
            agree(&[*a]);
            for b in alphabet {
                agree(&[*a, *b]);
                for c in alphabet {
                    agree(&[*a, *b, *c]);
                }
            }
        }
    }

    #[test]
    fn agrees_with_serde_on_every_code_point_border_of_utf_8() {
        for first in 0x80..=0xFF_u8 {
            for second in [0x22, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xFF] {
                agree(&[b'"', first, second, b'"']);
                agree(&[b'"', first, second, 0x80, b'"']);
                agree(&[b'"', first, second, 0xBF, 0xBF, b'"']);
                agree(&[b'"', first, second, 0xBF, 0xC0, b'"']);
            }
        }
    }

    #[test]
    fn agrees_with_serde_on_escapes_and_words() {
        for byte in 0..=255 {
            agree(&[b'"', b'\\', byte, b'"']);
            agree(&[b'"', byte, b'"']);
            for place in 0..4 {
                let mut escape = *b"\"\\u0aF9\"";
                escape[3 + place] = byte;
                agree(&escape);
            }
        }
        for text in
            ["true", "false", "null", "tru", "nul", "fals", "truE", "nulll", "-0", "-0.0e-0", "1e+", "01", "1.", ".1"]
        {
            agree(text.as_bytes());
        }
        agree(br#""\ud800""#);
        agree(br#"{"a":[{"b":{}},[[]],"c",-1.5E+9999999],"a":null}"#);
    }

    #[test]
    fn depth_is_not_bounded_by_the_stack() {
        let deep = 1 << 20;
        assert!(is_json(&["[".repeat(deep), "]".repeat(deep)].concat().into_bytes()));
        assert!(!is_json("[".repeat(deep).as_bytes()));
        assert!(!is_json(&["[".repeat(deep), "]".repeat(deep - 1), "}".into()].concat().into_bytes()));
        assert!(is_json(&["{\"a\":".repeat(deep), "0".into(), "}".repeat(deep)].concat().into_bytes()));
    }

    proptest! {
        #[test]
        fn agrees_with_serde_on_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            prop_assert_eq!(is_json(&bytes), by_serde(&bytes));
        }

        #[test]
        fn agrees_with_serde_on_damaged_json(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut text = br#"{"a\u00e9":[1,-2.5e+3,true,false,null,"x\"\\y"],"":{"b":{}}, "c" : 0 }"#.to_vec();
            prop_assert!(is_json(&text));
            let at = at.index(text.len());
            text[at] = byte;
            prop_assert_eq!(is_json(&text), by_serde(&text));
        }
    }
}
