//! What expressions mean, as tables.

use super::*;

/// Every expression renders to the text beside it.
#[track_caller]
fn renders(cases: &[(&str, &str)]) {
    for (source, wanted) in cases {
        let rendered = render(source);
        assert_eq!(rendered.as_deref(), Ok(*wanted), "{source}");
        assert_eq!(check(source), Ok(()), "{source}");
    }
}

#[test]
fn values_are_rendered() {
    renders(&[
        (
            "cp {{ inputs.file }} {{workingDir}}/x\n",
            "cp podrun:///inputs/file /podrun/work/x\n",
        ),
        ("{{ outputs.first.outputFiles['out.txt'] }}", "podrun:///f"),
        ("{{ outputs['with-dash'].vars.y }}", "2"),
        ("{{ outputs['with' ~ '-dash'].vars['y'] }}", "2"),
        ("{{ outputs.first.vars.list[1] }}", "2"),
        ("{{ inputs.count * 2 }}Gi", "6Gi"),
        ("a & b < {{ inputs.count }}", "a & b < 3"),
        ("[{{ inputs.empty }}]", "[]"),
        ("{{ inputs.flag }} {{ true }} {{ null }}", "true true "),
        ("{{ outputs.first.vars }}", "{\"list\":[1,2],\"x\":\"1\"}"),
        ("{{ 1.0 }} {{ 2.5 }} {{ 10L }}", "1.0 2.5 10"),
        ("{{inputs.count}}{{inputs.count}}", "33"),
    ]);
}

#[test]
fn operators_bind_as_in_pebble() {
    renders(&[
        ("{{ 2 + 2 / (10 % 3) * (8 - 1) }}", "16"),
        ("{{ 7 / 2 }} {{ 7.0 / 2 }} {{ -7 / 2 }} {{ 7 % 4 }}", "3 3.5 -3 3"),
        ("{{ 1 + 2 * 3 - 4 }}", "3"),
        ("{{ 10 - 3 - 2 }}", "5"),
        ("{{ 'a' ~ 1 ~ null ~ true }}", "a1true"),
        ("{{ 'a' + 1 }} {{ 1 + '2' }} {{ '3' * '4' }}", "a1 12 12"),
        ("{{ [1] + 2 }} {{ [1, 2, 3] - [2] }}", "[1,2] [1,3]"),
        ("{{ -inputs.count }} {{ +3 }} {{ 5 - -3 }}", "-3 3 8"),
        (
            "{{ 1 == 1.0 }} {{ 1 == '1' }} {{ 'true' != true }} {{ 1 == '1.0' }} {{ 'a' equals 'a' }} {{ 1 != 2 }}",
            "true true false false true true",
        ),
        ("{{ null == null }} {{ [1, 2] == [1, 2] }}", "true true"),
        (
            "{{ 2 > 1 }} {{ 'b' > 'a' }} {{ 2 <= 2 }} {{ null < 1 }}",
            "true true true false",
        ),
        ("{{ 1 + 1 == 2 and 3 > 2 }}", "true"),
        (
            "{{ true and false or true }} {{ not false and false }} {{ not (false and false) }}",
            "true false true",
        ),
        (
            "{{ [1, 2] contains 2 }} {{ 'abc' contains 'b' }} {{ {'a': 1} contains 'a' }}",
            "true true true",
        ),
        (
            "{{ ['a', 'b', 'c'] contains ['a', 'c'] }} {{ null contains 1 }}",
            "true false",
        ),
        ("{{ 'a' isIn ['a', 'b'] }} {{ 'c' isNotIn ['a'] }}", "true true"),
        ("{{ 'a' ~ 'b' | upper }}", "AB"),
        ("{{ 1 + [1, 2] | length }}", "3"),
        (
            "{{ 0..3 }} {{ 3..1 }} {{ 'a'..'c' }}",
            "[0,1,2,3] [] [\"a\",\"b\",\"c\"]",
        ),
        ("{{ inputs.count > 2 ? 'many' : 'few' }}", "many"),
        ("{{ false ? 1 : true ? 2 : 3 }}", "2"),
        ("{{ (inputs.text | split(' '))[1] }}", "b"),
    ]);
}

