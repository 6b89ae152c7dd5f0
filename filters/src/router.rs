//! Which route a canonical path belongs to: the most specific pattern that matches, then the method.

use std::collections::HashMap;

use gapura_config::guard;
use http::Method;

/// Routes by pattern. A pattern may occur on several routes with different methods.
#[derive(Debug, Default)]
pub struct Router {
    exact: HashMap<String, Vec<Entry>>,
    /// Most specific first.
    wildcard: Vec<(Pattern, Vec<Entry>)>,
}

#[derive(Debug, Clone)]
struct Entry {
    /// Empty: all.
    methods: Vec<Method>,
    route: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    segments: Vec<Segment>,
    /// Ends with `/**`.
    any_depth: bool,
    /// Bytes before the first wildcard.
    literal: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Literal(String),
    One,
}

/// The outcome of a look-up.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    Route(usize),
    /// The pattern matches, its routes take other methods: the value of `Allow`.
    OtherMethods(Vec<Method>),
    Nothing,
}

impl Router {
    /// `patterns` in the order of the routes, already checked by the configuration.
    pub fn new<'a>(patterns: impl IntoIterator<Item = (&'a str, Vec<Method>)>) -> Self {
        let mut router = Self::default();
        for (route, (path, methods)) in patterns.into_iter().enumerate() {
            let entry = Entry { methods, route };
            if !path.contains(['*', '{']) {
                router.exact.entry(path.to_owned()).or_default().push(entry);
                continue;
            }
            let pattern = Pattern::parse(path);
            match router.wildcard.iter_mut().find(|(known, _)| *known == pattern) {
                Some((_, entries)) => entries.push(entry),
                None => router.wildcard.push((pattern, vec![entry])),
            }
        }
        router.wildcard.sort_by_key(|(pattern, _)| std::cmp::Reverse(pattern.specificity()));
        router
    }

    /// The most specific pattern decides alone: a method that it does not take never falls through to a wider route,
    /// whose rules may be laxer.
    pub fn find(&self, path: &str, method: &Method) -> Found {
        let entries = match self.exact.get(path) {
            Some(entries) => entries,
            None => match self.wildcard.iter().find(|(pattern, _)| pattern.matches(path)) {
                Some((_, entries)) => entries,
                None => return Found::Nothing,
            },
        };
        match entries.iter().find(|entry| entry.takes(method)) {
            Some(entry) => Found::Route(entry.route),
            None => Found::OtherMethods(allowed(entries)),
        }
    }
}

impl Entry {
    /// GET includes HEAD (RFC 9110, section 9.1: a server that supports GET supports HEAD).
    fn takes(&self, method: &Method) -> bool {
        self.methods.is_empty()
            || self.methods.contains(method)
            || (method == Method::HEAD && self.methods.contains(&Method::GET))
    }
}

fn allowed(entries: &[Entry]) -> Vec<Method> {
    let mut methods: Vec<Method> = Vec::new();
    for method in entries.iter().flat_map(|entry| &entry.methods) {
        if !methods.contains(method) {
            methods.push(method.clone());
        }
        if method == Method::GET && !methods.contains(&Method::HEAD) {
            methods.push(Method::HEAD);
        }
    }
    methods
}

impl Pattern {
    fn parse(path: &str) -> Self {
        let literal = path.find(['*', '{']).unwrap_or(path.len());
        let mut segments: Vec<Segment> = path[1..]
            .split('/')
            .map(|segment| match segment {
                "*" => Segment::One,
                // A name is for guards; it matches as `*` does.
                _ if guard::segment_name(segment).is_some() => Segment::One,
                _ => Segment::Literal(segment.to_owned()),
            })
            .collect();
        let any_depth = segments.last() == Some(&Segment::Literal("**".into()));
        if any_depth {
            segments.pop();
        }
        Self { segments, any_depth, literal }
    }

