//! Tokens to a tree, with Pebble's operators and their precedence.
//!
//! It knows the grammar only: which names, filters and functions exist is decided elsewhere.

use super::ast::{Arguments, Expr, Key, Mistake, Node};
use super::lexer::{Kind, Part, Token};

/// How deep brackets and operators may be nested: the engine's own limit, divided by what one level costs there.
const DEEPEST: usize = 40;
/// How many operators may follow each other.
const LONGEST: usize = 200;

/// Operators between two values, and how strongly they bind. From the weakest to the strongest: `or`, `and`, tests and
/// `contains`, comparisons, sums, products, filters, `~`, ranges and `??`.
const OPERATORS: [(&str, u8); 24] = [
    ("or", 10),
    ("and", 15),
    ("is", 20),
    ("contains", 20),
    ("isIn", 20),
    ("isNotIn", 20),
    ("==", 30),
    ("equals", 30),
    ("!=", 30),
    (">", 30),
    ("<", 30),
    (">=", 30),
    ("<=", 30),
    ("+", 40),
    ("-", 40),
    ("*", 60),
    ("/", 60),
    ("%", 60),
    ("|", 100),
    ("~", 110),
    ("..", 120),
    ("??", 120),
    ("???", 120),
    ("in", 20),
];
const UNARY: u8 = 200;

/// The expression that the tokens make; `end` is the byte behind them.
pub(super) fn expression(tokens: &[Token], end: usize) -> Result<Expr, Mistake> {
    let mut parser = Parser::new(tokens, end);
    let expr = parser.expression()?;
    parser.finish()?;
    Ok(expr)
}

/// What a tag begins with: its first word and where that stands, and the parser for the rest.
pub(super) struct Parser<'a> {
    tokens: &'a [Token],
    next: usize,
    end: usize,
    depth: usize,
    operators: usize,
}

impl<'a> Parser<'a> {
    pub(super) fn new(tokens: &'a [Token], end: usize) -> Self {
        Self {
            tokens,
            next: 0,
            end,
            depth: 0,
            operators: 0,
        }
    }

