//! JSON, YAML, jq, Base64, sums and addresses.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jaq_core::load::{Arena, File, Loader};
use jaq_core::{Compiler, Ctx, Vars, data, unwrap_valr};
use jaq_json::{Val, read};
use serde_json::Value;

use super::{Call, Entry, Fault};
use crate::inputs::hex;

/// How long a jq expression may take.
const LONGEST_JQ: std::time::Duration = std::time::Duration::from_secs(5);
/// The most results that a jq expression may have.
const MOST_RESULTS: usize = 1_000_000;

pub(super) const FILTERS: &[Entry] = &[
    Entry {
        name: "base64decode",
        parameters: &[],
        takes_null: false,
        run: |call| {
            let bytes = STANDARD.decode(call.text(0)?.trim()).ok();
            let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
            text.map(Value::from)
                .ok_or_else(|| call.fault("needs UTF-8 text in Base64"))
        },
        summary: "text of Base64",
        examples: &[("'dGVzdA==' | base64decode", "test")],
    },
    Entry {
        name: "base64encode",
        parameters: &[],
        takes_null: false,
        run: |call| Ok(STANDARD.encode(call.text(0)?).into()),
        summary: "Base64 of text",
        examples: &[("'test' | base64encode", "dGVzdA==")],
    },
    Entry {
        name: "jq",
        parameters: &["expression"],
        takes_null: false,
        run: jq,
        summary: "the results of a jq expression, always a list; text is read as JSON",
        examples: &[
            ("outputs | jq('.first.vars.x') | first", "1"),
            ("[1, 2, 3] | jq('map(. * 2) | add') | first", "12"),
            ("'{\"a\": [1, 2]}' | jq('.a[]')", "[1,2]"),
        ],
    },
    Entry {
        name: "json",
        parameters: &[],
        takes_null: true,
        run: |call| Ok(call.value(0).to_string().into()),
        summary: "the old name of `toJson`",
        examples: &[("{'a': [1, true, null]} | json", "{\"a\":[1,true,null]}")],
    },
    Entry {
        name: "md5",
        parameters: &[],
        takes_null: false,
        run: |call| Ok(hex(&<md5::Md5 as md5::Digest>::digest(call.text(0)?)).into()),
        summary: "the MD5 sum of text",
        examples: &[("'test' | md5", "098f6bcd4621d373cade4e832627b4f6")],
    },
    Entry {
        name: "sha1",
        parameters: &[],
        takes_null: false,
        run: |call| Ok(hex(&<sha1::Sha1 as sha1::Digest>::digest(call.text(0)?)).into()),
        summary: "the SHA-1 sum of text",
        examples: &[("'test' | sha1", "a94a8fe5ccb19ba61c4c0873d391e987982fbbd3")],
    },
    Entry {
        name: "sha256",
        parameters: &[],
        takes_null: false,
        run: |call| Ok(hex(&<sha2::Sha256 as sha2::Digest>::digest(call.text(0)?)).into()),
        summary: "the SHA-256 sum of text",
        examples: &[("'test' | sha256 | slice(0, 16)", "9f86d081884c7d65")],
    },
    Entry {
        name: "sha512",
        parameters: &[],
        takes_null: false,
        run: |call| Ok(hex(&<sha2::Sha512 as sha2::Digest>::digest(call.text(0)?)).into()),
        summary: "the SHA-512 sum of text",
        examples: &[("'test' | sha512 | slice(0, 16)", "ee26b0dd4af7e749")],
    },
    Entry {
        name: "toJson",
        parameters: &[],
        takes_null: true,
        run: |call| Ok(call.value(0).to_string().into()),
        summary: "a value as JSON",
        examples: &[
            ("[1, 2, 3] | toJson", "[1,2,3]"),
            ("'foo' | toJson", "\"foo\""),
            ("null | toJson", "null"),
        ],
    },
    Entry {
        name: "urldecode",
        parameters: &[],
        takes_null: false,
        run: |call| {
            // The parser reads pairs; text without `&` and `=` is the name of one.
            let text = call.text(0)?.replace('&', "%26").replace('=', "%3D");
            let mut pairs = form_urlencoded::parse(text.as_bytes());
            Ok(pairs.next().map_or(String::new(), |(name, _)| name.into_owned()).into())
        },
        summary: "text of the form that addresses need",
        examples: &[("'The+string+%C3%BC%40foo-bar' | urldecode", "The string ü@foo-bar")],
    },
    Entry {
        name: "urlencode",
        parameters: &[],
        takes_null: false,
        run: |call| {
            let text = call.text(0)?;
            Ok(form_urlencoded::byte_serialize(text.as_bytes())
                .collect::<String>()
                .into())
        },
        summary: "text in the form that addresses need; a space is `+`",
        examples: &[("'The string ü@foo-bar' | urlencode", "The+string+%C3%BC%40foo-bar")],
    },
    Entry {
        name: "yaml",
        parameters: &[],
        takes_null: true,
        run: |call| {
            let text = serde_saphyr::to_string(call.value(0));
            let text = text.map_err(|_| call.fault("cannot write this value as YAML"))?;
            Ok(text.into())
        },
        summary: "a value as YAML, with the new line at its end",
        examples: &[("{'a': 1, 'b': [1, 'x']} | yaml", "a: 1\nb:\n- 1\n- x\n")],
    },
];

