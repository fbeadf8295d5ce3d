//! From the bytes of a container's log to events: lines, parts of long lines, cursors, and the line protocol of the
//! scripts' libraries. Pure.

use crate::contract::{Error, Event, Level, LogLine, Metric, Output};
use jiff::Timestamp;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::VecDeque;

/// Longest text of one event.
const PART: usize = 64 * 1024;
/// How far timestamps of interleaved streams go back: reconnecting asks from so many seconds before the cursor.
pub(crate) const OVERLAP_SECONDS: i64 = 2;
/// Lines whose identity is remembered to tell equal ones apart.
const RECENT: usize = 4096;
/// Text held back while the cursor's line is looked for.
const HELD: usize = 8 * 1024 * 1024;

/// A piece of a line, as the API sends it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Part {
    /// When the line was written; none for a fragment without a timestamp.
    pub(crate) time: Option<Timestamp>,
    /// Position among the parts of its line.
    pub(crate) index: u32,
    pub(crate) bytes: Vec<u8>,
    /// The line ends here.
    pub(crate) end: bool,
}

/// Cuts a log stream with timestamps into parts.
#[derive(Debug, Default)]
pub(crate) struct Splitter {
    buffer: Vec<u8>,
    time: Option<Timestamp>,
    index: u32,
    in_line: bool,
}

impl Splitter {
    /// Takes the next bytes of the stream and returns the parts that are complete.
    pub(crate) fn feed(&mut self, mut data: &[u8]) -> Vec<Part> {
        let mut parts = Vec::new();
        while !data.is_empty() {
            let newline = data.iter().position(|b| *b == b'\n');
            let (line, rest) = match newline {
                Some(at) => (
                    data.get(..at).unwrap_or_default(),
                    data.get(at + 1..).unwrap_or_default(),
                ),
                None => (data, Default::default()),
            };
            data = rest;
            self.buffer.extend_from_slice(line);
            self.start();
            while self.in_line && self.buffer.len() > PART {
                let at = boundary(&self.buffer, PART);
                let bytes = self.buffer.drain(..at).collect();
                parts.push(self.part(bytes, false));
            }
            if newline.is_some() {
                // A line too short to hold a timestamp still ends here.
                self.in_line = true;
                let bytes = std::mem::take(&mut self.buffer);
                parts.push(self.part(bytes, true));
            }
        }
        parts
    }

    /// What is left when the stream ends within a line: a line whose end the container never wrote.
    pub(crate) fn finish(&mut self) -> Option<Part> {
        self.start();
        if !self.in_line {
            return None;
        }
        let bytes = std::mem::take(&mut self.buffer);
        Some(self.part(bytes, true))
    }

    fn start(&mut self) {
        if self.in_line {
            return;
        }
        let space = self.buffer.iter().take(64).position(|b| *b == b' ');
        if let Some(at) = space {
            let time = std::str::from_utf8(self.buffer.get(..at).unwrap_or_default())
                .ok()
                .and_then(|t| t.parse().ok());
            if time.is_some() {
                self.buffer.drain(..=at);
            }
            self.time = time;
            self.in_line = true;
        } else if self.buffer.len() >= 64 {
            self.in_line = true;
        }
    }

    fn part(&mut self, bytes: Vec<u8>, end: bool) -> Part {
        let part = Part {
            time: self.time,
            index: self.index,
            bytes,
            end,
        };
        if end {
            (self.time, self.index, self.in_line) = (None, 0, false);
        } else {
            self.index += 1;
        }
        part
    }
}

/// The largest cut at or below `limit` that does not split a UTF-8 character.
fn boundary(bytes: &[u8], limit: usize) -> usize {
    (limit.saturating_sub(3)..=limit)
        .rev()
        .find(|at| bytes.get(*at).is_none_or(|b| b & 0xC0 != 0x80))
        .unwrap_or(limit)
}

/// A position in the log of one pod: the last line, or part of one, that the host has.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Cursor {
    /// Tells pods apart that had the same name.
    pub(crate) pod: String,
    pub(crate) line: LineId,
    /// Parts of the line that the host has.
    pub(crate) parts: u32,
    /// The host has all of the line.
    pub(crate) whole: bool,
    /// The init container whose log the line is in; the script's if there is none.
    pub(crate) container: Option<String>,
}

