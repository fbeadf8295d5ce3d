//! Tasks that ask Google Cloud, with a stand-in for it on this machine.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use serde_json::Value;

use crate::sandbox::{Finished, Sandbox, finished};
use crate::stand_in::{Cluster, Google};

const RUN: [&str; 4] = ["run", "flow.yaml", "--execution-id", "x"];

/// Tasks in the manner of the seed's flow for GKE; `MORE` stands for more of the task `auth`.
const FLOW: &str = "
id: f
namespace: n
tasks:
  - {id: metadata, type: io.kestra.plugin.gcp.gke.ClusterMetadata, clusterId: c, clusterZone: europe-west1, clusterProjectId: p}
  - {id: auth, type: io.kestra.plugin.gcp.auth.OauthAccessToken MORE}
  - id: pod
    type: io.kestra.plugin.scripts.shell.Script
    containerImage: busybox
    script: SCRIPT
    taskRunner:
      config:
        caCertData: '{{ outputs.metadata.masterAuth.clusterCertificat }}'
        masterUrl: 'https://{{ outputs.metadata.endpoint }}'
        oauthToken: \"{{ outputs.auth.accessToken['tokenValue'] }}\"
";

fn google() -> Google {
    Google::start(Cluster {
        endpoint: "ok".to_owned(),
        certificate_authority: "UEVN".to_owned(),
        token: None,
    })
}

fn flow(script: &str, more: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    let text = FLOW.replace("SCRIPT", &format!("{script:?}")).replace("MORE", more);
    sandbox.write("flow.yaml", &text);
    sandbox
}

fn podrun(sandbox: &Sandbox, google: &Google, arguments: &[&str]) -> Finished {
    finished(sandbox.command(arguments).envs(google.environment()))
}

/// Run the flow until its script has written a line and waits, and leave it then.
fn leave(sandbox: &Sandbox, google: &Google) {
    let mut run = Sandbox::start_command(sandbox.command(&RUN).envs(google.environment()));
    run.await_line("line 1");
    run.signal("TERM");
    run.wait().expect(75);
}