    fn peek(&self) -> Option<&'a Kind> {
        self.tokens.get(self.next).map(|token| &token.kind)
    }

    fn at(&self) -> usize {
        self.tokens.get(self.next).map_or(self.end, |token| token.at)
    }

    /// The name that comes next, taken.
    pub(super) fn name(&mut self) -> Option<(String, usize)> {
        let at = self.at();
        match self.peek() {
            Some(Kind::Name(name)) => {
                self.next += 1;
                Some((name.clone(), at))
            }
            _ => None,
        }
    }

    fn is(&self, symbol: &str) -> bool {
        matches!(self.peek(), Some(Kind::Symbol(next)) if *next == symbol)
    }

    /// Take a symbol if it comes next.
    fn takes(&mut self, symbol: &str) -> bool {
        let is = self.is(symbol);
        self.next += usize::from(is);
        is
    }

    pub(super) fn expects(&mut self, symbol: &str) -> Result<(), Mistake> {
        match self.takes(symbol) {
            true => Ok(()),
            false => Err(self.unexpected(&format!("`{symbol}`"))),
        }
    }

    pub(super) fn unexpected(&self, wanted: &str) -> Mistake {
        let found = match self.peek() {
            None => "the end".to_owned(),
            Some(Kind::Name(name)) => format!("`{name}`"),
            Some(Kind::Integer(_) | Kind::Float(_)) => "a number".to_owned(),
            Some(Kind::Text(_)) => "quoted text".to_owned(),
            Some(Kind::Symbol(symbol)) => format!("`{symbol}`"),
        };
        Mistake::new(self.at(), format!("found {found} where {wanted} should be"))
    }

    /// Fail unless everything was read.
    pub(super) fn finish(&self) -> Result<(), Mistake> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.unexpected("an operator or the end")),
        }
    }

    /// A whole expression, `? :` included.
    pub(super) fn expression(&mut self) -> Result<Expr, Mistake> {
        let at = self.at();
        if self.depth == DEEPEST {
            return Err(too_complicated(at));
        }
        self.depth += 1;
        let mut expr = self.operation(0)?;
        if self.takes("?") {
            let yes = self.expression()?;
            self.expects(":")?;
            let no = self.expression()?;
            expr = Expr {
                node: Node::Ternary(Box::new(expr), Box::new(yes), Box::new(no)),
                at,
            };
        }
        self.depth -= 1;
        Ok(expr)
    }

    fn operator(&self) -> Option<(&'static str, u8)> {
        let word = match self.peek()? {
            Kind::Symbol(symbol) => symbol,
            Kind::Name(name) => name.as_str(),
            _ => return None,
        };
        OPERATORS.into_iter().find(|(operator, _)| *operator == word)
    }

    fn operation(&mut self, weakest: u8) -> Result<Expr, Mistake> {
        let at = self.at();
        if self.depth == DEEPEST {
            return Err(too_complicated(at));
        }
        self.depth += 1;
        let mut left = self.operand()?;
        while let Some((operator, strength)) = self.operator().filter(|(_, strength)| *strength >= weakest) {
            self.operators += 1;
            if self.operators > LONGEST {
                return Err(too_complicated(self.at()));
            }
            let place = self.at();
            self.next += 1;
            let base = Box::new(left);
            let node = match operator {
                "|" => {
                    let Some((name, _)) = self.name() else {
                        return Err(self.unexpected("the name of a filter"));
                    };
                    Node::Filter(base, name, self.arguments()?)
                }
                "is" => {
                    let not = matches!(self.peek(), Some(Kind::Name(name)) if name == "not");
                    self.next += usize::from(not);
                    let Some((name, _)) = self.name() else {
                        return Err(self.unexpected("a test such as `empty`"));
                    };
                    Node::Test(base, name, not)
                }
                "in" => return Err(Mistake::new(place, "`in` is not an operator here: write `isIn`")),
                operator => {
                    let right = Box::new(self.operation(strength + 1)?);
                    match operator {
                        "or" => Node::Or(base, right),
                        "and" => Node::And(base, right),
                        "??" => Node::Coalesce(base, right, false),
                        "???" => Node::Coalesce(base, right, true),
                        "equals" => Node::Binary("==", base, right),
                        operator => Node::Binary(operator, base, right),
                    }
                }
            };
            // An error is best shown where the filter or operator stands.
            left = Expr { node, at: place };
        }
        self.depth -= 1;
        Ok(left)
    }

    fn operand(&mut self) -> Result<Expr, Mistake> {
        let at = self.at();
        let unary = match self.peek() {
            Some(Kind::Name(name)) if name == "not" => Some(Node::Not as fn(Box<Expr>) -> Node),
            Some(Kind::Symbol("-")) => Some(Node::Negative as fn(Box<Expr>) -> Node),
            Some(Kind::Symbol("+")) => Some(Node::Positive as fn(Box<Expr>) -> Node),
            _ => None,
        };
        if let Some(unary) = unary {
            self.next += 1;
            let node = unary(Box::new(self.operation(UNARY)?));
            return Ok(Expr { node, at });
        }
        let node = match self.peek() {
            Some(Kind::Integer(value)) => Node::Integer(*value),
            Some(Kind::Float(value)) => Node::Float(*value),
            Some(Kind::Text(parts)) => self.text(parts)?,
            Some(Kind::Symbol("(")) => {
                self.next += 1;
                let inner = self.expression()?;
                self.expects(")")?;
                return self.postfix(inner);
            }
            Some(Kind::Symbol("[")) => {
                self.next += 1;
                let mut items = Vec::new();
                while !self.is("]") {
                    items.push(self.expression()?);
                    if !self.takes(",") {
                        break;
                    }
                }
                self.expects("]")?;
                return self.postfix(Expr {
                    node: Node::List(items),
                    at,
                });
            }
            Some(Kind::Symbol("{")) => {
                self.next += 1;
                return self.map(at);
            }
            Some(Kind::Name(name)) => {
                self.next += 1;
                let node = match name.as_str() {
                    "true" | "TRUE" => Node::Bool(true),
                    "false" | "FALSE" => Node::Bool(false),
                    "null" | "NULL" | "none" | "NONE" => Node::Null,
                    "raise" => Node::Raise,
                    name if self.is("(") => Node::Call(name.to_owned(), self.arguments()?),
                    name if OPERATORS.iter().any(|(operator, _)| *operator == name) => {
                        self.next -= 1;
                        return Err(self.unexpected("a value"));
                    }
                    name => Node::Name(name.to_owned()),
                };
                return self.postfix(Expr { node, at });
            }
            Some(Kind::Symbol(".")) => {
                let message = format!("a name cannot begin with a dot; {}", super::names::RAW);
                return Err(Mistake::new(at, message));
            }
            _ => return Err(self.unexpected("a value")),
        };
        self.next += 1;
        self.postfix(Expr { node, at })
    }

    fn map(&mut self, at: usize) -> Result<Expr, Mistake> {
        let mut entries = Vec::new();
        while !self.is("}") {
            let key = self.expression()?;
            self.expects(":")?;
            entries.push((key, self.expression()?));
            if !self.takes(",") {
                break;
            }
        }
        self.expects("}")?;
        self.postfix(Expr {
            node: Node::Map(entries),
            at,
        })
    }

    fn text(&mut self, parts: &[Part]) -> Result<Node, Mistake> {
        let mut whole: Option<Expr> = None;
        let at = self.at();
        for part in parts {
            let node = match part {
                Part::Literal(text) => Node::Text(text.clone()),
                Part::Inner(tokens) => {
                    let mut inner = Parser::new(tokens, at);
                    inner.depth = self.depth + 1;
                    inner.operators = self.operators;
                    let expr = inner.expression()?;
                    inner.finish()?;
                    expr.node
                }
            };
            let part = Expr { node, at };
            whole = Some(match whole {
                None => part,
                Some(before) => Expr {
                    node: Node::Binary("~", Box::new(before), Box::new(part)),
                    at,
                },
            });
        }
        Ok(whole.map_or(Node::Text(String::new()), |expr| expr.node))
    }

    /// `.name`, `[key]` and so on after a value.
    fn postfix(&mut self, mut base: Expr) -> Result<Expr, Mistake> {
        loop {
            let at = base.at;
            let key = if self.takes(".") {
                let place = self.at();
                let Some((name, _)) = self.name() else {
                    return Err(self.unexpected("a name"));
                };
                if self.is("(") {
                    let message = format!("`.{name}(` calls a method, and there are none: use a filter, `| {name}`");
                    return Err(Mistake::new(place, message));
                }
                Key::Name(name)
            } else if self.takes("[") {
                let key = self.expression()?;
                self.expects("]")?;
                match key.node {
                    Node::Text(name) => Key::Name(name),
                    Node::Integer(index) => Key::Index(index),
                    _ => Key::Computed(Box::new(key)),
                }
            } else {
                return Ok(base);
            };
            self.operators += 1;
            if self.operators > LONGEST {
                return Err(too_complicated(at));
            }
            base = Expr {
                node: Node::Access(Box::new(base), key),
                at,
            };
        }
    }

    /// `(a, b, name=c)`, or nothing.
    fn arguments(&mut self) -> Result<Arguments, Mistake> {
        let mut arguments = Arguments::default();
        if !self.takes("(") {
            return Ok(arguments);
        }
        while !self.is(")") {
            let named = matches!(
                self.tokens.get(self.next..self.next + 2),
                Some([
                    Token {
                        kind: Kind::Name(_),
                        ..
                    },
                    Token {
                        kind: Kind::Symbol("="),
                        ..
                    }
                ])
            );
            if named && let Some((name, at)) = self.name() {
                self.next += 1;
                if arguments.named.iter().any(|(other, _)| *other == name) {
                    return Err(Mistake::new(at, format!("argument `{name}` is given twice")));
                }
                arguments.named.push((name, self.expression()?));
            } else if arguments.named.is_empty() {
                arguments.positional.push(self.expression()?);
            } else {
                return Err(self.unexpected("`name=`, as for the argument before,"));
            }
            if !self.takes(",") {
                break;
            }
        }
        self.expects(")")?;
        Ok(arguments)
    }
}

fn too_complicated(at: usize) -> Mistake {
    Mistake::new(
        at,
        "this is too long or nested too deeply: split it with `{% set name = … %}`",
    )
}
