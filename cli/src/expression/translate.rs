//! A taken-apart text to a template of the engine.
//!
//! Everything that differs between the two languages becomes a call of one of the functions in `engine`: how a missing
//! name is treated, what an operator means, which filters there are. The engine keeps what is alike: printing, `if`,
//! `for`, conditions that are evaluated only where needed. Its delimiters hold a NUL, which no text may have, so literal
//! text cannot be taken for an expression.

use std::fmt::Write;
use std::ops::Range;

use super::ast::{Arguments, Expr, Key, Mistake, Node};
use super::library::{self, Entry};
use super::template::{Piece, PieceKind, Template};

/// The engine's delimiters.
pub(super) const PRINT: (&str, &str) = ("\0{{", "}}\0");
pub(super) const TAG: (&str, &str) = ("\0{%", "%}\0");
pub(super) const COMMENT: (&str, &str) = ("\0{#", "#}\0");

/// A text in the engine's language.
#[derive(Debug, Default)]
pub(super) struct Translated {
    pub(super) source: String,
    /// Which bytes of `source` come from the expression or tag at which byte of the text.
    places: Vec<(Range<usize>, usize)>,
    /// What could not be translated.
    pub(super) mistakes: Vec<Mistake>,
}

impl Translated {
    /// Where in the text the expression stands that became this byte of `source`.
    pub(super) fn origin(&self, byte: usize) -> Option<usize> {
        let place = self.places.iter().find(|(range, _)| range.contains(&byte));
        place.map(|(_, at)| *at)
    }
}

/// Translate a whole text.
pub(super) fn template(template: &Template) -> Translated {
    let mut writer = Writer::default();
    for piece in &template.pieces {
        let from = writer.out.len();
        writer.piece(piece);
        let range = from..writer.out.len();
        writer.places.push((range, piece.at));
    }
    writer.finish()
}

/// Translate one expression alone.
pub(super) fn single(expr: &Expr, at: usize) -> Translated {
    let mut writer = Writer::default();
    writer.expr(expr, false);
    let range = 0..writer.out.len();
    writer.places.push((range, at));
    writer.finish()
}

#[derive(Default)]
struct Writer {
    out: String,
    places: Vec<(Range<usize>, usize)>,
    mistakes: Vec<Mistake>,
    /// Variables of the loops around, with the engine's names for them.
    loops: Vec<(String, String)>,
    /// Variables of `set`.
    set: Vec<String>,
    counter: usize,
}

impl Writer {
    fn finish(self) -> Translated {
        Translated {
            source: self.out,
            places: self.places,
            mistakes: self.mistakes,
        }
    }

    fn piece(&mut self, piece: &Piece) {
        let tag = |writer: &mut Self, begin: &str, expr: &Expr, end: &str| {
            writer.out.push_str(TAG.0);
            writer.out.push_str(begin);
            writer.expr(expr, false);
            writer.out.push_str(end);
            writer.out.push_str(TAG.1);
        };
        let word = |writer: &mut Self, word: &str| {
            let (begin, end) = TAG;
            writer.out.push_str(&format!("{begin} {word} {end}"));
        };
        match &piece.kind {
            PieceKind::Literal(text) if text.contains('\0') => {
                let message = "a text with expressions cannot hold a NUL character: remove it";
                self.mistakes.push(Mistake::new(piece.at, message));
            }
            PieceKind::Literal(text) => self.out.push_str(text),
            PieceKind::Print(expr) => {
                self.out.push_str(PRINT.0);
                self.out.push(' ');
                self.expr(expr, false);
                self.out.push(' ');
                self.out.push_str(PRINT.1);
            }
            PieceKind::If(expr) => tag(self, " if truthy(", expr, ") "),
            PieceKind::ElseIf(expr) => tag(self, " elif truthy(", expr, ") "),
            PieceKind::Else => word(self, "else"),
            PieceKind::EndIf => word(self, "endif"),
            PieceKind::EndFor => {
                self.loops.pop();
                word(self, "endfor");
            }
            PieceKind::For(name, expr) => {
                self.counter += 1;
                let variable = format!("v{}", self.counter);
                tag(self, &format!(" for {variable} in each("), expr, ") ");
                self.loops.push((name.clone(), variable));
            }
            PieceKind::Set(name, expr) => {
                let quoted = quote(name);
                match self.loops.iter().rev().find(|(known, _)| known == name).cloned() {
                    Some((_, variable)) => tag(self, &format!(" set {variable} = ("), expr, ") "),
                    None => tag(self, &format!(" set unused = keep({quoted}, "), expr, ") "),
                }
                self.set.push(name.clone());
            }
        }
    }

