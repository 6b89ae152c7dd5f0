//! Members of a JSON text by their JSON pointers (RFC 6901): where they stand, and the text with others in their place. All
//! other bytes stay as they are, white space and the spelling of numbers included.
//!
//! A name that stands twice on the way to a member is refused: the upstream might read the other one. The work is linear in
//! the text times the number of pointers that share a beginning; the stack is as deep as the longest pointer.

use std::{borrow::Cow, ops::Range};

/// The most steps of a pointer, and so the deepest recursion.
pub const MAX_STEPS: usize = 16;

/// A JSON pointer to one member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pointer {
    text: String,
    steps: Vec<String>,
}

/// A name on the way to a member stands twice in its object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Twice;

impl Pointer {
    /// The error says what to write instead.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let Some(rest) = text.strip_prefix('/') else {
            return Err("a JSON pointer begins with `/`, as in \"/card/number\"");
        };
        let steps = rest.split('/').map(unescaped).collect::<Option<Vec<_>>>();
        let steps = steps.ok_or("in a JSON pointer `~` stands only as `~0` (for `~`) and `~1` (for `/`)")?;
        if steps.len() > MAX_STEPS {
            return Err("a JSON pointer here has 16 steps at most");
        }
        Ok(Self { text: text.to_owned(), steps })
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The other one stands at this place, or within it.
    pub fn holds(&self, other: &Self) -> bool {
        other.steps.starts_with(&self.steps)
    }
}

fn unescaped(step: &str) -> Option<String> {
    let mut out = String::new();
    let mut chars = step.chars();
    while let Some(char) = chars.next() {
        out.push(match (char, if char == '~' { chars.next()? } else { ' ' }) {
            ('~', '0') => '~',
            ('~', '1') => '/',
            ('~', _) => return None,
            (plain, _) => plain,
        });
    }
    Some(out)
}

/// Where the values stand, one for each pointer; None where there is none. `json` must be well-formed.
pub fn find(json: &[u8], pointers: &[Pointer]) -> Result<Vec<Option<Range<usize>>>, Twice> {
    let mut search = Search { json, pointers, found: vec![None; pointers.len()] };
    let all: Vec<usize> = (0..pointers.len()).collect();
    search.value(skip_blanks(json, 0), &all, 0)?;
    Ok(search.found)
}

/// The text with other values in these places, which must not overlap.
pub fn replace(json: &[u8], mut values: Vec<(Range<usize>, Cow<'_, [u8]>)>) -> Vec<u8> {
    values.sort_unstable_by_key(|(place, _)| place.start);
    let more: usize = values.iter().map(|(_, value)| value.len()).sum();
    let mut out = Vec::with_capacity(json.len() + more);
    let mut at = 0;
    for (place, value) in values {
        out.extend_from_slice(&json[at..place.start]);
        out.extend_from_slice(&value);
        at = place.end;
    }
    out.extend_from_slice(&json[at..]);
    out
}

struct Search<'a> {
    json: &'a [u8],
    pointers: &'a [Pointer],
    found: Vec<Option<Range<usize>>>,
}

