//! Bad input: a clear error that names the field and the cure, before any pod exists, without a secret in it.

use crate::config::{Parts, parts};
use podrun_host::Error;
use podrun_tests::{Cluster, Group, Trial, skip};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

/// What is never shown.
const SECRET: &str = "c2VjcmV0LW9mLXRoZS1vcGVyYXRvcg";

/// Which error, and what it says.
struct Refusal {
    kind: fn(&Error) -> Option<&str>,
    says: Vec<String>,
}

impl Refusal {
    fn new(kind: fn(&Error) -> Option<&str>, says: &[&str]) -> Self {
        Self {
            kind,
            says: says.iter().map(|s| (*s).to_owned()).collect(),
        }
    }

    fn invalid(says: &[&str]) -> Self {
        Self::new(
            |e| match e {
                Error::InvalidArgument(message) => Some(message),
                _ => None,
            },
            says,
        )
    }

    fn denied(says: &[&str]) -> Self {
        Self::new(
            |e| match e {
                Error::AccessDenied(message) => Some(message),
                _ => None,
            },
            says,
        )
    }

    fn unavailable(says: &[&str]) -> Self {
        Self::new(
            |e| match e {
                Error::Unavailable(message) => Some(message),
                _ => None,
            },
            says,
        )
    }

    fn check(&self, what: &str, error: &Error, secrets: &[&str]) {
        let Some(message) = (self.kind)(error) else {
            panic!("{what}: {error:?}");
        };
        for says in &self.says {
            assert!(message.contains(says), "{what} does not say `{says}`: {message}");
        }
        for secret in secrets {
            assert!(
                !format!("{error:?}").contains(secret),
                "{what} shows a secret: {message}"
            );
        }
    }
}

