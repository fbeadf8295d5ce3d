//! The flows that the project was created from stay as they are, and are valid with an operator's defaults.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::sandbox::Sandbox;

const SEEDS: [(&str, &str); 5] = [
    (
        "shell.yaml",
        "c1152a995c0f4ec2f23048563e019a83171f13c1f0ca710f6fedb945a303e026",
    ),
    (
        "python.yaml",
        "2e78db22fa5e7dcf27a86b326959a5d70cadf6c0c5993107f90d9b1be240636d",
    ),
    (
        "defaults.yaml",
        "c252f2c6ed8a05e5f5b35f1f0bf65f9199545a5907fd5d47fb6d99bbfe702465",
    ),
    (
        "gke.yaml",
        "30b89701fa45fe0d741bcf2906c64f53611eb789a7eb6c745a6131f117815a36",
    ),
    (
        "eks.yaml",
        "5eedcfc1603a7bbfa8e0acee2ec673a1baebbe226747773e0c4e3337485565cf",
    ),
];

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples")
}

#[test]
fn no_byte_of_them_changed() {
    for (name, sum) in SEEDS {
        let content = std::fs::read(examples().join("seed").join(name)).unwrap();
        let found: String = Sha256::digest(content)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(found, sum, "{name}");
    }
}

#[test]
fn they_are_valid_with_an_operators_defaults() {
    let sandbox = Sandbox::new();
    let folder = examples().join("seed");
    let files = SEEDS.map(|(name, _)| folder.join(name).display().to_string());
    let defaults = folder.join("operator/defaults.yaml").display().to_string();
    let mut arguments = vec!["validate", "--defaults", &defaults];
    arguments.extend(files.iter().map(String::as_str));
    let call = sandbox.podrun(&arguments).expect(0);
    assert_eq!(
        call.out.lines().filter(|line| line.ends_with("is valid")).count(),
        5,
        "{}",
        call.out
    );
}

#[test]
fn the_operators_credentials_replace_their_placeholders_and_are_not_shown() {
    let sandbox = Sandbox::new();
    let folder = examples().join("seed");
    let flow = folder.join("defaults.yaml").display().to_string();
    let defaults = folder.join("operator/defaults.yaml").display().to_string();
    let call = sandbox
        .podrun(&["explain", &flow, "run_python", "--defaults", &defaults, "--json"])
        .expect(0);
    let reports = call.reports();
    let find = |property: &str| {
        let property = format!("taskRunner.{property}");
        reports.iter().find(|report| report["property"] == property.as_str())
    };
    let token = find("config.oauthToken").unwrap();
    assert_eq!(
        (token["source"].as_str(), token["forced"].as_bool()),
        (Some("operator-default"), Some(true))
    );
    assert!(token["value"].is_null() && token["redacted"] == true);
    assert!(find("config.clientKeyData").is_none(), "a placeholder is left");
    assert_eq!(find("pullPolicy").unwrap()["source"], "flow-default");
    assert_eq!(find("waitUntilRunning").unwrap()["source"], "built-in");
    assert!(!call.out.contains("CLUSTER_TOKEN"), "{}", call.out);
}

#[test]
fn examples_are_valid() {
    let sandbox = Sandbox::new();
    let name = |name: &str| examples().join(name).display().to_string();
    sandbox
        .podrun(&[
            "validate",
            &name("hello.yaml"),
            &name("python.yaml"),
            "--defaults",
            &name("defaults.yaml"),
        ])
        .expect(0);
}
