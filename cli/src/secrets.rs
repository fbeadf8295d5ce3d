//! Secrets and values for expressions, and what keeps secrets out of all that is shown or kept.
//!
//! The operator names files with `--secrets` and `--kv`; secrets also come from variables `SECRET_<NAME>` in Base64, as
//! Kestra's open-source edition has them. Nothing here writes anything, and no error holds a secret.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use podrun_host::Task;
use serde_json::{Map, Value};

use crate::document::{self, Node, nearest};
use crate::error::{Error, named};
use crate::expression::{Fault, Sources};
use crate::redact::Redactor;

/// The start of the names of variables that hold secrets.
const VARIABLE: &str = "SECRET_";
/// The start of the names of variables that expressions see as `envs`.
const ENVIRONMENT: &str = "ENV_";

/// What `secret` and `kv` find. Each secret that was asked for is known to the redactor from then on.
pub(crate) struct Secrets {
    file: BTreeMap<String, String>,
    has_file: bool,
    values: Map<String, Value>,
    /// Variables by name, still in Base64.
    variables: BTreeMap<String, String>,
    redactor: Redactor,
    /// Secrets that were used, by name.
    used: Mutex<BTreeMap<String, String>>,
    /// Credentials that tasks got, by names of their own. They are kept nowhere.
    minted: Mutex<BTreeMap<String, String>>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets").finish_non_exhaustive()
    }
}

impl Secrets {
    /// Read the files that were named, and the environment.
    pub(crate) fn load(secrets: Option<&Path>, values: Option<&Path>) -> Result<Self, Error> {
        let variables = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
        // A value that is no UTF-8 is no Base64 either; an error says so when it is asked for.
        let variables = variables
            .filter(|(name, _)| name.starts_with(VARIABLE))
            .map(|(name, value)| (name, value.to_string_lossy().into_owned()))
            .collect();
        Ok(Self {
            file: secrets.map_or(Ok(BTreeMap::new()), read_secrets)?,
            has_file: secrets.is_some(),
            values: values.map_or(Ok(Map::new()), read_values)?,
            variables,
            redactor: Redactor::default(),
            used: Mutex::default(),
            minted: Mutex::default(),
        })
    }

    /// What hides the secrets that were used. It goes on learning.
    pub(crate) fn redactor(&self) -> Redactor {
        self.redactor.clone()
    }

    fn find(&self, name: &str) -> Result<String, String> {
        if let Some(secret) = self.file.get(name) {
            return Ok(secret.clone());
        }
        let Some(variable) = variable(name) else {
            let names: Vec<&str> = self.file.keys().map(String::as_str).collect();
            let cure = match nearest(name, &names) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("{}; no variable can have that name", self.add_to_file()),
            };
            return Err(format!("there is no secret `{}`: {cure}", name.escape_debug()));
        };
        let Some(encoded) = self.variables.get(&variable) else {
            let mut names: Vec<&str> = self.file.keys().map(String::as_str).collect();
            names.extend(self.variables.keys().filter_map(|name| name.strip_prefix(VARIABLE)));
            let near = nearest(name, &names).map_or_else(String::new, |near| format!("did you mean `{near}`? Else "));
            let cure = self.add_to_file();
            return Err(format!(
                "there is no secret `{name}`: {near}{cure}, or set the variable `{variable}` to it in Base64"
            ));
        };
        let packed: String = encoded.split_whitespace().collect();
        let decoded = STANDARD
            .decode(packed)
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok());
        decoded.ok_or_else(|| {
            format!("the variable `{variable}` does not hold UTF-8 text in Base64: encode it with `base64`")
        })
    }

    /// A secret, or a credential that a task got.
    fn known(&self, name: &str) -> Result<String, Fault> {
        let Some(task) = name.strip_prefix(MINTED) else {
            return self.secret(name);
        };
        let minted = self.minted.lock().unwrap_or_else(PoisonError::into_inner);
        let gone = || {
            Fault(format!(
                "the credential that task `{}` got is not kept",
                task.escape_debug()
            ))
        };
        minted.get(name).cloned().ok_or_else(gone)
    }

    fn add_to_file(&self) -> &'static str {
        match self.has_file {
            true => "add it to the file given with `--secrets`",
            false => "give a file that has it with `--secrets FILE`",
        }
    }
}

impl Sources for Secrets {
    fn secret(&self, name: &str) -> Result<String, Fault> {
        let secret = self.find(name).map_err(Fault)?;
        self.redactor.add(&secret);
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.insert(name.to_owned(), secret.clone());
        Ok(secret)
    }

