//! "Did you mean": the known name that an unknown one most resembles.

/// The nearest of `known`, if any is near enough to be meant. Case and `-` for `_` do not count as a difference.
pub(crate) fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Longer than any known name; the distance takes the product of both lengths.
    if written.len() > 256 {
        return None;
    }
    let written = plain(written);
    let near = (written.chars().count() / 3).clamp(1, 4);
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&written, &plain(name)), name))
        .filter(|(distance, name)| *distance <= near && *distance < name.chars().count())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// The one of `known` that differs by a single slip at most: there is little doubt that it is meant.
pub(crate) fn all_but_same<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    nearest(written, known).filter(|name| strsim::damerau_levenshtein(&plain(written), &plain(name)) <= 1)
}

fn plain(name: &str) -> String {
    name.to_lowercase().replace(['-', ' '], "_")
}

/// `` `a`, `b` and `c` ``
pub(crate) fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = names.into_iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        Some((last, _)) => last.clone(),
        None => String::new(),
    }
}
