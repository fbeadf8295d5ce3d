//! What differs between what was expected and what was seen. Pure, apart from reading the files that came back.

use std::collections::BTreeMap;
use std::fmt::Display;

use serde_json::Value;
use similar::TextDiff;

use super::{Ended, Expectation, Observed, TaskExpectation};

/// Differences, each with its place in the expectation.
#[derive(Debug, Default)]
pub(super) struct Differences(pub(super) Vec<String>);

impl Differences {
    fn add(&mut self, place: &str, what: impl Display) {
        self.0.push(format!("{place}: {what}"));
    }

    fn equal<T: PartialEq + std::fmt::Debug>(&mut self, place: &str, expected: &T, found: &T) {
        if expected != found {
            self.add(place, format_args!("expected {expected:?}, found {found:?}"));
        }
    }

    /// Each of `expected` is part of one of `found`.
    fn said(&mut self, place: &str, expected: &[String], found: &[&str]) {
        for text in expected {
            if !found.iter().any(|line| line.contains(text.as_str())) {
                self.add(
                    place,
                    format_args!("nothing says `{text}`:\n{}", indented(&found.join("\n"))),
                );
            }
        }
    }

    fn lines(&mut self, place: &str, expected: &[String], found: &[&str]) {
        let joined = |lines: Vec<&str>| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
        let (expected, found) = (
            joined(expected.iter().map(String::as_str).collect()),
            joined(found.to_vec()),
        );
        self.text(place, &expected, &found);
    }

    fn text(&mut self, place: &str, expected: &str, found: &str) {
        if expected != found {
            let diff = TextDiff::from_lines(expected, found);
            let diff = diff.unified_diff().header("expected", "found").to_string();
            self.add(place, format_args!("differs\n{}", indented(&diff)));
        }
    }
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("      {line}\n")).collect()
}

/// All that differs.
pub(super) fn compare(expected: &Expectation, seen: &Observed) -> Differences {
    let mut differences = Differences::default();
    let out = &mut differences;
    if seen.code != Some(expected.exit) {
        let found = seen
            .code
            .map_or_else(|| "the end by a signal".to_owned(), |code| code.to_string());
        out.add("exit", format_args!("expected {}, found {found}", expected.exit));
    }
    let warnings = seen.of("warning").chain(seen.of("error"));
    let mut said: Vec<&str> = warnings.filter_map(|report| report["message"].as_str()).collect();
    said.extend(seen.error.lines());
    out.said("says", &expected.says, &said);
    let end = seen.of("execution-ended").last().cloned().unwrap_or_default();
    if let Some(state) = &expected.state {
        out.equal("state", &state.as_str(), &end["state"].as_str().unwrap_or("unfinished"));
    }
    if let Some(message) = &expected.message {
        out.said(
            "message",
            std::slice::from_ref(message),
            &[end["message"].as_str().unwrap_or_default()],
        );
    }
    if let Some(outputs) = &expected.outputs {
        let found = end["outputs"].clone();
        out.text("outputs", &pretty(&Value::Object(outputs.clone())), &pretty(&found));
    }
    if let Some(order) = &expected.order {
        out.equal("order", order, &seen.order());
    }
    let skipped: Vec<String> = seen
        .of("skipped")
        .filter_map(|report| Some(report["task"].as_str()?.to_owned()))
        .collect();
    out.equal("skipped", &expected.skipped, &skipped);
    for pair in &expected.together {
        match overlap(seen, pair) {
            Some(true) => {}
            found => out.add(
                "together",
                format_args!("{pair:?} did not run at the same time ({found:?})"),
            ),
        }
    }
    for pair in &expected.apart {
        match overlap(seen, pair) {
            Some(false) => {}
            found => out.add("apart", format_args!("{pair:?} ran at the same time ({found:?})")),
        }
    }
    if let Some(pods) = expected.pods {
        out.equal("pods", &pods, &seen.pods.len());
    }
    for (name, task) in &expected.tasks {
        compare_task(name, task, seen, out);
    }
    if let Some(interrupt) = &expected.interrupt {
        let took = seen.after_signal.unwrap_or(f64::INFINITY);
        let too_late = interrupt.within.is_some_and(|limit| took > limit as f64);
        let too_early = interrupt.not_before.is_some_and(|limit| took < limit as f64);
        if too_late || too_early {
            out.add(
                "interrupt",
                format_args!("the end came after {took:.1} s: {interrupt:?}"),
            );
        }
    }
    differences
}

