//! Kubeconfig files, as kubectl reads them: several are merged, the first definition of a name wins.
//!
//! A runner sees one context only, and no file: what the chosen cluster and user keep in files is put in place here.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::document::{listed, nearest};
use crate::error::{Error, named};

/// Merged kubeconfig files.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kubeconfig {
    current: Option<String>,
    contexts: Vec<Entry>,
    clusters: Vec<Entry>,
    users: Vec<Entry>,
    files: String,
}

/// A named cluster, user or context, and the folder that its relative paths start from.
#[derive(Clone, Debug)]
struct Entry {
    name: String,
    value: Map<String, Value>,
    folder: PathBuf,
}

/// What a runner gets of a kubeconfig.
#[derive(Clone, Debug)]
pub(crate) struct Chosen {
    /// A kubeconfig with one context, and no path in it.
    pub(crate) text: Value,
    /// The file that holds the user's token, if it is kept in one.
    pub(crate) token_file: Option<PathBuf>,
}

/// Read and merge files.
pub(crate) fn load(files: &[PathBuf]) -> Result<Kubeconfig, Error> {
    let names: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    let mut merged = Kubeconfig {
        files: names.join(", "),
        ..Kubeconfig::default()
    };
    for file in files {
        let text = fs::read_to_string(file).map_err(named("read", file))?;
        // A snippet in the error could quote a credential.
        let options = serde_saphyr::options! { with_snippet: false, strict_booleans: true };
        let value: Value = serde_saphyr::from_str_with_options(&text, options).map_err(|error| {
            let line = error
                .location()
                .map(|location| format!(" at line {}", location.line()))
                .unwrap_or_default();
            Error::Usage(format!("kubeconfig `{}` is not valid YAML{line}", file.display()))
        })?;
        let folder = file.parent().unwrap_or(Path::new("/"));
        if merged.current.is_none() {
            merged.current = text_of(&value, "current-context");
        }
        add(&mut merged.contexts, &value, "contexts", "context", folder);
        add(&mut merged.clusters, &value, "clusters", "cluster", folder);
        add(&mut merged.users, &value, "users", "user", folder);
    }
    Ok(merged)
}

fn text_of(value: &Value, name: &str) -> Option<String> {
    value
        .get(name)
        .and_then(Value::as_str)
        .filter(|text| !text.is_empty())
        .map(str::to_owned)
}

fn add(entries: &mut Vec<Entry>, file: &Value, list: &str, kind: &str, folder: &Path) {
    for item in file.get(list).and_then(Value::as_array).into_iter().flatten() {
        let Some(name) = text_of(item, "name") else { continue };
        if entries.iter().any(|entry| entry.name == name) {
            continue;
        }
        let value = item.get(kind).and_then(Value::as_object).cloned().unwrap_or_default();
        entries.push(Entry {
            name,
            value,
            folder: folder.to_owned(),
        });
    }
}

impl Kubeconfig {
    /// The name of the context to use.
    pub(crate) fn context(&self, wanted: Option<&str>) -> Result<String, Error> {
        let names: Vec<&str> = self.contexts.iter().map(|entry| entry.name.as_str()).collect();
        if names.is_empty() {
            return Err(Error::Usage(format!("kubeconfig {} has no contexts", self.files)));
        }
        let Some(name) = wanted.or(self.current.as_deref()) else {
            return Err(Error::Usage(format!(
                "kubeconfig {} has no current context: add `--context NAME`, one of {}",
                self.files,
                listed(&names)
            )));
        };
        if names.contains(&name) {
            return Ok(name.to_owned());
        }
        let cure = match nearest(name, &names) {
            Some(near) => format!("did you mean `{near}`?"),
            None if names.is_empty() => "it has none".to_owned(),
            None => format!("it has {}", listed(&names)),
        };
        Err(Error::Usage(format!(
            "kubeconfig {} has no context `{name}`: {cure}",
            self.files
        )))
    }

