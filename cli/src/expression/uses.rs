//! Which texts can be rendered before anything has run, by the names that they use.

use super::ast::{Arguments, Expr, Key, Node};
use super::is_template;
use super::template::{self, PieceKind};

/// Names whose values there are only once tasks have run, or inside of some of them.
const LATER: [&str; 6] = ["outputs", "tasks", "parent", "parents", "error", "errorLogs"];

/// What a round of a `ForEach` adds to `taskrun`.
const OF_ROUNDS: [&str; 2] = ["value", "iteration"];

/// Functions whose results there are only then.
const LATER_FUNCTIONS: [&str; 2] = ["currentEachOutput", "errorLogs"];

/// Functions that say something else each time.
const VARYING: [&str; 4] = ["id", "now", "randomInt", "uuid"];

/// Functions that render the text that they are given.
const RENDERING: [&str; 2] = ["render", "renderOnce"];

/// The texts of a flow's variables, by name: what `render(vars.x)` renders.
pub(crate) type Variables = Vec<(String, Vec<String>)>;

/// True if a text uses what there is only while the flow runs: what tasks leave, the value of a round, an error.
pub(crate) fn waits(text: &str, variables: &Variables) -> bool {
    Search {
        variables,
        seen: Vec::new(),
        mode: Mode::Plain,
        found: &|used| match used {
            Used::Path(name, key) => {
                LATER.contains(&name) || (name == "taskrun" && key.is_none_or(|key| OF_ROUNDS.contains(&key)))
            }
            Used::Function(name) => LATER_FUNCTIONS.contains(&name),
            Used::Unknown => true,
        },
    }
    .text(text)
}

/// True if a text may render to something else when it is rendered again.
pub(crate) fn varies(text: &str, variables: &Variables) -> bool {
    Search {
        variables,
        seen: Vec::new(),
        mode: Mode::Plain,
        found: &|used| match used {
            Used::Path(..) => false,
            Used::Function(name) => VARYING.contains(&name),
            Used::Unknown => true,
        },
    }
    .text(text)
}

/// Something that an expression uses.
enum Used<'a> {
    /// A name, and what follows its dot if that is written.
    Path(&'a str, Option<&'a str>),
    Function(&'a str),
    /// A text that comes from elsewhere and is rendered.
    Unknown,
}

/// What becomes of what an expression says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Nothing: it is shown.
    Plain,
    /// It is given to `render`.
    Given,
    /// `render` has made it out of a text: only what variables hold is looked at again.
    Made,
}

struct Search<'a> {
    variables: &'a Variables,
    /// Variables that were looked at, or are.
    seen: Vec<&'a str>,
    mode: Mode,
    found: &'a dyn Fn(Used<'_>) -> bool,
}

impl<'a> Search<'a> {
    fn text(&mut self, text: &str) -> bool {
        if !is_template(text) {
            return false;
        }
        let template = template::parse(text);
        template.pieces.iter().any(|piece| match &piece.kind {
            PieceKind::Print(expr)
            | PieceKind::If(expr)
            | PieceKind::ElseIf(expr)
            | PieceKind::Set(_, expr)
            | PieceKind::For(_, expr) => self.expr(expr),
            PieceKind::Literal(_) | PieceKind::Else | PieceKind::EndIf | PieceKind::EndFor => false,
        })
    }

    fn expr(&mut self, expr: &Expr) -> bool {
        match &expr.node {
            Node::Null | Node::Bool(_) | Node::Integer(_) | Node::Float(_) | Node::Raise => false,
            Node::Text(text) => self.mode == Mode::Given && self.made(text),
            Node::List(items) => items.iter().any(|item| self.expr(item)),
            Node::Map(entries) => entries.iter().any(|(key, value)| self.expr(key) || self.expr(value)),
            Node::Name(_) | Node::Access(..) => self.path(expr),
            Node::Call(name, arguments) => self.call(name, arguments),
            Node::Filter(base, _, arguments) => self.expr(base) || self.arguments(arguments),
            Node::Test(inner, ..) | Node::Not(inner) | Node::Negative(inner) | Node::Positive(inner) => {
                self.expr(inner)
            }
            Node::And(left, right)
            | Node::Or(left, right)
            | Node::Binary(_, left, right)
            | Node::Coalesce(left, right, _) => self.expr(left) || self.expr(right),
            Node::Ternary(condition, yes, no) => [condition, yes, no].into_iter().any(|part| self.expr(part)),
        }
    }