fn compare_task(name: &str, task: &TaskExpectation, seen: &Observed, out: &mut Differences) {
    let place = |field: &str| format!("tasks.{name}.{field}");
    let attempts = seen.ended(name);
    let last = attempts.last();
    // Tasks without a pod that succeed do not say so.
    let ran_in_a_pod = seen.of("task").any(|report| report["task"] == name);
    if ran_in_a_pod || task.status.is_some() {
        let expected = task.status.as_deref().unwrap_or("succeeded");
        let found = last.map_or("no end", |ended| ended.status.as_str());
        if expected != found {
            let why = last.map(|ended| ended.message.as_str()).unwrap_or_default();
            out.add(
                &place("status"),
                format_args!("expected {expected}, found {found}: {why}"),
            );
        }
    }
    if let Some(reason) = &task.reason {
        let found = last.and_then(|ended| ended.reason.as_deref()).unwrap_or_default();
        out.equal(&place("reason"), &reason.as_str(), &found);
    }
    if task.exit_code.is_some() {
        out.equal(
            &place("exitCode"),
            &task.exit_code,
            &last.and_then(|ended| ended.exit_code),
        );
    }
    if let Some(message) = &task.message {
        let found = last.map(|ended| ended.message.as_str()).unwrap_or_default();
        out.said(&place("message"), std::slice::from_ref(message), &[found]);
    }
    if let Some(number) = task.attempts {
        out.equal(&place("attempts"), &number, &attempts.len());
    }
    if let Some(waits) = &task.waits {
        let found = seen.of("retry").filter(|report| report["task"] == name);
        let found: Vec<u64> = found.filter_map(|report| report["milliseconds"].as_u64()).collect();
        let near = |(expected, found): (&u64, &u64)| found <= expected && found + 500 >= *expected;
        if waits.len() != found.len() || !waits.iter().zip(&found).all(near) {
            out.add(&place("waits"), format_args!("expected {waits:?}, found {found:?}"));
        }
    }
    let lines = seen.lines(name);
    let messages: Vec<&str> = lines.iter().map(|line| line.message.as_str()).collect();
    if let Some(expected) = &task.lines {
        out.lines(&place("lines"), expected, &messages);
    }
    out.said(&place("says"), &task.says, &messages);
    for (level, expected) in &task.levels {
        let of_level = lines.iter().filter(|line| line.level == *level);
        let found: Vec<&str> = of_level.map(|line| line.message.as_str()).collect();
        out.lines(&place(&format!("levels.{level}")), expected, &found);
    }
    let said = seen.of("diagnostic").filter(|report| report["task"] == name);
    let said: Vec<&str> = said.filter_map(|report| report["message"].as_str()).collect();
    out.said(&place("diagnostics"), &task.diagnostics, &said);
    if let Some(vars) = &task.vars {
        out.text(
            &place("vars"),
            &pretty(&Value::Object(vars.clone())),
            &pretty(&Value::Object(seen.vars(name))),
        );
    }
    if let Some(names) = &task.var_names {
        let found: Vec<String> = seen.vars(name).keys().cloned().collect();
        out.equal(&place("varNames"), names, &found);
    }
    if let Some(metrics) = &task.metrics {
        let found = seen.of("metric").filter(|report| report["task"] == name);
        let found = found.map(|report| {
            let mut fields = report["value"].clone();
            fields["name"] = report["name"].clone();
            fields
        });
        partial(
            &place("metrics"),
            &Value::Array(metrics.clone()),
            &Value::Array(found.collect()),
            &mut out.0,
        );
    }
    if let Some(files) = &task.files {
        compare_files(&place("files"), files, last, out);
    }
    compare_pods(name, task, seen, out);
}