    /// One context with its cluster and user, without a path in it.
    pub(crate) fn only(&self, context: &str) -> Result<Chosen, Error> {
        let name = self.context(Some(context))?;
        let find = |entries: &[Entry], kind: &str, name: &str| {
            entries.iter().find(|entry| entry.name == name).cloned().ok_or_else(|| {
                let message = format!(
                    "context `{context}` of kubeconfig {} names {kind} `{name}`, which is not there",
                    self.files
                );
                Error::Usage(message)
            })
        };
        let entry = find(&self.contexts, "context", &name)?;
        let part = |kind: &str| {
            entry.value.get(kind).and_then(Value::as_str).ok_or_else(|| {
                Error::Usage(format!(
                    "context `{context}` of kubeconfig {} names no {kind}",
                    self.files
                ))
            })
        };
        let mut cluster = find(&self.clusters, "cluster", part("cluster")?)?;
        let mut user = find(&self.users, "user", part("user")?)?;
        embed(&mut cluster, "certificate-authority")?;
        embed(&mut user, "client-certificate")?;
        embed(&mut user, "client-key")?;
        absolute_command(&mut user);
        let token_file = match user.value.remove("tokenFile") {
            Some(Value::String(file)) if !file.is_empty() => {
                // kubectl prefers the file, because it is renewed.
                user.value.remove("token");
                Some(user.folder.join(file))
            }
            _ => None,
        };
        let text = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": name,
            "contexts": [{"name": name, "context": entry.value}],
            "clusters": [{"name": cluster.name, "cluster": cluster.value}],
            "users": [{"name": user.name, "user": user.value}],
        });
        Ok(Chosen { text, token_file })
    }
}

/// Replace `<name>: FILE` by `<name>-data: BASE64`.
fn embed(entry: &mut Entry, name: &str) -> Result<(), Error> {
    let data = format!("{name}-data");
    let path = entry.value.remove(name);
    let given = entry
        .value
        .get(&data)
        .and_then(Value::as_str)
        .is_some_and(|data| !data.is_empty());
    if let (false, Some(Value::String(path))) = (given, path)
        && !path.is_empty()
    {
        let path = entry.folder.join(path);
        let content = fs::read(&path).map_err(named("read", &path))?;
        entry.value.insert(data, STANDARD.encode(content).into());
    }
    Ok(())
}

/// A command with a path in it is relative to the kubeconfig, one without is looked up in PATH.
fn absolute_command(user: &mut Entry) {
    let Some(Value::String(command)) = user.value.get_mut("exec").and_then(|exec| exec.get_mut("command")) else {
        return;
    };
    if command.contains('/') {
        *command = user.folder.join(&*command).display().to_string();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &Path, name: &str, text: &str) -> PathBuf {
        let path = dir.join(name);
        fs::write(&path, text).unwrap();
        path
    }

    const FILE: &str = "
current-context: prod
contexts:
  - {name: prod, context: {cluster: c, user: u, namespace: jobs}}
  - {name: other, context: {cluster: c, user: gone}}
clusters: [{name: c, cluster: {server: 'https://x:6443', certificate-authority: ca.crt}}]
users:
  - {name: u, user: {tokenFile: token, token: stale, exec: {command: ./login}}}
  - {name: unused, user: {token: s3cret}}
";

    #[test]
    fn one_context_without_paths() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "ca.crt", "PEM");
        let file = write(dir.path(), "config", FILE);
        let chosen = load(&[file]).unwrap().only("prod").unwrap();
        let expected = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "prod",
            "contexts": [{"name": "prod", "context": {"cluster": "c", "user": "u", "namespace": "jobs"}}],
            "clusters": [{"name": "c", "cluster": {"server": "https://x:6443", "certificate-authority-data": "UEVN"}}],
            "users": [{"name": "u", "user": {"exec": {"command": dir.path().join("./login")}}}],
        });
        assert_eq!(chosen.text, expected);
        assert_eq!(chosen.token_file, Some(dir.path().join("token")));
    }

    #[test]
    fn the_first_definition_wins() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "ca.crt", "PEM");
        let one = write(
            dir.path(),
            "one",
            "clusters: [{name: c, cluster: {server: 'https://first'}}]",
        );
        let two = write(dir.path(), "two", FILE);
        let merged = load(&[one, two]).unwrap();
        assert_eq!(merged.context(None).unwrap(), "prod");
        assert_eq!(
            merged.only("prod").unwrap().text["clusters"][0]["cluster"]["server"],
            "https://first"
        );
    }

    #[test]
    fn what_is_missing_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = write(dir.path(), "config", FILE);
        let config = load(&[file]).unwrap();
        let refusal = |error: Error| error.to_string().replace(&dir.path().display().to_string(), "DIR");
        insta::assert_snapshot!(refusal(config.context(Some("prodd")).unwrap_err()), @"kubeconfig DIR/config has no context `prodd`: did you mean `prod`?");
        insta::assert_snapshot!(refusal(config.only("other").unwrap_err()), @"context `other` of kubeconfig DIR/config names user `gone`, which is not there");
        insta::assert_snapshot!(refusal(config.only("prod").unwrap_err()), @"failed to read `DIR/ca.crt`");
        let bad = write(dir.path(), "bad", "users: [{token: s3cret\n");
        let refusal = refusal(load(&[bad]).unwrap_err());
        assert!(
            refusal.contains("not valid YAML") && !refusal.contains("s3cret"),
            "{refusal}"
        );
    }
}
