//! One JSON object a line, each with a `type`.

use std::io::Write;

use super::Ui;
use crate::report::Report;

pub(crate) struct Json<W> {
    out: W,
}

impl<W: Write> Json<W> {
    pub(crate) fn new(out: W) -> Self {
        Self { out }
    }
}

impl<W: Write> Ui for Json<W> {
    fn show(&mut self, reports: &[Report]) {
        for report in reports {
            if let Ok(line) = serde_json::to_string(report) {
                let _ = writeln!(self.out, "{line}");
            }
        }
        let _ = self.out.flush();
    }

    fn ask(&mut self, _question: &str) {}

    /// Machines read this, and do not answer.
    fn can_ask(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Line;

    #[test]
    fn one_object_a_line() {
        let mut out = Vec::new();
        let line = Line {
            task: "t".into(),
            attempt: 1,
            time: "2026-11-20T20:00:00.000Z".into(),
            level: "info".into(),
            source: None,
            message: "a\n\"b\"".into(),
            partial: false,
            lossy: false,
        };
        Json::new(&mut out).show(&[
            Report::Execution {
                id: "x".into(),
                flow: "f".into(),
                namespace: "n".into(),
                resumed: false,
                resume: "podrun attach x".into(),
            },
            Report::Log(line),
            Report::Error {
                message: "m".into(),
                exit_code: 2,
            },
        ]);
        insta::assert_snapshot!(String::from_utf8(out).unwrap(), @r#"
        {"type":"execution","id":"x","flow":"f","namespace":"n","resumed":false,"resume":"podrun attach x"}
        {"type":"log","task":"t","attempt":1,"time":"2026-11-20T20:00:00.000Z","level":"info","source":null,"message":"a\n\"b\"","partial":false,"lossy":false}
        {"type":"error","message":"m","exitCode":2}
        "#);
    }
}