pub(super) const FUNCTIONS: &[Entry] = &[
    Entry {
        name: "fromJson",
        parameters: &["json"],
        takes_null: false,
        run: from_json,
        summary: "the value of JSON in text; what is no text is that value already",
        examples: &[
            ("fromJson('{\"foo\": [666, 1, 2]}').foo[0]", "666"),
            ("fromJson({'foo': 1}).foo", "1"),
        ],
    },
    Entry {
        name: "json",
        parameters: &["json"],
        takes_null: false,
        run: from_json,
        summary: "the old name of `fromJson`",
        examples: &[("json('[1, 2]')[1]", "2")],
    },
    Entry {
        name: "yaml",
        parameters: &["yaml"],
        takes_null: false,
        run: |call| {
            let text = call.text(0)?;
            let options = serde_saphyr::options! { with_snippet: false, strict_booleans: true };
            // What the parser says may quote the text.
            serde_saphyr::from_str_with_options(&text, options).map_err(|_| call.fault("needs valid YAML"))
        },
        summary: "the value of YAML in text",
        examples: &[("yaml('foo: [666, 1, 2]').foo[0]", "666")],
    },
];

fn from_json(call: &Call<'_>) -> Result<Value, Fault> {
    let text = match call.value(0) {
        Value::String(text) => text,
        // Flows read `taskrun.value` with it, which other systems have as text.
        value => return Ok(value.clone()),
    };
    serde_json::from_str(text).map_err(|error| {
        // The parser's own words may quote the text.
        let message = format!("needs valid JSON: there is a mistake in line {}", error.line());
        call.fault(&message)
    })
}

fn jq(call: &Call<'_>) -> Result<Value, Fault> {
    let input = match call.value(0) {
        Value::String(text) => text.clone(),
        value => value.to_string(),
    };
    let code = call.text(1)?;
    let name = call.name;
    // Nothing of the language can be interrupted. A program that takes longer is left to itself until this one ends.
    let (sender, receiver) = std::sync::mpsc::channel();
    let run = move || {
        let _ = sender.send(run_jq(name, &input, &code));
    };
    let thread = std::thread::Builder::new().name("jq".to_owned()).spawn(run);
    thread.map_err(|_| call.fault("cannot be run: this machine has no room for a thread"))?;
    match receiver.recv_timeout(LONGEST_JQ) {
        Ok(results) => results,
        Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
            Err(call.fault(&format!("has not ended within {} s", LONGEST_JQ.as_secs())))
        }
        Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => Err(call.fault("failed")),
    }
}

/// The results of a jq program, for the filter of that name.
fn run_jq(name: &str, input: &str, code: &str) -> Result<Value, Fault> {
    let fault = |message: &str| Fault(format!("`{name}` {message}"));
    let input = read::parse_single(input.as_bytes()).map_err(|_| fault("needs JSON, and got other text"))?;
    let definitions = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs());
    let functions = jaq_core::funs().chain(jaq_std::funs()).chain(jaq_json::funs());
    let arena = Arena::default();
    let file = File { code, path: () };
    let invalid = || fault("needs a valid jq expression without modules");
    let modules = Loader::new(definitions).load(&arena, file).map_err(|_| invalid())?;
    let filter = Compiler::default()
        .with_funs(functions)
        .compile(modules)
        .map_err(|_| invalid())?;
    let context = Ctx::<data::JustLut<Val>>::new(&filter.lut, Vars::new([]));
    let mut results: Vec<Value> = Vec::new();
    for result in filter.id.run((context, input)).map(unwrap_valr) {
        // What went wrong is told with the values that it went wrong with.
        let result = result.map_err(|_| fault("failed: the expression does not fit the value"))?;
        let json = serde_json::from_str::<Value>(&result.to_string());
        results.push(json.map_err(|_| fault("has a result that is no JSON"))?);
        if results.len() > MOST_RESULTS {
            return Err(fault(&format!("has more than {MOST_RESULTS} results")));
        }
    }
    Ok(results.into())
}
