//! Input files: inside the pod's spec and through exec, under any name that is allowed, and the refusal of the others.

use podrun_host::{Error, Input};
use podrun_tests::{BUSYBOX, BUSYBOX_USER, Expected, Group, Trial, check, full, sha256};
use serde_json::json;
use std::fmt::Write as _;

/// Tells mode, hash and name of every file, sorted by name.
const TELL: &str = r#"find . -type f | sort | while read -r f; do
    echo "$(stat -c %a "$f") $(sha256sum <"$f" | head -c 64) $f"; done"#;

/// Names, modes and contents that get lost easily.
fn awkward() -> Vec<(&'static str, u32, Vec<u8>)> {
    vec![
        ("plain.txt", 0o644, b"plain\n".to_vec()),
        ("run.sh", 0o755, b"#!/bin/sh\necho ran\n".to_vec()),
        ("empty", 0o644, Vec::new()),
        ("two words.txt", 0o644, b"words".to_vec()),
        ("it's \"quoted\" $(x) `y` \\z.txt", 0o644, b"quotes".to_vec()),
        ("ünï ☃.txt", 0o644, "☃".into()),
        ("-rf", 0o644, b"dash".to_vec()),
        ("*", 0o644, b"star".to_vec()),
        ("deep/er/down.bin", 0o644, vec![0, 255, 10, 13, 0]),
        ("deep/-x/y z", 0o755, b"nested".to_vec()),
        ("last", 0o644, vec![b'\n'; 3]),
    ]
}

fn with(trial: Trial, files: &[(&str, u32, Vec<u8>)]) -> Trial {
    let files = files.iter();
    files.fold(trial, |trial, (path, mode, content)| trial.input(path, *mode, content))
}

/// What `TELL` must tell.
fn told(files: &[(&str, u32, Vec<u8>)]) -> Vec<String> {
    let mut lines: Vec<_> = files
        .iter()
        .map(|(path, mode, content)| (format!("./{path}"), format!("{mode:o} {} ./{path}", sha256(content))))
        .collect();
    lines.sort();
    lines.into_iter().map(|(_, line)| line).collect()
}

