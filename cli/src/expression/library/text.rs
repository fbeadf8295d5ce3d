//! Filters on text.

use regex::Regex;
use serde_json::Value;
use unicode_normalization::UnicodeNormalization;

use super::{Call, Entry, Fault, show};

pub(super) const FILTERS: &[Entry] = &[
    Entry {
        name: "abbreviate",
        parameters: &["length"],
        takes_null: false,
        run: abbreviate,
        summary: "shortens text to a length, three dots included",
        examples: &[("'this is a long sentence.' | abbreviate(7)", "this...")],
    },
    Entry {
        name: "capitalize",
        parameters: &[],
        takes_null: false,
        run: |call| Ok(capitalize(&call.text(0)?, false).into()),
        summary: "makes the first letter a capital",
        examples: &[("'article title' | capitalize", "Article title")],
    },
    Entry {
        name: "endsWith",
        parameters: &["value"],
        takes_null: false,
        run: |call| Ok(call.text(0)?.ends_with(&call.text(1)?).into()),
        summary: "true if the text ends with another",
        examples: &[("'hello world' | endsWith('world')", "true")],
    },
    Entry {
        name: "escapeChar",
        parameters: &["type"],
        takes_null: false,
        run: escape_char,
        summary: "escapes quotes: `single`, `double` or `shell`; also in the items of lists and mappings",
        examples: &[
            ("\"Can't be here\" | escapeChar('single')", "Can\\'t be here"),
            ("\"it's\" | escapeChar('shell')", "it'\\''s"),
        ],
    },
    Entry {
        name: "indent",
        parameters: &["amount", "prefix?"],
        takes_null: false,
        run: |call| indent(call, false),
        summary: "indents every line but the first",
        examples: &[("{'a': 1, 'b': 2} | yaml | indent(2)", "a: 1\n  b: 2\n  ")],
    },
    Entry {
        name: "lower",
        parameters: &[],
        takes_null: false,
        run: |call| Ok(call.text(0)?.to_lowercase().into()),
        summary: "small letters",
        examples: &[("'LOUD TEXT' | lower", "loud text")],
    },
    Entry {
        name: "nindent",
        parameters: &["amount", "prefix?"],
        takes_null: false,
        run: |call| indent(call, true),
        summary: "begins a new line and indents every line",
        examples: &[("'key: value' | nindent(2)", "\n  key: value")],
    },
    Entry {
        name: "replace",
        parameters: &["replace_pairs", "regexp?"],
        takes_null: false,
        run: replace,
        summary: "replaces every key of a mapping by its value; with `regexp=true` the keys are patterns; also in the items \
                  of lists and mappings",
        examples: &[
            ("'I like %this%.' | replace({'%this%': 'that'})", "I like that."),
            ("'a1b22' | replace({'[0-9]+': '#'}, regexp=true)", "a#b#"),
        ],
    },
    Entry {
        name: "slugify",
        parameters: &[],
        takes_null: false,
        run: |call| Ok(slugify(&call.text(0)?).into()),
        summary: "small letters, digits and dashes, for names and addresses",
        examples: &[("'Hello Wörld!' | slugify", "hello-world")],
    },
    Entry {
        name: "split",
        parameters: &["delimiter", "limit?"],
        takes_null: false,
        run: split,
        summary: "cuts text at a pattern; a positive limit is the most parts, a negative one keeps empty parts at the end",
        examples: &[
            (
                "'apple,banana,cherry' | split(',')",
                "[\"apple\",\"banana\",\"cherry\"]",
            ),
            ("'a,b,c' | split(',', 2)", "[\"a\",\"b,c\"]"),
            ("'a.b' | split('\\.')", "[\"a\",\"b\"]"),
        ],
    },
    Entry {
        name: "startsWith",
        parameters: &["value"],
        takes_null: false,
        run: |call| Ok(call.text(0)?.starts_with(&call.text(1)?).into()),
        summary: "true if the text begins with another",
        examples: &[("'hello world' | startsWith('hello')", "true")],
    },
    Entry {
        name: "string",
        parameters: &[],
        takes_null: false,
        run: |call| Ok(show(call.value(0)).into()),
        summary: "makes text of a value",
        examples: &[("123 | string | toJson", "\"123\"")],
    },
    Entry {
        name: "substringAfter",
        parameters: &["separator"],
        takes_null: false,
        run: |call| cut(call, |text, by| text.split_once(by).map_or("", |(_, after)| after)),
        summary: "what follows the first separator; nothing if there is none",
        examples: &[("'a.b.c' | substringAfter('.')", "b.c")],
    },
    Entry {
        name: "substringAfterLast",
        parameters: &["separator"],
        takes_null: false,
        run: |call| cut(call, |text, by| text.rsplit_once(by).map_or("", |(_, after)| after)),
        summary: "what follows the last separator; nothing if there is none",
        examples: &[("'a.b.c' | substringAfterLast('.')", "c")],
    },
    Entry {
        name: "substringBefore",
        parameters: &["separator"],
        takes_null: false,
        run: |call| cut(call, |text, by| text.split_once(by).map_or(text, |(before, _)| before)),
        summary: "what stands before the first separator; all if there is none",
        examples: &[("'a.b.c' | substringBefore('.')", "a")],
    },
    Entry {
        name: "substringBeforeLast",
        parameters: &["separator"],
        takes_null: false,
        run: |call| cut(call, |text, by| text.rsplit_once(by).map_or(text, |(before, _)| before)),
        summary: "what stands before the last separator; all if there is none",
        examples: &[("'a.b.c' | substringBeforeLast('.')", "a.b")],
    },
    Entry {
        name: "title",
        parameters: &[],
        takes_null: false,
        run: |call| Ok(capitalize(&call.text(0)?, true).into()),
        summary: "makes the first letter of every word a capital",
        examples: &[("'article title' | title", "Article Title")],
    },
    Entry {
        name: "toString",
        parameters: &[],
        takes_null: false,
        run: |call| Ok(show(call.value(0)).into()),
        summary: "the same as `string`",
        examples: &[("true | toString | toJson", "\"true\"")],
    },
    Entry {
        name: "trim",
        parameters: &[],
        takes_null: false,
        run: |call| Ok(call.text(0)?.trim().into()),
        summary: "removes white space at both ends",
        examples: &[("'   padded text   ' | trim", "padded text")],
    },
    Entry {
        name: "upper",
        parameters: &[],
        takes_null: false,
        run: |call| Ok(call.text(0)?.to_uppercase().into()),
        summary: "capital letters",
        examples: &[("'quiet sentence' | upper", "QUIET SENTENCE")],
    },
];

