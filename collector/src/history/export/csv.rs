//! The CSV form of an export (RFC 4180): written with quotes where they are needed, read back
//! without trust.

use std::io::{self, BufRead};

use vedette_core::id::Hash;

use super::Line;

/// The first line of a CSV export.
pub(super) const HEADING: &str = "seq,log_index,at,at_microseconds,code,severity,subject_kind,\
     subject_node,subject_peer,subject_network,subject_name,previous,current,cause,message,\
     incident,origin,actor,alert,test,previous_hash,hash,event,node,duration_ms,elapsed_ms,\
     local_number,happened_at_microseconds,clock_offset_ms";

/// How many columns there are.
const COLUMNS: usize = 29;

/// What files lack that were written earlier, the oldest last: the end of the heading, and the columns
/// that they have.
const EARLIER: [(&str, usize); 2] = [
    (",elapsed_ms,local_number,happened_at_microseconds,clock_offset_ms", 25),
    (
        ",event,node,duration_ms,elapsed_ms,local_number,happened_at_microseconds,\
         clock_offset_ms",
        22,
    ),
];

/// Whether a line is the heading of an export, of today's or of an earlier form.
pub(super) fn is_heading(line: &[u8]) -> bool {
    let earlier = EARLIER.iter().filter_map(|(lacks, _)| HEADING.strip_suffix(lacks));
    earlier.chain([HEADING]).any(|heading| heading.as_bytes() == line)
}

/// One line without its end.
pub(super) fn write(line: &Line) -> String {
    let fields: [String; COLUMNS] = [
        line.seq.to_string(),
        line.log_index.to_string(),
        line.at.clone(),
        line.at_microseconds.to_string(),
        line.code.clone(),
        line.severity.clone(),
        line.subject_kind.clone(),
        line.subject_node.to_string(),
        line.subject_peer.to_string(),
        line.subject_network.to_string(),
        quoted(&line.subject_name),
        quoted(&line.previous),
        quoted(&line.current),
        quoted(&line.cause),
        quoted(&line.message),
        optional(line.incident),
        line.origin.to_string(),
        quoted(&line.actor),
        line.alert.to_string(),
        line.test.to_string(),
        line.previous_hash.to_string(),
        line.hash.to_string(),
        optional(line.event),
        optional(line.node),
        optional(line.duration_ms),
        line.elapsed_ms.to_string(),
        optional(line.local_number),
        optional(line.happened_at_microseconds),
        optional(line.clock_offset_ms),
    ];
    fields.join(",")
}