/// Names one line: timestamps repeat and go back where two streams interleave.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LineId {
    pub(crate) time: Timestamp,
    hash: u32,
    /// How many lines with this time and hash stand before it.
    ordinal: u32,
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let LineId { time, hash, ordinal } = &self.line;
        let end = if self.whole { 'e' } else { 'p' };
        write!(
            f,
            "1.{}.{}.{hash:08x}.{ordinal}.{}{end}",
            self.pod,
            time.as_nanosecond(),
            self.parts
        )?;
        self.container.as_ref().map_or(Ok(()), |name| write!(f, ".{name}"))
    }
}

impl std::str::FromStr for Cursor {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        parse(text).ok_or_else(|| Error::InvalidArgument("`after` is not a cursor that this runner gave out".into()))
    }
}

fn parse(text: &str) -> Option<Cursor> {
    let fields: Vec<&str> = text.split('.').collect();
    let (pod, time, hash, ordinal, end, container) = match fields[..] {
        ["1", pod, time, hash, ordinal, end] => (pod, time, hash, ordinal, end, None),
        // The name of a container has no dot in it.
        ["1", pod, time, hash, ordinal, end, container] => (pod, time, hash, ordinal, end, Some(container.to_owned())),
        _ => return None,
    };
    let (parts, whole) = match end.strip_suffix('e') {
        Some(parts) => (parts, true),
        None => (end.strip_suffix('p')?, false),
    };
    Some(Cursor {
        pod: pod.to_owned(),
        line: LineId {
            time: Timestamp::from_nanosecond(time.parse().ok()?).ok()?,
            hash: u32::from_str_radix(hash, 16).ok()?,
            ordinal: ordinal.parse().ok()?,
        },
        parts: parts.parse().ok()?,
        whole,
        container,
    })
}

/// Short name of a pod's UID for cursors.
pub(crate) fn pod_mark(uid: &str) -> String {
    format!("{:08x}", short_hash(uid.as_bytes()))
}

fn short_hash(bytes: &[u8]) -> u32 {
    Sha256::digest(bytes)
        .iter()
        .take(4)
        .fold(0, |hash, byte| hash << 8 | u32::from(*byte))
}

/// What to do with the parts of a stream.
#[derive(Debug, PartialEq)]
pub(crate) enum Step {
    /// Emit it; the cursor covers it.
    Emit(Part, Cursor),
    /// The API said something that is no line of the script.
    Note(String),
    /// The cursor's line is gone: lines may be missing here.
    Gap,
}

/// Names the lines of a log, over any number of connections, so that each is emitted once.
#[derive(Debug)]
pub(crate) struct Tracker {
    pod: String,
    container: Option<String>,
    /// The last position that was emitted.
    cursor: Option<Cursor>,
    connection: Connection,
}

/// What is known of the stream that is open now.
#[derive(Debug, Default)]
struct Connection {
    splitter: Splitter,
    line: Option<LineId>,
    recent: VecDeque<(Timestamp, u32)>,
    /// Looking for the cursor's line; what follows its time is held back.
    searching: bool,
    held: Vec<(Part, LineId)>,
    held_bytes: usize,
    first: bool,
}

impl Tracker {
    /// Starts after `cursor`, or at the beginning.
    pub(crate) fn new(pod: String, container: Option<String>, cursor: Option<Cursor>) -> Self {
        let mut tracker = Self {
            pod,
            container,
            cursor,
            connection: Connection::default(),
        };
        tracker.connect();
        tracker
    }

    /// Forgets the old stream; returns the time from which a new one must be asked for.
    pub(crate) fn connect(&mut self) -> Option<Timestamp> {
        self.connection = Connection {
            searching: self.cursor.is_some(),
            first: true,
            ..Connection::default()
        };
        let time = self.cursor.as_ref()?.line.time;
        Timestamp::from_second(time.as_second() - OVERLAP_SECONDS).ok()
    }

