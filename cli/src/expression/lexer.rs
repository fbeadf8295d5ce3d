//! Cuts the inside of `{{ … }}` and `{% … %}` into tokens.
//!
//! It knows where an expression ends, brackets and strings considered, and nothing of what tokens mean together.

use super::ast::Mistake;

/// A token and the bytes that it covers.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) at: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    Name(String),
    Integer(i64),
    Float(f64),
    /// Quoted text; more than one part only with `#{…}` in double quotes.
    Text(Vec<Part>),
    Symbol(&'static str),
}

/// A part of quoted text.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Part {
    Literal(String),
    Inner(Vec<Token>),
}

/// What ends a run of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Close {
    /// `}}`
    Print,
    /// `%}`
    Tag,
    /// The `}` of `#{…}`.
    Inner,
}

/// The tokens of one expression, and what comes after it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Run {
    pub(super) tokens: Vec<Token>,
    /// The byte of the closing delimiter, for errors about what is missing before it.
    pub(super) close: usize,
    /// The first byte behind it.
    pub(super) end: usize,
    /// True if white space that follows is to be removed: `-}}`.
    pub(super) trim: bool,
}

/// Longest first, so that `??` is not read as two `?`.
const SYMBOLS: [&str; 29] = [
    "???", "??", "..", "==", "!=", ">=", "<=", ">", "<", "+", "-", "*", "/", "%", "|", "~", "(", ")", "[", "]", "{",
    "}", "?", ":", ".", ",", "=", "&&", "||",
];

/// How deep `#{…}` may be nested.
const DEEPEST: usize = 8;

/// The tokens from `start` to the closing delimiter.
pub(super) fn run(source: &str, start: usize, close: Close) -> Result<Run, Mistake> {
    Lexer {
        source,
        at: start,
        nested: 0,
    }
    .run(close)
}

struct Lexer<'a> {
    source: &'a str,
    at: usize,
    nested: usize,
}

