//! Which files of a pod come back: glob patterns against a listing taken in the pod, with symbolic links followed only
//! inside their own folder. Pure.

use crate::contract::{Error, Origin, OutputFile};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use regex::{Regex, RegexBuilder};
use std::collections::{BTreeMap, BTreeSet};

/// Bytes that one regular expression may take.
const LARGEST_REGEX: usize = 1 << 20;

/// The patterns of a task.
#[derive(Debug)]
pub(crate) struct Wanted {
    patterns: GlobSet,
    expressions: Vec<Regex>,
    /// The whole working directory, whatever the patterns say.
    all: bool,
}

/// What lies in the folders `work` and `out` of the pod, paths beginning with one of the two.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Listing {
    pub(crate) files: BTreeSet<String>,
    pub(crate) links: BTreeMap<String, String>,
}

/// What to fetch, and as which outputs it comes back: a file may also be asked for under the name of a link to it.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Selection {
    pub(crate) files: BTreeMap<String, Vec<Destination>>,
    /// Links that nobody named and that lead out of their folder.
    outside: Vec<String>,
}

impl Selection {
    /// What to say of links that are left out, if any are.
    pub(crate) fn left_out(&self) -> Option<String> {
        let shown: Vec<String> = self.outside.iter().take(5).map(|path| format!("`{path}`")).collect();
        let more = match self.outside.len().saturating_sub(shown.len()) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        (!shown.is_empty()).then(|| {
            format!(
                "symbolic links that lead out of the working directory are left out: {}{more}",
                shown.join(", ")
            )
        })
    }
}

/// One output file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Destination {
    pub(crate) origin: Origin,
    pub(crate) path: String,
}

impl Destination {
    /// The output that a path of the listing stands for.
    fn of(path: &str) -> Option<Self> {
        match path.split_once('/')? {
            ("work", path) => Some(Self {
                origin: Origin::WorkingDir,
                path: path.to_owned(),
            }),
            ("out", path) => Some(Self {
                origin: Origin::OutputDir,
                path: path.to_owned(),
            }),
            _ => None,
        }
    }

    /// Where it lies below the host's folder of outputs.
    pub(crate) fn relative(&self) -> String {
        match self.origin {
            Origin::WorkingDir => format!("work/{}", self.path),
            Origin::OutputDir => format!("out/{}", self.path),
        }
    }
}

impl Wanted {
    /// Compiles the patterns; `*` stays within a folder, `**` crosses folders.
    pub(crate) fn new(patterns: &[String], all: bool) -> Result<Self, Error> {
        let mut set = GlobSetBuilder::new();
        let mut expressions = Vec::new();
        for pattern in patterns {
            let refuse = |why: &str| Error::InvalidArgument(format!("`outputFiles` pattern `{pattern}` {why}"));
            if let Some(expression) = pattern.strip_prefix("regex:") {
                let whole = format!("^(?:{expression})$");
                let regex = RegexBuilder::new(&whole).size_limit(LARGEST_REGEX).build();
                expressions.push(regex.map_err(|_| refuse("is not a regular expression, or too large a one"))?);
                continue;
            }
            let relative = pattern.strip_prefix("./").unwrap_or(pattern);
            if relative.is_empty() {
                return Err(refuse("is empty"));
            }
            if relative.starts_with('/') || relative.split('/').any(|s| s == "..") {
                return Err(refuse("leaves the working directory: write it relative to it"));
            }
            let glob = GlobBuilder::new(relative)
                .literal_separator(true)
                .backslash_escape(true)
                .build();
            set.add(glob.map_err(|e| refuse(&format!("is not a glob: {}", e.kind())))?);
        }
        let patterns = set
            .build()
            .map_err(|e| Error::InvalidArgument(format!("`outputFiles` patterns are too large: {e}")))?;
        Ok(Self {
            patterns,
            expressions,
            all,
        })
    }

    /// Whether a pattern names this file of the working directory.
    fn names(&self, file: &OutputFile) -> bool {
        file.origin == Origin::WorkingDir && self.is_match(&file.path)
    }