    /// Write an expression. Where `lenient` is set, what is missing becomes undefined, and so does all that is made of it.
    fn expr(&mut self, expr: &Expr, lenient: bool) {
        match &expr.node {
            Node::Null => self.out.push_str("none"),
            Node::Bool(true) => self.out.push_str("true"),
            Node::Bool(false) => self.out.push_str("false"),
            Node::Integer(value) => self.push(format_args!("{value}")),
            Node::Float(value) => self.push(format_args!("{value:?}")),
            Node::Text(text) => self.out.push_str(&quote(text)),
            Node::List(items) => {
                self.out.push('[');
                self.list(items.iter(), lenient);
                self.out.push(']');
            }
            Node::Map(entries) => {
                // Keys are computed too, so the engine's own literal does not fit.
                self.out.push_str("map([");
                self.list(entries.iter().flat_map(|(key, value)| [key, value]), lenient);
                self.out.push_str("])");
            }
            Node::Name(_) | Node::Access(..) => self.path(expr, lenient),
            Node::Call(name, arguments) => match library::function(name) {
                Ok(entry) => {
                    self.push(format_args!("call({}", quote(entry.name)));
                    self.arguments(entry, None, arguments, expr.at, lenient);
                    self.out.push(')');
                }
                Err(message) => self.mistake(expr.at, message),
            },
            Node::Filter(base, name, arguments) => match library::filter(name) {
                Ok(entry) => {
                    self.expr(base, lenient || entry.name == "default");
                    self.push(format_args!(" | filter({}", quote(entry.name)));
                    self.arguments(entry, Some(base), arguments, expr.at, lenient);
                    self.out.push(')');
                }
                Err(message) => {
                    self.expr(base, true);
                    self.mistake(expr.at, message);
                }
            },
            Node::Test(base, name, negated) => match library::test(name) {
                Ok(test) => {
                    self.out.push_str(if *negated { "(not test(" } else { "(test(" });
                    self.push(format_args!("{}, ", quote(test.name)));
                    self.expr(base, true);
                    self.out.push_str("))");
                }
                Err(message) => self.mistake(expr.at, message),
            },
            Node::Not(inner) => {
                self.out.push_str("(not truthy(");
                self.expr(inner, lenient);
                self.out.push_str("))");
            }
            Node::Negative(inner) => {
                self.out.push_str("negative(");
                self.expr(inner, lenient);
                self.out.push(')');
            }
            Node::Positive(inner) => self.expr(inner, lenient),
            Node::And(..) | Node::Or(..) => self.logic(expr, lenient),
            Node::Binary(..) => self.operators(expr, lenient),
            Node::Coalesce(..) => {
                self.out.push_str("open(");
                self.coalesce(expr, lenient);
                self.out.push(')');
            }
            Node::Ternary(condition, yes, no) => {
                self.out.push('(');
                self.expr(yes, lenient);
                self.out.push_str(" if truthy(");
                self.expr(condition, lenient);
                self.out.push_str(") else ");
                self.expr(no, lenient);
                self.out.push(')');
            }
            Node::Raise => self.out.push_str("raise()"),
        }
    }

    fn push(&mut self, arguments: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = self.out.write_fmt(arguments);
    }