fn abbreviate(call: &Call<'_>) -> Result<Value, Fault> {
    let (text, length) = (call.text(0)?, call.count(1)?);
    let first = |count: usize| text.chars().take(count).collect::<String>();
    let count = text.chars().count();
    Ok(match (count, length) {
        _ if count < length || count <= 3 => text.into(),
        (_, 0..=3) => first(length).into(),
        _ => (first(length - 3) + "...").into(),
    })
}

fn capitalize(text: &str, every_word: bool) -> String {
    let mut capital = true;
    let mut result = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_whitespace() {
            capital |= every_word;
            result.push(c);
        } else if capital {
            capital = false;
            result.extend(c.to_uppercase());
        } else {
            result.push(c);
        }
    }
    result
}

/// Apply a change to text, and to all texts of a list or mapping.
fn deep(value: &Value, change: &dyn Fn(&str) -> String) -> Value {
    match value {
        Value::Null => Value::Null,
        Value::Array(items) => items.iter().map(|item| deep(item, change)).collect(),
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| (key.clone(), deep(value, change)))
            .collect(),
        scalar => change(&show(scalar)).into(),
    }
}

fn escape_char(call: &Call<'_>) -> Result<Value, Fault> {
    let (quote, escaped) = match call.text(1)?.to_lowercase().as_str() {
        "shell" => ("'", "'\\''"),
        "single" => ("'", "\\'"),
        "double" => ("\"", "\\\""),
        _ => return Err(call.fault("needs `single`, `double` or `shell`")),
    };
    Ok(deep(call.value(0), &|text| text.replace(quote, escaped)))
}