#[test]
fn what_is_missing_can_be_replaced() {
    renders(&[
        ("{{ inputs.empty ?? 'none' }}", "none"),
        ("{{ inputs.count ?? 'none' }}", "3"),
        ("{{ outputs.first.nosuch.deeper ?? 'z' }}", "z"),
        ("{{ outputs.nosuch['a'].b[0] ?? 'z' }}", "z"),
        ("{{ inputs.count.deeper ?? 'z' }}", "z"),
        ("{{ trigger.date ?? flow.id }}", "f"),
        ("{{ trigger.date ?? inputs.empty ?? 'last' }}", "last"),
        ("{{ trigger.date ?? (now() | date('yyyy')) }}", "2026"),
        ("{{ trigger.date ?? 'a' | upper }}", "A"),
        ("{{ (outputs.nosuch.vars | jq('.a') | first) ?? 'z' }}", "z"),
        ("{{ (outputs.nosuch.count + 1) ?? 0 }}", "0"),
        ("{{ false ?? true }} {{ 0 ?? 1 }} [{{ '' ?? 'x' }}]", "false 0 []"),
        ("[{{ inputs.empty ??? 'x' }}] {{ trigger.date ??? 'x' }}", "[] x"),
        ("{{ inputs.count ?? raise }}", "3"),
        (
            "{{ outputs.first.nosuch | default('d') }} {{ '' | default('d') }} {{ 0 | default(1) }}",
            "d d 0",
        ),
        ("{{ inputs.count ?? secret('NOSUCH') }}", "3"),
        ("{{ true ? 1 : secret('NOSUCH') }}", "1"),
    ]);
}

#[test]
fn tests_take_what_is_missing() {
    renders(&[
        (
            "{{ outputs.nosuch is defined }} {{ outputs.first is defined }}",
            "false true",
        ),
        ("{{ outputs.nosuch is null }} {{ trigger.date is empty }}", "true true"),
        (
            "{{ inputs.empty is not null }} {{ inputs.count is not empty }}",
            "false true",
        ),
        ("{{ 2 is even and 3 is odd }} {{ 2 is not even }}", "true false"),
        (
            "{{ {} is map }} {{ [] is iterable }} {{ '[1]' is json }}",
            "true true true",
        ),
    ]);
}

#[test]
fn literals() {
    renders(&[
        (
            "{{ {'f': outputs.first.vars.x, 'g': {'h': [1, true, null]}} }}",
            "{\"f\":\"1\",\"g\":{\"h\":[1,true,null]}}",
        ),
        ("{{ {'a': {'b': 1}}}}", "{\"a\":{\"b\":1}}"),
        ("{{ {'a' ~ 1: 2}['a1'] }}", "2"),
        ("{{ [] }} {{ {} }}", "[] {}"),
        (
            "{{ 'it\\'s' }} {{ \"say \\\"x\\\"\" }} {{ 'a\\nb' }} {{ '}}' }}",
            "it's say \"x\" a\\nb }}",
        ),
        (
            "{{ \"n: #{inputs.count + 1}, #{\"#{'x'}\"}\" }} {{ '#{1}' }}",
            "n: 4, x #{1}",
        ),
        ("{{ 'tab\tand\nline ä \u{1f600}' }}", "tab\tand\nline ä \u{1f600}"),
    ]);
}

#[test]
fn tags() {
    renders(&[
        ("{% if inputs.flag %}yes{% else %}no{% endif %}", "yes"),
        (
            "{% if inputs.count == 1 %}1{% elseif inputs.count == 3 %}3{% endif %}",
            "3",
        ),
        (
            "{% if inputs.empty %}a{% elseif trigger is defined %}b{% else %}c{% endif %}",
            "c",
        ),
        ("{% for x in [1, 2] %}<{{ x }}>{% endfor %}", "<1><2>"),
        ("{% for x in [] %}{{ x }}{% else %}none{% endfor %}", "none"),
        (
            "{% for e in {'b': 2, 'a': 1} %}{{ e.key }}={{ e.value }};{% endfor %}",
            "a=1;b=2;",
        ),
        (
            "{% for x in 'a'..'b' %}{{ loop.index }}/{{ loop.length }}{{ loop.first }}{{ loop.last }}{{ loop.revindex }} \
             {% endfor %}",
            "0/2truefalse1 1/2falsetrue0 ",
        ),
        (
            "{% for x in [1, 2] %}{% for x in [3] %}{{ x }}{% endfor %}{{ x }}{% endfor %}",
            "3132",
        ),
        ("{% for x in inputs.empty %}{{ x }}{% endfor %}", ""),
        ("{% set a = inputs.count + 1 %}{{ a }} {{ a * 2 }}", "4 8"),
        (
            "{% set n = 0 %}{% for x in [1, 2, 3] %}{% set n = n + x %}{% endfor %}{{ n }}",
            "6",
        ),
        ("{% set m = {'a': [5]} %}{{ m.a[0] }} {{ m['b'] ?? 'no' }}", "5 no"),
        ("{% for x in [1] %}{% set x = x + 1 %}{{ x }}{% endfor %}", "2"),
        ("a\n{% if true %}\nb\n{% endif %}\nc\n", "a\n\nb\n\nc\n"),
        (
            "a  {{- 1 -}}  b {%- if true -%} c {%- endif %} d",
            "a1b c d".replace("b c", "bc").leak(),
        ),
    ]);
}

