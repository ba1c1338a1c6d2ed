//! Resource monitors of the answering node, and rules that watch values (spec H29 to H33).

use super::cluster::{cluster, known};
use super::{Family, Scrape};
use vedette_collector::clinfo::watch_rules;

pub(super) const WORKS: Family = Family::gauge(
    "vedette_monitor_works",
    "Whether a resource monitor of the answering node sees everything that is wanted of it.",
    |scrape, rows| {
        let node = node(scrape);
        for (name, view) in scrape.view.local.monitors.iter() {
            let labels = [("cluster", name_of(scrape)), ("node", &node), ("monitor", name)];
            rows.flag(&labels, view.failure.is_none());
        }
    },
);

pub(super) const VALUE: Family = Family::gauge(
    "vedette_monitor_value",
    "Value of a resource variable on the answering node; of one with fields, the first. At most 100 \
     instances of a monitor.",
    |scrape, rows| {
        let node = node(scrape);
        for view in scrape.view.local.monitors.values() {
            for reading in view.shown() {
                let Some(value) = reading.value.number() else { continue };
                let instance = reading.instance.to_string();
                let labels = [
                    ("cluster", name_of(scrape)),
                    ("node", node.as_str()),
                    ("variable", &reading.variable),
                    ("instance", &instance),
                ];
                rows.add(&labels, value);
            }
        }
    },
);

pub(super) const FIRED: Family = Family::gauge(
    "vedette_rule_fired",
    "Instances, on all nodes, for which a rule about values has fired and was not armed again; NaN \
     where that is not known.",
    |scrape, rows| {
        let fired = &scrape.view.state.manager.fired;
        for rule in watch_rules(&scrape.view.state) {
            let count = fired.get(&rule.rule).map_or(0, std::collections::BTreeMap::len);
            let labels = [("cluster", name_of(scrape)), ("rule", &rule.rule)];
            rows.count(&labels, known(scrape, count));
        }
    },
);

pub(super) const BLIND: Family = Family::gauge(
    "vedette_monitors_failed",
    "Monitors and rules, on all nodes, that cannot do their work; NaN where that is not known.",
    |scrape, rows| {
        let blind = scrape.view.state.manager.blind.values();
        let count: usize = blind.map(std::collections::BTreeMap::len).sum();
        rows.count(&cluster(scrape), known(scrape, count));
    },
);

fn node(scrape: &Scrape<'_>) -> String {
    scrape.view.state.node_name(scrape.view.local.node)
}

fn name_of<'a>(scrape: &Scrape<'a>) -> &'a str {
    &scrape.view.state.name
}
