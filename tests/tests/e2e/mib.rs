//! What the MIB tells of what is watched, read back into the shape that the API has, so that both can
//! be compared fact by fact at one revision.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use vedette_tests::lab::Lab;

use crate::{PATIENCE, look};

/// Rows of a walk: column, then index, then value. The walk is one snapshot.
struct Walk(BTreeMap<String, BTreeMap<String, String>>);

impl Walk {
    fn of(lab: &Lab, asked: &str) -> Self {
        let mut columns: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        for line in look::walk(lab, asked).lines() {
            let Some((name, value)) = line.split_once(" = ") else { continue };
            let Some((column, index)) = name.split_once('.') else { continue };
            columns.entry(column.into()).or_default().insert(index.into(), value.trim().into());
        }
        Self(columns)
    }

    fn get(&self, column: &str, index: &str) -> &str {
        self.0.get(column).and_then(|rows| rows.get(index)).map_or("", String::as_str)
    }

    fn revision(&self) -> u64 {
        self.get("vedetteClusterRevision", "0").parse().unwrap_or(0)
    }

    /// The rows of a table, as objects: its columns by the names that the API has for them. `first`
    /// is a column that every row has.
    fn rows(&self, table: &str, first: &str, columns: &[(&str, &str)]) -> Vec<(String, Value)> {
        let indexes = self.0.get(&format!("{table}{first}")).into_iter().flat_map(BTreeMap::keys);
        let row = |index: &String| {
            let cell = |(column, key): &(&str, &str)| {
                let value = self.get(&format!("{table}{column}"), index);
                ((*key).to_owned(), Value::from(value))
            };
            (index.clone(), Value::Object(columns.iter().map(cell).collect()))
        };
        indexes.map(row).collect()
    }

    /// The document that the API would give, without what has another form there: times.
    fn document(&self) -> Value {
        let values = self.rows(
            "vedetteMonitorValue",
            "Text",
            &[("Variable", "variable"), ("Instance", "instance"), ("Text", "value")],
        );
        let monitors = self.rows("vedetteMonitor", "Name", &[("Name", "name")]).into_iter();
        let monitors = monitors.map(|(index, monitor)| {
            let interval = self.get("vedetteMonitorInterval", &index);
            let interval = interval.split(' ').next().and_then(|text| text.parse::<u64>().ok());
            let failure = match self.get("vedetteMonitorWorks", &index) {
                "true" => Value::Null,
                _ => Value::from(self.get("vedetteMonitorFailure", &index)),
            };
            let own = values.iter().filter(|(at, _)| at.split('.').next() == Some(&index));
            let own: Vec<Value> = own.map(|(_, value)| value.clone()).collect();
            json!({ "name": monitor["name"], "interval_ms": interval, "failure": failure,
                    "values": sorted(own) })
        });
        let monitors: Vec<Value> = monitors.collect();
        let table = |table, first, columns: &[(&str, &str)]| {
            sorted(self.rows(table, first, columns).into_iter().map(|(_, row)| row).collect())
        };
        json!({
            "monitors": sorted(monitors),
            "rules": table("vedetteWatchRule", "Name", &[
                ("Name", "rule"), ("Variable", "variable"), ("Vector", "vector"),
                ("Predicate", "predicate"), ("Rearm", "rearm"),
            ]),
            "fired": table("vedetteFired", "Rule", &[
                ("Rule", "rule"), ("NodeName", "node"), ("Instance", "instance"), ("Value", "value"),
            ]),
            "blind": table("vedetteBlind", "What", &[
                ("NodeName", "node"), ("What", "what"), ("Why", "why"),
            ]),
        })
    }
}

/// A list in an order of its own: the surfaces have different ones.
fn sorted(mut list: Vec<Value>) -> Value {
    list.sort_by_key(Value::to_string);
    Value::from(list)
}

/// The API's document, without times and in the same order.
fn from_api(mut document: Value) -> Value {
    for part in ["monitors", "rules", "fired", "blind"] {
        let mut list = document[part].as_array().cloned().unwrap_or_default();
        for one in &mut list {
            if let Some(fields) = one.as_object_mut() {
                fields.remove("at");
                if let Some(values) = fields.get_mut("values") {
                    *values = sorted(values.as_array().cloned().unwrap_or_default());
                }
            }
        }
        document[part] = sorted(list);
    }
    json!({ "monitors": document["monitors"], "rules": document["rules"],
            "fired": document["fired"], "blind": document["blind"] })
}

/// The MIB and the API of a node tell the same of what is watched, at one revision; and `holds` of
/// it. Values may move between two questions, so they are asked until they do not.
pub(crate) fn tells_what_is_watched(lab: &Lab, asked: &str, holds: impl Fn(&Value) -> bool) {
    let both = |lab: &Lab| {
        let answer = look::get(lab, asked, "/api/v1/monitors")?;
        let walk = Walk::of(lab, asked);
        Some((answer.revision, from_api(answer.json()), walk.revision(), walk.document()))
    };
    lab.wait_for(&format!("MIB and API of {asked} to tell the same"), PATIENCE, |lab| {
        let (revision, api, walked, mib) = both(lab)?;
        (revision == walked && api == mib && holds(&mib)).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}: {:#?}", both(lab)));
}