#[test]
fn text_outside_is_left_alone() {
    let shell = "echo ${#name} $((1 + 2)) ${x%%.*} '{#' #}' {\n";
    renders(&[
        (shell, shell),
        ("echo ${#name} {{ inputs.count }}\n", "echo ${#name} 3\n"),
        ("\r\n\t{{ 1 }}\r\n\n", "\r\n\t1\r\n\n"),
        (
            "{% raw %}{{ .Names }} {% if %}{% endraw %} {{ 1 }}",
            "{{ .Names }} {% if %} 1",
        ),
        ("f\"{% verbatim %}{{x}}{% endverbatim %}\"", "f\"{{x}}\""),
        ("{%- raw -%} {{ a }} {%- endraw -%} b", "{{ a }} b"),
        ("} }} %} {{ 1 }} }}", "} }} %} 1 }}"),
    ]);
}

#[test]
fn a_single_expression_keeps_its_type() {
    assert_eq!(evaluate("{{ inputs.count }}"), json!(3));
    assert_eq!(evaluate("{{ [1, inputs.empty, 'a'] }}"), json!([1, null, "a"]));
    assert_eq!(evaluate("{{ outputs.first.vars }}"), json!({"x": "1", "list": [1, 2]}));
    assert_eq!(evaluate("{{ inputs.flag }}"), json!(true));
    assert_eq!(evaluate("{{ inputs.empty }}"), Value::Null);
    assert_eq!(evaluate("{{ 1.5 }}"), json!(1.5));
    assert_eq!(evaluate("{{ inputs.count ?? 1 }}"), json!(3));
    assert_eq!(evaluate(" {{ inputs.count }}"), json!(" 3"));
    assert_eq!(evaluate("{{ 1 }}{{ 2 }}"), json!("12"));
    assert_eq!(evaluate("{% if true %}1{% endif %}"), json!("1"));
    assert_eq!(evaluate("plain"), json!("plain"));
}

#[test]
fn truth() {
    for yes in [
        json!(true),
        json!(1),
        json!(-0.5),
        json!("x"),
        json!("true"),
        json!([0]),
        json!({"a": null}),
    ] {
        assert!(truthy(&yes), "{yes}");
    }
    let no = [
        json!(false),
        json!(0),
        json!(0.0),
        json!(-0.0),
        json!(""),
        json!(" "),
        json!("false"),
        json!("0"),
        json!("-0"),
        json!("null"),
        json!(null),
        json!([]),
        json!({}),
    ];
    for no in no {
        assert!(!truthy(&no), "{no}");
    }
}

#[test]
fn rendering_what_was_rendered() {
    renders(&[
        ("{{ vars.greeting }}", "hello {{ flow.namespace }}"),
        ("{{ render(vars.greeting) }}", "hello company.team"),
        ("{{ render(vars.twice) }}", "hello company.team!"),
        (
            "{{ render(vars.twice, recursive=false) }}",
            "hello {{ flow.namespace }}!",
        ),
        ("{{ render({'a': ['{{ 1 + 1 }}', 3]}) }}", "{\"a\":[\"2\",3]}"),
        ("{{ render('{{ trigger.date ?? flow.id }}') }}", "f"),
    ]);
}

#[test]
fn each_and_errors() {
    let mut scope = scope();
    scope.insert("errorLogs".into(), json!([{"message": "no"}]));
    scope.insert("taskrun".into(), json!({"value": "b"}));
    scope.insert(
        "parents".into(),
        json!([{"taskrun": {"value": "in"}}, {"taskrun": {"value": "out"}}]),
    );
    scope.insert(crate::scope::ROUNDS.into(), json!(["out", "in", "b"]));
    scope.insert("outputs".into(), json!({"t": {"out": {"in": {"b": {"value": 7}}}}}));
    let render = |source: &str| renderer().render(&text(source), &scope).unwrap();
    assert_eq!(render("{{ currentEachOutput(outputs.t).value }}"), "7");
    assert_eq!(render("{{ errorLogs()[0].message }} {{ errorLogs | length }}"), "no 1");
    assert_eq!(
        render("{{ outputs.t[parents[1].taskrun.value]['in'][taskrun.value].value }}"),
        "7"
    );
}