fn compare_files(
    place: &str,
    expected: &BTreeMap<String, Option<String>>,
    last: Option<&Ended>,
    out: &mut Differences,
) {
    let found = last.map(|ended| ended.files.as_slice()).unwrap_or_default();
    let mut names: Vec<&String> = found.iter().map(|file| &file.name).collect();
    names.sort();
    out.equal(place, &expected.keys().collect::<Vec<_>>(), &names);
    for file in found {
        let Some(Some(content)) = expected.get(&file.name) else {
            continue;
        };
        match std::fs::read(&file.path) {
            Ok(bytes) => out.text(
                &format!("{place}.{}", file.name),
                content,
                &String::from_utf8_lossy(&bytes),
            ),
            Err(error) => out.add(place, format_args!("`{}`: {error}", file.path.display())),
        }
    }
}

fn compare_pods(name: &str, task: &TaskExpectation, seen: &Observed, out: &mut Differences) {
    let pods: Vec<&super::Seen> = seen
        .pods
        .iter()
        .filter(|(of, _)| of == name)
        .map(|(_, pod)| pod)
        .collect();
    if let Some(number) = task.pods {
        out.equal(&format!("tasks.{name}.pods"), &number, &pods.len());
    }
    let last = pods.last();
    if let Some(expected) = &task.pod {
        let place = format!("tasks.{name}.pod");
        match last {
            Some(pod) => partial(&place, expected, &pod.last, &mut out.0),
            None => out.add(&place, "there was none"),
        }
    }
    if let Some(pod) = last
        && pod.stays() != task.kept
    {
        let found = if task.kept { "it went" } else { "it stayed" };
        out.add(
            &format!("tasks.{name}.kept"),
            format_args!("expected {}, but {found}", task.kept),
        );
    }
    if task.pull_secret {
        let uid = last.map(|pod| pod.last["metadata"]["uid"].clone());
        let owned = seen
            .secrets
            .iter()
            .find(|secret| Some(&secret.last["metadata"]["ownerReferences"][0]["uid"]) == uid.as_ref());
        match owned {
            Some(secret) if secret.gone && secret.last["type"] == "kubernetes.io/dockerconfigjson" => {}
            other => out.add(
                &format!("tasks.{name}.pullSecret"),
                format_args!("expected one that came and went, found {other:?}"),
            ),
        }
    }
}

/// Whether the scripts of two tasks ran at the same time; none if one of them did not run.
fn overlap(seen: &Observed, pair: &[String; 2]) -> Option<bool> {
    let times = |task: &String| {
        let ended = seen.ended(task).pop()?;
        // RFC 3339 in one time zone and with one precision sorts as text.
        Some((ended.started?, ended.finished?))
    };
    let ((start, end), (other_start, other_end)) = (times(&pair[0])?, times(&pair[1])?);
    Some(start < other_end && other_start < end)
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default() + "\n"
}

