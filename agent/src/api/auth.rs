//! Who may ask: whoever has the token, where there is one.

use std::fs;
use std::path::Path;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use subtle::ConstantTimeEq as _;

use super::answer::Refusal;

/// Reads the token. It is read at every request, so that it can be changed at any time.
pub(crate) fn token(path: &Path) -> Result<String, String> {
    let text =
        fs::read_to_string(path).map_err(|error| format!("failed to read token file `{}`: {error}", path.display()))?;
    match text.trim() {
        "" => Err(format!("token file `{}` is empty: put a token into it", path.display())),
        token => Ok(token.to_owned()),
    }
}

/// Whether a request carries the token.
pub(super) fn check(token_file: Option<&Path>, headers: &HeaderMap) -> Result<(), Refusal> {
    let Some(path) = token_file else { return Ok(()) };
    let token = token(path).map_err(|message| {
        log::error!("{message}");
        Refusal::busy("the agent's token file cannot be used")
    })?;
    let Some(given) = headers.get(AUTHORIZATION) else {
        return Err(Refusal::token(
            "this agent asks for a token: send `Authorization: Bearer TOKEN`",
        ));
    };
    let given = given.as_bytes();
    let (scheme, given) = given.split_at_checked("Bearer ".len()).unwrap_or((given, b""));
    let matches = scheme.eq_ignore_ascii_case(b"Bearer ") && bool::from(given.trim_ascii().ct_eq(token.as_bytes()));
    if matches {
        Ok(())
    } else {
        Err(Refusal::token("the token is wrong"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_opens() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("token");
        fs::write(&file, "secret\n").unwrap();
        let try_with = |value: Option<&str>| {
            let mut headers = HeaderMap::new();
            if let Some(value) = value {
                headers.insert(AUTHORIZATION, value.parse().unwrap());
            }
            check(Some(&file), &headers).is_ok()
        };
        assert!(try_with(Some("Bearer secret")));
        assert!(try_with(Some("bearer secret")));
        for wrong in [
            None,
            Some(""),
            Some("Bearer"),
            Some("Bearer "),
            Some("Bearer secre"),
            Some("Bearer secrets"),
            Some("Basic secret"),
        ] {
            assert!(!try_with(wrong), "{wrong:?}");
        }
        fs::write(&file, " other ").unwrap();
        assert!(try_with(Some("Bearer other")), "a changed token counts at once");
        fs::write(&file, "\n").unwrap();
        assert!(!try_with(Some("Bearer ")), "an empty file opens to nobody");
        assert!(check(None, &HeaderMap::new()).is_ok());
    }
}
