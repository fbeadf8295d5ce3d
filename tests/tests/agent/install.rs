//! The agent in an image that has no shell and knows nothing of it.

use super::pod::Pod;

#[test]
#[ignore = "needs a cluster"]
fn it_runs_the_programs_of_an_image_without_a_shell() {
    let pod = Pod::deploy("install");
    let agent = pod.by_address();
    agent.create("hello", &["/hello", "to you"]);
    assert_eq!(agent.await_state("hello", "terminated")["reason"], "Succeeded");
    let said = agent.log("hello");
    assert!(said.contains("to you"), "{said}");
    agent.create("shell", &["sh", "-c", "true"]);
    let ended = agent.await_state("shell", "terminated");
    assert_eq!(
        (&ended["reason"], &ended["exitCode"]),
        (&"StartFailed".into(), &127.into())
    );
    if pod.kill_container("app") {
        let (agent, _forward) = pod.by_port_forward();
        assert_eq!(agent.log("hello"), said);
        assert_eq!(agent.await_state("shell", "terminated"), ended);
    }
}