    fn kv(&self, key: &str) -> Result<Option<Value>, Fault> {
        Ok(self.values.get(key).cloned())
    }

    fn mint(&self, name: &str, credential: &str) {
        if !credential.is_empty() {
            self.redactor.add(credential);
            let mut minted = self.minted.lock().unwrap_or_else(PoisonError::into_inner);
            minted.insert(format!("{MINTED}{name}"), credential.to_owned());
        }
    }

    fn conceal(&self, text: &str) -> String {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let minted = self.minted.lock().unwrap_or_else(PoisonError::into_inner);
        let mut forms: Vec<(String, String)> = Vec::new();
        for (name, secret) in used.iter().chain(minted.iter()) {
            forms.push((secret.clone(), format!("{BEGIN}{name}{END}")));
            forms.push((STANDARD.encode(secret), format!("{BEGIN}{ENCODED}{name}{END}")));
        }
        // The longest first: one secret may be a part of another.
        forms.sort_by_key(|(secret, _)| std::cmp::Reverse(secret.len()));
        let mut concealed = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            let found = forms.iter().find(|(secret, _)| rest.starts_with(secret.as_str()));
            let taken = match found {
                Some((secret, mark)) => {
                    concealed.push_str(mark);
                    secret.len()
                }
                None => {
                    concealed.push(c);
                    // Where the text has that character itself, no name follows.
                    concealed.extend((c == BEGIN).then_some(END));
                    c.len_utf8()
                }
            };
            rest = rest.get(taken..).unwrap_or_default();
        }
        concealed
    }

    fn reveal(&self, text: &str) -> Result<String, Fault> {
        let mut revealed = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once(BEGIN) {
            revealed.push_str(before);
            let (name, after) = after.split_once(END).unwrap_or(("", after));
            revealed.push_str(&match (name, name.strip_prefix(ENCODED)) {
                ("", _) => BEGIN.to_string(),
                (_, Some(name)) => STANDARD.encode(self.known(name)?),
                (name, None) => self.known(name)?,
            });
            rest = after;
        }
        revealed.push_str(rest);
        Ok(revealed)
    }
}

/// What a secret is replaced by where it would be kept: its name between two characters that no text has.
const BEGIN: char = '\u{e000}';
const END: char = '\u{e001}';
/// Before the name of a secret that was there in Base64.
const ENCODED: char = '\u{e002}';

/// Before the name of a credential that a task got.
const MINTED: char = '\u{e003}';

/// True if a credential that a task got was in a task that [`Sources::conceal`] changed: it cannot be made again as it was.
pub(crate) fn is_renewed(kept: &Task) -> bool {
    let mark = [BEGIN, MINTED].iter().collect::<String>();
    let encoded = [BEGIN, ENCODED, MINTED].iter().collect::<String>();
    let found = changed(kept, |text| match text.contains(&mark) || text.contains(&encoded) {
        true => Err(()),
        false => Ok(String::new()),
    });
    found.is_err()
}

/// A task with every text changed that may hold a secret.
pub(crate) fn changed<E>(task: &Task, change: impl Fn(&str) -> Result<String, E>) -> Result<Task, E> {
    let all = |texts: &[String]| texts.iter().map(|text| change(text)).collect::<Result<Vec<_>, E>>();
    let mut env = Vec::with_capacity(task.env.len());
    for (name, value) in &task.env {
        env.push((name.clone(), change(value)?));
    }
    // Options are JSON, in which a secret may look different.
    let options = match serde_json::from_str(&task.options) {
        Ok(options) => deep(options, &change)?.to_string(),
        Err(_) => change(&task.options)?,
    };
    Ok(Task {
        image: change(&task.image)?,
        command: all(&task.command)?,
        env,
        outputs: all(&task.outputs)?,
        options,
        ..task.clone()
    })
}

/// A value with every text in it changed.
pub(crate) fn deep<E>(value: Value, change: &impl Fn(&str) -> Result<String, E>) -> Result<Value, E> {
    Ok(match value {
        Value::String(text) => change(&text)?.into(),
        Value::Array(items) => {
            let items: Result<Vec<Value>, E> = items.into_iter().map(|item| deep(item, change)).collect();
            items?.into()
        }
        Value::Object(map) => {
            let mut changed = Map::new();
            for (key, value) in map {
                changed.insert(key, deep(value, change)?);
            }
            changed.into()
        }
        value => value,
    })
}