fn indent(call: &Call<'_>, new_line: bool) -> Result<Value, Fault> {
    let text = call.text(0)?;
    if text.is_empty() {
        return Ok(text.into());
    }
    let amount = call.count(1)?;
    if amount > 1000 {
        return Err(call.fault("indents by at most 1000"));
    }
    let prefix = call.optional_text(2)?.unwrap_or_else(|| " ".to_owned()).repeat(amount);
    let end = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let text = if new_line { format!("{end}{text}") } else { text };
    Ok(text.replace(end, &format!("{end}{prefix}")).into())
}

/// A pattern. Its text stands in the flow or came from a value, so the error does not quote it.
fn pattern(call: &Call<'_>, text: &str) -> Result<Regex, Fault> {
    Regex::new(text).map_err(|_| call.fault("needs a valid pattern (no look-around or back-references)"))
}

fn replace(call: &Call<'_>) -> Result<Value, Fault> {
    let Value::Object(pairs) = call.value(1) else {
        return Err(call.wrong("a mapping such as `{'old': 'new'}`", call.value(1)));
    };
    if !call.boolean(2, false)? {
        let change = |text: &str| {
            pairs.iter().fold(text.to_owned(), |text, (old, new)| {
                text.replace(old.as_str(), &show(new))
            })
        };
        return Ok(deep(call.value(0), &change));
    }
    let mut patterns = Vec::new();
    for (old, new) in pairs {
        patterns.push((pattern(call, old)?, groups(&show(new))));
    }
    let change = |text: &str| {
        patterns.iter().fold(text.to_owned(), |text, (old, new)| {
            old.replace_all(&text, new.as_str()).into_owned()
        })
    };
    Ok(deep(call.value(0), &change))
}

/// A replacement as the pattern library wants it: `$1x` is group 1 and an x, and `\$` a dollar sign.
fn groups(replacement: &str) -> String {
    let mut result = String::new();
    let mut characters = replacement.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '\\' => match characters.next() {
                Some('$') => result.push_str("$$"),
                Some(escaped) => result.push(escaped),
                None => {}
            },
            '$' => match characters.peek().filter(|next| next.is_ascii_digit()) {
                Some(digit) => {
                    result.push_str(&format!("${{{digit}}}"));
                    characters.next();
                }
                None => result.push('$'),
            },
            c => result.push(c),
        }
    }
    result
}

fn slugify(text: &str) -> String {
    let mut slug = String::new();
    for c in text.nfd() {
        let dash = c.is_whitespace() || c == '-' || c == '_';
        if dash && !slug.ends_with('-') && !slug.is_empty() {
            slug.push('-');
        } else if c.is_ascii_alphanumeric() {
            slug.push(c.to_ascii_lowercase());
        }
    }
    slug.trim_end_matches('-').to_owned()
}

fn split(call: &Call<'_>) -> Result<Value, Fault> {
    let text = call.text(0)?;
    let delimiter = pattern(call, &call.text(1)?)?;
    let limit = call.optional_integer(2)?.unwrap_or(0);
    let mut parts: Vec<&str> = match usize::try_from(limit) {
        Ok(most @ 1..) => delimiter.splitn(&text, most).collect(),
        _ => delimiter.split(&text).collect(),
    };
    // A pattern that matches nothing cuts between all letters; the engine then finds empty ends that are none.
    if delimiter.is_match("") && parts.first() == Some(&"") {
        parts.remove(0);
    }
    if limit == 0 {
        while parts.len() > 1 && parts.last() == Some(&"") {
            parts.pop();
        }
    }
    Ok(parts.into_iter().map(Value::from).collect())
}

fn cut(call: &Call<'_>, by: for<'t> fn(&'t str, &str) -> &'t str) -> Result<Value, Fault> {
    Ok(by(&call.text(0)?, &call.text(1)?).into())
}