    /// Takes the next bytes of the stream.
    pub(crate) fn feed(&mut self, data: &[u8]) -> Vec<Step> {
        let parts = self.connection.splitter.feed(data);
        self.steps(parts)
    }

    /// The stream ended, and with it the log: nothing more will be held back.
    pub(crate) fn finish(&mut self) -> Vec<Step> {
        let last = self.connection.splitter.finish();
        let mut steps = self.steps(last.into_iter().collect());
        if self.connection.searching {
            self.give_up(&mut steps);
        }
        steps
    }

    fn steps(&mut self, parts: Vec<Part>) -> Vec<Step> {
        let mut steps = Vec::new();
        for part in parts {
            let first = std::mem::replace(&mut self.connection.first, false);
            let Some(time) = part.time else {
                // `sinceTime` inside a long line returns that line's tail first.
                if !first && !part.bytes.is_empty() {
                    steps.push(Step::Note(String::from_utf8_lossy(&part.bytes).into_owned()));
                }
                continue;
            };
            let line = if part.index == 0 {
                self.connection.name(time, &part.bytes)
            } else {
                self.connection.line.clone()
            };
            let Some(line) = line else { continue };
            self.connection.line = Some(line.clone());
            self.place(part, line, &mut steps);
        }
        steps
    }

    fn place(&mut self, part: Part, line: LineId, steps: &mut Vec<Step>) {
        if !self.connection.searching {
            if !self.covered(&part, &line) {
                self.emit(part, line, steps);
            }
            return;
        }
        let Some(cursor) = &self.cursor else { return };
        if line == cursor.line {
            self.connection.searching = false;
            self.connection.held.clear();
            if !self.covered(&part, &line) {
                self.emit(part, line, steps);
            }
            return;
        }
        let past = line.time.as_second() > cursor.line.time.as_second() + OVERLAP_SECONDS;
        if line.time > cursor.line.time {
            self.connection.held_bytes += part.bytes.len();
            self.connection.held.push((part, line));
        }
        if past || self.connection.held_bytes > HELD {
            self.give_up(steps);
        }
    }

    fn give_up(&mut self, steps: &mut Vec<Step>) {
        self.connection.searching = false;
        steps.push(Step::Gap);
        for (part, line) in std::mem::take(&mut self.connection.held) {
            self.emit(part, line, steps);
        }
    }

    /// Whether the host has this part of the cursor's own line.
    fn covered(&self, part: &Part, line: &LineId) -> bool {
        self.cursor
            .as_ref()
            .is_some_and(|c| c.line == *line && (c.whole || part.index < c.parts))
    }

    fn emit(&mut self, part: Part, line: LineId, steps: &mut Vec<Step>) {
        let cursor = Cursor {
            pod: self.pod.clone(),
            line,
            parts: part.index + 1,
            whole: part.end,
            container: self.container.clone(),
        };
        self.cursor = Some(cursor.clone());
        steps.push(Step::Emit(part, cursor));
    }
}

impl Connection {
    fn name(&mut self, time: Timestamp, bytes: &[u8]) -> Option<LineId> {
        let hash = short_hash(bytes);
        let ordinal = self.recent.iter().filter(|(t, h)| *t == time && *h == hash).count();
        self.recent.push_back((time, hash));
        if self.recent.len() > RECENT {
            self.recent.pop_front();
        }
        Some(LineId {
            time,
            hash,
            ordinal: u32::try_from(ordinal).ok()?,
        })
    }
}

/// What one part becomes for the host. Lines of the form `::{"outputs": {...}}::` become their content.
pub(crate) fn events(part: &Part) -> Vec<Event> {
    let text = String::from_utf8_lossy(&part.bytes);
    if part.index == 0
        && part.end
        && let Some(events) = protocol(&text, part.time)
    {
        return events;
    }
    let lossy = matches!(text, std::borrow::Cow::Owned(_));
    let too_long = part.index == 0 && !part.end && text.trim_start().starts_with("::{");
    let mut events = vec![log(part.time, Level::Info, text.into_owned(), !part.end, lossy)];
    if too_long {
        let message =
            "not an output: the line has the form of one, but is longer than 64 KiB; write large values to a file";
        events.push(log(part.time, Level::Warn, message.to_owned(), false, false));
    }
    events
}

