//! Scripts, arguments and variables arrive byte for byte, in the right directory, as any user, with and without outputs.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use podrun_tests::{BUSYBOX, BUSYBOX_USER, Group, HELLO, Trial};

/// What Kubernetes, shells and log drivers are known to rewrite.
const HOSTILE: [&str; 12] = [
    "$",
    "$$",
    "$$$",
    "$(FOO)",
    "$$(FOO)",
    "${FOO} `id` \\ \\n %s !x * ? ~",
    "'single' \"double\"",
    "  spaces\tand tab  ",
    "two\nlines\n",
    "ünï ☃ 💾",
    "-n",
    "",
];

/// A task whose script shows what it got, one base64 line each for its arguments, its variables and itself.
fn telling(trial: Trial) -> Trial {
    // The script itself holds what must not be rewritten.
    let script = r#"
        printf '%s\0' "$@" | base64 | tr -d '\n'; echo
        printf '%s\0' "$V0" "$V1" "$V2" "$V3" "$V4" "$V5" "$V6" "$V7" "$V8" "$V9" "$V10" "$V11" | base64 | tr -d '\n'; echo
        printf '%s\0' '$$' '$(FOO)' '$((1+1))' "$((1+1))" | base64 | tr -d '\n'; echo
        pwd; echo "$WORKING_DIR"; echo "$OUTPUT_DIR"; echo "$FOO"; id -u
        echo made >"$WORKING_DIR/made.txt" && echo made >"$OUTPUT_DIR/made.txt" && echo writable"#;
    let command = [&["sh", "-c", script, "sh"], &HOSTILE[..]].concat();
    let trial = trial.command(&command).env("FOO", "foo").env("WORKING_DIR", "/forged");
    let variables = HOSTILE.iter().enumerate();
    variables.fold(trial, |trial, (at, value)| trial.env(&format!("V{at}"), value))
}

fn strings(line: &str) -> Vec<String> {
    let text = String::from_utf8(STANDARD.decode(line).unwrap()).unwrap();
    text.split_terminator('\0').map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn a_script_gets_what_was_meant_as_any_user_with_and_without_outputs() {
    let group = Group::new("bytes").await;
    let cases = [
        ("root-outputs", BUSYBOX, "0", true),
        ("root-alone", BUSYBOX, "0", false),
        ("user-outputs", BUSYBOX_USER, "1000", true),
        ("user-alone", BUSYBOX_USER, "1000", false),
    ];
    let running = cases.map(async |(name, image, user, outputs)| {
        let trial = telling(group.trial(name)).image(image).option("outputDir", outputs);
        let layout = trial.runner.layout(&trial.target.config, &trial.task.id).await.unwrap();
        let ran = trial.run().await;
        ran.succeeded();
        let lines = ran.lines();
        assert_eq!(strings(&lines[0]), HOSTILE, "{name}: arguments");
        assert_eq!(strings(&lines[1]), HOSTILE, "{name}: variables");
        assert_eq!(strings(&lines[2]), ["$$", "$(FOO)", "$((1+1))", "2"], "{name}: script");
        let expected = [
            layout.working_dir.as_str(),
            &layout.working_dir,
            &layout.output_dir,
            "foo",
            user,
            "writable",
        ];
        assert_eq!(lines[3..], expected, "{name}");
        assert_eq!(trial.files().contains_key("out/made.txt"), outputs, "{name}");
    });
    futures::future::join_all(running).await;
    group.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn a_program_without_a_shell_gets_what_was_meant() {
    let group = Group::new("bytes-bare").await;
    let arguments = ["$", "$$", "$(FOO)", "$$(FOO)", "a b", "-n", ""];
    let trial = group
        .trial("hello")
        .image(HELLO)
        .command(&[&["/hello"], &arguments[..]].concat())
        .env("FOO", "foo")
        .env("VALUE", "$$ $(FOO) 'x' \"y\"");
    let ran = trial.run().await;
    ran.succeeded();
    let lines = ran.lines();
    let quoted: Vec<String> = arguments.iter().map(|a| format!("{a:?}")).collect();
    assert_eq!(lines[0], format!("arguments: [{}]", quoted.join(" ")));
    for variable in [
        "VALUE=$$ $(FOO) 'x' \"y\"",
        "WORKING_DIR=/podrun/work",
        "OUTPUT_DIR=/podrun/out",
    ] {
        assert!(lines.iter().any(|l| l == variable), "{variable}: {lines:#?}");
    }
    group.close().await;
}
