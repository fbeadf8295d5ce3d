use super::*;

fn options(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Options, clap::Error> {
    let find = |name: &str| {
        environment
            .iter()
            .find(|(there, _)| *there == name)
            .map(|(_, value)| (*value).to_owned())
    };
    match read(arguments.iter().map(OsString::from), find)? {
        Asked::Serve(options) => Ok(*options),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_documents_defaults() {
    let options = options(&[], &[]).unwrap();
    assert_eq!(options.data_dir, PathBuf::from("/var/lib/sandbox/tasks"));
    assert_eq!(options.listen_addr.as_deref(), Some("0.0.0.0:5758"));
    assert_eq!((options.main_container, options.cri_socket), (None, None));
    assert_eq!(options.reconcile_interval, Duration::from_millis(500));
    assert_eq!(options.grace_period, Duration::from_secs(10));
}

#[test]
fn one_dash_or_two_with_or_without_the_command() {
    let expected = options(
        &["--data-dir=/x", "--enable-sidecar-mode=true", "--reconcile-interval=1s"],
        &[],
    )
    .unwrap();
    assert_eq!(expected.main_container.as_deref(), Some("main"));
    for same in [
        &["-data-dir=/x", "-enable-sidecar-mode", "-reconcile-interval", "1s"][..],
        &["-data-dir", "/x", "--enable-sidecar-mode", "-reconcile-interval=1000ms"],
        &[
            "-data-dir",
            "/x",
            "-enable-sidecar-mode=T",
            "-reconcile-interval=1000ms",
        ],
        &[
            "serve",
            "-data-dir",
            "/x",
            "-enable-sidecar-mode=true",
            "--reconcile-interval",
            "1s",
        ],
    ] {
        assert_eq!(options(same, &[]).unwrap(), expected, "{same:?}");
    }
}

#[test]
fn the_documents_start() {
    let options = options(
        &["--data-dir=/var/lib/sandbox/tasks", "--listen-addr=0.0.0.0:5758"],
        &[],
    )
    .unwrap();
    assert_eq!(options.listen_addr.as_deref(), Some("0.0.0.0:5758"));
}

#[test]
fn flags_win_over_variables() {
    let environment = [
        ("DATA_DIR", "/env"),
        ("LISTEN_ADDR", ":1"),
        ("ENABLE_SIDECAR_MODE", "true"),
        ("MAIN_CONTAINER_NAME", "app"),
        ("ENABLE_CONTAINER_MODE", "true"),
        ("CRI_SOCKET", "/cri"),
        ("MAX_TASKS", "3"),
        ("GRACE_PERIOD", ""),
    ];
    let from_environment = options(&[], &environment).unwrap();
    assert_eq!(from_environment.data_dir, PathBuf::from("/env"));
    assert_eq!(from_environment.listen_addr.as_deref(), Some(":1"));
    assert_eq!(from_environment.main_container.as_deref(), Some("app"));
    assert_eq!(from_environment.cri_socket, Some("/cri".into()));
    assert_eq!(from_environment.max_tasks, 3);
    assert_eq!(from_environment.grace_period, Duration::from_secs(10));
    let arguments = [
        "-data-dir=/flag",
        "-enable-sidecar-mode=false",
        "-main-container-name=x",
        "-max-tasks=0",
    ];
    let both = options(&arguments, &environment).unwrap();
    assert_eq!(both.data_dir, PathBuf::from("/flag"));
    assert_eq!((both.main_container, both.max_tasks), (None, usize::MAX));
}

#[test]
fn every_flag_has_its_variable() {
    for (variable, value, flag) in [
        ("DATA_DIR", "/x", "--data-dir=/x"),
        ("LISTEN_ADDR", ":1", "--listen-addr=:1"),
        ("UNIX_SOCKET", "/s", "--unix-socket=/s"),
        ("TOKEN_FILE", "/t", "--token-file=/t"),
        ("ENABLE_SIDECAR_MODE", "1", "--enable-sidecar-mode=true"),
        ("ENABLE_CONTAINER_MODE", "True", "--enable-container-mode"),
        ("VOLUMES", "a=/x", "--volume=a=/x"),
        ("RECONCILE_INTERVAL", "1s", "--reconcile-interval=1s"),
        ("MAX_ACTIVE_TASKS", "7", "--max-active-tasks=7"),
        ("MAX_TASKS", "7", "--max-tasks=7"),
        ("GRACE_PERIOD", "1m", "--grace-period=1m"),
        ("LOG_MAX_SIZE", "1Ki", "--log-max-size=1Ki"),
        ("INIT", "t", "--init"),
    ] {
        let from_variable = options(&[], &[(variable, value)]).unwrap();
        assert_eq!(from_variable, options(&[flag], &[]).unwrap(), "{variable}");
        assert_ne!(from_variable, options(&[], &[]).unwrap(), "{variable}");
    }
    let tls = options(&[], &[("TLS_CERT_FILE", "/c"), ("TLS_KEY_FILE", "/k")]).unwrap();
    assert_eq!(tls.tls, Some(("/c".into(), "/k".into())));
}

#[test]
fn flags_of_deployed_manifests_do_no_harm() {
    let options = options(&["-log-max-size=100", "-log-max-backups=10", "-log-dir=logs"], &[]).unwrap();
    assert_eq!(options.log_max_size, 100 << 20);
    assert_eq!(options.ignored, ["--log-dir", "--log-max-backups"]);
}

#[test]
fn mistakes_are_named() {
    for (arguments, environment, part) in [
        (&["-no-such"][..], &[][..], "no-such"),
        (&["--reconcile-interval=5"], &[], "500ms"),
        (&["--tls-cert-file=x"], &[], "together"),
        (&["--listen-addr="], &[], "could not be reached"),
        (&[], &[("MAX_TASKS", "many")], "variable MAX_TASKS is `many`"),
        (&[], &[("ENABLE_SIDECAR_MODE", "yes")], "true or false"),
    ] {
        let error = options(arguments, environment).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn other_commands() {
    let asked = |arguments: &[&str]| read(arguments.iter().map(OsString::from), |_| None);
    assert!(matches!(asked(&["install", "/opt"]), Ok(Asked::Install(dir)) if dir.as_os_str() == "/opt"));
    assert!(matches!(
        asked(&["completion", "bash"]),
        Ok(Asked::Completion(Shell::Bash))
    ));
    assert_eq!(asked(&["--help"]).unwrap_err().exit_code(), 0);
    assert_eq!(asked(&["-version"]).unwrap_err().exit_code(), 0);
    <CommandLine as clap::CommandFactory>::command().debug_assert();
}

#[test]
fn volumes_are_named_one_by_one_or_all_in_the_variable() {
    let expected = [
        ("a".to_owned(), PathBuf::from("/x")),
        ("b".to_owned(), PathBuf::from("/y")),
    ];
    let flags = options(&["--volume=a=/x", "-volume", "b=/y"], &[("VOLUMES", "c=/z")]).unwrap();
    assert_eq!(flags.volumes, expected.clone().into());
    let variable = options(&[], &[("VOLUMES", "a=/x,b=/y")]).unwrap();
    assert_eq!(variable.volumes, expected.into());
    assert!(options(&["--volume=a"], &[]).is_err());
    let error = options(&[], &[("VOLUMES", "a=/x,b")]).unwrap_err().to_string();
    assert!(
        error.contains("variable VOLUMES is `a=/x,b`: `b` is no volume"),
        "{error}"
    );
}
