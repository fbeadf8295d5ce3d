//! Text to literal parts, expressions and tags.
//!
//! What is outside of `{{ … }}` and `{% … %}` stays as it is, byte for byte; there are no comments.

use super::ast::{Expr, Mistake};
use super::lexer::{Close, run};
use super::parser::{Parser, expression};

/// A text, taken apart.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Template {
    pub(super) pieces: Vec<Piece>,
    /// What could not be understood, from the first to the last.
    pub(super) mistakes: Vec<Mistake>,
}

/// A part of a text, and the byte at which it begins.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Piece {
    pub(super) kind: PieceKind,
    pub(super) at: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum PieceKind {
    Literal(String),
    Print(Expr),
    If(Expr),
    ElseIf(Expr),
    Else,
    EndIf,
    For(String, Expr),
    EndFor,
    Set(String, Expr),
}

/// The tags that can be used.
const TAGS: [&str; 10] = [
    "if", "elseif", "else", "endif", "for", "endfor", "set", "raw", "endraw", "verbatim",
];

/// True if the text needs rendering at all.
pub(crate) fn is_template(text: &str) -> bool {
    text.contains("{{") || text.contains("{%")
}

/// The bytes at which expressions and tags begin, or seem to.
pub(super) fn openers(text: &str) -> impl Iterator<Item = usize> + '_ {
    text.match_indices('{')
        .map(|(at, _)| at)
        .filter(|at| matches!(text.as_bytes().get(at + 1), Some(b'{' | b'%')))
}

/// Take a text apart.
pub(super) fn parse(text: &str) -> Template {
    let mut template = Template::default();
    let mut open: Vec<Open> = Vec::new();
    let mut at = 0;
    let mut trim = false;
    while at < text.len() {
        let rest = text.get(at..).unwrap_or_default();
        let begin = openers(rest).next().map(|offset| at + offset);
        let literal = text.get(at..begin.unwrap_or(text.len())).unwrap_or_default();
        let literal = if trim { literal.trim_start() } else { literal };
        let Some(begin) = begin else {
            template.literal(literal, at);
            break;
        };
        let trims = text.get(begin + 2..).is_some_and(|rest| {
            rest.strip_prefix('-')
                .is_some_and(|rest| rest.starts_with(char::is_whitespace))
        });
        template.literal(if trims { literal.trim_end() } else { literal }, at);
        let inside = begin + 2 + usize::from(trims);
        let print = text.get(begin..).is_some_and(|rest| rest.starts_with("{{"));
        if !print && let Some((content, end)) = verbatim(text, begin, inside) {
            match content {
                Some(content) => template.literal(content, inside),
                None => template
                    .mistakes
                    .push(Mistake::new(begin, "`raw` never ends: add `{% endraw %}`")),
            }
            at = end;
            trim = false;
            continue;
        }
        let close = if print { Close::Print } else { Close::Tag };
        match run(text, inside, close) {
            Ok(run) => {
                let kind = if print {
                    expression(&run.tokens, run.close).map(PieceKind::Print)
                } else {
                    tag(Parser::new(&run.tokens, run.close)).and_then(|kind| nest(&mut open, kind, begin))
                };
                match kind {
                    Ok(kind) => template.pieces.push(Piece { kind, at: begin }),
                    Err(mistake) => template.mistakes.push(mistake),
                }
                at = run.end;
                trim = run.trim;
            }
            Err(mistake) => {
                template.mistakes.push(mistake);
                // Go on behind what looks like its end, so that later mistakes are found too.
                let after = text.get(inside..).unwrap_or_default();
                let Some(end) = after.find(if print { "}}" } else { "%}" }) else {
                    break;
                };
                at = inside + end + 2;
                trim = false;
            }
        }
    }
    if template.mistakes.is_empty()
        && let Some(unclosed) = open.first()
    {
        let tag = unclosed.tag;
        let message = format!("`{{% {tag} %}}` never ends: add `{{% end{tag} %}}`");
        template.mistakes.push(Mistake::new(unclosed.at, message));
    }
    template
}

impl Template {
    fn literal(&mut self, text: &str, at: usize) {
        if !text.is_empty() {
            let kind = PieceKind::Literal(text.to_owned());
            self.pieces.push(Piece { kind, at });
        }
    }
}

/// A tag that waits for its end.
struct Open {
    tag: &'static str,
    has_else: bool,
    at: usize,
}