fn logins(sandbox: &Sandbox) -> Vec<String> {
    let file = sandbox.path("state/executions/x/tasks/pod.1/outputs/logins");
    let text = std::fs::read_to_string(file).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// The journal, with what SQLite has not moved into it yet.
fn journal(sandbox: &Sandbox) -> String {
    let files = ["state/journal.db", "state/journal.db-wal"];
    let bytes = files.iter().filter_map(|file| std::fs::read(sandbox.path(file)).ok());
    bytes
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .collect()
}

#[test]
fn a_cluster_is_found_and_entered_and_the_token_is_shown_and_kept_nowhere() {
    let google = google();
    let sandbox = flow("login\nsay 1", "");
    let text = std::fs::read_to_string(sandbox.path("flow.yaml")).unwrap();
    let log = "  - {id: log, type: io.kestra.plugin.core.log.Log, message: 'the token is {{ outputs.auth.accessToken.tokenValue }} of \
               {{ outputs.metadata.nodePools[0].name }}'}\n";
    sandbox.write("flow.yaml", &format!("{text}{log}"));
    let run = podrun(&sandbox, &google, &RUN).expect(0);
    let tokens = google.tokens();
    let [for_metadata, token] = tokens.as_slice() else {
        panic!("{tokens:?}")
    };
    assert_eq!(logins(&sandbox), [token.as_str()]);
    assert!(run.out.contains("the token is *** of default-pool"), "{}", run.out);
    for token in [for_metadata, token] {
        assert!(!run.out.contains(token) && !run.error.contains(token), "{}", run.out);
        assert!(!journal(&sandbox).contains(token), "the journal has a token");
    }
}

#[test]
fn a_later_call_asks_for_a_token_of_its_own() {
    let google = google();
    let sandbox = flow("login\nsay 1\nwait\nlogin", "");
    leave(&sandbox, &google);
    sandbox.let_go("x", "pod");
    podrun(&sandbox, &google, &["attach", "x"]).expect(0);
    let tokens = google.tokens();
    assert_eq!(tokens.len(), 3, "the cluster was looked up again");
    // The script's first line was run by both calls.
    assert_eq!(
        logins(&sandbox),
        [&tokens[1], &tokens[2], &tokens[2]].map(String::as_str)
    );
    assert_eq!(sandbox.history("x", "pod"), ["created", "deleted"]);
    // An execution that ended needs none.
    podrun(&sandbox, &google, &RUN).expect(0);
    assert_eq!(google.tokens().len(), 3);
}

#[test]
fn an_execution_is_not_lost_where_google_cannot_be_asked_for_the_moment() {
    let google = google();
    let sandbox = flow("say 1\nwait", "");
    leave(&sandbox, &google);
    google.fail(u64::MAX);
    let attached = podrun(&sandbox, &google, &["attach", "x"]).expect(3);
    assert!(
        attached
            .error
            .contains("task `auth`, for a new credential: the metadata server"),
        "{}",
        attached.error
    );
    assert_eq!(sandbox.state("x").as_deref(), Some("unfinished"));
    podrun(&sandbox, &google, &["kill", "x"]).expect(3);
    google.fail(0);
    podrun(&sandbox, &google, &["kill", "x"]).expect(0);
    assert_eq!(sandbox.state("x").as_deref(), Some("cancelled"));
}

#[test]
fn a_service_account_shows_its_claims_and_its_key_is_kept_nowhere() {
    let google = google();
    let sandbox = flow("login", ", serviceAccount: '{{ secret(\"KEY\") }}', scopes: [a, b]");
    let key = google.key();
    let secrets = sandbox.write("secrets.yaml", &format!("KEY: '{key}'\n"));
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&secrets, std::fs::Permissions::from_mode(0o600)).unwrap();
    let mut arguments = RUN.to_vec();
    arguments.extend(["--secrets", "secrets.yaml"]);
    podrun(&sandbox, &google, &arguments).expect(0);
    assert_eq!(logins(&sandbox), [google.tokens()[1].as_str()]);
    let assertions = google.assertions();
    assert_eq!(assertions.len(), 1, "the other task has no key");
    let claims = assertions[0].replace("%3D", "=");
    let claims = URL_SAFE.decode(claims.split('.').nth(1).unwrap()).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!(claims["scope"], "a b");
    assert_eq!(claims["iss"], "robot@p.iam.gserviceaccount.com");
    let key: Value = serde_json::from_str(&key).unwrap();
    assert_eq!(claims["aud"], key["token_uri"]);
    let line = key["private_key"].as_str().unwrap().lines().nth(3).unwrap();
    assert!(!journal(&sandbox).contains(line));
}

#[test]
fn a_bad_moment_is_waited_out_and_a_retry_makes_a_new_attempt() {
    let google = google();
    google.fail(2);
    let sandbox = flow("login", "");
    podrun(&sandbox, &google, &RUN).expect(0);
    // One attempt asks four times.
    google.fail(4);
    let sandbox = flow("login", "");
    let text = std::fs::read_to_string(sandbox.path("flow.yaml")).unwrap();
    let text = text.replace(
        "clusterProjectId: p",
        "projectId: p, retry: {type: constant, interval: PT0.01S, maxAttempts: 2}",
    );
    sandbox.write("flow.yaml", &text);
    let run = podrun(&sandbox, &google, &RUN).expect(0);
    assert!(run.out.contains("attempt 2"), "{}", run.out);
}

#[test]
fn what_google_refuses_fails_the_task_in_its_own_words() {
    let google = google();
    let refused = |from: &str, to: &str| {
        let sandbox = flow("login", "");
        let text = std::fs::read_to_string(sandbox.path("flow.yaml")).unwrap();
        sandbox.write("flow.yaml", &text.replace(from, to));
        let run = podrun(&sandbox, &google, &RUN).expect(1);
        let [_, address] = google.environment();
        run.out.replace(&address.1, "GOOGLE")
    };
    let missing = refused("clusterId: c", "clusterId: missing");
    let expected = "`GOOGLE/v1/projects/p/locations/europe-west1/clusters/missing` answered 404 Not Found: Not found: \
                    projects/p/locations/europe-west1/clusters/missing.";
    assert!(missing.contains(expected), "{missing}");
    let climbing = refused("clusterId: c", "clusterId: ../../x");
    assert!(climbing.contains("`clusterId` is `../../x`"), "{climbing}");
    let no_key = refused("OauthAccessToken ", "OauthAccessToken, serviceAccount: s3cret");
    assert!(
        no_key.contains("`serviceAccount` is not JSON") && !no_key.contains("s3cret"),
        "{no_key}"
    );
}

