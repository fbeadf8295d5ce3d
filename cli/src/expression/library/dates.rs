//! Dates and times, with the patterns of Java's `DateTimeFormatter`.

use jiff::fmt::strtime;
use jiff::fmt::temporal::Pieces;
use jiff::tz::{Offset, TimeZone};
use jiff::{Span, Timestamp, Zoned};
use serde_json::Value;

use super::{Call, Entry, Fault};

pub(super) const FILTERS: &[Entry] = &[
    Entry {
        name: "date",
        parameters: &["format?", "timeZone?", "existingFormat?", "locale?"],
        takes_null: false,
        run: |call| {
            let date = read(call, 0, 2, 3)?;
            write(call, &date, 1, 2, 4)
        },
        summary: "a date in a pattern, `iso` if none is given; the date is text or a number of seconds since 1970",
        examples: &[
            (
                "'2026-11-21T03:04:05Z' | date('yyyy-MM-dd', timeZone='UTC')",
                "2026-11-21",
            ),
            (
                "'July 24, 2001' | date('yyyy-MM-dd', existingFormat='MMMM dd, yyyy')",
                "2001-07-24",
            ),
            (
                "'2026-11-21T03:04:05Z' | date(\"EEE d MMM HH:mm 'Uhr' XXX\", timeZone='Europe/Berlin')",
                "Sat 21 Nov 04:04 Uhr +01:00",
            ),
        ],
    },
    Entry {
        name: "dateAdd",
        parameters: &["amount", "unit", "format?", "timeZone?", "existingFormat?", "locale?"],
        takes_null: false,
        run: date_add,
        summary: "a date some `SECONDS`, `MINUTES`, `HOURS`, `DAYS`, `WEEKS`, `MONTHS`, `YEARS` and so on later, or earlier",
        examples: &[(
            "'2026-03-01T00:00:00Z' | dateAdd(-1, 'DAYS', 'yyyy-MM-dd', 'UTC')",
            "2026-02-28",
        )],
    },
    Entry {
        name: "timestamp",
        parameters: &["timeZone?", "existingFormat?"],
        takes_null: false,
        run: |call| timestamp(call, 1_000_000_000),
        summary: "seconds since 1970",
        examples: &[("'2026-11-21T03:04:05Z' | timestamp", "1795230245")],
    },
    Entry {
        name: "timestampMicro",
        parameters: &["timeZone?", "existingFormat?"],
        takes_null: false,
        run: |call| timestamp(call, 1_000),
        summary: "microseconds since 1970",
        examples: &[("'2026-11-21T03:04:05.5Z' | timestampMicro", "1795230245500000")],
    },
    Entry {
        name: "timestampMilli",
        parameters: &["timeZone?", "existingFormat?"],
        takes_null: false,
        run: |call| timestamp(call, 1_000_000),
        summary: "milliseconds since 1970",
        examples: &[("'2026-11-21T03:04:05.5Z' | timestampMilli", "1795230245500")],
    },
    Entry {
        name: "timestampNano",
        parameters: &["timeZone?", "existingFormat?"],
        takes_null: false,
        run: |call| timestamp(call, 1),
        summary: "nanoseconds since 1970",
        examples: &[("'2026-11-21T03:04:05.5Z' | timestampNano", "1795230245500000000")],
    },
];

pub(super) const FUNCTIONS: &[Entry] = &[Entry {
    name: "now",
    parameters: &["format?", "timeZone?", "existingFormat?", "locale?"],
    takes_null: true,
    run: |call| write(call, &call.frame.sources.now(), 0, 1, 3),
    summary: "the time, in a pattern as for the filter `date`",
    examples: &[
        ("now(timeZone='UTC')", "2026-11-21T03:04:05.678000Z"),
        ("now('yyyyMMdd')", "20261121"),
        ("now() | dateAdd(1, 'DAYS') | date('dd.MM.yyyy')", "22.11.2026"),
    ],
}];

/// Formats with a name.
const NAMED: &[(&str, &str)] = &[
    ("iso", "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX"),
    ("iso_sec", "yyyy-MM-dd'T'HH:mm:ssXXX"),
    ("sql", "yyyy-MM-dd HH:mm:ss.SSSSSS"),
    ("sql_seq", "yyyy-MM-dd HH:mm:ss"),
    ("iso_date", "yyyy-MM-ddXXX"),
    ("iso_local_date", "yyyy-MM-dd"),
];