    /// Note a mistake, and go on with a value so that others are found too.
    fn mistake(&mut self, at: usize, message: String) {
        self.mistakes.push(Mistake::new(at, message));
        self.out.push_str("none");
    }

    fn list<'e>(&mut self, items: impl Iterator<Item = &'e Expr>, lenient: bool) {
        for (index, item) in items.enumerate() {
            if index > 0 {
                self.out.push_str(", ");
            }
            self.expr(item, lenient);
        }
    }

    /// `inputs.a['b'][c]` becomes `path("inputs", "ssd", ["a", "b", …])`, with a letter for each key that says whether
    /// errors may show it.
    fn path(&mut self, expr: &Expr, lenient: bool) {
        let mut keys = Vec::new();
        let mut base = expr;
        while let Node::Access(inner, key) = &base.node {
            keys.push(key);
            base = inner;
        }
        keys.reverse();
        let name = match &base.node {
            Node::Name(name) => name.as_str(),
            _ => "",
        };
        let variable = self.loops.iter().rev().find(|(known, _)| known == name);
        let mut skip = 0;
        let source = match (&base.node, variable, keys.first()) {
            (_, Some((_, variable)), _) => format!("get({variable}, {}", quote(name)),
            (Node::Name(name), None, Some(Key::Name(field))) if name == "loop" && !self.loops.is_empty() => {
                skip = 1;
                match field.as_str() {
                    // Pebble counts from 0.
                    "index" => "get(loop.index0, \"loop.index\"".to_owned(),
                    "revindex" => "get(loop.revindex0, \"loop.revindex\"".to_owned(),
                    "first" | "last" | "length" => format!("get(loop.{field}, \"loop.{field}\""),
                    _ => {
                        let message = "`loop` has `index`, `revindex`, `first`, `last` and `length`".to_owned();
                        return self.mistake(base.at, message);
                    }
                }
            }
            (Node::Name(name), ..) if self.set.contains(name) => format!("kept({}", quote(name)),
            (Node::Name(name), ..) => format!("path({}", quote(name)),
            _ => {
                self.out.push_str("get(");
                self.expr(base, lenient);
                ", \"\"".to_owned()
            }
        };
        self.out.push_str(&source);
        let keys = keys.get(skip..).unwrap_or_default();
        let shown: String = keys
            .iter()
            .map(|key| if matches!(key, Key::Computed(_)) { 'd' } else { 's' })
            .collect();
        self.push(format_args!(", {lenient}, \"{shown}\", ["));
        for (index, key) in keys.iter().enumerate() {
            if index > 0 {
                self.out.push_str(", ");
            }
            match key {
                Key::Name(name) => self.out.push_str(&quote(name)),
                Key::Index(value) => self.push(format_args!("{value}")),
                Key::Computed(expr) => self.expr(expr, lenient),
            }
        }
        self.out.push_str("])");
    }

    /// A chain such as `a + b - c` becomes `fold("+ -", a, b, c)`: a long one is not a deep one.
    fn operators(&mut self, expr: &Expr, lenient: bool) {
        let mut operands = Vec::new();
        let mut operators = Vec::new();
        let mut left = expr;
        while let Node::Binary(operator, next, right) = &left.node {
            operators.push(*operator);
            operands.push(right.as_ref());
            left = next;
        }
        operands.push(left);
        operators.reverse();
        self.push(format_args!("fold(\"{}\", [", operators.join(" ")));
        self.list(operands.into_iter().rev(), lenient);
        self.out.push_str("])");
    }

    fn logic(&mut self, expr: &Expr, lenient: bool) {
        let mut operands = Vec::new();
        let mut left = expr;
        let word = if matches!(expr.node, Node::And(..)) {
            " and "
        } else {
            " or "
        };
        loop {
            match &left.node {
                Node::And(next, right) if word == " and " => (left, _) = (next, operands.push(right.as_ref())),
                Node::Or(next, right) if word == " or " => (left, _) = (next, operands.push(right.as_ref())),
                _ => break,
            }
        }
        operands.push(left);
        self.out.push('(');
        for (index, operand) in operands.into_iter().rev().enumerate() {
            if index > 0 {
                self.out.push_str(word);
            }
            self.out.push_str("truthy(");
            self.expr(operand, lenient);
            self.out.push(')');
        }
        self.out.push(')');
    }

    /// `a ?? b ?? c` becomes `present(a) or present(b) or c`, each evaluated only if those before are missing.
    fn coalesce(&mut self, expr: &Expr, lenient: bool) {
        let Node::Coalesce(_, _, keeps_null) = &expr.node else {
            return self.expr(expr, lenient);
        };
        let mut operands = Vec::new();
        let mut left = expr;
        while let Node::Coalesce(next, right, same) = &left.node
            && same == keeps_null
        {
            operands.push(right.as_ref());
            left = next;
        }
        self.present(left, *keeps_null);
        let last = operands.first().copied();
        for operand in operands.into_iter().skip(1).rev() {
            self.out.push_str(" or ");
            self.present(operand, *keeps_null);
        }
        self.out.push_str(" or ");
        if let Some(last) = last {
            self.expr(last, lenient);
        }
    }

    fn present(&mut self, expr: &Expr, keeps_null: bool) {
        self.push(format_args!("present({keeps_null}, "));
        self.expr(expr, true);
        self.out.push(')');
    }

    /// Arguments by position, in the order that the entry declares.
    fn arguments(&mut self, entry: &Entry, base: Option<&Expr>, given: &Arguments, at: usize, lenient: bool) {
        let parameters = entry.parameters;
        if parameters.first().is_some_and(|name| name.ends_with("...")) {
            if let Some((name, value)) = given.named.first() {
                let message = format!("`{}` takes no argument `{name}`: write the value alone", entry.name);
                self.mistakes.push(Mistake::new(value.at, message));
            }
            for value in &given.positional {
                self.out.push_str(", ");
                self.expr(value, lenient);
            }
            return;
        }
        let names: Vec<&str> = parameters.iter().map(|name| name.trim_end_matches('?')).collect();
        let mut values: Vec<Option<&Expr>> = vec![None; names.len()];
        for (index, value) in given.positional.iter().enumerate() {
            match values.get_mut(index) {
                Some(slot) => *slot = Some(value),
                None => {
                    let message = format!("`{}` has too many arguments: it takes {}", entry.name, usage(entry));
                    self.mistakes.push(Mistake::new(value.at, message));
                    break;
                }
            }
        }
        for (name, value) in &given.named {
            let index = names.iter().position(|known| known == name);
            let message = match index.and_then(|index| values.get_mut(index)) {
                Some(slot @ None) => {
                    *slot = Some(value);
                    continue;
                }
                Some(Some(_)) => format!("argument `{name}` of `{}` is given twice", entry.name),
                None => match crate::document::nearest(name, &names) {
                    Some(near) => format!("`{}` has no argument `{name}`: did you mean `{near}`?", entry.name),
                    None => format!("`{}` has no argument `{name}`: it takes {}", entry.name, usage(entry)),
                },
            };
            self.mistakes.push(Mistake::new(value.at, message));
        }
        for (value, name) in values.iter().zip(parameters) {
            self.out.push_str(", ");
            match value {
                Some(value) => self.expr(value, lenient),
                None if name.ends_with('?') => self.out.push_str("none"),
                None => {
                    let message = format!("`{}` needs the argument `{name}`", entry.name);
                    let at = base.map_or(at, |_| at);
                    self.mistake(at, message);
                }
            }
        }
    }
}

/// The arguments of an entry in a sentence.
fn usage(entry: &Entry) -> String {
    match entry.parameters {
        [] => "none".to_owned(),
        parameters => format!("`{}`", parameters.join(", ")),
    }
}

/// Text as a literal of the engine, whose escapes are those of JSON.
fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