    /// The longest literal prefix wins; then the pattern that leaves less open.
    fn specificity(&self) -> (usize, bool, usize) {
        (self.literal, !self.any_depth, self.segments.len())
    }

    fn matches(&self, path: &str) -> bool {
        let mut actual = path.strip_prefix('/').unwrap_or(path).split('/');
        for segment in &self.segments {
            match (segment, actual.next()) {
                (Segment::Literal(literal), Some(text)) if literal == text => {}
                (Segment::One, Some(text)) if !text.is_empty() => {}
                _ => return false,
            }
        }
        self.any_depth || actual.next().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn router(patterns: &[(&str, &[Method])]) -> Router {
        Router::new(patterns.iter().map(|(path, methods)| (*path, methods.to_vec())))
    }

    #[test]
    fn a_tree_matches_its_root_and_everything_below() {
        let router = router(&[("/admin/**", &[])]);
        for path in ["/admin", "/admin/", "/admin/a", "/admin/a/b/c"] {
            assert_eq!(router.find(path, &Method::GET), Found::Route(0), "{path}");
        }
        for path in ["/", "/administrator", "/Admin", "/adm"] {
            assert_eq!(router.find(path, &Method::GET), Found::Nothing, "{path}");
        }
    }

    #[test]
    fn a_star_is_one_segment() {
        let router = router(&[("/users/*", &[]), ("/users/*/orders", &[])]);
        assert_eq!(router.find("/users/7", &Method::GET), Found::Route(0));
        assert_eq!(router.find("/users/7/orders", &Method::GET), Found::Route(1));
        for path in ["/users", "/users/", "/users/7/", "/users/7/x", "/users//orders"] {
            assert_eq!(router.find(path, &Method::GET), Found::Nothing, "{path}");
        }
    }

    #[test]
    fn a_named_segment_is_a_star() {
        let router = router(&[("/users/{user_id}", &[Method::GET]), ("/users/{id}", &[Method::PUT]), ("/{x}/**", &[])]);
        assert_eq!(router.find("/users/7", &Method::GET), Found::Route(0));
        assert_eq!(router.find("/users/7", &Method::PUT), Found::Route(1));
        assert_eq!(router.find("/users/7/orders", &Method::PUT), Found::Route(2));
        assert_eq!(router.find("/users/", &Method::GET), Found::Route(2));
    }

    #[test]
    fn the_longest_literal_prefix_wins_whatever_the_order() {
        let router = router(&[
            ("/**", &[]),
            ("/a/**", &[]),
            ("/a/b/**", &[]),
            ("/a/b/c", &[]),
            ("/a/b/*", &[]),
            ("/a/*/c", &[]),
        ]);
        for (path, route) in [
            ("/x", 0),
            ("/", 0),
            ("/a", 1),
            ("/a/x", 1),
            ("/a/b", 2),
            ("/a/b/x/y", 2),
            ("/a/b/c", 3),
            ("/a/b/x", 4),
            ("/a/x/c", 5),
        ] {
            assert_eq!(router.find(path, &Method::GET), Found::Route(route), "{path}");
        }
    }

    #[test]
    fn a_method_never_falls_through_to_a_wider_route() {
        let router = router(&[
            ("/**", &[]),
            ("/payments/**", &[Method::POST]),
            ("/payments/**", &[Method::GET]),
            ("/only", &[Method::PUT]),
        ]);
        assert_eq!(router.find("/payments/1", &Method::POST), Found::Route(1));
        assert_eq!(router.find("/payments/1", &Method::HEAD), Found::Route(2));
        let Found::OtherMethods(allow) = router.find("/payments/1", &Method::DELETE) else {
            panic!("DELETE fell through");
        };
        assert_eq!(allow, [Method::POST, Method::GET, Method::HEAD]);
        assert_eq!(router.find("/only", &Method::GET), Found::OtherMethods(vec![Method::PUT]));
    }
}