#[test]
fn random_values_have_their_form() {
    assert_eq!(render("{{ uuid() }}").unwrap(), "24924924-9249-4492-8924-924924924924");
    assert_eq!(render("{{ id() }}").unwrap().len(), 22);
    assert_eq!(render("{{ randomInt(-5, 5) >= -5 }}").unwrap(), "true");
}

#[test]
fn dates() {
    let moment = "'2026-07-05T09:08:07.123456Z'";
    for (pattern, wanted) in [
        ("yy M d D H h a m s S", "26 7 5 186 9 9 AM 8 7 1"),
        ("MMM MMMM EEE EEEE", "Jul July Sun Sunday"),
        ("yyyyMMddHHmmssSSS", "20260705090807123"),
        ("yyyy-MM-dd''HH 'o''clock'", "2026-07-05'09 o'clock"),
        ("XXX xxx Z xx VV", "Z +00:00 +0000 +0000 UTC"),
        ("iso", "2026-07-05T09:08:07.123456Z"),
        ("iso_sec", "2026-07-05T09:08:07Z"),
        ("sql", "2026-07-05 09:08:07.123456"),
        ("sql_seq", "2026-07-05 09:08:07"),
        ("iso_date", "2026-07-05Z"),
        ("iso_local_date", "2026-07-05"),
        ("iso_local_time", "09:08:07.123456"),
        ("iso_time", "09:08:07.123456Z"),
        ("iso_local_date_time", "2026-07-05T09:08:07.123456"),
        ("iso_date_time", "2026-07-05T09:08:07.123456Z[UTC]"),
        ("iso_instant", "2026-07-05T09:08:07.123456Z"),
        ("iso_ordinal_date", "2026-186Z"),
        ("iso_week_date", "2026-W27-7Z"),
        ("rfc_1123_date_time", "Sun, 5 Jul 2026 09:08:07 GMT"),
    ] {
        let source = format!("{{{{ {moment} | date(\"{pattern}\") }}}}");
        assert_eq!(render(&source).as_deref(), Ok(wanted), "{pattern}");
    }
    renders(&[
        ("{{ '2026-07-05' | date('sql_seq') }}", "2026-07-05 00:00:00"),
        (
            "{{ '2026-07-05T10:00:00' | date('iso_sec', 'Europe/Paris') }}",
            "2026-07-05T10:00:00+02:00",
        ),
        (
            "{{ '2026-07-05T10:00:00+05:30' | date('iso_sec') }}",
            "2026-07-05T04:30:00Z",
        ),
        (
            "{{ '2026-07-05T10:00:00+02:00[Europe/Paris]' | timestamp }}",
            "1783238400",
        ),
        (
            "{{ 0 | date('iso_sec', timeZone='+02:00') }}",
            "1970-01-01T02:00:00+02:00",
        ),
        (
            "{{ '05/07/2026 3:04 PM' | date('iso_sec', existingFormat='dd/MM/yyyy h:mm a') }}",
            "2026-07-05T15:04:00Z",
        ),
        (
            "{{ '20260705' | date('iso_local_date', existingFormat='yyyyMMdd') }}",
            "2026-07-05",
        ),
        (
            "{{ '2026-07-05 01:02:03+0200' | date('iso_sec', existingFormat='yyyy-MM-dd HH:mm:ssXX') }}",
            "2026-07-04T23:02:03Z",
        ),
        (
            "{{ '2026-07-05T01Z' | date('iso_sec', existingFormat=\"yyyy-MM-dd'T'HHXXX\") }}",
            "2026-07-05T01:00:00Z",
        ),
        (
            "{{ '2026-01-31T00:00:00Z' | dateAdd(1, 'MONTHS', 'iso_local_date') }}",
            "2026-02-28",
        ),
        (
            "{{ '2026-01-31T00:00:00Z' | dateAdd(-90, 'MINUTES', 'iso_sec') }}",
            "2026-01-30T22:30:00Z",
        ),
    ]);
}
