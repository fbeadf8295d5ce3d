//! What an expression says, as a tree. Every part knows the byte at which it begins in the text that it was written in.

/// A part of an expression.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Expr {
    pub(super) node: Node,
    /// The byte at which it begins.
    pub(super) at: usize,
}

/// The kinds of expressions.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    List(Vec<Expr>),
    Map(Vec<(Expr, Expr)>),
    /// A name alone: `inputs`.
    Name(String),
    /// `base.key` and `base[key]`.
    Access(Box<Expr>, Key),
    /// `name(arguments)`.
    Call(String, Arguments),
    /// `base | name(arguments)`.
    Filter(Box<Expr>, String, Arguments),
    /// `base is name`, or `is not` where the flag is set.
    Test(Box<Expr>, String, bool),
    Not(Box<Expr>),
    Negative(Box<Expr>),
    Positive(Box<Expr>),
    /// An operator between two values: arithmetic, comparison, `~`, `..`, `contains`, `isIn`.
    Binary(&'static str, Box<Expr>, Box<Expr>),
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
    /// `left ?? right`; with the flag `left ??? right`, which keeps null.
    Coalesce(Box<Expr>, Box<Expr>, bool),
    /// `condition ? yes : no`.
    Ternary(Box<Expr>, Box<Expr>, Box<Expr>),
    /// `raise`: an error for when nothing else was there.
    Raise,
}

/// What follows a dot or stands in brackets.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Key {
    Name(String),
    Index(i64),
    Computed(Box<Expr>),
}

/// What a filter or function is given.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Arguments {
    pub(super) positional: Vec<Expr>,
    pub(super) named: Vec<(String, Expr)>,
}

/// A mistake in the text of an expression.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Mistake {
    pub(super) at: usize,
    pub(super) message: String,
}

impl Mistake {
    pub(super) fn new(at: usize, message: impl Into<String>) -> Self {
        Self {
            at,
            message: message.into(),
        }
    }
}
