//! What is watched, for people: the node's own monitors, the rules that watch, what has fired, and what
//! cannot be watched.

use vedette_collector::clinfo::MonitorsDoc;

use super::super::text::{Cell, Style, Table, clock};

/// Values of one monitor that are shown; `-o json` has all.
const MOST_VALUES: usize = 50;

/// Everything that is watched.
pub(super) fn screen(doc: &MonitorsDoc, now: &str, style: Style) -> String {
    if doc.monitors.is_empty() && doc.rules.is_empty() && doc.blind.is_empty() {
        return "No rule in force watches a value, so no monitor runs.\n".into();
    }
    let tables = [monitors(doc, now), values(doc), rules(doc), fired(doc, now), blind(doc)];
    let shown: Vec<String> =
        tables.into_iter().flatten().map(|table| table.render(style, 0)).collect();
    let mut text = shown.join("\n");
    if doc.fired.is_none() {
        text.push_str("\nWhich rules have fired is not known.\n");
    }
    let most = doc.monitors.iter().map(|one| one.values.len()).max().unwrap_or(0);
    if most > MOST_VALUES {
        text.push_str(&format!(
            "Only {MOST_VALUES} values of a monitor are shown; -o json has all.\n"
        ));
    }
    text
}

fn monitors(doc: &MonitorsDoc, now: &str) -> Option<Table> {
    let mut table = Table::new(&["MONITOR", "NODE", "EVERY", "LOOKED", "STATE"]);
    for one in &doc.monitors {
        let looked = one.at.as_ref().map_or("not yet".into(), |at| clock(at, now));
        table.row(vec![
            (&one.name).into(),
            (&doc.node).into(),
            format!("{} ms", one.interval_ms).into(),
            looked.into(),
            one.failure.as_ref().map_or("works".into(), |why| format!("failed: {why}")).into(),
        ]);
    }
    (!doc.monitors.is_empty()).then_some(table)
}

fn values(doc: &MonitorsDoc) -> Option<Table> {
    let mut table = Table::new(&["VARIABLE", "INSTANCE", "VALUE"]);
    let mut any = false;
    for value in doc.monitors.iter().flat_map(|one| one.values.iter().take(MOST_VALUES)) {
        any = true;
        let cells = [&value.variable, &value.instance, &value.value];
        table.row(cells.map(Cell::from).to_vec());
    }
    any.then_some(table)
}

fn rules(doc: &MonitorsDoc) -> Option<Table> {
    let mut table = Table::new(&["RULE", "WATCHES", "INSTANCES", "FIRES IF", "ARMED IF"]);
    for rule in &doc.rules {
        let otherwise = "it does not fire".to_owned();
        let rearm = if rule.rearm.is_empty() { &otherwise } else { &rule.rearm };
        let cells = [&rule.rule, &rule.variable, &rule.vector, &rule.predicate, rearm];
        table.row(cells.map(Cell::from).to_vec());
    }
    (!doc.rules.is_empty()).then_some(table)
}

fn fired(doc: &MonitorsDoc, now: &str) -> Option<Table> {
    let mut table = Table::new(&["FIRED", "NODE", "INSTANCE", "VALUE", "AT"]);
    let fired = doc.fired.as_deref().unwrap_or_default();
    for one in fired {
        let at = clock(&one.at, now);
        let cells = [&one.rule, &one.node, &one.instance, &one.value, &at];
        table.row(cells.map(Cell::from).to_vec());
    }
    (!fired.is_empty()).then_some(table)
}

fn blind(doc: &MonitorsDoc) -> Option<Table> {
    let mut table = Table::new(&["NOT WATCHED", "NODE", "BECAUSE"]);
    for one in &doc.blind {
        table.row([&one.what, &one.node, &one.why].map(Cell::from).to_vec());
    }
    (!doc.blind.is_empty()).then_some(table)
}

#[cfg(test)]
mod tests {
    use vedette_collector::clinfo::{BlindDoc, FiredDoc, MonitorDoc, ValueDoc, WatchRuleDoc};

    use super::*;

    /// H29 to H33: an operator sees what is watched, what has fired, and what cannot be watched.
    #[test]
    fn h29_the_screen_says_what_is_watched() {
        let instance = "NodeNum=2;ProgName=rwhod;UserName=root";
        let doc = MonitorsDoc {
            node: "n2".into(),
            number: 2,
            monitors: vec![MonitorDoc {
                name: "programs".into(),
                interval_ms: 1_000,
                at: None,
                failure: None,
                values: vec![ValueDoc {
                    variable: "program.count".into(),
                    instance: instance.into(),
                    value: "0,1,\"\"".into(),
                }],
            }],
            rules: vec![WatchRuleDoc {
                rule: "UE_PGMRWHO_DOWN".into(),
                variable: "program.count".into(),
                vector: "NodeNum=*".into(),
                predicate: "X@0==0&&X@1!=0".into(),
                rearm: "X@0>0".into(),
            }],
            fired: Some(vec![FiredDoc {
                rule: "UE_PGMRWHO_DOWN".into(),
                node: "n2".into(),
                instance: instance.into(),
                value: "0,1,\"\"".into(),
                at: "2026-05-04T09:05:10.330Z".into(),
            }]),
            blind: vec![BlindDoc {
                node: "n3".into(),
                what: "monitor site.queue".into(),
                why: "exit status 3".into(),
            }],
        };
        let text = screen(&doc, "2026-05-04T09:06:00.000Z", Style::PLAIN);
        for wanted in ["not yet", "works", "0,1,\"\"", "X@0>0", "09:05:10", "exit status 3"] {
            assert!(text.contains(wanted), "{wanted} is missing:\n{text}");
        }
        let none = MonitorsDoc {
            monitors: Vec::new(),
            rules: Vec::new(),
            fired: Some(Vec::new()),
            blind: Vec::new(),
            ..doc
        };
        assert!(screen(&none, "", Style::PLAIN).starts_with("No rule in force"));
    }
}
