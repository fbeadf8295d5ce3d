//! What each script language needs: its program, its file's suffix, its shell line, its variables.

use crate::flow::Language;

/// How a language is run.
pub(super) struct Traits {
    /// The suffix of a script file.
    pub(super) suffix: &'static str,
    /// The program and its arguments before the script file. Where several names are in use, the first that the image has.
    pub(super) programs: &'static [&'static str],
    pub(super) arguments: &'static [&'static str],
    /// Variables that a script gets unless it sets them itself.
    pub(super) environment: &'static [(&'static str, &'static str)],
}

impl Language {
    pub(super) fn traits(self) -> Traits {
        let plain = |suffix, programs: &'static [&'static str]| Traits {
            suffix,
            programs,
            arguments: &[],
            environment: &[],
        };
        match self {
            Self::Shell => plain("sh", &["sh"]),
            Self::Python => Traits {
                // Lines must arrive when they are written, and pip's advice is not for a pod.
                environment: &[
                    ("PYTHONUNBUFFERED", "true"),
                    ("PIP_ROOT_USER_ACTION", "ignore"),
                    ("PIP_DISABLE_PIP_VERSION_CHECK", "1"),
                ],
                ..plain("py", &["python3", "python"])
            },
            Self::Node => plain("js", &["node", "nodejs"]),
            Self::Ruby => plain("rb", &["ruby"]),
            Self::R => plain("R", &["Rscript"]),
            Self::Perl => plain("pl", &["perl"]),
            Self::PowerShell => Traits {
                arguments: &["-NoProfile", "-NonInteractive", "-File"],
                environment: &[("POWERSHELL_TELEMETRY_OPTOUT", "1")],
                ..plain("ps1", &["pwsh", "powershell"])
            },
            Self::Julia => plain("jl", &["julia"]),
            Self::Go => Traits {
                arguments: &["run"],
                ..plain("go", &["go"])
            },
        }
    }

    /// The interpreter of commands, where a task does not name one.
    pub(super) fn interpreter(self) -> &'static [&'static str] {
        match self {
            Self::PowerShell => &["pwsh", "-NoProfile", "-NonInteractive", "-Command"],
            _ => &["/bin/sh", "-c"],
        }
    }
}

/// What makes an interpreter stop at the first command that fails; none if we do not know.
pub(super) fn fail_fast(program: &str) -> Option<&'static str> {
    match program.rsplit('/').next().unwrap_or(program) {
        "pwsh" | "powershell" => {
            Some("$ErrorActionPreference = 'Stop'; $PSNativeCommandUseErrorActionPreference = $true")
        }
        name if is_shell(name) => Some("set -e"),
        _ => None,
    }
}

/// True for programs in which `echo 'x'` writes x.
pub(super) fn announces(program: &str) -> bool {
    let name = program.rsplit('/').next().unwrap_or(program);
    is_shell(program) || ["pwsh", "powershell"].contains(&name)
}

/// True for programs that read POSIX shell.
pub(super) fn is_shell(program: &str) -> bool {
    let name = program.rsplit('/').next().unwrap_or(program);
    ["sh", "ash", "bash", "dash", "ksh", "mksh", "zsh", "busybox"].contains(&name)
}
