//! What a script writes arrives once, in order, as it was written.

use podrun_host::{Event, Level};
use podrun_tests::{Group, PYDATA, Seen};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn many_lines_arrive_once_and_in_order() {
    let group = Group::new("lines").await;
    // Some while it is followed, the rest as a burst right before the end.
    let script =
        "i=0; while [ $i -lt 10 ]; do seq $((i * 1000 + 1)) $((i * 1000 + 1000)); sleep 0.2; i=$((i + 1)); done
        exec seq 10001 20000";
    let ran = group.trial("counted").sh(script).run().await;
    ran.succeeded();
    let expected: Vec<String> = (1..=20_000).map(|n| n.to_string()).collect();
    assert!(ran.lines() == expected, "{}", difference(&ran, &expected));
    group.close().await;
}

fn difference(seen: &Seen, expected: &[String]) -> String {
    let lines = seen.lines();
    let at = lines.iter().zip(expected).position(|(a, b)| a != b);
    let at = at.unwrap_or(lines.len().min(expected.len()));
    let around = at.saturating_sub(2);
    format!(
        "{} lines of {}; at {at}: {:?}",
        lines.len(),
        expected.len(),
        &lines[around..lines.len().min(at + 5)]
    )
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn a_burst_at_the_very_end_loses_nothing() {
    let group = Group::new("burst").await;
    let running = ["a", "b", "c"].map(async |name| {
        let ran = group.trial(name).sh("exec seq 1 30000").run().await;
        ran.succeeded();
        let expected: Vec<String> = (1..=30_000).map(|n| n.to_string()).collect();
        assert!(ran.lines() == expected, "{}", difference(&ran, &expected));
    });
    futures::future::join_all(running).await;
    group.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn lines_survive_as_they_were_written() {
    let group = Group::new("shapes").await;
    let script = r"printf '  two  \n\ttab\t\n\n \n'
        head -c 204800 /dev/zero | tr '\0' x; echo
        printf 'bad \377\376 bytes\nünï ☃\n'
        printf '::no protocol::\n::{broken::\n'
        printf 'no newline'";
    let ran = group.trial("shapes").sh(script).run().await;
    ran.succeeded();
    let long = "x".repeat(204_800);
    let expected = [
        "  two  ",
        "\ttab\t",
        "",
        " ",
        &long,
        "bad \u{fffd}\u{fffd} bytes",
        "ünï ☃",
        "::no protocol::",
        "::{broken::",
        "no newline",
    ];
    assert_eq!(ran.lines(), expected);
    let parts = ran.parts();
    let lengths: Vec<usize> = parts
        .iter()
        .filter(|p| p.message.starts_with('x'))
        .map(|p| p.message.len())
        .collect();
    assert!(lengths.len() > 3 && lengths.iter().all(|l| *l <= 65_536), "{lengths:?}");
    let lossy: Vec<&str> = parts.iter().filter(|p| p.lossy).map(|p| p.message.as_str()).collect();
    assert_eq!(lossy, ["bad \u{fffd}\u{fffd} bytes"]);
    assert!(parts.iter().all(|p| p.time > 1_700_000_000_000), "{parts:#?}");
    group.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn both_streams_arrive() {
    let group = Group::new("streams").await;
    let script = "for i in 1 2 3; do echo out $i; echo err $i >&2; done";
    let ran = group.trial("both").sh(script).run().await;
    ran.succeeded();
    let of = |stream: &str| {
        ran.lines()
            .into_iter()
            .filter(|l| l.starts_with(stream))
            .collect::<Vec<_>>()
    };
    assert_eq!(of("out"), ["out 1", "out 2", "out 3"]);
    assert_eq!(of("err"), ["err 1", "err 2", "err 3"]);
    group.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn what_the_scripts_library_publishes_becomes_outputs_and_metrics() {
    let group = Group::new("protocol").await;
    let script = r#"
from kestra import Kestra
print("before", flush=True)
Kestra.outputs({"text": "ünï 'q' \"d\"", "number": 7, "nested": {"list": [1, None, True]}})
Kestra.counter("rows", 42, {"table": "t"})
Kestra.timer("took", 1.5)
print('::{"logs": [{"level": "ERROR", "message": "loud"}]}::')
print("after")"#;
    let trial = group.trial("python").image(PYDATA).command(&["python3", "-c", script]);
    let ran = trial.run().await;
    ran.succeeded();
    assert_eq!(ran.lines(), ["before", "loud", "after"]);
    let loud = ran.parts().into_iter().find(|p| p.message == "loud").unwrap().level;
    assert_eq!(loud, Level::Error);
    let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    let mut outputs: Vec<(String, Value)> = Vec::new();
    let mut metrics: Vec<(String, Value)> = Vec::new();
    for event in &ran.events {
        match event {
            Event::Output(output) => outputs.push((output.name.clone(), parse(&output.value))),
            Event::Metric(metric) => metrics.push((metric.name.clone(), parse(&metric.value))),
            _ => {}
        }
    }
    outputs.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(
        outputs,
        [
            ("nested".to_owned(), json!({"list": [1, null, true]})),
            ("number".to_owned(), json!(7)),
            ("text".to_owned(), json!("ünï 'q' \"d\"")),
        ]
    );
    assert_eq!(metrics.len(), 2, "{metrics:#?}");
    for ((name, metric), (expected, kind, value)) in metrics
        .iter()
        .zip([("rows", "counter", json!(42)), ("took", "timer", json!(1.5))])
    {
        assert_eq!(
            (name.as_str(), &metric["type"], &metric["value"]),
            (expected, &json!(kind), &value)
        );
    }
    assert_eq!(metrics[0].1["tags"], json!({"table": "t"}));
    group.close().await;
}