/// What one part of an init container's log becomes: text, with the container's name before it.
pub(crate) fn init_events(container: &str, part: &Part) -> Vec<Event> {
    let text = String::from_utf8_lossy(&part.bytes);
    let lossy = matches!(text, std::borrow::Cow::Owned(_));
    let text = if part.index == 0 {
        format!("[{container}] {text}")
    } else {
        text.into_owned()
    };
    vec![log(part.time, Level::Info, text, !part.end, lossy)]
}

fn log(time: Option<Timestamp>, level: Level, message: String, partial: bool, lossy: bool) -> Event {
    let time = time.map_or(0, |t| u64::try_from(t.as_millisecond()).unwrap_or(0));
    Event::Log(LogLine {
        source: None,
        level,
        time,
        message,
        partial,
        lossy,
    })
}

fn protocol(line: &str, time: Option<Timestamp>) -> Option<Vec<Event>> {
    let json = line.trim().strip_prefix("::")?.strip_suffix("::")?;
    if !json.starts_with('{') || !json.ends_with('}') {
        return None;
    }
    let Ok(Value::Object(fields)) = serde_json::from_str::<Value>(json) else {
        let message = format!("not an output: the line has the form of one, but not its JSON: {line}");
        return Some(vec![log(time, Level::Warn, message, false, false)]);
    };
    if !["outputs", "metrics", "logs"]
        .iter()
        .any(|key| fields.contains_key(*key))
    {
        let message =
            format!("not an output: the line has the form of one, but no `outputs`, `metrics` or `logs`: {line}");
        return Some(vec![log(time, Level::Warn, message, false, false)]);
    }
    if let Some(wrong) = misshapen(&fields) {
        let message = format!("not an output: the line has the form of one, but its {wrong}: {line}");
        return Some(vec![log(time, Level::Warn, message, false, false)]);
    }
    let mut events = Vec::new();
    for (name, value) in fields.get("outputs").and_then(Value::as_object).into_iter().flatten() {
        events.push(Event::Output(Output {
            name: name.clone(),
            value: value.to_string(),
        }));
    }
    for metric in fields.get("metrics").and_then(Value::as_array).into_iter().flatten() {
        let name = metric
            .get("name")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        events.push(Event::Metric(Metric {
            name,
            value: metric.to_string(),
        }));
    }
    for entry in fields.get("logs").and_then(Value::as_array).into_iter().flatten() {
        let level = match entry
            .get("level")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_ascii_uppercase()
            .as_str()
        {
            "TRACE" => Level::Trace,
            "DEBUG" => Level::Debug,
            "WARN" | "WARNING" => Level::Warn,
            "ERROR" | "CRITICAL" => Level::Error,
            _ => Level::Info,
        };
        let message = entry
            .get("message")
            .map(|m| m.as_str().map_or_else(|| m.to_string(), str::to_owned))
            .unwrap_or_default();
        events.push(log(time, level, message, false, false));
    }
    Some(events)
}