    /// The folders of the pod that have to be listed.
    pub(crate) fn folders(&self, output_dir: bool) -> Vec<&'static str> {
        let work = (self.all || !self.patterns.is_empty() || !self.expressions.is_empty()).then_some("work");
        work.into_iter().chain(output_dir.then_some("out")).collect()
    }

    fn is_match(&self, path: &str) -> bool {
        self.patterns.is_match(path) || self.expressions.iter().any(|regex| regex.is_match(path))
    }

    /// Picks the files that come back.
    pub(crate) fn select(&self, listing: &Listing) -> Result<Selection, Error> {
        let mut selection = Selection::default();
        for path in listing.files.iter().chain(listing.links.keys()) {
            let Some(destination) = Destination::of(path) else {
                continue;
            };
            let named = destination.origin == Origin::OutputDir || self.is_match(&destination.path);
            if !named && !self.all {
                continue;
            }
            if path.contains(['\n', '\r']) {
                return Err(Error::Other(format!(
                    "output `{}` has a line break in its name: rename it",
                    path.escape_default()
                )));
            }
            match listing.resolve(path) {
                Ok(Some(file)) => selection.files.entry(file).or_default().push(destination),
                Ok(None) => {}
                // A virtual environment is full of them: who takes everything did not mean these.
                Err(_) if !named => selection.outside.push(destination.path),
                Err(error) => return Err(error),
            }
        }
        Ok(selection)
    }
}

/// The first of the patterns that none of the files matches.
pub(crate) fn missing<'p>(required: &'p [String], files: &[OutputFile]) -> Result<Option<&'p String>, Error> {
    for pattern in required {
        let wanted = Wanted::new(std::slice::from_ref(pattern), false)?;
        if !files.iter().any(|file| wanted.names(file)) {
            return Ok(Some(pattern));
        }
    }
    Ok(None)
}

/// Looks for the end of a listing that arrives piece by piece: of two lists, each ended by an empty name.
#[derive(Debug, Default)]
pub(crate) struct ListingEnd {
    seen: usize,
    lists: u8,
    /// Where the name begins that is being read.
    start: usize,
    in_links: usize,
}

impl ListingEnd {
    /// The listing's length, once `bytes` holds all of it. What an earlier call saw is not looked at again.
    pub(crate) fn find(&mut self, bytes: &[u8]) -> Option<usize> {
        let from = std::mem::replace(&mut self.seen, bytes.len());
        for (at, byte) in bytes.iter().enumerate().skip(from) {
            if *byte != 0 {
                continue;
            }
            // A link's target may be empty only in theory, but it is never an end of the list.
            let empty = at == self.start && self.in_links.is_multiple_of(2);
            self.start = at + 1;
            if empty {
                self.lists += 1;
                if self.lists == 2 {
                    return Some(self.start);
                }
            } else if self.lists == 1 {
                self.in_links += 1;
            }
        }
        None
    }
}