/// The variable that a secret of that name would be in, if one can.
fn variable(name: &str) -> Option<String> {
    let fits = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    fits.then(|| format!("{VARIABLE}{}", name.to_ascii_uppercase()))
}

/// Read a file of names and secrets. It must not be open to everybody.
fn read_secrets(file: &Path) -> Result<BTreeMap<String, String>, Error> {
    let mode = fs::metadata(file).map_err(named("read", file))?.permissions().mode();
    if mode & 0o007 != 0 {
        return Err(Error::Usage(format!(
            "everybody on this machine can use the secrets in `{0}`: take that away with `chmod o-rwx {0}`",
            file.display()
        )));
    }
    let text = fs::read_to_string(file).map_err(named("read", file))?;
    // The parser's own words may quote what it could not read.
    let node = document::parse(file, &text).map_err(|problem| {
        let place = problem.place();
        Error::Usage(format!(
            "{place}: the secrets are not valid YAML: write `NAME: 'secret'` on each line"
        ))
    })?;
    let mut secrets = BTreeMap::new();
    for (key, value) in entries(&node, "secrets")? {
        let document::Value::Text(secret) = &value.value else {
            return Err(Error::Usage(format!(
                "{}: the secret `{}` must be text, not {}: put it in quotes",
                value.place,
                key.name,
                value.kind()
            )));
        };
        if secret.is_empty() {
            return Err(Error::Usage(format!(
                "{}: the secret `{}` is empty",
                value.place, key.name
            )));
        }
        secrets.insert(key.name.clone(), secret.clone());
    }
    Ok(secrets)
}

/// Read a file of keys and values.
fn read_values(file: &Path) -> Result<Map<String, Value>, Error> {
    let text = fs::read_to_string(file).map_err(named("read", file))?;
    let node = document::parse(file, &text)?;
    let entries = entries(&node, "values")?.iter();
    Ok(entries
        .map(|(key, value)| (key.name.clone(), value.to_json()))
        .collect())
}

fn entries<'a>(node: &'a Node, what: &str) -> Result<&'a [(document::Key, Node)], Error> {
    match &node.value {
        document::Value::Map(entries) => Ok(entries),
        document::Value::Null => Ok(&[]),
        _ => Err(Error::Usage(format!(
            "{}: a file of {what} is a mapping of names to {what}, not {}",
            node.place,
            node.kind()
        ))),
    }
}