/// What in a line of the protocol does not have the shape that it must have.
fn misshapen(fields: &serde_json::Map<String, Value>) -> Option<&'static str> {
    let objects = |value: &Value| value.as_array().is_some_and(|all| all.iter().all(Value::is_object));
    let wrong = |key: &str, fits: &dyn Fn(&Value) -> bool| {
        fields.get(key).is_some_and(|value| !value.is_null() && !fits(value))
    };
    if wrong("outputs", &Value::is_object) {
        Some("`outputs` are no mapping")
    } else if wrong("metrics", &objects) {
        Some("`metrics` are no list of mappings")
    } else if wrong("logs", &objects) {
        Some("`logs` are no list of mappings")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(nanos: u32, text: &str) -> String {
        format!("2026-01-01T00:00:{:02}.{:09}Z {text}\n", nanos / 1_000, nanos % 1_000)
    }

    fn messages(steps: &[Step]) -> Vec<String> {
        steps
            .iter()
            .map(|s| match s {
                Step::Emit(part, _) => String::from_utf8_lossy(&part.bytes).into_owned(),
                Step::Note(text) => format!("note {text}"),
                Step::Gap => "gap".to_owned(),
            })
            .collect()
    }

    fn last(steps: &[Step]) -> Cursor {
        steps
            .iter()
            .rev()
            .find_map(|s| {
                if let Step::Emit(_, c) = s {
                    Some(c.clone())
                } else {
                    None
                }
            })
            .unwrap()
    }

    #[test]
    fn a_log_cut_anywhere_and_taken_up_again_yields_every_line_once() {
        // Equal lines, equal times, times that go back, an empty line, leading white space.
        let log = [
            line(1, "a"),
            line(1, "a"),
            line(1, "b"),
            line(5, "c"),
            line(3, "d"),
            line(5, ""),
            line(5, "  e "),
            line(2500, "f"),
        ]
        .concat();
        let expected = ["a", "a", "b", "c", "d", "", "  e ", "f"];
        for cut in 0..log.len() {
            let mut tracker = Tracker::new("p".into(), None, None);
            let mut seen = messages(&tracker.feed(&log.as_bytes()[..cut]));
            assert!(tracker.connect().is_none() == seen.is_empty());
            seen.extend(messages(&tracker.feed(log.as_bytes())));
            seen.extend(messages(&tracker.finish()));
            assert_eq!(seen, expected, "cut at {cut}");
        }
    }

    #[test]
    fn a_cursor_survives_being_stored_and_finds_its_line_in_another_process() {
        let log = [line(1, "a"), line(1, "a"), line(1, "a"), line(2, "b")].concat();
        let mut first = Tracker::new("p".into(), None, None);
        let steps = first.feed(log.as_bytes());
        for (index, step) in steps.iter().enumerate() {
            let Step::Emit(_, cursor) = step else {
                panic!("{step:?}")
            };
            let stored: Cursor = cursor.to_string().parse().unwrap();
            assert_eq!(stored, *cursor);
            let mut second = Tracker::new("p".into(), None, Some(stored));
            let mut rest = messages(&second.feed(log.as_bytes()));
            rest.extend(messages(&second.finish()));
            assert_eq!(rest, messages(&steps)[index + 1..]);
        }
        assert!("1.p.x.0.0.1e".parse::<Cursor>().is_err());
        assert!("".parse::<Cursor>().is_err());
    }

    #[test]
    fn a_rotated_log_reports_the_gap_and_loses_nothing_that_is_there() {
        let mut tracker = Tracker::new("p".into(), None, None);
        let _ = tracker.feed(line(1, "gone").as_bytes());
        tracker.connect();
        let mut steps = tracker.feed([line(2, "x"), line(9000, "y")].concat().as_bytes());
        steps.extend(tracker.finish());
        assert_eq!(messages(&steps), ["gap", "x", "y"]);
    }

    #[test]
    fn a_fragment_without_a_time_is_dropped_first_and_noted_later() {
        let mut tracker = Tracker::new("p".into(), None, None);
        let text = format!("tail of a long line\n{}rotation failed\n{}", line(1, "a"), line(2, "b"));
        assert_eq!(
            messages(&tracker.feed(text.as_bytes())),
            ["a", "note rotation failed", "b"]
        );
    }

    #[test]
    fn long_lines_arrive_in_parts_that_join_to_the_line_also_after_a_cut() {
        let long: String = "ä".repeat(100_000);
        let log = [line(1, &long), line(2, "after")].concat();
        for cut in [40_000, 70_000, 150_000, 199_990, log.len() - 3] {
            let mut tracker = Tracker::new("p".into(), None, None);
            let mut steps = tracker.feed(&log.as_bytes()[..cut]);
            tracker.connect();
            steps.extend(tracker.feed(log.as_bytes()));
            let parts: Vec<&Part> = steps
                .iter()
                .filter_map(|s| if let Step::Emit(p, _) = s { Some(p) } else { None })
                .collect();
            let joined: Vec<u8> = parts
                .iter()
                .take_while(|p| p.time == parts[0].time)
                .flat_map(|p| p.bytes.clone())
                .collect();
            assert_eq!(String::from_utf8(joined).unwrap(), long, "cut at {cut}");
            assert!(
                parts
                    .iter()
                    .all(|p| p.bytes.len() <= PART && String::from_utf8(p.bytes.clone()).is_ok())
            );
            assert_eq!(parts.iter().filter(|p| p.end).count(), 2);
        }
    }

    #[test]
    fn bytes_that_are_not_text_are_replaced_and_marked() {
        let part = Part {
            time: None,
            index: 0,
            bytes: vec![b'a', 0xff, b'b'],
            end: true,
        };
        let [Event::Log(line)] = &events(&part)[..] else {
            panic!()
        };
        assert_eq!((line.message.as_str(), line.lossy), ("a\u{fffd}b", true));
    }

    #[test]
    fn the_line_protocol_becomes_outputs_metrics_and_levels() {
        let part = |text: &str| Part {
            time: Some(Timestamp::UNIX_EPOCH),
            index: 0,
            bytes: text.as_bytes().to_vec(),
            end: true,
        };
        let found = events(&part(
            r#"::{"outputs": {"a": 1, "b": "x"}, "metrics": [{"name": "m", "type": "counter", "value": 2}], "logs": [{"level": "WARNING", "message": "w"}]}::"#,
        ));
        assert_eq!(found.len(), 4);
        assert!(matches!(&found[0], Event::Output(o) if o.name == "a" && o.value == "1"));
        assert!(matches!(&found[2], Event::Metric(m) if m.name == "m"));
        assert!(matches!(&found[3], Event::Log(l) if l.level == Level::Warn && l.message == "w"));
        assert!(matches!(&events(&part("::{broken}::"))[..], [Event::Log(l)] if l.level == Level::Warn));
        assert!(matches!(&events(&part("a ::{}::"))[..], [Event::Log(l)] if l.message == "a ::{}::"));
        let unknown = events(&part(r#"::{"assets": []}::"#));
        assert!(matches!(&unknown[..], [Event::Log(l)] if l.level == Level::Warn && l.message.contains("assets")));
        assert!(events(&part(r#"::{"outputs": {}}::"#)).is_empty());
        for (text, wrong) in [
            (r#"::{"outputs": [1]}::"#, "`outputs` are no mapping"),
            (
                r#"::{"outputs": {"a": 1}, "metrics": {"a": 1}}::"#,
                "`metrics` are no list",
            ),
            (r#"::{"metrics": ["a"]}::"#, "`metrics` are no list"),
            (r#"::{"logs": "x"}::"#, "`logs` are no list"),
        ] {
            let told = events(&part(text));
            assert!(
                matches!(&told[..], [Event::Log(l)] if l.level == Level::Warn && l.message.contains(wrong) && l.message.contains(text)),
                "{told:?}"
            );
        }
        let long = Part {
            end: false,
            ..part(r#"::{"outputs": {"a": "bbb"#)
        };
        assert!(matches!(&events(&long)[..], [Event::Log(_), Event::Log(l)] if l.level == Level::Warn));
    }

    #[test]
    fn the_cursor_after_each_step_is_the_last_emitted_line() {
        let mut tracker = Tracker::new("p".into(), None, None);
        let steps = tracker.feed([line(1, "a"), line(2, "b")].concat().as_bytes());
        assert_eq!(
            last(&steps).line.time,
            "2026-01-01T00:00:00.000000002Z".parse().unwrap()
        );
    }

    #[test]
    fn a_cursor_in_the_log_of_an_init_container_names_it() {
        let mut tracker = Tracker::new("p".into(), Some("setup".into()), None);
        let steps = tracker.feed(line(1, "one").as_bytes());
        let cursor = last(&steps);
        assert_eq!(cursor.to_string().parse::<Cursor>().unwrap(), cursor);
        assert_eq!(cursor.container.as_deref(), Some("setup"));
        let Step::Emit(part, _) = &steps[0] else {
            panic!("{steps:?}")
        };
        assert!(matches!(&init_events("setup", part)[..], [Event::Log(line)] if line.message == "[setup] one"));
    }
}