/// Runs a task that is refused: no pod exists before or after.
async fn refused(group: &Group, trial: &Trial, refusal: &Refusal, secrets: &[&str]) -> Duration {
    let audit = group.cluster.audit();
    let started = Instant::now();
    let ran = trial.run().await;
    let took = started.elapsed();
    refusal.check(&trial.task.id, ran.error(), secrets);
    for secret in secrets {
        assert!(!format!("{:?}", ran.events).contains(secret), "an event shows a secret");
    }
    if let Some(audit) = audit {
        assert_eq!(
            audit.created(&trial.task.id).await,
            0,
            "{}: a pod was created",
            trial.task.id
        );
    }
    took
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn tasks_and_options_that_cannot_be_meant_are_refused_with_the_cure() {
    let group = Group::new("bad-task").await;
    let trial = |name: &str| group.trial(name).sh("true");
    let cases = [
        (
            trial("property").option("pulPolicy", "ALWAYS"),
            Refusal::invalid(&["`options.pulPolicy`", "`pullPolicy`"]),
        ),
        (
            trial("deep-property").option("resources", json!({"limits": {"memory": "1Gi"}})),
            Refusal::invalid(&["`options.resources.limits`", "`limit`"]),
        ),
        (
            trial("policy").option("pullPolicy", "SOMETIMES"),
            Refusal::invalid(&["options.pullPolicy"]),
        ),
        (
            trial("duration").option("waitUntilRunning", "half an hour"),
            Refusal::invalid(&["options.waitUntilRunning", "PT10M"]),
        ),
        (
            trial("quantity").option("resources", json!({"limit": {"memory": "lots"}})),
            Refusal::invalid(&["options.resources.limit.memory", "128Mi"]),
        ),
        (
            trial("namespace").option("namespace", "Not A Name"),
            Refusal::invalid(&["options.namespace"]),
        ),
        (
            trial("label").option("labels", json!({"podrun.dev/task": "mine"})),
            Refusal::invalid(&["options.labels.podrun.dev/task"]),
        ),
        (
            trial("image").image(""),
            Refusal::invalid(&["`containerImage` is missing"]),
        ),
        (
            trial("no-command").command(&[]),
            Refusal::invalid(&["`command` is empty"]),
        ),
        (trial("no-timeout").timeout(0), Refusal::invalid(&["`timeout` is 0"])),
        (trial("glob").output("[a"), Refusal::invalid(&["`outputFiles`", "`[a`"])),
        (
            trial("alternatives").output("{a,b"),
            Refusal::invalid(&["`outputFiles`", "`{a,b`"]),
        ),
        (
            trial("expression").output("regex:("),
            Refusal::invalid(&["`outputFiles`", "`regex:(`", "regular expression"]),
        ),
        (
            trial("huge").output("regex:(a{999}){999}"),
            Refusal::invalid(&["`outputFiles`", "too large"]),
        ),
        (
            trial("absolute-glob").output("/etc/*"),
            Refusal::invalid(&["`/etc/*`", "relative"]),
        ),
        (
            trial("climbing-glob").output("../*"),
            Refusal::invalid(&["`../*`", "relative"]),
        ),
        (
            trial("argument").sh(&"x".repeat(200_000)),
            Refusal::invalid(&["`command`", "200000", "input file"]),
        ),
        (
            trial("value").env("LONG", &"x".repeat(200_000)),
            Refusal::invalid(&["`env.LONG`", "input file"]),
        ),
        (trial("variable").env("A=B", "x"), Refusal::invalid(&["`env`", "A=B"])),
        (
            trial("request-above-limit").option(
                "resources",
                json!({"request": {"memory": "2Gi"}, "limit": {"memory": "1Gi"}}),
            ),
            Refusal::invalid(&["memory"]),
        ),
    ];
    for (trial, refusal) in &cases {
        refused(&group, trial, refusal, &[]).await;
    }
    let crowded = trial("crowded").option("volume", json!({"sizeLimit": "1Mi"})).input(
        "large",
        0o644,
        crate::inputs::noise(2 << 20),
    );
    let refusal = Refusal::invalid(&["options.volume.sizeLimit", "2097152"]);
    refused(&group, &crowded, &refusal, &[]).await;
    let mut trial = group.trial("not-json").sh("true");
    trial.task.options = "pullPolicy: ALWAYS".to_owned();
    refused(&group, &trial, &Refusal::invalid(&["`options` is not JSON"]), &[]).await;
    group.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn configs_that_cannot_be_meant_are_refused_without_showing_a_secret() {
    let group = Group::new("bad-config").await;
    let Parts { server, ca, token } = parts(group.cluster).await;
    let cases = [
        (
            json!({"masterURL": server, "oauthToken": SECRET}),
            Refusal::invalid(&["`config.masterURL`", "`masterUrl`"]),
        ),
        (
            json!({"oauthToken": SECRET}),
            Refusal::invalid(&["`config.masterUrl` is missing"]),
        ),
        (
            json!({"masterUrl": "not a url", "oauthToken": SECRET}),
            Refusal::invalid(&["config.masterUrl"]),
        ),
        (
            json!({"masterUrl": server, "oauthToken": SECRET}),
            Refusal::invalid(&["`config.caCertData` is missing"]),
        ),
        (
            json!({"masterUrl": server, "oauthToken": SECRET, "caCertData": "placeholder!"}),
            Refusal::invalid(&["config.caCertData", "base64"]),
        ),
        (
            json!({"masterUrl": server, "oauthToken": SECRET, "caCertData": SECRET}),
            Refusal::invalid(&["config.caCertData", "PEM"]),
        ),
        (
            json!({"masterUrl": server, "caCertData": ca, "clientCertData": ca, "clientKeyData": SECRET}),
            Refusal::invalid(&["config.clientKeyData"]),
        ),
        (
            json!({"masterUrl": server, "caCertData": ca, "clientCertData": ca}),
            Refusal::invalid(&["`config.clientKeyData` is missing"]),
        ),
        (
            json!({"masterUrl": server, "caCertData": ca, "clientKeyData": SECRET}),
            Refusal::invalid(&["`config.clientCertData` is missing"]),
        ),
        (json!({"kubeconfig": SECRET}), Refusal::invalid(&["config.kubeconfig"])),
        (
            json!({"masterUrl": server, "caCertData": ca, "oauthToken": [SECRET]}),
            Refusal::invalid(&["config.oauthToken"]),
        ),
        (
            json!({"masterUrl": server, "caCertData": ca, "oauthToken": token, "trustCerts": SECRET}),
            Refusal::invalid(&["config.trustCerts"]),
        ),
    ];
    for (at, (config, refusal)) in cases.iter().enumerate() {
        let trial = group.trial(&at.to_string()).sh("true").on(group.cluster.target(config));
        refused(&group, &trial, refusal, &[SECRET, &token]).await;
        // The call that opens no socket says the same.
        let error = group.cluster.runner.connect(&config.to_string()).await.unwrap_err();
        refusal.check(&config.to_string(), &error, &[]);
    }
    group.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn a_server_that_is_not_the_one_that_was_meant_is_not_trusted() {
    let group = Group::new("wrong-server").await;
    let Parts { server, ca, token } = parts(group.cluster).await;
    let key = rcgen::KeyPair::generate().unwrap();
    let mut other = rcgen::CertificateParams::new(vec!["other".to_owned()]).unwrap();
    other.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let other = other.self_signed(&key).unwrap().pem();
    let config = json!({"masterUrl": server, "oauthToken": token, "caCertData": other});
    let trial = group.trial("authority").sh("true").on(group.cluster.target(&config));
    let refusal = Refusal::invalid(&["config.caCertData", "another authority"]);
    refused(&group, &trial, &refusal, &[&token]).await;

    // A token that the server does not know, or no longer.
    let refusal = Refusal::denied(&["credential", "renew"]);
    let unknown = json!({"masterUrl": server, "oauthToken": SECRET, "caCertData": ca});
    let trial = group.trial("unknown").sh("true").on(group.cluster.target(&unknown));
    refused(&group, &trial, &refusal, &[SECRET]).await;
    let account = format!("revoked-{}", group.cluster.suite);
    group.cluster.kubectl(&["create", "serviceaccount", &account]).await;
    let revoked = group.cluster.kubectl(&["create", "token", &account]).await;
    let revoked = revoked.trim();
    group.cluster.kubectl(&["delete", "serviceaccount", &account]).await;
    let config = json!({"masterUrl": server, "oauthToken": revoked, "caCertData": ca});
    let trial = group.trial("revoked").sh("true").on(group.cluster.target(&config));
    // The API server remembers for ten seconds whom a token belongs to.
    refused(&group, &trial, &refusal, &[revoked]).await;

    // Nobody at all.
    let nobody = json!({"masterUrl": server, "caCertData": ca});
    let trial = group.trial("nobody").sh("true").on(group.cluster.target(&nobody));
    refused(&group, &trial, &Refusal::denied(&[]), &[]).await;
    group.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn a_client_certificate_that_is_not_valid_is_a_credential_to_renew() {
    let group = Group::new("certificates").await;
    let Parts { server, ca, .. } = parts(group.cluster).await;
    let key = rcgen::KeyPair::generate().unwrap();
    let mut foreign = rcgen::CertificateParams::new(Vec::new()).unwrap();
    // An administrator, if the API server trusted the authority.
    foreign.distinguished_name = rcgen::DistinguishedName::new();
    foreign.distinguished_name.push(rcgen::DnType::CommonName, "admin");
    foreign
        .distinguished_name
        .push(rcgen::DnType::OrganizationName, "system:masters");
    foreign.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let mut certificates = vec![("foreign", foreign.self_signed(&key).unwrap().pem(), key.serialize_pem())];
    if let Some(folder) = group.cluster.file("pki") {
        let read = |name: &str| std::fs::read_to_string(folder.join(name));
        match (read("expired.crt"), read("expired.key")) {
            (Ok(certificate), Ok(key)) => certificates.push(("expired", certificate, key)),
            _ => skip("the cluster was made before clusters got an expired certificate"),
        }
    }
    for (name, certificate, key) in certificates {
        let config =
            json!({"masterUrl": server, "caCertData": ca, "clientCertData": certificate, "clientKeyData": key});
        let trial = group.trial(name).sh("true").on(group.cluster.target(&config));
        let refusal = Refusal::denied(&["credential", "expired", "renew", "certificate"]);
        refused(&group, &trial, &refusal, &[&key]).await;
        let found = group.cluster.runner.check(&trial.target).await;
        let error = found.expect_err("a check with a credential that is refused");
        refusal.check(name, &error, &[&key]);
    }
    group.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn a_server_that_cannot_be_reached_is_waited_for_within_a_bound() {
    let group = Group::new("unreachable").await;
    // Nobody listens on the first, the second takes connections and says nothing.
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let open = silent.local_addr().unwrap();
    let cases = [
        ("refusing", format!("https://{closed}"), closed.to_string()),
        ("silent", format!("https://{open}"), open.to_string()),
        (
            "nameless",
            "https://nowhere.invalid:6443".to_owned(),
            "nowhere.invalid".to_owned(),
        ),
    ];
    let running = cases.map(async |(name, url, server)| {
        let config = json!({"masterUrl": url, "oauthToken": SECRET, "trustCerts": true});
        let trial = group.trial(name).sh("true").on(group.cluster.target(&config));
        let refusal = Refusal::unavailable(&[&server]);
        let took = refused(&group, &trial, &refusal, &[SECRET]).await;
        assert!(took < Duration::from_secs(60), "{name}: {took:?}");
        eprintln!("{name}: given up after {took:?}");
    });
    futures::future::join_all(running).await;
    group.close().await;
}

/// A service account in a namespace, with these rules, and a target that uses it.
pub(crate) async fn account(cluster: &Cluster, namespace: &str, name: &str, rules: &Value) -> podrun_host::Target {
    let metadata = json!({"name": name, "namespace": namespace});
    cluster
        .apply(&[
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}),
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata, "rules": rules}),
            json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": metadata,
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
                "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
            }),
        ])
        .await;
    let Parts { server, ca, .. } = parts(cluster).await;
    let token = cluster.kubectl(&["create", "token", name, "-n", namespace]).await;
    cluster.target(&json!({
        "masterUrl": server, "caCertData": ca, "oauthToken": token.trim(), "namespace": namespace,
    }))
}