/// Bytes that no compression makes small.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64 ^ length as u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn awkward_files_arrive_with_content_and_mode_either_way_for_any_user() {
    let group = Group::new("inputs").await;
    let files = awkward();
    // Only root may read a file that belongs to root alone.
    let mut private = files.clone();
    private.push(("private", 0o600, b"secret".to_vec()));
    let trial = |name: &str, image: &str, limit: u32, files: &[(&str, u32, Vec<u8>)]| {
        with(group.trial(name), files)
            .image(image)
            .option("inlineLimit", limit)
            .sh(TELL)
    };
    check([
        (
            trial("root-inline", BUSYBOX, 65_536, &private),
            Expected::succeeded().lines(told(&private)),
        ),
        (
            trial("root-exec", BUSYBOX, 0, &private),
            Expected::succeeded().lines(told(&private)),
        ),
        (
            trial("user-inline", BUSYBOX_USER, 65_536, &files),
            Expected::succeeded().lines(told(&files)),
        ),
        (
            trial("user-exec", BUSYBOX_USER, 0, &files),
            Expected::succeeded().lines(told(&files)),
        ),
    ])
    .await;
    group.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn any_user_may_change_inputs_write_beside_them_and_keep_outputs_private() {
    let group = Group::new("in-place").await;
    let script = r#"
        sed -i s/old/new/ data.txt deep/data.txt
        echo beside >deep/beside.txt
        rm removed.txt
        (umask 077; echo private >private.txt)
        stat -c %a private.txt"#;
    let trial = |name: &str, image: &str, limit: u32| {
        group
            .trial(name)
            .image(image)
            .option("inlineLimit", limit)
            .input("data.txt", 0o644, "old\n")
            .input("removed.txt", 0o644, "x")
            .input("deep/data.txt", 0o600 | 0o044, "old\n")
            .output("**/*.txt")
            .sh(script)
    };
    let expected = || {
        Expected::succeeded().lines(["600"]).files([
            ("work/data.txt", "new\n"),
            ("work/deep/data.txt", "new\n"),
            ("work/deep/beside.txt", "beside\n"),
            ("work/private.txt", "private\n"),
        ])
    };
    check([
        (trial("root-inline", BUSYBOX, 65_536), expected()),
        (trial("root-exec", BUSYBOX, 0), expected()),
        (trial("user-inline", BUSYBOX_USER, 65_536), expected()),
        (trial("user-exec", BUSYBOX_USER, 0), expected()),
    ])
    .await;
    group.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn a_large_file_arrives_whole_and_comes_back_whole() {
    let group = Group::new("large").await;
    let content = noise(64 << 20);
    let trial = group
        .trial("round-trip")
        .input("large.bin", 0o644, &content)
        .sh("sha256sum <large.bin | head -c 64; echo; mv large.bin back.bin")
        .output("back.bin");
    let ran = trial.run().await;
    let outcome = ran.succeeded();
    assert_eq!(ran.lines(), [sha256(&content)]);
    assert_eq!(outcome.files[0].sha256, sha256(&content));
    assert!(trial.files()["work/back.bin"] == content);
    group.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn thousands_of_small_files_arrive_and_come_back() {
    let group = Group::new("many").await;
    let mut trial = group.trial("round-trip");
    let mut expected = String::new();
    let mut contents = std::collections::BTreeMap::new();
    for index in 0..2_000 {
        let path = format!("d{}/file {index}.dat", index % 20);
        let content = noise(1_024 + index);
        let _ = writeln!(expected, "{}", sha256(&content));
        trial = trial.input(&path, 0o644, &content);
        contents.insert(format!("work/{path}"), content);
    }
    let script = r#"i=0; while [ $i -lt 2000 ]; do echo "d$((i % 20))/file $i.dat"; i=$((i + 1)); done |
        tr '\n' '\0' | xargs -0 sha256sum | cut -c -64 | sha256sum | head -c 64; echo; find . -type f | wc -l"#;
    let trial = trial.sh(script).output("**");
    let ran = trial.run().await;
    ran.succeeded();
    assert_eq!(ran.lines(), [sha256(&expected), "2000".to_owned()]);
    assert!(trial.files() == contents, "the files that came back differ");
    group.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn files_larger_than_the_runners_memory_pass_through() {
    if !full("320 MiB of files through a runner with 256 MiB of memory") {
        return;
    }
    let group = Group::new("huge").await;
    let content = noise(320 << 20);
    let trial = group
        .trial("round-trip")
        .option("volume", json!({"medium": "DISK"}))
        .input("huge.bin", 0o644, &content)
        .sh("sha256sum <huge.bin | head -c 64; echo")
        .output("huge.bin");
    let ran = trial.run().await;
    ran.succeeded();
    assert_eq!(ran.lines(), [sha256(&content)]);
    assert!(trial.files()["work/huge.bin"] == content);
    group.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn inputs_that_are_refused_are_named_before_a_pod_exists() {
    let group = Group::new("refused-inputs").await;
    let audit = group.cluster.audit();
    /// A name, paths and modes, and what the error says.
    type Case = (&'static str, &'static [(&'static str, u32)], &'static str);
    let cases: [Case; 9] = [
        ("absolute", &[("/etc/passwd", 0o644)], "`/etc/passwd` is absolute"),
        ("climbing", &[("a/../../x", 0o644)], "`a/../../x` climbs out"),
        ("empty", &[("", 0o644)], "is empty"),
        ("newline", &[("a\nb", 0o644)], "`a\\nb` holds a line break"),
        (
            "twice",
            &[("data.txt", 0o644), ("data.txt", 0o644)],
            "`data.txt` is named twice",
        ),
        ("missing", &[("absent.txt", 0o644)], "`absent.txt` is missing"),
        ("folder", &[("folder", 0o644)], "`folder`"),
        (
            "clash",
            &[("data.txt", 0o644), ("data.txt/x", 0o644)],
            "`data.txt` is a file",
        ),
        ("mode", &[("data.txt", 0o7777)], "`data.txt`"),
    ];
    for (name, inputs, says) in cases {
        let mut trial = group.trial(name).sh("true");
        std::fs::write(trial.inputs().join("data.txt"), "x").unwrap();
        std::fs::create_dir(trial.inputs().join("folder")).unwrap();
        let inputs = inputs.iter().map(|(path, mode)| Input {
            path: (*path).to_owned(),
            mode: *mode,
        });
        trial.task.inputs = inputs.collect();
        let ran = trial.run().await;
        match ran.error() {
            Error::InvalidArgument(message) => assert!(message.contains(says), "{name}: {message}"),
            other => panic!("{name}: {other}"),
        }
        if let Some(audit) = &audit {
            assert_eq!(audit.created(&trial.task.id).await, 0, "{name}: a pod was created");
        }
    }
    group.close().await;
}