impl Listing {
    /// Reads the names of files, then of links with their targets, each list ended by an empty name.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let bad = || Error::Other("the listing of output files is cut short".into());
        let mut names = bytes.split(|b| *b == 0).map(|n| String::from_utf8(n.to_vec()));
        let mut listing = Self::default();
        let mut next = || {
            names.next().ok_or_else(bad)?.map_err(|e| {
                Error::Other(format!(
                    "output `{}` has a name that is not UTF-8: rename it",
                    String::from_utf8_lossy(e.as_bytes())
                ))
            })
        };
        loop {
            match next()? {
                name if name.is_empty() => break,
                name => listing.files.insert(name),
            };
        }
        loop {
            match next()? {
                name if name.is_empty() => return Ok(listing),
                name => listing.links.insert(name, next()?),
            };
        }
    }

    /// The regular file that a path means; none for a link to a folder or to nothing.
    fn resolve(&self, path: &str) -> Result<Option<String>, Error> {
        let leaves = || {
            let shown = Destination::of(path).map_or_else(|| path.to_owned(), |d| d.path);
            Error::Other(format!(
                "output `{shown}` is a symbolic link that leads out of its folder: copy the file instead"
            ))
        };
        let root = path.split('/').next().unwrap_or_default();
        let mut pending: Vec<String> = path.rsplit('/').map(str::to_owned).collect();
        pending.pop();
        let mut at = root.to_owned();
        let mut steps = 0;
        while let Some(segment) = pending.pop() {
            steps += 1;
            if steps > 400 {
                return Ok(None);
            }
            match segment.as_str() {
                "" | "." => continue,
                ".." => {
                    let Some((parent, _)) = at.rsplit_once('/') else {
                        return Err(leaves());
                    };
                    at = parent.to_owned();
                    continue;
                }
                _ => {}
            }
            let here = format!("{at}/{segment}");
            let Some(target) = self.links.get(&here) else {
                at = here;
                continue;
            };
            let inside = target
                .strip_prefix("/podrun/")
                .map(|t| t.split_once('/').unwrap_or((t, "")));
            match inside {
                Some((folder, rest)) if folder == root => {
                    at = root.to_owned();
                    pending.extend(rest.split('/').rev().map(str::to_owned));
                }
                _ if target.starts_with('/') => return Err(leaves()),
                _ => pending.extend(target.split('/').rev().map(str::to_owned)),
            }
        }
        Ok(self.files.contains(&at).then_some(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(files: &[&str], links: &[(&str, &str)]) -> Listing {
        Listing {
            files: files.iter().map(|f| (*f).to_owned()).collect(),
            links: links.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect(),
        }
    }

    fn select(patterns: &[&str], listing: &Listing) -> Result<Vec<String>, String> {
        let patterns: Vec<String> = patterns.iter().map(|p| (*p).to_owned()).collect();
        let selection = Wanted::new(&patterns, false)
            .and_then(|w| w.select(listing))
            .map_err(|e| e.to_string())?;
        Ok(selection
            .files
            .iter()
            .flat_map(|(f, d)| d.iter().map(move |d| format!("{f}>{}", d.relative())))
            .collect())
    }

    #[test]
    fn what_is_required_must_be_a_file_of_the_working_directory() {
        let file = |origin, path: &str| OutputFile {
            origin,
            path: path.into(),
            size: 0,
            mode: 0o644,
            sha256: String::new(),
        };
        let files = [
            file(Origin::WorkingDir, "a.txt"),
            file(Origin::WorkingDir, "d/b.csv"),
            file(Origin::OutputDir, "c.csv"),
        ];
        let first = |required: &[&str]| {
            let required: Vec<String> = required.iter().map(|p| (*p).to_owned()).collect();
            missing(&required, &files).unwrap().cloned()
        };
        assert_eq!(first(&["*.txt", "**/*.csv", "regex:d/b[.].*"]), None);
        assert_eq!(first(&["*.txt", "*.csv", "*.md"]).as_deref(), Some("*.csv"));
        assert_eq!(first(&[]), None);
    }

    #[test]
    fn patterns_match_as_the_reference_says() {
        let all = listing(
            &[
                "work/a.txt",
                "work/b.json",
                "work/d/a.txt",
                "work/d/e/f.txt",
                "work/[x].txt",
                "out/any",
                "out/d/deep",
            ],
            &[],
        );
        let picks = |patterns: &[&str]| -> Vec<String> {
            select(patterns, &all)
                .unwrap()
                .into_iter()
                .filter_map(|p| p.split_once('>').map(|(f, _)| f.to_owned()))
                .collect()
        };
        assert_eq!(picks(&[]), ["out/any", "out/d/deep"]);
        assert_eq!(
            picks(&["*.txt"]),
            ["out/any", "out/d/deep", "work/[x].txt", "work/a.txt"]
        );
        assert_eq!(
            picks(&["./d/*.txt", "?.json"]),
            ["out/any", "out/d/deep", "work/b.json", "work/d/a.txt"]
        );
        assert_eq!(
            picks(&["**/f.txt", "{a,z}.txt"]),
            ["out/any", "out/d/deep", "work/a.txt", "work/d/e/f.txt"]
        );
        assert_eq!(picks(&["[[]x].txt"]), ["out/any", "out/d/deep", "work/[x].txt"]);
        assert_eq!(
            picks(&[r"regex:d/.*\.txt"]),
            ["out/any", "out/d/deep", "work/d/a.txt", "work/d/e/f.txt"]
        );
        assert_eq!(
            picks(&["regex:a|b"]),
            ["out/any", "out/d/deep"],
            "a whole path is meant"
        );
    }

    #[test]
    fn a_bad_pattern_is_refused_by_name() {
        for pattern in ["", "/abs", "../up", "a[", "{a", "regex:(", "regex:a{9999}{9999}"] {
            let error = select(&[pattern], &Listing::default()).unwrap_err();
            assert!(error.contains("outputFiles"), "{error}");
        }
    }

    #[test]
    fn links_are_followed_inside_their_folder_and_refused_outside() {
        let files = ["work/real.txt", "work/d/x", "work/secret"];
        let inside = listing(
            &files,
            &[
                ("work/l", "real.txt"),
                ("work/d/up", "../real.txt"),
                ("work/dl", "d"),
                ("work/abs", "/podrun/work/d/x"),
                ("work/chain", "l"),
                ("work/dangling", "nothing"),
                ("work/loop", "loop"),
            ],
        );
        assert_eq!(
            select(&["l", "d/up", "dl", "abs", "chain", "dangling", "loop"], &inside).unwrap(),
            [
                "work/d/x>work/abs",
                "work/real.txt>work/chain",
                "work/real.txt>work/d/up",
                "work/real.txt>work/l"
            ]
        );
        for target in [
            "/etc/passwd",
            "../../etc/passwd",
            "../out/x",
            "/podrun/out/x",
            "/podrun/work/../../etc/passwd",
        ] {
            let error = select(&["*"], &listing(&files, &[("work/bad", target)])).unwrap_err();
            assert!(error.contains("`bad`"), "{target}: {error}");
        }
        // A link that nobody asked for harms nobody.
        assert_eq!(
            select(&["real.txt"], &listing(&files, &[("work/bad", "/etc/passwd")])).unwrap(),
            ["work/real.txt>work/real.txt"]
        );
    }

    #[test]
    fn the_whole_directory_comes_back_without_the_links_that_lead_out() {
        let all = listing(
            &["work/a", "work/.d/b", "out/c"],
            &[
                ("work/in", "a"),
                ("work/venv", "/usr/bin/python3"),
                ("work/up", "../out/c"),
            ],
        );
        let selection = Wanted::new(&[], true).unwrap().select(&all).unwrap();
        assert_eq!(
            selection.files.keys().collect::<Vec<_>>(),
            ["out/c", "work/.d/b", "work/a"]
        );
        assert_eq!(selection.files["work/a"].len(), 2);
        let said = selection.left_out().unwrap();
        assert!(said.contains("`up`, `venv`"), "{said}");
        // What a pattern names is never left out in silence.
        let named = Wanted::new(&["v*".to_owned()], true).unwrap().select(&all);
        assert!(named.is_err_and(|e| e.to_string().contains("`venv`")));
    }

    #[test]
    fn a_listing_is_read_whole_or_not_at_all() {
        let bytes = b"work/a\0out/b c\0\0work/l\0a\0\0rest";
        let end = ListingEnd::default().find(bytes).unwrap();
        assert_eq!(&bytes[end..], b"rest");
        let mut slowly = ListingEnd::default();
        let found: Vec<_> = (1..=end).map(|length| slowly.find(&bytes[..length])).collect();
        assert_eq!(found.iter().position(Option::is_some), Some(end - 1));
        assert_eq!(
            Listing::parse(&bytes[..end]).unwrap(),
            listing(&["work/a", "out/b c"], &[("work/l", "a")])
        );
        assert!(Listing::parse(b"work/a\0").is_err());
        assert!(Listing::parse(b"work/\xff\0\0\0").is_err_and(|e| e.to_string().contains("UTF-8")));
    }
}
