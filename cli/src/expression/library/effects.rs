//! Functions that need something from outside of the expression: secrets, files, randomness, other texts.

use serde_json::Value;

use super::{Call, Entry, Fault};
use crate::expression::engine;
use crate::scope::ROUNDS;

pub(super) const FUNCTIONS: &[Entry] = &[
    Entry {
        name: "currentEachOutput",
        parameters: &["outputs"],
        takes_null: false,
        run: current_output,
        summary: "what a task of the same round of a `ForEach` gave back: `currentEachOutput(outputs.task)`",
        examples: &[],
    },
    Entry {
        name: "errorLogs",
        parameters: &[],
        takes_null: true,
        run: |call| match call.frame.scope.get("errorLogs") {
            Some(logs) => Ok(logs.clone()),
            None => Err(call.fault("can be used in the tasks of `errors` only")),
        },
        summary: "the errors that were logged, in the tasks of `errors`",
        examples: &[],
    },
    Entry {
        name: "fileEmpty",
        parameters: &["path"],
        takes_null: false,
        run: |call| Ok((size(call)? == 0).into()),
        summary: "the same as `isFileEmpty`",
        examples: &[("fileEmpty(inputs.file)", "false")],
    },
    Entry {
        name: "fileExists",
        parameters: &["path"],
        takes_null: false,
        run: |call| Ok(call.frame.files.size(&call.text(0)?)?.is_some().into()),
        summary: "true if there is a file of that URI in this execution",
        examples: &[("fileExists(inputs.file)", "true")],
    },
    Entry {
        name: "fileSize",
        parameters: &["path"],
        takes_null: false,
        run: |call| Ok(size(call)?.into()),
        summary: "the size of a file in bytes",
        examples: &[("fileSize(inputs.file)", "15")],
    },
    Entry {
        name: "id",
        parameters: &[],
        takes_null: true,
        run: |call| Ok(short(call.frame.sources.random()?).into()),
        summary: "a new identifier of 22 letters and digits",
        examples: &[("id() | length", "22")],
    },
    Entry {
        name: "isFileEmpty",
        parameters: &["path"],
        takes_null: false,
        run: |call| Ok((size(call)? == 0).into()),
        summary: "true if a file holds nothing",
        examples: &[("isFileEmpty(inputs.file)", "false")],
    },
    Entry {
        name: "kv",
        parameters: &["key", "namespace?", "errorOnMissing?"],
        takes_null: false,
        run: kv,
        summary: "a value of the file given with `--kv`; a missing one is an error, or null with `errorOnMissing=false`",
        examples: &[
            ("kv('region')", "eu-west-1"),
            ("kv('nosuch', errorOnMissing=false) ?? 'none'", "none"),
        ],
    },
    Entry {
        name: "randomInt",
        parameters: &["lower", "upper"],
        takes_null: false,
        run: random_int,
        summary: "a whole number from the first up to but without the second",
        examples: &[("randomInt(5, 6)", "5")],
    },
    Entry {
        name: "read",
        parameters: &["path"],
        takes_null: false,
        run: |call| {
            let text = String::from_utf8(call.frame.files.read(&call.text(0)?)?);
            text.map(Value::from).map_err(|_| call.fault("reads UTF-8 text only"))
        },
        summary: "the content of a file of this execution, named by its URI",
        examples: &[("read(inputs.file)", "what is in data")],
    },
    Entry {
        name: "render",
        parameters: &["toRender", "recursive?"],
        takes_null: false,
        run: |call| render(call, call.boolean(1, true)?),
        summary: "renders the expressions in a text, also those that come out of it",
        examples: &[("render(vars.greeting)", "hello company.team")],
    },
    Entry {
        name: "renderOnce",
        parameters: &["toRender"],
        takes_null: false,
        run: |call| render(call, false),
        summary: "renders the expressions in a text once",
        examples: &[("renderOnce(vars.greeting)", "hello company.team")],
    },
    Entry {
        name: "secret",
        parameters: &["key"],
        takes_null: false,
        run: |call| Ok(call.frame.sources.secret(&call.text(0)?)?.into()),
        summary: "a secret, from the file given with `--secrets` or the variable `SECRET_<KEY>` (in Base64); a missing one \
                  is an error",
        examples: &[("secret('TOKEN') | length", "6")],
    },
    Entry {
        name: "uuid",
        parameters: &[],
        takes_null: true,
        run: |call| Ok(uuid(call.frame.sources.random()?).into()),
        summary: "a new random UUID",
        examples: &[("uuid() | length", "36")],
    },
];