#[test]
fn without_any_credentials_it_is_said_where_they_are_looked_for() {
    let sandbox = flow("login", "");
    let run = finished(sandbox.command(&RUN).env("GCE_METADATA_HOST", "127.0.0.1:1")).expect(1);
    for cure in [
        "metadata server `127.0.0.1:1`",
        "serviceAccount",
        "GOOGLE_APPLICATION_CREDENTIALS",
    ] {
        assert!(run.out.contains(cure), "{}", run.out);
    }
}

/// A script with a provider of tokens; `CONFIG` stands for more of the config.
const PROVIDED: &str = "
id: f
namespace: n
tasks:
  - id: pod
    type: io.kestra.plugin.scripts.shell.Script
    containerImage: busybox
    script: SCRIPT
    taskRunner:
      config:
        masterUrl: https://ok
        oauthTokenProvider:
          task: {type: io.kestra.plugin.gcp.auth.OauthAccessToken}
          output: '{{ accessToken.tokenValue }}'CONFIG
";

fn provided(script: &str, config: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    let text = PROVIDED
        .replace("SCRIPT", &format!("{script:?}"))
        .replace("CONFIG", config);
    sandbox.write("flow.yaml", &text);
    sandbox
}

/// The tokens that a runner was given, each with whether it was told when that expires.
fn given(sandbox: &Sandbox) -> Vec<(String, bool)> {
    let one = |line: String| {
        let credential: Value = serde_json::from_str(&line).unwrap();
        let status = &credential["status"];
        (
            status["token"].as_str().unwrap().to_owned(),
            status["expirationTimestamp"].is_string(),
        )
    };
    logins(sandbox).into_iter().map(one).collect()
}

#[test]
fn a_provider_gives_its_token_again_until_that_expires_or_is_refused() {
    let google = google();
    let sandbox = provided("login\nlogin\nlogin again\nlogin\nsay 1\nwait\nlogin", "");
    let mut run = Sandbox::start_command(sandbox.command(&RUN).envs(google.environment()));
    run.await_line("line 1");
    sandbox.let_go("x", "pod");
    let run = run.wait().expect(0);
    let tokens = google.tokens();
    assert_eq!(tokens.len(), 2, "{tokens:?}");
    let [first, second] = [&tokens[0], &tokens[1]].map(|token| (token.clone(), true));
    let expected = [first.clone(), first, second.clone(), second.clone(), second];
    assert_eq!(given(&sandbox), expected);
    for token in &tokens {
        assert!(!run.out.contains(token) && !journal(&sandbox).contains(token));
    }
}

#[test]
fn a_token_that_expires_during_a_run_is_replaced_before() {
    let google = google();
    google.set_lifetime(30);
    let sandbox = provided("login\nlogin\nlogin", "");
    podrun(&sandbox, &google, &RUN).expect(0);
    let given: Vec<String> = given(&sandbox).into_iter().map(|(token, _)| token).collect();
    assert_eq!(given, google.tokens());
    assert_eq!(given.len(), 3, "one was used that would have expired on its way");
    // Without a cache every question is passed on, however long a token lives.
    google.set_lifetime(3600);
    let sandbox = provided("login\nlogin", "\n          cache: PT0S");
    podrun(&sandbox, &google, &RUN).expect(0);
    assert_eq!(google.tokens().len(), 5);
}