    fn arguments(&mut self, arguments: &Arguments) -> bool {
        let named = arguments.named.iter().map(|(_, value)| value);
        arguments.positional.iter().chain(named).any(|value| self.expr(value))
    }

    fn call(&mut self, name: &str, arguments: &Arguments) -> bool {
        if (self.found)(Used::Function(name)) {
            return true;
        }
        let outside = self.mode;
        if RENDERING.contains(&name) {
            self.mode = Mode::Given;
        }
        let found = self.arguments(arguments);
        self.mode = outside;
        found
    }

    fn path(&mut self, expr: &Expr) -> bool {
        let mut base = expr;
        let mut first = None;
        while let Node::Access(inner, key) = &base.node {
            if let Key::Computed(key) = key
                && self.expr(key)
            {
                return true;
            }
            first = Some(key);
            base = inner;
        }
        let Node::Name(name) = &base.node else {
            return self.expr(base);
        };
        let key = match first {
            Some(Key::Name(key)) => Some(key.as_str()),
            _ => None,
        };
        (self.found)(Used::Path(name, key)) || self.content(name, key)
    }

    /// A text that `render` renders.
    fn made(&mut self, text: &str) -> bool {
        let outside = std::mem::replace(&mut self.mode, Mode::Made);
        let found = self.text(text);
        self.mode = outside;
        found
    }

    /// What a name holds, if that is rendered.
    fn content(&mut self, name: &str, key: Option<&str>) -> bool {
        match (self.mode, name) {
            (Mode::Plain, _) => false,
            (_, "vars") => {
                let variables = self.variables;
                let named = variables
                    .iter()
                    .filter(|(variable, _)| key.is_none_or(|key| key == variable));
                for (variable, texts) in named {
                    if self.seen.contains(&variable.as_str()) {
                        continue;
                    }
                    self.seen.push(variable);
                    if texts.iter().any(|text| self.made(text)) {
                        return true;
                    }
                }
                false
            }
            (Mode::Given, _) => (self.found)(Used::Unknown),
            (Mode::Made, _) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables() -> Variables {
        let variables = [
            ("plain", "{{ inputs.x }}"),
            ("late", "{{ outputs.a.value }}"),
            ("deep", "{{ vars.late }}"),
            ("round", "{{ vars.round }}"),
            ("time", "{{ now() }}"),
        ];
        let texts = |(name, text): (&str, &str)| (name.to_owned(), vec![text.to_owned()]);
        variables.map(texts).to_vec()
    }

    #[test]
    fn texts_wait_for_what_they_use_and_not_for_what_they_say() {
        for text in [
            "{{ outputs.a.value }}",
            "{{ inputs.x }} {% if tasks.a.state == 'FAILED' %}x{% endif %}",
            "{{ tasks['a'].state }}",
            "{{ taskrun['value'] }}",
            "{{ taskrun.value | upper }}",
            "{{ taskrun }}",
            "{{ inputs[parent.taskrun.value] }}",
            "{% for x in outputs.a.vars.list %}{{ x }}{% endfor %}",
            "{{ errorLogs() }}",
            "{{ render(vars.late) }}",
            "{{ renderOnce(vars['deep']) }}",
            "{{ render(vars) }}",
            "{{ render('{{ outputs.a.value }}') }}",
            "{{ render(inputs.template) }}",
            "{{ true ? 1 : (outputs.a.value ?? 2) }}",
        ] {
            assert!(waits(text, &variables()), "{text}");
        }
        for text in [
            "echo outputs of my parent's error in tasks",
            "{{ inputs.outputs }} {{ vars['parent'] }} {{ inputs['error'] }}",
            "{{ 'outputs' ~ \"error\" }}",
            "{{ taskrun.id }} {{ taskrun.attempt }} {{ outputDir }}",
            "{{ vars.late }}",
            "{{ render(vars.plain) }} {{ render(vars.round) }}",
            "{% raw %}{{ outputs.a }}{% endraw %}",
        ] {
            assert!(!waits(text, &variables()), "{text}");
        }
    }

    #[test]
    fn what_changes_by_itself_varies() {
        for (text, expected) in [
            ("{{ now() | date('HH') == '03' }}", true),
            ("{{ render(vars.time) }}", true),
            ("{{ inputs.x == 'now()' }}", false),
            ("{{ vars.time }}", false),
        ] {
            assert_eq!(varies(text, &variables()), expected, "{text}");
        }
    }
}