impl Lexer<'_> {
    fn rest(&self) -> &str {
        self.source.get(self.at..).unwrap_or_default()
    }

    fn run(&mut self, close: Close) -> Result<Run, Mistake> {
        let begin = self.at;
        let mut tokens = Vec::new();
        let mut open: Vec<(&'static str, usize)> = Vec::new();
        loop {
            self.at += self.rest().len() - self.rest().trim_start().len();
            if open.is_empty()
                && let Some((length, trim)) = closes(self.rest(), close)
            {
                let at = self.at;
                self.at += length;
                return Ok(Run {
                    tokens,
                    close: at,
                    end: self.at,
                    trim,
                });
            }
            let Some(first) = self.rest().chars().next() else {
                return Err(match open.last() {
                    Some((bracket, at)) => Mistake::new(*at, format!("`{bracket}` is never closed")),
                    None => Mistake::new(begin, format!("it never ends: `{}` is missing", delimiter(close))),
                });
            };
            let at = self.at;
            let kind = match first {
                '\'' | '"' => Kind::Text(self.quoted(first)?),
                '0'..='9' => self.number()?,
                c if c.is_alphabetic() || c == '_' => Kind::Name(self.name()),
                c => self.symbol(c, &mut open, close)?,
            };
            tokens.push(Token { kind, at });
        }
    }

    fn name(&mut self) -> String {
        let rest = self.rest();
        let end = rest
            .find(|c: char| !(c.is_alphanumeric() || c == '_'))
            .unwrap_or(rest.len());
        let name = rest.get(..end).unwrap_or_default().to_owned();
        self.at += end;
        name
    }

    fn number(&mut self) -> Result<Kind, Mistake> {
        let at = self.at;
        let digits = |text: &str| text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let rest = self.rest();
        let whole = digits(rest);
        let fraction = match rest.get(whole..).and_then(|rest| rest.strip_prefix('.')) {
            Some(rest) => digits(rest),
            None => 0,
        };
        let length = if fraction > 0 { whole + 1 + fraction } else { whole };
        let text = rest.get(..length).unwrap_or_default().to_owned();
        self.at += length;
        if fraction > 0 {
            let number = text.parse();
            return number
                .map(Kind::Float)
                .map_err(|_| Mistake::new(at, "this is no number"));
        }
        let after = self.rest();
        if after.starts_with(['L', 'l']) && !after.get(1..).is_some_and(|rest| rest.starts_with(is_name)) {
            self.at += 1;
        } else if after.starts_with(is_name) {
            return Err(Mistake::new(at, "a name cannot begin with a digit"));
        }
        text.parse()
            .map(Kind::Integer)
            .map_err(|_| Mistake::new(at, "this number has more than 64 bits"))
    }

    fn symbol(&mut self, c: char, open: &mut Vec<(&'static str, usize)>, close: Close) -> Result<Kind, Mistake> {
        let at = self.at;
        let Some(symbol) = SYMBOLS.into_iter().find(|symbol| self.rest().starts_with(symbol)) else {
            let mut message = format!("`{}` has no meaning here", c.escape_debug());
            if closes(self.rest(), Close::Tag).is_some() || closes(self.rest(), Close::Print).is_some() {
                message = format!("it must end with `{}`", delimiter(close));
            }
            return Err(Mistake::new(at, message));
        };
        match symbol {
            "&&" => return Err(Mistake::new(at, "`&&` has no meaning here: write `and`")),
            "||" => return Err(Mistake::new(at, "`||` has no meaning here: write `or`")),
            "(" | "[" | "{" => open.push((symbol, at)),
            ")" | "]" | "}" => {
                let partner = match symbol {
                    ")" => "(",
                    "]" => "[",
                    _ => "{",
                };
                match open.pop() {
                    Some((bracket, _)) if bracket == partner => {}
                    Some((bracket, at)) => return Err(Mistake::new(at, format!("`{bracket}` is never closed"))),
                    None => return Err(Mistake::new(at, format!("`{symbol}` closes nothing"))),
                }
            }
            _ => {}
        }
        self.at += symbol.len();
        Ok(Kind::Symbol(symbol))
    }

    /// Quoted text. Only the quote itself can be escaped; every other backslash stays, so that patterns need no doubling.
    fn quoted(&mut self, quote: char) -> Result<Vec<Part>, Mistake> {
        let begin = self.at;
        self.at += 1;
        let mut parts = Vec::new();
        let mut text = String::new();
        loop {
            let rest = self.rest();
            let Some(c) = rest.chars().next() else {
                return Err(Mistake::new(begin, format!("the text after {quote} is never closed")));
            };
            if c == quote {
                self.at += 1;
                break;
            }
            if c == '\\' {
                let next = rest.get(1..).and_then(|rest| rest.chars().next());
                if next != Some(quote) {
                    text.push(c);
                }
                if let Some(next) = next {
                    text.push(next);
                }
                self.at += 1 + next.map_or(0, char::len_utf8);
                continue;
            }
            if quote == '"' && rest.starts_with("#{") {
                if self.nested == DEEPEST {
                    return Err(Mistake::new(self.at, "`#{` is nested too deeply"));
                }
                parts.push(Part::Literal(std::mem::take(&mut text)));
                self.at += 2;
                self.nested += 1;
                let inner = self.run(Close::Inner)?;
                self.nested -= 1;
                parts.push(Part::Inner(inner.tokens));
                continue;
            }
            text.push(c);
            self.at += c.len_utf8();
        }
        parts.push(Part::Literal(text));
        Ok(parts)
    }
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn delimiter(close: Close) -> &'static str {
    match close {
        Close::Print => "}}",
        Close::Tag => "%}",
        Close::Inner => "}",
    }
}

/// The length of the closing delimiter that the text begins with, and whether it trims.
fn closes(rest: &str, close: Close) -> Option<(usize, bool)> {
    let delimiter = delimiter(close);
    if rest.starts_with(delimiter) {
        return Some((delimiter.len(), false));
    }
    let trims = close != Close::Inner && rest.strip_prefix('-').is_some_and(|rest| rest.starts_with(delimiter));
    trims.then_some((delimiter.len() + 1, true))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(source: &str) -> Vec<Kind> {
        let run = run(source, 0, Close::Print).unwrap();
        run.tokens.into_iter().map(|token| token.kind).collect()
    }

    #[test]
    fn a_map_may_end_where_the_expression_ends() {
        let run = run("{'a': {'b': 1}}}} rest", 0, Close::Print).unwrap();
        assert_eq!((run.close, run.end, run.trim), (15, 17, false));
        let run = super::run("a -}} rest", 0, Close::Print).unwrap();
        assert_eq!((run.close, run.end, run.trim), (2, 5, true));
    }

    #[test]
    fn delimiters_in_text_end_nothing() {
        assert_eq!(
            kinds("'}} it\\'s \\d \"' }}"),
            [Kind::Text(vec![Part::Literal("}} it's \\d \"".into())])]
        );
    }

    #[test]
    fn ranges_are_no_fractions() {
        assert_eq!(
            kinds("0..3 1.5 10L }}"),
            [
                Kind::Integer(0),
                Kind::Symbol(".."),
                Kind::Integer(3),
                Kind::Float(1.5),
                Kind::Integer(10)
            ]
        );
    }

    #[test]
    fn mistakes_have_places() {
        let mistake = |source: &str| {
            let mistake = run(source, 0, Close::Print).unwrap_err();
            format!("{}: {}", mistake.at, mistake.message)
        };
        insta::assert_snapshot!(mistake("a"), @"0: it never ends: `}}` is missing");
        insta::assert_snapshot!(mistake("a['b }}"), @"2: the text after ' is never closed");
        insta::assert_snapshot!(mistake("f(a }}"), @"1: `(` is never closed");
        insta::assert_snapshot!(mistake("a) }}"), @"1: `)` closes nothing");
        insta::assert_snapshot!(mistake("a && b }}"), @"2: `&&` has no meaning here: write `and`");
        insta::assert_snapshot!(mistake("a $ b }}"), @"2: `$` has no meaning here");
        insta::assert_snapshot!(mistake("99999999999999999999 }}"), @"0: this number has more than 64 bits");
    }
}
