//! What is said about mistakes, and where they are.

use super::*;

#[test]
fn unknown_names_show_the_expression_and_what_there_is() {
    insta::assert_snapshot!(render("a {{ inputs.count }} {{ inputs.fil }}").unwrap_err(), @"built-in: cannot render `{{ inputs.fil }}` in `commands[0]` of task `t`: `inputs` has no `fil`: did you mean `file`?");
    insta::assert_snapshot!(render("{{ outputs.first.outputFiles['o.txt'] }}").unwrap_err(), @"built-in: cannot render `{{ outputs.first.outputFiles['o.txt'] }}` in `commands[0]` of task `t`: `outputs.first.outputFiles` has no `o.txt`: did you mean `out.txt`?");
    insta::assert_snapshot!(render("{{ outputs.first.vars.y.z }}").unwrap_err(), @"built-in: cannot render `{{ outputs.first.vars.y.z }}` in `commands[0]` of task `t`: `outputs.first.vars` has no `y`: did you mean `x`?");
    insta::assert_snapshot!(render("{{ 1 + outputs['with-dash'].nosuch }}").unwrap_err(), @"built-in: cannot render `{{ 1 + outputs['with-dash'].nosuch }}` in `commands[0]` of task `t`: `outputs['with-dash']` has no `nosuch`: known are `vars`");
    insta::assert_snapshot!(render("{{ outputs.first.vars.list[7] }}").unwrap_err(), @"built-in: cannot render `{{ outputs.first.vars.list[7] }}` in `commands[0]` of task `t`: `outputs.first.vars.list` has 2 items and no `7`");
    insta::assert_snapshot!(render("{{ inputs[inputs.text] }}").unwrap_err(), @"built-in: cannot render `{{ inputs[inputs.text] }}` in `commands[0]` of task `t`: `inputs` has no entry of the name in the brackets");
    insta::assert_snapshot!(render("{{ inputs.empty.x }}").unwrap_err(), @"built-in: cannot render `{{ inputs.empty.x }}` in `commands[0]` of task `t`: `inputs.empty` is empty and has no `x`: write `?? 'other'` for another value");
    insta::assert_snapshot!(render("{{ inputs.text.x }}").unwrap_err(), @"built-in: cannot render `{{ inputs.text.x }}` in `commands[0]` of task `t`: `inputs.text` is text and has no `x`");
    insta::assert_snapshot!(render("{{ fromJson('{\"a\": 1}').b }}").unwrap_err(), @r#"built-in: cannot render `{{ fromJson('{"a": 1}').b }}` in `commands[0]` of task `t`: the value has no `b`"#);
    insta::assert_snapshot!(render("{{ nosuch }}").unwrap_err(), @"built-in: cannot render `{{ nosuch }}` in `commands[0]` of task `t`: an expression has no `nosuch`: known are `inputs`, `outputs`, `vars`, `flow`, `execution`, `task`, `taskrun`, `parent`, `parents`, `labels`, `envs`, `trigger`, `workingDir`, `outputDir`, `error`, `errorLogs`, `tasks`; text that only looks like an expression goes between `{% raw %}` and `{% endraw %}`");
    insta::assert_snapshot!(render("{{ nosuch ?? 1 }}").unwrap_err(), @"built-in: cannot render `{{ nosuch ?? 1 }}` in `commands[0]` of task `t`: an expression has no `nosuch`: known are `inputs`, `outputs`, `vars`, `flow`, `execution`, `task`, `taskrun`, `parent`, `parents`, `labels`, `envs`, `trigger`, `workingDir`, `outputDir`, `error`, `errorLogs`, `tasks`; text that only looks like an expression goes between `{% raw %}` and `{% endraw %}`");
    insta::assert_snapshot!(render("{{ trigger.date }}").unwrap_err(), @"built-in: cannot render `{{ trigger.date }}` in `commands[0]` of task `t`: there is no `trigger` here: executions are started by hand: use an input, or write `trigger.date ?? now()`");
    insta::assert_snapshot!(render("{{ inputs.empty ?? raise }}").unwrap_err(), @"built-in: cannot render `{{ inputs.empty ?? raise }}` in `commands[0]` of task `t`: `raise` was reached: nothing before it has a value");
    insta::assert_snapshot!(render("{% if false %}{% set a = 1 %}{% endif %}{{ a }}").unwrap_err(), @"built-in: cannot render `{{ a }}` in `commands[0]` of task `t`: `a` was not set before");
}

#[test]
fn faults_name_the_filter_and_no_value() {
    insta::assert_snapshot!(render("{{ [1] | upper }}").unwrap_err(), @"built-in: cannot render `{{ [1] | upper }}` in `commands[0]` of task `t`: `upper` needs text, not a list");
    insta::assert_snapshot!(render("{{ 'a' * 2 }}").unwrap_err(), @"built-in: cannot render `{{ 'a' * 2 }}` in `commands[0]` of task `t`: `*` needs numbers, not text");
    insta::assert_snapshot!(render("{{ 1 / 0 }}").unwrap_err(), @"built-in: cannot render `{{ 1 / 0 }}` in `commands[0]` of task `t`: `/` divides by zero");
    insta::assert_snapshot!(render("{{ 9223372036854775807 + 1 }}").unwrap_err(), @"built-in: cannot render `{{ 9223372036854775807 + 1 }}` in `commands[0]` of task `t`: the result of `+` does not fit into 64 bits");
    insta::assert_snapshot!(render("{{ 1 > 'a' }}").unwrap_err(), @"built-in: cannot render `{{ 1 > 'a' }}` in `commands[0]` of task `t`: `>` cannot compare a number with text: `| number` makes a number of text");
    insta::assert_snapshot!(render("{{ fromJson('{a') }}").unwrap_err(), @"built-in: cannot render `{{ fromJson('{a') }}` in `commands[0]` of task `t`: `fromJson` needs valid JSON: there is a mistake in line 1");
    insta::assert_snapshot!(render("{{ inputs.text | jq('.') }}").unwrap_err(), @"built-in: cannot render `{{ inputs.text | jq('.') }}` in `commands[0]` of task `t`: `jq` needs JSON, and got other text");
    insta::assert_snapshot!(render("{{ outputs | jq('.[') }}").unwrap_err(), @"built-in: cannot render `{{ outputs | jq('.[') }}` in `commands[0]` of task `t`: `jq` needs a valid jq expression without modules");
    insta::assert_snapshot!(render("{{ outputs | jq('.first + 1') }}").unwrap_err(), @"built-in: cannot render `{{ outputs | jq('.first + 1') }}` in `commands[0]` of task `t`: `jq` failed: the expression does not fit the value");
    insta::assert_snapshot!(render("{{ secret('NOSUCH') }}").unwrap_err(), @"built-in: cannot render `{{ secret('NOSUCH') }}` in `commands[0]` of task `t`: there is no secret `NOSUCH`");
    insta::assert_snapshot!(render("{{ kv('nosuch') }}").unwrap_err(), @"built-in: cannot render `{{ kv('nosuch') }}` in `commands[0]` of task `t`: `kv` has no value of that key: add it to the file given with `--kv`, or write `errorOnMissing=false`");
    insta::assert_snapshot!(render("{{ read('/etc/passwd') }}").unwrap_err(), @"built-in: cannot render `{{ read('/etc/passwd') }}` in `commands[0]` of task `t`: that is no file of this execution");
    insta::assert_snapshot!(render("{{ inputs.text | date('yyyy') }}").unwrap_err(), @"built-in: cannot render `{{ inputs.text | date('yyyy') }}` in `commands[0]` of task `t`: `date` needs a date such as `2026-11-21T03:04:05Z`: name another form with `existingFormat`");
    insta::assert_snapshot!(render("{{ now() | date('YYYY') }}").unwrap_err(), @"built-in: cannot render `{{ now() | date('YYYY') }}` in `commands[0]` of task `t`: `date` has a pattern with `YYYY`, which is not supported: write `y` for the year of the date");
    insta::assert_snapshot!(render("{{ now('yyyy', timeZone='Nowhere') }}").unwrap_err(), @"built-in: cannot render `{{ now('yyyy', timeZone='Nowhere') }}` in `commands[0]` of task `t`: `now` needs a time zone such as `UTC`, `Europe/Paris` or `+02:00`");
    insta::assert_snapshot!(render("{{ now() | dateAdd(1, 'DAY') }}").unwrap_err(), @"built-in: cannot render `{{ now() | dateAdd(1, 'DAY') }}` in `commands[0]` of task `t`: `dateAdd` needs a unit: NANOS, MICROS, MILLIS, SECONDS, MINUTES, HOURS, HALF_DAYS, DAYS, WEEKS, MONTHS, YEARS, DECADES or CENTURIES");
    insta::assert_snapshot!(render("{{ 'abc' | slice(1, 9) }}").unwrap_err(), @"built-in: cannot render `{{ 'abc' | slice(1, 9) }}` in `commands[0]` of task `t`: `slice` cannot take from 1 to 9 of something with length 3");
    insta::assert_snapshot!(render("{{ 0..9999999 }}").unwrap_err(), @"built-in: cannot render `{{ 0..9999999 }}` in `commands[0]` of task `t`: a range has at most 1000000 items");
    insta::assert_snapshot!(render("{{ render('{{ inputs.nosuch }}') }}").unwrap_err(), @"built-in: cannot render `{{ render('{{ inputs.nosuch }}') }}` in `commands[0]` of task `t`: in the text given to `render`: `inputs` has no `nosuch`: known are `count`, `empty`, `file`, `flag`, `text`");
    insta::assert_snapshot!(render("{{ render(vars.broken) }}").unwrap_err(), @"built-in: cannot render `{{ render(vars.broken) }}` in `commands[0]` of task `t`: in the text given to `render`: `inputs` has no `nosuch`: known are `count`, `empty`, `file`, `flag`, `text`");
    insta::assert_snapshot!(render("{{ errorLogs() }}").unwrap_err(), @"built-in: cannot render `{{ errorLogs() }}` in `commands[0]` of task `t`: `errorLogs` can be used in the tasks of `errors` only");
}

#[test]
fn mistakes_are_found_before_anything_runs() {
    let check = |source: &str| check(source).unwrap_err();
    insta::assert_snapshot!(check("{{ inputs.fil }}"), @"built-in: cannot render `{{ inputs.fil }}` in `commands[0]` of task `t`: `inputs` has no `fil`: did you mean `file`?");
    insta::assert_snapshot!(check("{{ outputs.second.vars.x }}"), @"built-in: cannot render `{{ outputs.second.vars.x }}` in `commands[0]` of task `t`: `outputs` (tasks before this one) has no `second`: known are `first`, `with-dash`");
    insta::assert_snapshot!(check("{{ workingdir }}"), @"built-in: cannot render `{{ workingdir }}` in `commands[0]` of task `t`: an expression has no `workingdir`: did you mean `workingDir`?");
    insta::assert_snapshot!(check("{{ inputs.file "), @"built-in: cannot render `{{ inputs.file ` in `commands[0]` of task `t`: it never ends: `}}` is missing");
    insta::assert_snapshot!(check("{{ inputs.file | uper }}"), @"built-in: cannot render `{{ inputs.file | uper }}` in `commands[0]` of task `t`: unknown filter `uper`: did you mean `upper`?");
    insta::assert_snapshot!(check("{{ frmJson('1') }}"), @"built-in: cannot render `{{ frmJson('1') }}` in `commands[0]` of task `t`: unknown function `frmJson`: did you mean `fromJson`?");
    insta::assert_snapshot!(check("{{ 1 is emty }}"), @"built-in: cannot render `{{ 1 is emty }}` in `commands[0]` of task `t`: unknown test `emty`: did you mean `empty`?");
    insta::assert_snapshot!(check("{{ http('https://x') }}"), @"built-in: cannot render `{{ http('https://x') }}` in `commands[0]` of task `t`: the function `http` is not supported: an expression makes no requests: fetch it in a task and use its output");
    insta::assert_snapshot!(check("{{ now() | date(fromat='x') }}"), @"built-in: cannot render `{{ now() | date(fromat='x') }}` in `commands[0]` of task `t`: `date` has no argument `fromat`: did you mean `format`?");
    insta::assert_snapshot!(check("{{ 'a' | replace }}"), @"built-in: cannot render `{{ 'a' | replace }}` in `commands[0]` of task `t`: `replace` needs the argument `replace_pairs`");
    insta::assert_snapshot!(check("{{ 'a' | upper(1) }}"), @"built-in: cannot render `{{ 'a' | upper(1) }}` in `commands[0]` of task `t`: `upper` has too many arguments: it takes none");
    insta::assert_snapshot!(check("{{ 'a' | startsWith('a', value='b') }}"), @"built-in: cannot render `{{ 'a' | startsWith('a', value='b') }}` in `commands[0]` of task `t`: argument `value` of `startsWith` is given twice");
    insta::assert_snapshot!(check("{{ inputs.text.startsWith('a') }}"), @"built-in: cannot render `{{ inputs.text.startsWith('a') }}` in `commands[0]` of task `t`: `.startsWith(` calls a method, and there are none: use a filter, `| startsWith`");
    insta::assert_snapshot!(check("{{ taskrun.value }}"), @"built-in: cannot render `{{ taskrun.value }}` in `commands[0]` of task `t`: there is no `taskrun.value` here: it is there in the tasks of a `ForEach` only");
    insta::assert_snapshot!(check("{{ parent.taskrun.value }}"), @"built-in: cannot render `{{ parent.taskrun.value }}` in `commands[0]` of task `t`: there is no `parent` here: it is there in what is inside of a `ForEach` within another one, or of an `If`, `Switch`, `Parallel` or `Sequential` within a `ForEach`; a round's value is `taskrun.value`");
    insta::assert_snapshot!(check("{{ error.message }}"), @"built-in: cannot render `{{ error.message }}` in `commands[0]` of task `t`: there is no `error` here: it is there in the tasks of `errors` only");
    insta::assert_snapshot!(check("{{ flow.name }}"), @"built-in: cannot render `{{ flow.name }}` in `commands[0]` of task `t`: `flow` has no `name`: known are `id`, `namespace`");
    insta::assert_snapshot!(check("{{ vars.nosuch }}"), @"built-in: cannot render `{{ vars.nosuch }}` in `commands[0]` of task `t`: `vars` has no `nosuch`: known are `greeting`, `twice`");
    insta::assert_snapshot!(check("{{ loop.index }}"), @"built-in: cannot render `{{ loop.index }}` in `commands[0]` of task `t`: an expression has no `loop`: known are `inputs`, `outputs`, `vars`, `flow`, `execution`, `task`, `taskrun`, `parent`, `parents`, `labels`, `envs`, `trigger`, `workingDir`, `outputDir`, `error`, `errorLogs`, `tasks`; text that only looks like an expression goes between `{% raw %}` and `{% endraw %}`");
    insta::assert_snapshot!(check("{{ }}"), @"built-in: cannot render `{{ }}` in `commands[0]` of task `t`: found the end where a value should be");
    insta::assert_snapshot!(check("{{ 1 2 }}"), @"built-in: cannot render `{{ 1 2 }}` in `commands[0]` of task `t`: found a number where an operator or the end should be");
    insta::assert_snapshot!(check("{{ a in b }}"), @"built-in: cannot render `{{ a in b }}` in `commands[0]` of task `t`: `in` is not an operator here: write `isIn`");
    insta::assert_snapshot!(check("{{ (1 }}"), @"built-in: cannot render `{{ (1 }}` in `commands[0]` of task `t`: `(` is never closed");
    insta::assert_snapshot!(check("docker ps --format '{{ .Names }}'"), @"built-in: cannot render `{{ .Names }}` in `commands[0]` of task `t`: a name cannot begin with a dot; text that only looks like an expression goes between `{% raw %}` and `{% endraw %}`");
    insta::assert_snapshot!(check("{% if true %}"), @"built-in: cannot render `{% if true %}` in `commands[0]` of task `t`: `{% if %}` never ends: add `{% endif %}`");
    insta::assert_snapshot!(check("{% endif %}"), @"built-in: cannot render `{% endif %}` in `commands[0]` of task `t`: `{% endif %}` has no beginning");
    insta::assert_snapshot!(check("{% for x of [1] %}{% endfor %}"), @"built-in: cannot render `{% for x of [1] %}` in `commands[0]` of task `t`: write `{% for name in list %}`");
    insta::assert_snapshot!(check("{% esleif true %}"), @"built-in: cannot render `{% esleif true %}` in `commands[0]` of task `t`: unknown tag `esleif`: did you mean `elseif`?");
    insta::assert_snapshot!(check("{% raw %}{{ a }}"), @"built-in: cannot render `{% raw %}` in `commands[0]` of task `t`: `raw` never ends: add `{% endraw %}`");
    insta::assert_snapshot!(check(&format!("{{{{ {}1{} }}}}", "(".repeat(90), ")".repeat(90))), @"built-in: cannot render `{{ ((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((1))))))))))))))))))))))))))…` in `commands[0]` of task `t`: this is too long or nested too deeply: split it with `{% set name = … %}`");
    insta::assert_snapshot!(check("{{ \0 }}"), @r"built-in: cannot render `{{ \0 }}` in `commands[0]` of task `t`: `\0` has no meaning here");
}

#[test]
fn all_mistakes_of_a_text_are_found() {
    let source = "{{ inputs.fil }} {{ 1 | uper }} {{ a b }} {{ outputs.second.x ?? 1 }} {{ workingdir }}";
    let problems = renderer().problems(&text(source), &known());
    let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(problems.join("\n"), @"
built-in: cannot render `{{ inputs.fil }}` in `commands[0]` of task `t`: `inputs` has no `fil`: did you mean `file`?
built-in: cannot render `{{ 1 | uper }}` in `commands[0]` of task `t`: unknown filter `uper`: did you mean `upper`?
built-in: cannot render `{{ a b }}` in `commands[0]` of task `t`: found `b` where an operator or the end should be
built-in: cannot render `{{ workingdir }}` in `commands[0]` of task `t`: an expression has no `workingdir`: did you mean `workingDir`?
");
}

#[test]
fn names_of_the_text_itself_are_known() {
    assert_eq!(
        check("{% for a in [1] %}{{ a.b ?? 1 }}{{ loop.index }}{% endfor %}{% set c = 1 %}{{ c }}"),
        Ok(())
    );
    assert!(check("{% for a in [1] %}{% endfor %}{{ a }}").is_err());
    let inside = Known {
        each: true,
        parents: true,
        errors: true,
        ..known()
    };
    let source =
        "{{ taskrun.value }} {{ parent.taskrun.value }} {{ parents[0] }} {{ error.message }} {{ errorLogs() }}";
    assert_eq!(renderer().problems(&text(source), &inside), []);
}

#[test]
fn places_are_those_of_the_expression() {
    let problem = |yaml: &str| {
        let problem = renderer().render(&written(yaml), &scope()).unwrap_err();
        problem.to_string().split(": cannot").next().unwrap().to_owned()
    };
    assert_eq!(
        problem("script: {{ inputs.fil }}\n".replace("{{", "a {{").as_str()),
        "flow.yaml:1:11"
    );
    assert_eq!(
        problem("script: |\n  a\n\n    b {{ flow.id }} {{ inputs.fil }}\n"),
        "flow.yaml:4:21"
    );
    assert_eq!(
        problem("script: >-\n  a {{ flow.id }}\n  b\n  {{ inputs.fil }}\n"),
        "flow.yaml:4:3"
    );
    assert_eq!(problem("script: \"ä\\n\\t{{ inputs.fil }}\"\n"), "flow.yaml:1:15");
    assert_eq!(problem("script: 'it''s {{ inputs.fil }}'\n"), "flow.yaml:1:16");
    assert_eq!(problem("a: &x |\n  {{ inputs.fil }}\nscript: *x\n"), "flow.yaml:2:3");
    assert_eq!(problem("script: |\n  x\n  {% if a.b %}{% endif %}\n"), "flow.yaml:3:3");
}

#[test]
fn a_jq_program_without_an_end_is_given_up() {
    let error = render("{{ 1 | jq('last(repeat(1))') }}").unwrap_err();
    assert!(error.ends_with("`jq` has not ended within 5 s"), "{error}");
}

#[test]
fn names_of_other_systems_are_refused_with_what_to_use_instead() {
    for (expression, cure) in [
        ("{{ globals.x }}", "an expression has no `globals`: use `kv('NAME')`"),
        (
            "{{ flow.revision }}",
            "`flow` has no `revision`: known are `id`, `namespace`",
        ),
        ("{{ taskrun.parentId }}", "`taskrun` has no `parentId`"),
    ] {
        let error = check(expression).unwrap_err();
        assert!(error.contains(cure), "{error}");
    }
}