/// How often `render` renders what it rendered.
const MOST_ROUNDS: usize = 10;

fn size(call: &Call<'_>) -> Result<u64, Fault> {
    let size = call.frame.files.size(&call.text(0)?)?;
    size.ok_or_else(|| call.fault("names no file of this execution: use the URI of an input or output"))
}

fn kv(call: &Call<'_>) -> Result<Value, Fault> {
    let key = call.text(0)?;
    let flow = call.frame.scope.get("flow").and_then(|flow| flow.get("namespace"));
    if !call.value(1).is_null() && flow != Some(call.value(1)) {
        return Err(call.fault("knows the values of the flow's own namespace only: leave out `namespace`"));
    }
    match call.frame.sources.kv(&key)? {
        Some(value) => Ok(value),
        None if !call.boolean(2, true)? => Ok(Value::Null),
        None => Err(call
            .fault("has no value of that key: add it to the file given with `--kv`, or write `errorOnMissing=false`")),
    }
}

fn random_int(call: &Call<'_>) -> Result<Value, Fault> {
    let (lower, upper) = (call.integer(0)?, call.integer(1)?);
    let width = u128::try_from(i128::from(upper) - i128::from(lower))
        .ok()
        .filter(|width| *width > 0);
    let width = width.ok_or_else(|| call.fault("needs two numbers, the second larger than the first"))?;
    // 128 random bits make the error of the remainder too small to measure.
    let offset = call.frame.sources.random()? % width;
    let number = i128::try_from(offset).ok().map(|offset| i128::from(lower) + offset);
    number
        .and_then(|number| i64::try_from(number).ok())
        .map(Value::from)
        .ok_or_else(|| call.fault("gives numbers of at most 64 bits"))
}

fn render(call: &Call<'_>, recursive: bool) -> Result<Value, Fault> {
    fn deep(call: &Call<'_>, value: &Value, rounds: usize) -> Result<Value, Fault> {
        Ok(match value {
            Value::String(text) => {
                let mut text = text.clone();
                for _ in 0..rounds {
                    if !super::super::is_template(&text) {
                        break;
                    }
                    let rendered = engine::render_again(call, &text)?;
                    if rendered == text {
                        break;
                    }
                    text = rendered;
                }
                text.into()
            }
            Value::Array(items) => {
                let items: Result<Vec<Value>, Fault> = items.iter().map(|item| deep(call, item, rounds)).collect();
                items?.into()
            }
            Value::Object(map) => {
                let mut rendered = serde_json::Map::new();
                for (key, value) in map {
                    rendered.insert(key.clone(), deep(call, value, rounds)?);
                }
                rendered.into()
            }
            value => value.clone(),
        })
    }
    deep(call, call.value(0), if recursive { MOST_ROUNDS } else { 1 })
}

fn current_output(call: &Call<'_>) -> Result<Value, Fault> {
    let Some(Value::Array(rounds)) = call.frame.scope.get(ROUNDS) else {
        return Err(call.fault("can be used in a `ForEach` only"));
    };
    let mut outputs = call.value(0);
    for key in rounds {
        outputs = outputs.get(super::show(key)).ok_or_else(|| {
            call.fault("finds no outputs of this round: give it `outputs` of a task of the same `ForEach`")
        })?;
    }
    Ok(outputs.clone())
}

fn uuid(random: u128) -> String {
    // Version 4 of variant 1, as RFC 9562 has it.
    let bits = (random & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let digits = format!("{bits:032x}");
    let part = |from: usize, to: usize| digits.get(from..to).unwrap_or_default();
    [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-")
}

fn short(mut random: u128) -> String {
    const LETTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut id = String::new();
    for _ in 0..22 {
        let index = usize::try_from(random % 62).unwrap_or_default();
        id.push(LETTERS.get(index).copied().map_or('0', char::from));
        random /= 62;
    }
    id
}