/// What expressions see as `envs`: variables of ours whose name begins with `ENV_`, in small letters and without it.
pub(crate) fn envs() -> Value {
    let variables = std::env::vars_os().filter_map(|(name, value)| {
        let name = name.into_string().ok()?.strip_prefix(ENVIRONMENT)?.to_lowercase();
        Some((name, value.into_string().ok()?.into()))
    });
    Value::Object(variables.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn file(content: &str, mode: u32) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), content).unwrap();
        fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
        file
    }

    fn secrets(content: &str, variables: &[(&str, &str)]) -> Secrets {
        Secrets {
            file: read_secrets(file(content, 0o600).path()).unwrap(),
            has_file: true,
            values: Map::new(),
            variables: variables
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            redactor: Redactor::default(),
            used: Mutex::default(),
            minted: Mutex::default(),
        }
    }

    #[test]
    fn secrets_come_from_the_file_then_from_variables() {
        let secrets = secrets(
            "TOKEN: 'abc'\nmy-key: |\n  line one\n  line two\n",
            &[("SECRET_TOKEN", "bm8="), ("SECRET_OTHER", "Z2\nVo\n")],
        );
        assert_eq!(secrets.secret("TOKEN").unwrap(), "abc");
        assert_eq!(secrets.secret("my-key").unwrap(), "line one\nline two\n");
        assert_eq!(secrets.secret("OTHER").unwrap(), "geh");
        assert_eq!(secrets.secret("other").unwrap(), "geh");
    }

    #[test]
    fn what_is_missing_or_broken_is_said_without_values() {
        let secrets = secrets(
            "TOKEN: 'abc'\n",
            &[("SECRET_BROKEN", "s3cret!"), ("SECRET_RAW", "/w==")],
        );
        let fault = |name: &str| secrets.secret(name).unwrap_err().to_string();
        insta::assert_snapshot!(fault("TOKN"), @"there is no secret `TOKN`: did you mean `TOKEN`? Else add it to the file given with `--secrets`, or set the variable `SECRET_TOKN` to it in Base64");
        insta::assert_snapshot!(fault("PASSWORD"), @"there is no secret `PASSWORD`: add it to the file given with `--secrets`, or set the variable `SECRET_PASSWORD` to it in Base64");
        insta::assert_snapshot!(fault("my-password"), @"there is no secret `my-password`: add it to the file given with `--secrets`; no variable can have that name");
        insta::assert_snapshot!(fault("BROKEN"), @"the variable `SECRET_BROKEN` does not hold UTF-8 text in Base64: encode it with `base64`");
        insta::assert_snapshot!(fault("RAW"), @"the variable `SECRET_RAW` does not hold UTF-8 text in Base64: encode it with `base64`");
        assert_eq!(
            format!("{secrets:?} {:?}", secrets.redactor()),
            "Secrets { .. } Redactor { .. }"
        );
    }

    #[test]
    fn a_file_of_secrets_is_refused_where_others_could_read_it() {
        let refusal = |content: &str, mode: u32| {
            let file = file(content, mode);
            let message = read_secrets(file.path()).unwrap_err().to_string();
            message.replace(&file.path().display().to_string(), "FILE")
        };
        insta::assert_snapshot!(refusal("A: 'b'", 0o644), @"everybody on this machine can use the secrets in `FILE`: take that away with `chmod o-rwx FILE`");
        insta::assert_snapshot!(refusal("A: 12345678901234567890123", 0o600), @"FILE:1:4: the secret `A` must be text, not a number: put it in quotes");
        insta::assert_snapshot!(refusal("A: 007", 0o600), @"FILE:1:4: the secret `A` must be text, not a number: put it in quotes");
        insta::assert_snapshot!(refusal("A: ''", 0o600), @"FILE:1:4: the secret `A` is empty");
        insta::assert_snapshot!(refusal("s3cret", 0o600), @"FILE:1:1: a file of secrets is a mapping of names to secrets, not text");
        insta::assert_snapshot!(refusal("A: [s3cret", 0o600), @"FILE:1:4: the secrets are not valid YAML: write `NAME: 'secret'` on each line");
        assert!(read_secrets(file("A: 'b'", 0o640).path()).is_ok());
    }

    #[test]
    fn what_is_kept_names_secrets_and_can_be_undone() {
        let secrets = secrets("A: 'word'\nB: 'password'\n'n-1': \"q\\\"\\n\"\n", &[]);
        let text = "word password q\"\n cGFzc3dvcmQ= wor \u{e000} d";
        assert_eq!(secrets.conceal("word"), "word");
        for name in ["A", "B", "n-1"] {
            secrets.secret(name).unwrap();
        }
        let task = Task {
            id: "word".into(),
            command: vec!["sh".into(), text.into()],
            env: vec![("X".into(), "password".into())],
            options: json!({"labels": {"x": "q\"\n"}}).to_string(),
            image: "busybox".into(),
            inputs: Vec::new(),
            outputs: vec!["*.txt".into()],
            timeout: None,
            labels: Vec::new(),
        };
        let kept = changed(&task, |text| Ok::<_, Fault>(secrets.conceal(text))).unwrap();
        let shown = format!("{kept:?}").replace("id: \"word\"", "");
        for secret in ["word", "q\\\"", "cGFz"] {
            assert!(!shown.contains(secret), "{shown}");
        }
        let other = self::secrets("A: 'word'\nB: 'password'\n'n-1': \"q\\\"\\n\"\n", &[]);
        assert_eq!(changed(&kept, |text| other.reveal(text)).unwrap(), task);
        let gone = self::secrets("A: 'word'", &[]);
        let fault = changed(&kept, |text| gone.reveal(text)).unwrap_err();
        insta::assert_snapshot!(fault, @"there is no secret `B`: did you mean `A`? Else add it to the file given with `--secrets`, or set the variable `SECRET_B` to it in Base64");
    }

    #[test]
    fn values_are_yaml_or_json() {
        let yaml = file("region: eu\nlimits:\n  cpu: 2\n", 0o644);
        assert_eq!(
            Value::Object(read_values(yaml.path()).unwrap()),
            json!({"region": "eu", "limits": {"cpu": 2}})
        );
        let json = file("{\"a\": [1, null]}", 0o644);
        assert_eq!(
            Value::Object(read_values(json.path()).unwrap()),
            json!({"a": [1, null]})
        );
    }
}
