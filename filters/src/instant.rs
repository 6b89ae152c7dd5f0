//! A TOML date and time with an offset, as milliseconds since 1970.

use toml_datetime::{Datetime, Offset};

/// `None` without a date, a time or an offset: such a text names no instant.
pub(crate) fn unix_ms(datetime: &Datetime) -> Option<i64> {
    let (date, time) = (datetime.date?, datetime.time?);
    let offset_minutes = match datetime.offset? {
        Offset::Z => 0,
        Offset::Custom { minutes } => i64::from(minutes),
    };
    let days = days_since_1970(i64::from(date.year), i64::from(date.month), i64::from(date.day));
    let minutes = i64::from(time.hour) * 60 + i64::from(time.minute) - offset_minutes;
    let seconds = days * 86_400 + minutes * 60 + i64::from(time.second.unwrap_or(0));
    Some(seconds * 1000 + i64::from(time.nanosecond.unwrap_or(0) / 1_000_000))
}

/// Of the proleptic Gregorian calendar. Years begin in March, so that the leap day is their last: Howard Hinnant,
/// "chrono-Compatible Low-Level Date Algorithms", `days_from_civil`, for years from 0.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * month + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(text: &str) -> Option<i64> {
        text.parse::<Datetime>().ok().as_ref().and_then(unix_ms)
    }

    #[test]
    fn instants_agree_with_date_of_coreutils() {
        assert_eq!(ms("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(ms("2027-01-01T00:00:00Z"), Some(1_798_761_600_000));
        assert_eq!(ms("2024-02-29T23:59:59.25Z"), Some(1_709_251_199_250));
        assert_eq!(ms("2000-03-01T00:00:00+05:30"), Some(951_849_000_000));
        assert_eq!(ms("1969-12-31T19:00:00-05:00"), Some(0));
        assert_eq!(ms("9999-12-31T23:59:59Z"), Some(253_402_300_799_000));
        assert!(ms("0000-01-01T00:00:00Z").is_some_and(|ms| ms < 0));
    }

    #[test]
    fn without_an_offset_it_is_no_instant() {
        for text in ["2027-01-01", "2027-01-01T00:00:00", "12:00:00"] {
            assert_eq!(ms(text), None, "{text}");
        }
    }
}