impl Search<'_> {
    /// Looks through the value at `at`, which `depth` steps of the `wanted` pointers led to. Where it ends.
    fn value(&mut self, at: usize, wanted: &[usize], depth: usize) -> Result<usize, Twice> {
        match self.json.get(at) {
            Some(b'{') => self.items(at, wanted, depth, true),
            Some(b'[') => self.items(at, wanted, depth, false),
            // Nothing stands within a scalar.
            _ => Ok(skip_value(self.json, at)),
        }
    }

    fn items(&mut self, open: usize, wanted: &[usize], depth: usize, object: bool) -> Result<usize, Twice> {
        let mut at = skip_blanks(self.json, open + 1);
        let mut seen: Vec<&str> = Vec::new();
        let mut count = 0_usize;
        let mut index = itoa::Buffer::new();
        while !matches!(self.json.get(at), Some(b'}' | b']') | None) {
            let name: Cow<'_, str> = if object {
                let end = skip_string(self.json, at);
                let name = name_of(&self.json[at..end]);
                at = skip_blanks(self.json, skip_blanks(self.json, end) + 1);
                name
            } else {
                index.format(count).into()
            };
            count += 1;
            let pointers = self.pointers;
            let here: Vec<usize> = wanted.iter().copied().filter(|one| pointers[*one].steps[depth] == name).collect();
            at = if let Some(first) = here.first() {
                let step = pointers[*first].steps[depth].as_str();
                if seen.contains(&step) {
                    return Err(Twice);
                }
                seen.push(step);
                self.wanted(at, &here, depth + 1)?
            } else {
                skip_value(self.json, at)
            };
            at = skip_blanks(self.json, at);
            if self.json.get(at) == Some(&b',') {
                at = skip_blanks(self.json, at + 1);
            }
        }
        Ok(at + 1)
    }

    /// A value that pointers lead to, or through.
    fn wanted(&mut self, at: usize, here: &[usize], depth: usize) -> Result<usize, Twice> {
        let (ends, through): (Vec<usize>, Vec<usize>) =
            here.iter().partition(|one| self.pointers[**one].steps.len() == depth);
        let end = if through.is_empty() { skip_value(self.json, at) } else { self.value(at, &through, depth)? };
        for one in ends {
            self.found[one] = Some(at..end);
        }
        Ok(end)
    }
}

/// A name without its quotes and escapes.
fn name_of(quoted: &[u8]) -> Cow<'_, str> {
    let inner = quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default();
    match std::str::from_utf8(inner) {
        Ok(text) if !inner.contains(&b'\\') => Cow::Borrowed(text),
        // A name with half a surrogate is no text, and no step.
        _ => Cow::Owned(serde_json::from_slice(quoted).unwrap_or_else(|_| "\u{0}".to_owned())),
    }
}