/// Check that a tag stands where it may.
fn nest(open: &mut Vec<Open>, kind: PieceKind, at: usize) -> Result<PieceKind, Mistake> {
    let begin = |tag| Open {
        tag,
        has_else: false,
        at,
    };
    let stray = |what: &str| Err(Mistake::new(at, format!("`{{% {what} %}}` has no beginning")));
    match &kind {
        PieceKind::If(_) => open.push(begin("if")),
        PieceKind::For(..) => open.push(begin("for")),
        PieceKind::ElseIf(_) => match open.last() {
            Some(Open {
                tag: "if",
                has_else: false,
                ..
            }) => {}
            _ => return stray("elseif"),
        },
        PieceKind::Else => match open.last_mut() {
            Some(open) if !open.has_else => open.has_else = true,
            _ => return stray("else"),
        },
        PieceKind::EndIf | PieceKind::EndFor => {
            let tag = if kind == PieceKind::EndIf { "if" } else { "for" };
            match open.last() {
                Some(last) if last.tag == tag => {
                    open.pop();
                }
                _ => return stray(&format!("end{tag}")),
            }
        }
        PieceKind::Literal(_) | PieceKind::Print(_) | PieceKind::Set(..) => {}
    }
    // The engine nests blocks as deep as it nests expressions.
    if open.len() > 20 {
        return Err(Mistake::new(at, "tags are nested too deeply"));
    }
    Ok(kind)
}

fn tag(mut parser: Parser<'_>) -> Result<PieceKind, Mistake> {
    let Some((name, at)) = parser.name() else {
        return Err(parser.unexpected("a tag such as `if`"));
    };
    let kind = match name.as_str() {
        "if" => PieceKind::If(parser.expression()?),
        "elseif" => PieceKind::ElseIf(parser.expression()?),
        "else" => PieceKind::Else,
        "endif" => PieceKind::EndIf,
        "endfor" => PieceKind::EndFor,
        "for" => {
            let Some((variable, _)) = parser.name() else {
                return Err(parser.unexpected("the name of a variable"));
            };
            match parser.name() {
                Some((word, _)) if word == "in" => {}
                _ => return Err(Mistake::new(at, "write `{% for name in list %}`")),
            }
            PieceKind::For(variable, parser.expression()?)
        }
        "set" => {
            let Some((variable, _)) = parser.name() else {
                return Err(parser.unexpected("the name of a variable"));
            };
            parser.expects("=")?;
            PieceKind::Set(variable, parser.expression()?)
        }
        "endraw" | "endverbatim" => return Err(Mistake::new(at, format!("`{{% {name} %}}` has no beginning"))),
        name => {
            let cure = match crate::document::nearest(name, &TAGS) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known are {}", crate::document::listed(&TAGS)),
            };
            return Err(Mistake::new(at, format!("unknown tag `{name}`: {cure}")));
        }
    };
    parser.finish()?;
    Ok(kind)
}

/// If a raw block begins here: its content, none if it never ends, and the byte behind it.
fn verbatim(text: &str, begin: usize, inside: usize) -> Option<(Option<&str>, usize)> {
    let after = text.get(inside..)?.trim_start();
    let word = ["raw", "verbatim"].into_iter().find(|word| after.starts_with(word))?;
    let after = after.get(word.len()..)?.trim_start();
    let trim_start = after.starts_with('-');
    let content = after.strip_prefix('-').unwrap_or(after).strip_prefix("%}")?;
    let start = text.len() - content.len();
    for (offset, _) in content.match_indices("{%") {
        let inner = content.get(offset + 2..).unwrap_or_default();
        let trim_end = inner.starts_with('-');
        let ending = inner.strip_prefix('-').unwrap_or(inner).trim_start();
        let Some(ending) = ending.strip_prefix("end").and_then(|ending| ending.strip_prefix(word)) else {
            continue;
        };
        let ending = ending.trim_start();
        if let Some(rest) = ending.strip_prefix('-').unwrap_or(ending).strip_prefix("%}") {
            let mut raw = text.get(start..start + offset).unwrap_or_default();
            raw = if trim_start { raw.trim_start() } else { raw };
            raw = if trim_end { raw.trim_end() } else { raw };
            return Some((Some(raw), text.len() - rest.len()));
        }
    }
    Some((None, text.len().max(begin)))
}