/// The Role of the README.
pub(crate) fn plain_role() -> Value {
    role_without("", "")
}

/// The same without one verb.
fn role_without(resource: &str, verb: &str) -> Value {
    let rules = [
        ("pods", vec!["get", "create", "delete", "watch", "list"]),
        ("pods/exec", vec!["get", "watch"]),
        ("pods/log", vec!["get", "watch"]),
    ];
    let rules = rules.map(|(of, verbs)| {
        let verbs: Vec<_> = verbs.into_iter().filter(|v| (of, *v) != (resource, verb)).collect();
        json!({"apiGroups": [""], "resources": [of], "verbs": verbs})
    });
    json!(rules)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn a_right_that_is_missing_is_named_with_the_rule_to_add() {
    let group = Group::new("rights").await;
    let cluster = group.cluster;
    let namespace = format!("rights-{}", cluster.suite);
    cluster.kubectl(&["create", "namespace", &namespace]).await;
    let running = [
        ("pods", "create"),
        ("pods", "get"),
        ("pods", "list"),
        ("pods", "watch"),
        ("pods", "delete"),
        ("pods/exec", "get"),
        ("pods/log", "get"),
    ]
    .map(async |(resource, verb)| {
        let name = format!("no-{verb}-{}", resource.replace('/', "-"));
        let target = account(cluster, &namespace, &name, &role_without(resource, verb)).await;
        let rule = format!("{{apiGroups: [\"\"], resources: [\"{resource}\"], verbs: [\"{verb}\"]}}");
        let in_namespace = format!("`{namespace}`");
        // `check` finds it before any task does.
        let findings = cluster.runner.check(&target).await.unwrap();
        let found = findings
            .iter()
            .filter(|f| f.level == podrun_host::Level::Error)
            .any(|f| f.message.contains(&format!("{verb} {resource}")) && f.message.contains(&rule));
        assert!(found, "{name}: {findings:#?}");
        let trial = group
            .trial(&name)
            .on(target.clone())
            .sh("echo x >x.txt; sleep 1")
            .output("*.txt");
        let refusal = Refusal::denied(&[&format!("{verb} {resource}"), &in_namespace, &rule]);
        match (resource, verb) {
            ("pods", "create") => {
                refused(&group, &trial, &refusal, &[]).await;
            }
            ("pods", "get") => {
                let handle = format!("1/{namespace}/absent/{}", "0".repeat(64));
                let error = cluster.runner.status(&target, &handle).await.unwrap_err();
                refusal.check(&name, &error, &[]);
            }
            ("pods", "list") => {
                let error = cluster.runner.list(&target, &[]).await.unwrap_err();
                refusal.check(&name, &error, &[]);
            }
            // The task is done, the pod stays: the runner says so, and how to get rid of it.
            ("pods", "delete") => {
                let ran = trial.run().await;
                ran.succeeded();
                let said = ran.diagnostics();
                assert!(
                    said.iter().any(|d| d.contains(ran.pod()) && d.contains(&rule)),
                    "{said:#?}"
                );
            }
            _ => {
                let ran = trial.run().await;
                refusal.check(&name, ran.error(), &[]);
            }
        }
    });
    futures::future::join_all(running).await;
    cluster
        .kubectl(&["delete", "namespace", &namespace, "--wait=false"])
        .await;
    group.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn a_namespace_that_is_absent_full_or_strict_says_so() {
    let group = Group::new("namespaces").await;
    let cluster = group.cluster;
    if cluster.limited {
        let absent = group.trial("forbidden").sh("true");
        let absent = absent.option("namespace", "no-such-namespace");
        let refusal = Refusal::denied(&["create pods", "`no-such-namespace`, or it does not exist"]);
        refused(&group, &absent, &refusal, &[]).await;
    } else {
        skip("an account without rights in other namespaces is needed to be refused there");
    }
    let admin = cluster.kubeconfig(cluster.admin()).await.to_string();
    let admin = cluster.target(&json!({ "kubeconfig": admin }));
    let absent = group
        .trial("absent")
        .sh("true")
        .option("namespace", "no-such-namespace")
        .on(admin.clone());
    let refusal = Refusal::invalid(&["namespace `no-such-namespace` does not exist", "create it"]);
    refused(&group, &absent, &refusal, &[]).await;

    let namespace = format!("quota-{}", cluster.suite);
    let enforce = json!({"pod-security.kubernetes.io/enforce": "restricted"});
    let strict = format!("strict-{}", cluster.suite);
    cluster
        .apply(&[
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}),
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": strict, "labels": enforce}}),
            json!({
                "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none", "namespace": namespace},
                "spec": {"hard": {"pods": "0"}},
            }),
        ])
        .await;
    // A quota is enforced once the controller has counted what there is.
    let counted = [
        "wait",
        "-n",
        &namespace,
        "resourcequota/none",
        "--for=jsonpath={.status.used.pods}=0",
    ];
    cluster.kubectl(&counted).await;
    let full = group
        .trial("full")
        .sh("true")
        .option("namespace", namespace.as_str())
        .on(admin.clone());
    let refusal = Refusal::unavailable(&["quota", &namespace, "none"]);
    refused(&group, &full, &refusal, &[]).await;
    let refused_pod = group
        .trial("strict")
        .sh("true")
        .option("namespace", strict.as_str())
        .on(admin);
    let refusal = Refusal::invalid(&[&strict, "restricted"]);
    refused(&group, &refused_pod, &refusal, &[]).await;
    for name in [&namespace, &strict] {
        cluster.kubectl(&["delete", "namespace", name, "--wait=false"]).await;
    }
    group.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn no_secret_is_in_what_the_runner_says_or_leaves() {
    let group = Group::new("secrets").await;
    let audit = group.cluster.audit();
    let Parts { server, ca, token } = parts(group.cluster).await;
    let config = json!({"masterUrl": server, "oauthToken": token, "caCertData": ca});
    let target = group.cluster.target(&config);
    assert!(!format!("{target:?}").contains(&token));
    let trial = group
        .trial("whole")
        .on(target)
        .option("inlineLimit", 0)
        .input("x", 0o644, "x")
        .output("x")
        .sh("echo up; sleep 1");
    let mut following = trial.start(None).await;
    following.until_line("up").await;
    let pod = group.cluster.get(&["pod", following.seen().pod()]).await.to_string();
    let ran = following.end().await;
    ran.succeeded();
    let rendered = trial.render(false).await;
    // The signature alone would be enough to know a token by.
    let signature = token.rsplit('.').next().unwrap();
    let said = format!("{ran:?} {pod} {rendered}");
    assert!(!said.contains(signature) && !said.contains(&ca));
    if let Some(audit) = audit {
        for entry in audit.entries().await {
            assert!(!entry.json().contains(signature), "{}", entry.uri());
        }
    }
    group.close().await;
}