fn skip_blanks(json: &[u8], mut at: usize) -> usize {
    while matches!(json.get(at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
        at += 1;
    }
    at
}

fn skip_string(json: &[u8], open: usize) -> usize {
    let mut at = open + 1;
    loop {
        match json.get(at) {
            Some(b'"') => return at + 1,
            Some(b'\\') => at += 2,
            Some(_) => at += 1,
            None => return json.len(),
        }
    }
}

/// Over a value of any depth, without a stack: brackets match, as the text is well-formed.
fn skip_value(json: &[u8], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0_usize);
    loop {
        match json.get(at) {
            None => return json.len(),
            Some(b'"') => at = skip_string(json, at),
            Some(b'{' | b'[') => {
                depth += 1;
                at += 1;
            }
            Some(b'}' | b']') if depth > 0 => {
                depth -= 1;
                at += 1;
            }
            Some(b',' | b':' | b' ' | b'\t' | b'\n' | b'\r') if depth > 0 => {
                at += 1;
                continue;
            }
            Some(_) => {
                while !matches!(
                    json.get(at),
                    None | Some(b',' | b':' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r' | b'"' | b'{' | b'[')
                ) {
                    at += 1;
                }
            }
        }
        if depth == 0 {
            return at.min(json.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pointers(texts: &[&str]) -> Vec<Pointer> {
        texts.iter().map(|text| Pointer::parse(text).expect("a pointer")).collect()
    }

    #[track_caller]
    fn found<'a>(json: &'a str, pointer: &str) -> Option<&'a str> {
        let places = find(json.as_bytes(), &pointers(&[pointer])).expect("nothing stands twice");
        places[0].clone().map(|place| &json[place])
    }

    #[test]
    fn values_are_found_as_they_are_written() {
        let json = r#" { "card" : { "number" : "4111 \" }" , "cvv":123,"ok":true }, "list":[ 1.50 ,{"a":[]},null], "":0, "a/b~c": -1e3 } "#;
        for (pointer, value) in [
            ("/card/number", r#""4111 \" }""#),
            ("/card/cvv", "123"),
            ("/card/ok", "true"),
            ("/card", r#"{ "number" : "4111 \" }" , "cvv":123,"ok":true }"#),
            ("/list/0", "1.50"),
            ("/list/1", r#"{"a":[]}"#),
            ("/list/1/a", "[]"),
            ("/list/2", "null"),
            ("/", "0"),
            ("/a~1b~0c", "-1e3"),
        ] {
            assert_eq!(found(json, pointer), Some(value), "{pointer}");
        }
        for pointer in
            ["/card/x", "/card/number/x", "/list/3", "/list/-", "/list/00", "/Card", "/card/ok/0", "/list/1/a/0"]
        {
            assert_eq!(found(json, pointer), None, "{pointer}");
        }
        for json in ["0", "\"card\"", "[]", "{}", "null", "[{}]"] {
            assert_eq!(found(json, "/card/number"), None, "{json}");
        }
    }

    #[test]
    fn escaped_names_are_the_same_names() {
        assert_eq!(found(r#"{"c\u0061rd":1}"#, "/card"), Some("1"));
        assert_eq!(found(r#"{"\"":1}"#, "/\""), Some("1"));
        assert_eq!(found(r#"{"\ud800":1,"card":2}"#, "/card"), Some("2"));
    }

    #[test]
    fn what_stands_twice_on_the_way_is_refused() {
        let wanted = pointers(&["/card/number"]);
        for json in [
            r#"{"card":{"number":1,"number":2}}"#,
            r#"{"card":{"number":1},"card":{}}"#,
            r#"{"card":{"number":1},"c\u0061rd":0}"#,
            r#"{"card":0,"card":{"number":1}}"#,
        ] {
            assert_eq!(find(json.as_bytes(), &wanted), Err(Twice), "{json}");
        }
        // Elsewhere it is the upstream's affair.
        assert!(find(br#"{"a":1,"a":2,"card":{"x":1,"x":2,"number":3}}"#, &wanted).is_ok());
    }

    #[test]
    fn pointers_are_read_as_rfc_6901_has_them() {
        for bad in ["", "card", "#/card", "/a~", "/a~2", &"/a".repeat(17)] {
            assert!(Pointer::parse(bad).is_err(), "{bad:?}");
        }
        let [card, number, cards] = &pointers(&["/card", "/card/number", "/cards"])[..] else { panic!() };
        assert!(card.holds(number) && card.holds(card) && !number.holds(card) && !card.holds(cards));
    }

    #[test]
    fn only_the_values_change() {
        let json = br#"{ "a" : "x", "n":1.0e0 ,"b":["y", "z"] }"#;
        let places = find(json, &pointers(&["/b/1", "/a"])).expect("fine");
        let values = places.into_iter().flatten().zip([&b"[1]"[..], b"null"]).map(|(p, v)| (p, Cow::Borrowed(v)));
        assert_eq!(replace(json, values.collect()), br#"{ "a" : null, "n":1.0e0 ,"b":["y", [1]] }"#);
    }

    #[test]
    fn depth_does_not_cost_stack() {
        let deep = format!("{{\"x\":{}{},\"card\":7}}", "[".repeat(1 << 20), "]".repeat(1 << 20));
        assert_eq!(found(&deep, "/card"), Some("7"));
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            "[a-c\"\\\\{}\\[\\]:, é]{0,6}".prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 40, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
                prop::collection::btree_map("[a-c\"~/]{0,2}", inner, 0..4)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn agrees_with_serde_on_any_pointer(json in any_json(), pointer in "(/([a-c]|~0|~1|\"|[0-3]){0,2}){1,4}", pretty: bool) {
            let text = if pretty { serde_json::to_string_pretty(&json) } else { serde_json::to_string(&json) }.expect("JSON");
            // serde_json takes `+1` and the like for no index, as we do, but `00` neither.
            let expected = json.pointer(&pointer);
            let value = found(&text, &pointer).map(|text| serde_json::from_str::<serde_json::Value>(text).expect("JSON"));
            prop_assert_eq!(value.as_ref(), expected);
        }
    }
}