/// What `found` lacks of `expected`: a mapping has at least the expected keys, null stands for nothing, and a list is as
/// long as the expected one. Where the expected mapping meets a list, its keys are the `name` or `key` of items.
pub(super) fn partial(place: &str, expected: &Value, found: &Value, out: &mut Vec<String>) {
    match (expected, found) {
        (Value::Object(keys), Value::Array(items)) => {
            for (key, expected) in keys {
                let place = format!("{place}.{key}");
                let named = |item: &&Value| item["name"] == **key || item["key"] == **key;
                let mut differences: Vec<Vec<String>> = Vec::new();
                for item in items.iter().filter(named) {
                    let mut one = Vec::new();
                    partial(&place, expected, item, &mut one);
                    differences.push(one);
                }
                // Several may have that name: one of them has to fit.
                match differences.into_iter().min_by_key(Vec::len) {
                    Some(one) => out.extend(one),
                    None if expected.is_null() => {}
                    None => out.push(format!("{place}: there is none")),
                }
            }
        }
        (Value::Object(keys), Value::Object(_)) => {
            for (key, expected) in keys {
                partial(&format!("{place}.{key}"), expected, &found[key], out);
            }
        }
        (Value::Array(expected), Value::Array(found)) => {
            if expected.len() != found.len() {
                out.push(format!(
                    "{place}: expected {} items, found {}: {}",
                    expected.len(),
                    found.len(),
                    serde_json::to_string(found).unwrap_or_default()
                ));
                return;
            }
            for (index, (expected, found)) in expected.iter().zip(found).enumerate() {
                partial(&format!("{place}[{index}]"), expected, found, out);
            }
        }
        _ if expected == found => {}
        _ => {
            let found = if found.is_null() {
                "nothing".to_owned()
            } else {
                found.to_string()
            };
            out.push(format!("{place}: expected {expected}, found {found}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn lacks(expected: Value, found: Value) -> Vec<String> {
        let mut out = Vec::new();
        partial("pod", &expected, &found, &mut out);
        out
    }

    #[test]
    fn a_pod_has_at_least_what_is_expected() {
        let pod = json!({"spec": {
            "containers": [{"name": "main", "image": "a", "env": [{"name": "X", "value": "1"}]}, {"name": "out-files"}],
            "tolerations": [{"key": "gpu", "effect": "NoSchedule"}, {"key": "gpu", "effect": "NoExecute"}],
        }});
        let fits = json!({"spec": {
            "containers": {"main": {"env": [{"value": "1"}]}, "web": null},
            "tolerations": {"gpu": {"effect": "NoExecute"}},
            "nodeName": null,
        }});
        assert_eq!(lacks(fits, pod.clone()), Vec::<String>::new());
        let expected = json!({"spec": {
            "containers": {"main": {"image": "b"}, "web": {}, "out-files": null},
            "nodeName": "x", "tolerations": [{}],
        }});
        let mut found = lacks(expected, pod);
        found.sort();
        assert_eq!(found.len(), 5, "{found:#?}");
        assert_eq!(
            found[1],
            "pod.spec.containers.out-files: expected null, found {\"name\":\"out-files\"}"
        );
        assert_eq!(found[0], "pod.spec.containers.main.image: expected \"b\", found \"a\"");
    }

    #[test]
    fn every_expectation_can_fail() {
        let expected = Expectation::parse(
            "about: a\nexit: 1\nsays: [no]\nstate: failed\nmessage: why\noutputs: {a: 1}\norder: [a]\nskipped: [b]\npods: 1\n\
             together: [[a, b]]\napart: [[a, b]]\ninterrupt: {line: x, signal: INT, within: 1}\n\
             tasks: {a: {status: failed, reason: r, exitCode: 1, message: m, attempts: 1, waits: [1], lines: [a], says: [b], \
             levels: {debug: [c]}, diagnostics: [d], vars: {a: 1}, varNames: [a], metrics: [{}], files: {f: x}, pod: {}, pods: 1, \
             pullSecret: true}}\n",
        )
        .unwrap();
        let found = compare(&expected, &Observed::default()).0;
        let places: Vec<&str> = found.iter().filter_map(|one| one.split(": ").next()).collect();
        let all = [
            "exit",
            "says",
            "state",
            "message",
            "outputs",
            "order",
            "skipped",
            "together",
            "apart",
            "pods",
            "tasks.a.status",
            "tasks.a.reason",
            "tasks.a.exitCode",
            "tasks.a.message",
            "tasks.a.attempts",
            "tasks.a.waits",
            "tasks.a.lines",
            "tasks.a.says",
            "tasks.a.levels.debug",
            "tasks.a.diagnostics",
            "tasks.a.vars",
            "tasks.a.varNames",
            "tasks.a.metrics",
            "tasks.a.files",
            "tasks.a.pods",
            "tasks.a.pod",
            "tasks.a.pullSecret",
            "interrupt",
        ];
        assert_eq!(places, all, "{found:#?}");
    }

    #[test]
    fn differing_lines_are_shown_beside_each_other() {
        let mut out = Differences::default();
        out.lines("lines", &["a".into(), "b".into()], &["a", "c"]);
        assert!(out.0[0].contains("-b") && out.0[0].contains("+c"), "{}", out.0[0]);
    }
}