/// The start of an error about a pattern; the pattern itself may have come from a value.
const LETTERS: &str = "y, M, d, D, E, a, H, h, m, s, S, X, x, Z, z and VV";

/// A part of a pattern.
#[derive(Debug, PartialEq)]
enum Part {
    /// What the date library calls it.
    Field(String),
    Literal(String),
    /// An offset such as `+01:00`, and whether zero is `Z`.
    Offset(&'static str, bool),
}

fn parts(call: &Call<'_>, format: &str) -> Result<Vec<Part>, Fault> {
    let format = NAMED
        .iter()
        .find(|(name, _)| *name == format)
        .map_or(format, |(_, pattern)| pattern);
    let mut parts = Vec::new();
    let mut rest = format;
    while let Some(c) = rest.chars().next() {
        let length = rest.len() - rest.trim_start_matches(c).len();
        if c == '\'' {
            let (text, after) = quoted(rest.get(1..).unwrap_or_default())
                .ok_or_else(|| call.fault("has a pattern in which a quote is never closed"))?;
            parts.push(Part::Literal(text));
            rest = after;
            continue;
        }
        if c.is_ascii_alphabetic() {
            parts.push(field(c, length).ok_or_else(|| unknown_letters(call, c, length))?);
        } else if matches!(c, '[' | ']' | '{' | '}' | '#') {
            return Err(call.fault(&format!(
                "has a pattern with `{c}`, which is not supported: quote it with '…'"
            )));
        } else {
            parts.push(Part::Literal(c.to_string().repeat(length / c.len_utf8())));
        }
        rest = rest.get(length..).unwrap_or_default();
    }
    Ok(parts)
}

/// The text up to the closing quote, and what follows it. Two quotes are one that is meant.
fn quoted(rest: &str) -> Option<(String, &str)> {
    if let Some(after) = rest.strip_prefix('\'') {
        return Some(("'".to_owned(), after));
    }
    let mut text = String::new();
    let mut rest = rest;
    loop {
        let (part, after) = rest.split_once('\'')?;
        text.push_str(part);
        let Some(more) = after.strip_prefix('\'') else {
            return Some((text, after));
        };
        text.push('\'');
        rest = more;
    }
}

fn unknown_letters(call: &Call<'_>, c: char, length: usize) -> Fault {
    let letters = c.to_string().repeat(length.min(10));
    let cure = match c {
        'Y' => "write `y` for the year of the date".to_owned(),
        'k' | 'K' => "write `H` or `h` for the hour".to_owned(),
        _ => format!("there are {LETTERS}, and text goes into '…'"),
    };
    call.fault(&format!(
        "has a pattern with `{letters}`, which is not supported: {cure}"
    ))
}

fn field(c: char, length: usize) -> Option<Part> {
    let field = match (c, length) {
        ('y' | 'u', 1) => "%-Y",
        ('y' | 'u', 2) => "%y",
        ('y' | 'u', 4) => "%Y",
        ('M' | 'L', 1) => "%-m",
        ('M' | 'L', 2) => "%m",
        ('M' | 'L', 3) => "%b",
        ('M' | 'L', 4) => "%B",
        ('d', 1) => "%-d",
        ('d', 2) => "%d",
        ('D', 1) => "%-j",
        ('D', 3) => "%j",
        ('E', 1..=3) => "%a",
        ('E', 4) => "%A",
        ('a', 1) => "%p",
        ('H', 1) => "%-H",
        ('H', 2) => "%H",
        ('h', 1) => "%-I",
        ('h', 2) => "%I",
        ('m', 1) => "%-M",
        ('m', 2) => "%M",
        ('s', 1) => "%-S",
        ('s', 2) => "%S",
        ('S', 1..=9) => return Some(Part::Field(format!("%{length}f"))),
        ('z', 1..=3) => "%Z",
        ('V', 2) => "%Q",
        ('X', 2) => return Some(Part::Offset("%z", true)),
        ('X', 3) | ('Z', 5) => return Some(Part::Offset("%:z", true)),
        ('x', 2) | ('Z', 1..=3) => return Some(Part::Offset("%z", false)),
        ('x', 3) => return Some(Part::Offset("%:z", false)),
        ('X', 1) => return Some(Part::Offset("%z", true)),
        _ => return None,
    };
    Some(Part::Field(field.to_owned()))
}

fn zone(call: &Call<'_>, index: usize) -> Result<TimeZone, Fault> {
    let Some(name) = call.optional_text(index)? else {
        return Ok(call.frame.sources.now().time_zone().clone());
    };
    if name == "Z" {
        return Ok(TimeZone::UTC);
    }
    let offset = || strtime::parse("%:z", &name).ok()?.offset().map(TimeZone::fixed);
    TimeZone::get(&name)
        .ok()
        .or_else(offset)
        .ok_or_else(|| call.fault("needs a time zone such as `UTC`, `Europe/Paris` or `+02:00`"))
}

/// The date of an argument: text, or seconds since 1970.
fn read(call: &Call<'_>, index: usize, zone_index: usize, format_index: usize) -> Result<Zoned, Fault> {
    let zone = zone(call, zone_index)?;
    let value = call.value(index);
    let format = call.optional_text(format_index)?;
    if let (Some(seconds), None) = (value.as_i64(), &format) {
        let moment = Timestamp::from_second(seconds).map_err(|_| call.fault("needs a date before the year 10000"))?;
        return Ok(moment.to_zoned(zone));
    }
    let Value::String(text) = value else {
        return Err(call.wrong("a date", value));
    };
    let Some(format) = format else {
        return read_iso(text, zone).ok_or_else(|| {
            call.fault("needs a date such as `2026-11-21T03:04:05Z`: name another form with `existingFormat`")
        });
    };
    read_pattern(&parts(call, &format)?, text, zone)
        .ok_or_else(|| call.fault("got a date that does not have the form `existingFormat`"))
}

fn read_iso(text: &str, zone: TimeZone) -> Option<Zoned> {
    let pieces = Pieces::parse(text.trim()).ok()?;
    let time = pieces.time().unwrap_or_else(jiff::civil::Time::midnight);
    let date = pieces.date().to_datetime(time);
    let zone = match (pieces.to_time_zone(), pieces.to_numeric_offset()) {
        (_, Some(offset)) => return Some(offset.to_timestamp(date).ok()?.to_zoned(TimeZone::fixed(offset))),
        (Ok(Some(zone)), None) => zone,
        _ => zone,
    };
    date.to_zoned(zone).ok()
}

fn read_pattern(parts: &[Part], text: &str, zone: TimeZone) -> Option<Zoned> {
    let pattern = |zero: bool| {
        let mut pattern = String::new();
        for part in parts {
            match part {
                Part::Literal(text) => pattern.push_str(&text.replace('%', "%%")),
                Part::Field(field) => pattern.push_str(&field.replace("%-", "%")),
                Part::Offset(_, true) if zero => pattern.push('Z'),
                Part::Offset(field, _) => pattern.push_str(field),
            }
        }
        pattern
    };
    let zulu = |parsed: strtime::BrokenDownTime| {
        let mut parsed = parsed;
        parsed.set_offset(Some(Offset::UTC));
        parsed
    };
    let parsed = strtime::parse(pattern(false), text).or_else(|error| match parts.iter().any(is_offset) {
        true => strtime::parse(pattern(true), text).map(zulu),
        false => Err(error),
    });
    let parsed = parsed.ok()?;
    let time = parsed.to_time().unwrap_or_else(|_| jiff::civil::Time::midnight());
    let date = parsed.to_date().ok()?.to_datetime(time);
    if let Some(offset) = parsed.offset() {
        return Some(offset.to_timestamp(date).ok()?.to_zoned(TimeZone::fixed(offset)));
    }
    let named = parsed.iana_time_zone().and_then(|name| TimeZone::get(name).ok());
    date.to_zoned(named.unwrap_or(zone)).ok()
}

fn is_offset(part: &Part) -> bool {
    matches!(part, Part::Offset(_, true))
}

/// A date in the pattern, time zone and locale that the arguments name.
fn write(call: &Call<'_>, date: &Zoned, format: usize, zone_index: usize, locale: usize) -> Result<Value, Fault> {
    if let Some(locale) = call.optional_text(locale)?
        && !locale.to_lowercase().starts_with("en")
    {
        return Err(call.fault("writes names of days and months in English only: leave out `locale`"));
    }
    let date = date.with_time_zone(zone(call, zone_index)?);
    let format = call.optional_text(format)?.unwrap_or_else(|| "iso".to_owned());
    let show = |format: &str| strtime::format(format, &date).map_err(|_| call.fault("cannot write this date"));
    let named = date
        .time_zone()
        .iana_name()
        .map(|name| format!("[{name}]"))
        .unwrap_or_default();
    let offset = |zero: &str, field: &str| match date.offset().is_zero() {
        true => Ok(zero.to_owned()),
        false => show(field),
    };
    let text = match format.as_str() {
        "iso_local_time" => show("%H:%M:%S%.f")?,
        "iso_time" | "iso_offset_time" => show("%H:%M:%S%.f")? + &offset("Z", "%:z")?,
        "iso_local_date_time" => show("%Y-%m-%dT%H:%M:%S%.f")?,
        "iso_date_time" | "iso_zoned_date_time" => show("%Y-%m-%dT%H:%M:%S%.f")? + &offset("Z", "%:z")? + &named,
        "iso_instant" => date.timestamp().to_string(),
        "iso_ordinal_date" => show("%Y-%j")? + &offset("Z", "%:z")?,
        "iso_week_date" => show("%G-W%V-%u")? + &offset("Z", "%:z")?,
        "rfc_1123_date_time" => show("%a, %-d %b %Y %H:%M:%S ")? + &offset("GMT", "%z")?,
        "full" | "long" | "medium" | "short" => {
            return Err(call.fault("has no formats that depend on a country: write a pattern such as `yyyy-MM-dd`"));
        }
        pattern => {
            let mut text = String::new();
            for part in parts(call, pattern)? {
                match part {
                    Part::Literal(literal) => text.push_str(&literal),
                    Part::Field(field) => text.push_str(&show(&field)?),
                    Part::Offset(field, true) => text.push_str(&offset("Z", field)?),
                    Part::Offset(field, false) => text.push_str(&show(field)?),
                }
            }
            text
        }
    };
    Ok(text.into())
}

fn date_add(call: &Call<'_>) -> Result<Value, Fault> {
    let date = read(call, 0, 4, 5)?;
    let amount = call.integer(1)?;
    let unit = call.text(2)?;
    let long = || call.fault("adds too much");
    let times = |factor: i64| amount.checked_mul(factor).ok_or_else(long);
    let span = Span::new();
    let span = match unit.as_str() {
        "NANOS" => span.try_nanoseconds(amount),
        "MICROS" => span.try_microseconds(amount),
        "MILLIS" => span.try_milliseconds(amount),
        "SECONDS" => span.try_seconds(amount),
        "MINUTES" => span.try_minutes(amount),
        "HOURS" => span.try_hours(amount),
        "HALF_DAYS" => span.try_hours(times(12)?),
        "DAYS" => span.try_days(amount),
        "WEEKS" => span.try_weeks(amount),
        "MONTHS" => span.try_months(amount),
        "YEARS" => span.try_years(amount),
        "DECADES" => span.try_years(times(10)?),
        "CENTURIES" => span.try_years(times(100)?),
        _ => {
            return Err(call.fault(
                "needs a unit: NANOS, MICROS, MILLIS, SECONDS, MINUTES, HOURS, HALF_DAYS, DAYS, WEEKS, MONTHS, YEARS, \
                 DECADES or CENTURIES",
            ));
        }
    };
    let later = span.and_then(|span| date.checked_add(span)).map_err(|_| long())?;
    write(call, &later, 3, 4, 6)
}

fn timestamp(call: &Call<'_>, nanoseconds: i128) -> Result<Value, Fault> {
    let date = read(call, 0, 1, 2)?;
    let since = date.timestamp().as_nanosecond().div_euclid(nanoseconds);
    i64::try_from(since)
        .map(Value::from)
        .map_err(|_| call.fault("gives numbers of at most 64 bits"))
}
