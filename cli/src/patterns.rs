//! Patterns of files, as the contract has them: globs, in which `*` stays within a folder and `**` crosses folders, and
//! `regex:` with a regular expression for the whole path. Flows may write globs as `glob:…`, and begin them with `/` for
//! the root of the working directory: [`plain`] leaves that out. Pure.

use globset::{GlobBuilder, GlobMatcher};
use regex::{Regex, RegexBuilder};

/// What a pattern begins with that is a regular expression.
const REGEX: &str = "regex:";
/// What a pattern may begin with that is none.
const GLOB: &str = "glob:";
/// Bytes that a regular expression may take.
const LARGEST: usize = 1 << 20;

/// A pattern that is valid.
#[derive(Debug)]
pub(crate) enum Pattern {
    Glob(GlobMatcher),
    Regex(Regex),
}

/// A pattern as the contract has it: relative to its folder, and without a word for what it is anyway.
pub(crate) fn plain(text: &str) -> &str {
    match text.starts_with(REGEX) {
        true => text,
        false => text.strip_prefix(GLOB).unwrap_or(text).trim_start_matches('/'),
    }
}

impl Pattern {
    /// A pattern relative to a folder, or what is wrong with it.
    pub(crate) fn new(text: &str) -> Result<Self, String> {
        if text.contains(['\0', '\n', '\r']) {
            return Err("holds a line end or NUL: remove it".to_owned());
        }
        if let Some(expression) = text.strip_prefix(REGEX) {
            let regex = RegexBuilder::new(&format!("^(?:{expression})$"))
                .size_limit(LARGEST)
                .build();
            return regex.map(Self::Regex).map_err(|error| {
                let why = error.to_string();
                let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ");
                format!("is no regular expression to be used: {why}")
            });
        }
        let text = plain(text);
        let text = text.strip_prefix("./").unwrap_or(text);
        if text.is_empty() {
            return Err("is empty: write a pattern such as `*.txt`".to_owned());
        }
        if text.split('/').any(|part| part == "..") {
            return Err("climbs out of the folder: remove `..`".to_owned());
        }
        let glob = GlobBuilder::new(text)
            .literal_separator(true)
            .backslash_escape(true)
            .build();
        let glob = glob.map_err(|error| format!("is no valid pattern: {}", error.kind()))?;
        Ok(Self::Glob(glob.compile_matcher()))
    }

    /// A pattern in which a bare name means that name in any folder.
    pub(crate) fn anywhere(text: &str) -> Result<Self, String> {
        match text.starts_with(REGEX) || text.contains('/') {
            true => Self::new(text),
            false => Self::new(&format!("**/{}", plain(text))),
        }
    }

    /// True for a path that it means.
    pub(crate) fn matches(&self, path: &str) -> bool {
        match self {
            Self::Glob(glob) => glob.is_match(path),
            Self::Regex(regex) => regex.is_match(path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_and_expressions_mean_whole_paths() {
        let matches = |pattern: &str, path: &str| Pattern::new(pattern).unwrap().matches(path);
        for (pattern, yes, no) in [
            ("*.txt", "a.txt", "d/a.txt"),
            ("**/a.txt", "d/e/a.txt", "d/e/b.txt"),
            ("./d/?.txt", "d/a.txt", "d/ab.txt"),
            ("{a,b}.[ch]", "b.h", "c.h"),
            (r"\*.txt", "*.txt", "a.txt"),
            ("glob:*.txt", "a.txt", "d/a.txt"),
            ("/d/*.txt", "d/a.txt", "a.txt"),
            ("glob:/*.txt", "a.txt", "d/a.txt"),
            ("./glob:*", "glob:a", "a"),
            (r"regex:d/[a-z]+\.txt", "d/abc.txt", "x/d/abc.txt"),
            ("regex:a|b", "b", "ab"),
        ] {
            assert!(matches(pattern, yes), "{pattern} {yes}");
            assert!(!matches(pattern, no), "{pattern} {no}");
        }
        let anywhere = |pattern: &str, path: &str| Pattern::anywhere(pattern).unwrap().matches(path);
        assert!(anywhere("*.py", "a.py") && anywhere("glob:*.py", "d/a.py"));
        assert!(anywhere("d/*.py", "d/a.py") && !anywhere("d/*.py", "x/d/a.py"));
    }

    #[test]
    fn what_is_wrong_with_a_pattern_is_said() {
        let refusal = |pattern: &str| Pattern::new(pattern).unwrap_err();
        insta::assert_snapshot!(refusal(""), @"is empty: write a pattern such as `*.txt`");
        insta::assert_snapshot!(refusal("glob:/"), @"is empty: write a pattern such as `*.txt`");
        insta::assert_snapshot!(refusal("a/../../b"), @"climbs out of the folder: remove `..`");
        insta::assert_snapshot!(refusal("a\nb"), @"holds a line end or NUL: remove it");
        insta::assert_snapshot!(refusal("{a"), @"is no valid pattern: unclosed alternate group; missing '}' (maybe escape '{' with '[{]'?)");
        insta::assert_snapshot!(refusal("regex:("), @"is no regular expression to be used: unclosed group");
        insta::assert_snapshot!(refusal("regex:a{9999}{9999}"), @"is no regular expression to be used: Compiled regex exceeds size limit of 1048576 bytes.");
    }
}
