//! Output files: what is asked for comes back, complete and verified, after failures too; what cannot is named.

use crate::inputs::noise;
use podrun_host::{Event, Status};
use podrun_tests::{BUSYBOX_USER, Expected, Group, check, sha256};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn patterns_and_the_output_directory_say_what_comes_back() {
    let group = Group::new("outputs").await;
    let tree = r#"mkdir -p d/e 'two words' "$OUTPUT_DIR/sub"
        for f in a.txt b.txt c.dat d/a.txt d/one.csv d/e/two.csv 'two words/x y.txt' x1.a x2.b x3.c .hidden.txt; do
            printf %s "$f" >"$f"; done
        : >zero.txt
        printf out >"$OUTPUT_DIR/sub/o ut.txt"; : >"$OUTPUT_DIR/zero""#;
    let out = [("out/sub/o ut.txt", "out"), ("out/zero", "")];
    let files = |work: &[(&'static str, &'static str)]| [work, &out[..]].concat();
    let trial = |name: &str, patterns: &[&str]| {
        let trial = group.trial(name).sh(tree);
        patterns.iter().fold(trial, |trial, pattern| trial.output(pattern))
    };
    check([
        (trial("none", &[]), Expected::succeeded().files(files(&[]))),
        (
            trial("star", &["[ab].txt", "./z*"]),
            Expected::succeeded().files(files(&[
                ("work/a.txt", "a.txt"),
                ("work/b.txt", "b.txt"),
                ("work/zero.txt", ""),
            ])),
        ),
        (
            trial("deep", &["d/**/*.csv", "two words/*"]),
            Expected::succeeded().files(files(&[
                ("work/d/one.csv", "d/one.csv"),
                ("work/d/e/two.csv", "d/e/two.csv"),
                ("work/two words/x y.txt", "two words/x y.txt"),
            ])),
        ),
        (
            trial("braces", &["x?.{a,b}"]),
            Expected::succeeded().files(files(&[("work/x1.a", "x1.a"), ("work/x2.b", "x2.b")])),
        ),
        (
            trial("nothing-matches", &["*.nothing"]),
            Expected::succeeded().files(files(&[])),
        ),
        (
            trial("only-patterns", &["c.dat"]).option("outputDir", false),
            Expected::succeeded().files([("work/c.dat", "c.dat")]),
        ),
        (
            trial("after-failure", &["a.txt"]).sh(&format!("{tree}\nexit 3")),
            Expected::failed("exit-code", Some(3)).files(files(&[("work/a.txt", "a.txt")])),
        ),
    ])
    .await;
    group.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn links_inside_are_followed_and_what_cannot_come_back_is_named() {
    let group = Group::new("links").await;
    check([
        (
            group
                .trial("inside")
                .sh("mkdir d; echo real >d/real.txt; ln -s d/real.txt link.txt; ln -s ../link.txt d/again.txt; ln -s nowhere dead.txt")
                .output("*.txt")
                .output("d/again.txt"),
            Expected::succeeded().files([("work/link.txt", "real\n"), ("work/d/again.txt", "real\n")]),
        ),
        (
            group.trial("outside").sh("ln -s /etc/passwd stolen.txt").output("*.txt"),
            Expected::failed("outputs-refused", Some(0)).says("`stolen.txt`").says("link").files::<&str>([]),
        ),
        (
            group.trial("climbing").sh("ln -s ../../../etc/passwd stolen.txt").output("*.txt"),
            Expected::failed("outputs-refused", Some(0)).says("`stolen.txt`").files::<&str>([]),
        ),
        (
            group.trial("across").sh("echo x >\"$OUTPUT_DIR/x\"; ln -s ../out/x across.txt").output("*.txt"),
            Expected::failed("outputs-refused", Some(0)).says("`across.txt`"),
        ),
        (
            group.trial("folder-outside").sh("ln -s /etc \"$OUTPUT_DIR/etc\"; echo fine >\"$OUTPUT_DIR/fine\""),
            Expected::failed("outputs-refused", Some(0)).says("`etc`"),
        ),
        (
            group.trial("newline").sh("touch 'a\nb.txt'").output("*.txt"),
            Expected::failed("outputs-refused", Some(0)).says("a\\nb.txt"),
        ),
        (
            group.trial("newline-elsewhere").sh("touch 'a\nb.dat'; echo x >c.txt").output("*.txt"),
            Expected::succeeded().files([("work/c.txt", "x\n")]),
        ),
        (
            group
                .trial("unreadable")
                .option("fileSidecar", json!({"image": BUSYBOX_USER}))
                .sh("echo x >mine.txt; chmod 600 mine.txt")
                .output("*.txt"),
            Expected::failed("outputs-refused", Some(0)).says("mine.txt").files::<&str>([]),
        ),
    ])
    .await;
    group.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn a_large_output_and_its_mode_are_told_as_they_were() {
    let group = Group::new("large-output").await;
    let seed = noise(1 << 20);
    // The pod makes 64 MiB of its own; its hash comes through the log.
    let script = r#"i=0; while [ $i -lt 64 ]; do echo $i; cat seed; i=$((i + 1)); done >"$OUTPUT_DIR/large"
        chmod 640 "$OUTPUT_DIR/large"; sha256sum <"$OUTPUT_DIR/large" | head -c 64; echo"#;
    let trial = group.trial("made").input("seed", 0o644, &seed).sh(script);
    let ran = trial.run().await;
    let file = &ran.succeeded().files[0];
    assert_eq!((file.path.as_str(), file.mode), ("large", 0o640));
    assert_eq!(ran.lines(), [sha256(&trial.files()["out/large"])]);
    let moved = ran
        .events
        .iter()
        .any(|e| matches!(e, Event::Progress(p) if p.what == "outputs" && p.done > 32 << 20));
    assert!(moved, "no progress was told");
    group.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn without_outputs_there_is_no_sidecar() {
    let group = Group::new("no-sidecar").await;
    let trial = group
        .trial("alone")
        .option("outputDir", false)
        .sh("echo up; echo lost >\"$OUTPUT_DIR/x\"; sleep 2");
    let mut following = trial.start(None).await;
    following.until_line("up").await;
    let pod = group.cluster.get(&["pod", following.seen().pod()]).await;
    let containers = pod["spec"]["containers"].as_array().unwrap();
    assert_eq!(containers.len(), 1, "{containers:#?}");
    assert!(pod["spec"]["initContainers"].is_null());
    following.end().await.succeeded();
    assert!(trial.files().is_empty());
    group.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn outputs_that_were_not_collected_in_time_are_never_a_success() {
    let group = Group::new("lost-outputs").await;
    let trial = group
        .trial("late")
        .option("keepOutputs", "PT2S")
        .sh("echo up; echo x >x.txt; sleep 3; echo down")
        .output("x.txt");
    let mut following = trial.start(None).await;
    following.until_line("up").await;
    let seen = following.detach().await;
    let pod = format!("pod/{}", seen.pod());
    let wait = [
        "wait",
        &pod,
        "--for=jsonpath={.status.phase}=Succeeded",
        "--timeout=60s",
    ];
    group.cluster.kubectl(&wait).await;
    let ran = trial.start(seen.cursor.clone()).await.end().await;
    let outcome = ran.outcome();
    assert_eq!(
        (outcome.status, outcome.reason.as_deref(), outcome.exit_code),
        (Status::Failed, Some("outputs-lost"), Some(0)),
        "{outcome:#?}"
    );
    let lines = [seen.lines(), ran.lines()].concat();
    assert_eq!(lines, ["up", "down"]);
    assert!(trial.files().is_empty());
    group.close().await;
}