fn optional(value: Option<impl ToString>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

fn quoted(text: &str) -> String {
    if text.contains(['"', ',', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

/// Reads one record of text.
pub(super) fn read(bytes: &[u8]) -> Result<Line, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    let mut fields = split(text)?;
    if EARLIER.iter().any(|(_, columns)| *columns == fields.len()) {
        fields.resize(COLUMNS, String::new());
    }
    let fields: [String; COLUMNS] = fields
        .try_into()
        .map_err(|fields: Vec<_>| format!("{} fields instead of {COLUMNS}", fields.len()))?;
    let [seq, log_index, at, at_us, code, severity, kind, node, peer, network, rest @ ..] = fields;
    let [name, previous, current, cause, message, incident, origin, actor, rest @ ..] = rest;
    let [alert, test, previous_hash, hash, event, node_of_step, duration_ms, rest @ ..] = rest;
    let [elapsed_ms, local_number, happened_at, clock_offset_ms] = rest;
    Ok(Line {
        seq: number("seq", &seq)?,
        log_index: number("log_index", &log_index)?,
        at,
        at_microseconds: number("at_microseconds", &at_us)?,
        code,
        severity,
        subject_kind: kind,
        subject_node: number("subject_node", &node)?,
        subject_peer: number("subject_peer", &peer)?,
        subject_network: number("subject_network", &network)?,
        subject_name: name,
        previous,
        current,
        cause,
        message,
        incident: maybe("incident", &incident)?,
        origin: number("origin", &origin)?,
        actor,
        alert: number("alert", &alert)?,
        test: number("test", &test)?,
        previous_hash: number::<Hash>("previous_hash", &previous_hash)?,
        hash: number("hash", &hash)?,
        event: maybe("event", &event)?,
        node: maybe("node", &node_of_step)?,
        duration_ms: maybe("duration_ms", &duration_ms)?,
        elapsed_ms: maybe("elapsed_ms", &elapsed_ms)?.unwrap_or(0),
        local_number: maybe("local_number", &local_number)?,
        happened_at_microseconds: maybe("happened_at_microseconds", &happened_at)?,
        clock_offset_ms: maybe("clock_offset_ms", &clock_offset_ms)?,
    })
}

fn maybe<T: std::str::FromStr>(name: &str, text: &str) -> Result<Option<T>, String> {
    if text.is_empty() { Ok(None) } else { number(name, text).map(Some) }
}

fn number<T: std::str::FromStr>(name: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{name} cannot be `{text}`"))
}

/// Splits at commas outside quotes and takes the quotes off.
fn split(text: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let (field, after) = field(rest)?;
        fields.push(field);
        match after.strip_prefix(',') {
            Some(more) => rest = more,
            None if after.is_empty() => return Ok(fields),
            None => return Err("text stands after a closing quote".into()),
        }
    }
}

fn field(text: &str) -> Result<(String, &str), String> {
    let Some(mut rest) = text.strip_prefix('"') else {
        let (field, after) = text.split_at(text.find(',').unwrap_or(text.len()));
        return Ok((field.to_owned(), after));
    };
    let mut field = String::new();
    loop {
        let (part, after) = rest.split_once('"').ok_or("a quote is not closed")?;
        field.push_str(part);
        match after.strip_prefix('"') {
            Some(more) => {
                field.push('"');
                rest = more;
            }
            None => return Ok((field, after)),
        }
    }
}

/// Lines, or CSV records of several lines, of a bounded length.
pub(super) struct Input<R> {
    reader: R,
    longest: usize,
    line: u64,
    begun_at: u64,
}

impl<R: BufRead> Input<R> {
    pub(super) fn new(reader: R, longest: usize) -> Self {
        Self { reader, longest, line: 0, begun_at: 0 }
    }

    /// The number of the line at which the last text began.
    pub(super) fn begun_at(&self) -> u64 {
        self.begun_at
    }

    /// The next line without its end.
    pub(super) fn line(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut text = Vec::new();
        self.begun_at = self.line + 1;
        if !self.more(&mut text)? {
            return Ok(None);
        }
        Ok(Some(without_end(text)))
    }

    /// The next CSV record: lines until every quote is closed.
    pub(super) fn record(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut text = Vec::new();
        self.begun_at = self.line + 1;
        let mut open = false;
        let mut looked_at = 0;
        while self.more(&mut text)? {
            let quotes = text[looked_at..].iter().filter(|byte| **byte == b'"').count();
            looked_at = text.len();
            open ^= quotes % 2 == 1;
            if !open {
                break;
            }
        }
        Ok((!text.is_empty()).then(|| without_end(text)))
    }

    /// Adds a line to `text`; false at the end of the input. What is longer than the bound is cut
    /// there, and is then no line of ours.
    fn more(&mut self, text: &mut Vec<u8>) -> io::Result<bool> {
        let room = self.longest.saturating_sub(text.len()) as u64;
        let mut limited = io::Read::take(&mut self.reader, room);
        let read = limited.read_until(b'\n', text)?;
        self.line += 1;
        Ok(read > 0)
    }
}

fn without_end(mut text: Vec<u8>) -> Vec<u8> {
    if text.last() == Some(&b'\n') {
        text.pop();
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn fields_come_back(fields in prop::collection::vec("[a\",\n\r é]{0,8}", 1..6)) {
            let text: Vec<String> = fields.iter().map(|field| quoted(field)).collect();
            prop_assert_eq!(split(&text.join(",")), Ok(fields));
        }

        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
            let mut with_heading = HEADING.as_bytes().to_vec();
            with_heading.push(b'\n');
            with_heading.extend_from_slice(&bytes);
            for text in [bytes, with_heading] {
                let verification = super::super::verify_export(text.as_slice()).expect("no reading fails");
                prop_assert_eq!(verification.checked, 0);
            }
        }
    }
}