#[test]
fn a_provider_may_be_an_expression() {
    let sandbox = provided("login", "");
    let text = std::fs::read_to_string(sandbox.path("flow.yaml")).unwrap();
    let text = text
        .replace(
            "gcp.auth.OauthAccessToken",
            "core.debug.Return, format: \"{{ secret('TOKEN') }}\"",
        )
        .replace("accessToken.tokenValue", "value");
    sandbox.write("flow.yaml", &text);
    // `s3cret`
    finished(sandbox.command(&RUN).env("SECRET_TOKEN", "czNjcmV0")).expect(0);
    assert_eq!(given(&sandbox), [("s3cret".to_owned(), false)]);
}

#[test]
fn a_provider_without_a_token_is_what_the_call_ends_with() {
    let google = google();
    google.fail(u64::MAX);
    let sandbox = provided("login\nfail denied", "");
    let run = podrun(&sandbox, &google, &RUN).expect(3);
    let expected = "`taskRunner.config.oauthTokenProvider` of task `pod`: the metadata server";
    assert!(run.error.contains(expected), "{}", run.error);
}

#[test]
fn a_script_with_a_token_in_it_is_taken_up_although_the_token_is_another_one() {
    let google = google();
    let sandbox = flow("say 1\nwait\nsay 2", "");
    let text = std::fs::read_to_string(sandbox.path("flow.yaml")).unwrap();
    let text = text.replace(
        "    containerImage: busybox",
        "    containerImage: busybox\n    env: {TOKEN: '{{ outputs.auth.accessToken.tokenValue }}'}",
    );
    sandbox.write("flow.yaml", &text);
    leave(&sandbox, &google);
    for token in google.tokens() {
        assert!(!journal(&sandbox).contains(&token), "the journal has a token");
    }
    sandbox.let_go("x", "pod");
    podrun(&sandbox, &google, &["attach", "x"]).expect(0);
    assert_eq!(google.tokens().len(), 3, "it was asked for another token");
    assert_eq!(sandbox.history("x", "pod"), ["created", "attached", "deleted"]);
    assert_eq!(sandbox.podrun(&["logs", "x"]).expect(0).out.lines().count(), 3);
}

#[test]
fn a_script_with_a_token_in_it_is_started_anew_where_its_input_files_never_arrived() {
    let google = Google::start(Cluster {
        endpoint: "staging".to_owned(),
        certificate_authority: "UEVN".to_owned(),
        token: None,
    });
    let sandbox = flow("say 1\nstage\nsay 2", "");
    let text = std::fs::read_to_string(sandbox.path("flow.yaml")).unwrap();
    let text = text.replace(
        "    containerImage: busybox",
        "    containerImage: busybox\n    env: {TOKEN: '{{ outputs.auth.accessToken.tokenValue }}'}",
    );
    sandbox.write("flow.yaml", &text);
    leave(&sandbox, &google);
    sandbox.let_go("x", "pod");
    podrun(&sandbox, &google, &["attach", "x"]).expect(0);
    assert_eq!(
        sandbox.history("x", "pod"),
        ["created", "refused", "created", "deleted"]
    );
    assert_eq!(sandbox.podrun(&["logs", "x"]).expect(0).out.lines().count(), 3);
}

#[test]
fn google_is_reached_through_the_proxy_of_the_environment() {
    let google = google();
    let sandbox = flow("login", "");
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = proxy.local_addr().unwrap();
    let asked = std::thread::spawn(move || {
        let mut line = String::new();
        let (mut stream, _) = proxy.accept().unwrap();
        BufReader::new(&stream).read_line(&mut line).unwrap();
        // Nothing listens any more: whoever tries again fails at once.
        drop(proxy);
        stream.write_all(b"HTTP/1.1 403 Forbidden\r\n\r\n").unwrap();
        line
    });
    let [metadata, _] = google.environment();
    let mut command = sandbox.command(&RUN);
    let run = finished(command.envs([metadata]).env("HTTPS_PROXY", format!("http://{address}"))).expect(1);
    assert_eq!(
        asked.join().unwrap().trim_end(),
        "CONNECT container.googleapis.com:443 HTTP/1.1"
    );
    assert!(
        run.out.contains("no answer from `https://container.googleapis.com/"),
        "{}",
        run.out
    );
}
