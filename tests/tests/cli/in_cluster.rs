//! `podrun` in a pod, with nothing but the pod's own service account.

use podrun_tests::faults::variable;
use serde_json::json;

use crate::sandbox::Sandbox;

const FLOW: &str = r#"
id: inside
namespace: podrun.tests
tasks:
  - id: say
    type: io.kestra.plugin.scripts.shell.Commands
    containerImage: busybox
    taskRunner:
      type: io.kestra.plugin.ee.kubernetes.runner.Kubernetes
      pullPolicy: IF_NOT_PRESENT
    inputFiles:
      in.txt: some content
    outputFiles: ["*.txt"]
    commands:
      - echo "from $(hostname)"
      - cp in.txt out.txt
"#;

#[test]
#[ignore = "needs cluster"]
fn a_pods_own_account_is_enough() {
    let sandbox = Sandbox::new("inside");
    let place = &sandbox.place;
    let namespace = place.namespace.as_str();
    place.kubectl(&["create", "serviceaccount", "host"]).unwrap();
    let account = format!("--serviceaccount={namespace}:host");
    place
        .kubectl(&["create", "rolebinding", "host", "--role=task-runner", &account])
        .unwrap();

    // Clusters of `cargo xtask cluster` route no service addresses, so there the server is named by its node's address.
    let mut env = Vec::new();
    if variable("PODRUN_TEST_CLUSTER_DIR").is_ok() {
        let path = "jsonpath={.items[0].status.addresses[?(@.type=='InternalIP')].address}";
        let address = place.kubectl(&["get", "nodes", "-o", path]).unwrap();
        let port = place.server().unwrap().rsplit(':').next().unwrap();
        env.push(json!({"name": "KUBERNETES_SERVICE_HOST", "value": address}));
        env.push(json!({"name": "KUBERNETES_SERVICE_PORT", "value": port}));
    }
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "host"},
        "spec": {
            "serviceAccountName": "host", "restartPolicy": "Never", "terminationGracePeriodSeconds": 1,
            "containers": [{
                // Whatever this machine builds runs there: its packages are this machine's.
                "name": "host", "image": "debian", "imagePullPolicy": "IfNotPresent", "command": ["sleep", "600"],
                "env": env,
            }],
        },
    });
    let file = sandbox.write("pod.json", &pod.to_string());
    place.kubectl(&["apply", "-f", &file.display().to_string()]).unwrap();
    place
        .kubectl(&["wait", "--for=condition=Ready", "pod/host", "--timeout=120s"])
        .unwrap();
    let runner = variable("PODRUN_RUNNER").unwrap();
    let flow = sandbox.write("flow.yaml", FLOW);
    for (from, to) in [
        (sandbox.podrun.program(), "podrun"),
        (runner.as_path(), "podrun-runner.wasm"),
        (flow.as_path(), "flow.yaml"),
    ] {
        place
            .kubectl(&[
                "cp",
                &from.display().to_string(),
                &format!("{namespace}/host:/root/{to}"),
            ])
            .unwrap();
    }

    let inside = |command: &str| place.kubectl(&["exec", "host", "--", "sh", "-c", &format!("cd /root && {command}")]);
    let doctor = inside("./podrun doctor").unwrap();
    assert!(doctor.contains("service account of this pod"), "{doctor}");
    let printed = inside("./podrun run flow.yaml --execution-id x --outputs out && cat out/say/out.txt").unwrap();
    assert!(
        printed.contains("say | from x-say-1-") && printed.ends_with("some content"),
        "{printed}"
    );
    // The token comes from a file that is read anew each time.
    let found = inside(
        "cat /var/run/secrets/kubernetes.io/serviceaccount/token | cut -d. -f3 > t && ! grep -rqFf t .local/state/podrun",
    );
    found.unwrap();
    place.kubectl(&["delete", "pod", "host"]).unwrap();
    sandbox.nothing_is_left();
}
