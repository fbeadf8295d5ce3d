//! Yes and no and durations as Go writes them, sizes as Kubernetes does, and places of volumes.

use std::path::PathBuf;
use std::time::Duration;

/// A volume's name and the place where it is mounted, such as `data=/mnt/data`.
pub fn volume(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && path.starts_with('/') => Ok((name.to_owned(), path.into())),
        _ => Err(format!(
            "`{text}` is no volume: write its name and where it is mounted, as in data=/mnt/data"
        )),
    }
}

/// Yes or no, in each of the ways that Go's flags have for it.
pub fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("it must be true or false".to_owned()),
    }
}

/// A duration such as `500ms`, `30s`, `1h15m30.5s`; `0` needs no unit.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no duration: write it as in 500ms, 30s or 1h30m");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest
            .find(|one: char| !one.is_ascii_digit() && one != '.')
            .ok_or_else(wrong)?;
        let (number, after) = rest.split_at(digits);
        let unit = after
            .find(|one: char| one.is_ascii_digit() || one == '.')
            .unwrap_or(after.len());
        let (unit, next) = after.split_at(unit);
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(wrong()),
        };
        total += number.parse::<f64>().map_err(|_| wrong())? * seconds;
        rest = next;
    }
    if text.is_empty() {
        return Err(wrong());
    }
    // A hundred years are as good as for ever, and no clock overflows.
    Duration::try_from_secs_f64(total.min(3_155_760_000.0)).map_err(|_| wrong())
}

/// A size such as `64Ki`, `10Mi`, `1G`, `4096B`. A bare number is in MiB, as the flag of other executors has it.
pub fn size(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is no size: write it as in 64Ki, 10Mi or 1Gi; a bare number is in MiB");
    let digits = text.find(|one: char| !one.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit: u64 = match unit {
        "B" => 1,
        "k" | "K" => 1000,
        "Ki" => 1 << 10,
        "M" => 1_000_000,
        "Mi" | "" => 1 << 20,
        "G" => 1_000_000_000,
        "Gi" => 1 << 30,
        _ => return Err(wrong()),
    };
    let size = number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(unit))
        .ok_or_else(wrong)?;
    if size == 0 {
        Err(format!("`{text}` keeps nothing: a size must be above 0"))
    } else {
        Ok(size)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_text_is_answered_and_durations_are_sums(text in "\\PC{0,12}|[0-9.]{1,4}(ns|us|ms|s|m|h|d)[0-9.]{0,3}", hours in 0..999_u64, seconds in 0..3600_u64, millis in 0..1000_u64) {
            let _ = (duration(&text), size(&text), volume(&text), boolean(&text));
            let written = duration(&format!("{hours}h{seconds}s{millis}ms")).unwrap();
            let expected = Duration::from_millis((hours * 3600 + seconds) * 1000 + millis);
            prop_assert!(written.abs_diff(expected) < Duration::from_micros(1), "{:?} {:?}", written, expected);
        }

        #[test]
        fn sizes_are_products(number in 1..1_u64 << 33, unit in proptest::sample::select(vec![("B", 1), ("k", 1000), ("Ki", 1 << 10), ("Mi", 1 << 20), ("", 1 << 20), ("G", 1_000_000_000), ("Gi", 1 << 30)])) {
            let expected = number.checked_mul(unit.1);
            prop_assert_eq!(size(&format!("{number}{}", unit.0)).ok(), expected);
        }
    }

    #[test]
    fn yes_and_no_are_gos() {
        for (text, expected) in [
            ("1", true),
            ("t", true),
            ("T", true),
            ("True", true),
            ("0", false),
            ("F", false),
            ("False", false),
        ] {
            assert_eq!(boolean(text), Ok(expected), "{text}");
        }
        for wrong in ["", "yes", "tRUE", "2"] {
            assert!(boolean(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn volumes_have_a_name_and_a_place() {
        assert_eq!(volume("data=/a=b"), Ok(("data".to_owned(), "/a=b".into())));
        for wrong in ["", "data", "=/a", "data=", "data=a"] {
            assert!(volume(wrong).unwrap_err().contains("is no volume"), "{wrong}");
        }
    }

    #[test]
    fn durations_are_gos() {
        for (text, expected) in [
            ("0", 0),
            ("500ms", 500_000),
            ("10s", 10_000_000),
            ("1m30s", 90_000_000),
            ("1.5h", 5_400_000_000),
            ("100us", 100),
            ("1h15m30.918s", 4_530_918_000),
        ] {
            assert_eq!(duration(text).unwrap().as_micros(), expected, "{text}");
        }
        for wrong in ["", "5", "s", "-1s", "1d", "1s2", "1..5s", "1 s", "ms500"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        assert!(duration("99999999999999999999h").is_ok());
    }

    #[test]
    fn sizes_are_read() {
        for (text, expected) in [
            ("100", 100 << 20),
            ("64Ki", 65536),
            ("10Mi", 10 << 20),
            ("5M", 5_000_000),
            ("7B", 7),
        ] {
            assert_eq!(size(text).unwrap(), expected, "{text}");
        }
        for wrong in ["", "x", "-1", "0", "1.5Mi", "1T", "99999999999999999999Gi"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}
