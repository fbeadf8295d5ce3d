//! What stands behind the question mark.

use http::StatusCode;
use percent_encoding::percent_decode_str;

use super::answer::Refusal;
use crate::protocol::Name;

/// A value of a query; the last of equal names counts, unknown names are ignored.
pub(super) fn value(query: Option<&str>, name: &str) -> Result<Option<String>, Refusal> {
    let mut pairs = query
        .unwrap_or_default()
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let last = pairs.rfind(|(there, _)| *there == name);
    last.map(|(_, value)| decode(&value.replace('+', " "))).transpose()
}

/// A value of a query that says yes or no; its name alone says yes.
pub(super) fn flag(query: Option<&str>, name: &str) -> Result<bool, Refusal> {
    match value(query, name)?.as_deref() {
        None | Some("false" | "0") => Ok(false),
        Some("" | "true" | "1") => Ok(true),
        Some(other) => Err(bad(format!("`{name}` is `{other}`: it must be true or false"))),
    }
}

/// A value of a query that is a number.
pub(super) fn number(query: Option<&str>, name: &str) -> Result<Option<u64>, Refusal> {
    let value = value(query, name)?;
    let number = value.map(|value| {
        value
            .parse()
            .map_err(|_| bad(format!("`{name}` is `{value}`: it must be a whole number")))
    });
    number.transpose()
}

/// The name in a path.
pub(super) fn name(segment: &str) -> Result<Name, Refusal> {
    Ok(Name::try_from(decode(segment)?)?)
}

pub(super) fn bad(message: String) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, message)
}

fn decode(text: &str) -> Result<String, Refusal> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded
        .map(Into::into)
        .map_err(|_| bad(format!("`{text}` is not UTF-8")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_query_is_answered_and_what_was_encoded_is_read(text in "\\PC{0,24}|[a-c=&%0-9+]{0,24}", said in "\\PC{0,12}") {
            let _ = (value(Some(&text), "a"), flag(Some(&text), "b"), number(Some(&text), "c"), name(&text));
            let encoded = percent_encoding::utf8_percent_encode(&said, percent_encoding::NON_ALPHANUMERIC);
            prop_assert_eq!(value(Some(&format!("x=1&a={encoded}&b")), "a").unwrap(), Some(said.clone()));
            if let Ok(name) = name(&encoded.to_string()) {
                prop_assert_eq!(name.as_str(), said);
            }
        }
    }

    #[test]
    fn queries_are_read() {
        let query = Some("a=1&b&a=%32+x&c=no&d=false");
        assert_eq!(value(query, "a").unwrap().as_deref(), Some("2 x"));
        assert!(flag(query, "b").unwrap());
        assert!(!flag(query, "d").unwrap());
        assert!(flag(query, "c").is_err());
        assert!(number(query, "c").is_err());
        assert_eq!(number(None, "c").unwrap(), None);
        assert!(value(Some("a=%ff"), "a").is_err());
    }

    #[test]
    fn names_in_paths_are_decoded_and_checked() {
        assert_eq!(name("a%20b").unwrap().as_str(), "a b");
        for refused in ["", "a%2Fb", "a/b", "..", "%2e%2e", "a%00", "%ff"] {
            assert!(name(refused).is_err(), "{refused}");
        }
    }
}
