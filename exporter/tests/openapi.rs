//! The OpenAPI document is committed, complete and current.

use std::collections::BTreeSet;
use std::path::PathBuf;

#[test]
fn the_committed_document_is_current() {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("openapi.json");
    let generated = vedette_exporter::openapi::json();
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&file, &generated).expect("the document can be written");
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(committed == generated, "UPDATE_EXPECT=1 writes openapi.json anew; read the diff");
}

#[test]
fn no_route_is_undocumented_and_none_is_invented() {
    let document: serde_json::Value =
        serde_json::from_str(&vedette_exporter::openapi::json()).expect("JSON");
    let documented: BTreeSet<&str> =
        document["paths"].as_object().expect("paths").keys().map(String::as_str).collect();
    let routed: BTreeSet<&str> = vedette_exporter::paths().into_iter().collect();
    assert_eq!(documented, routed);
}

/// Every GET documents `index` and `wait`, and what it answers to a bad parameter.
#[test]
fn every_get_documents_waiting_and_its_problems() {
    let document: serde_json::Value =
        serde_json::from_str(&vedette_exporter::openapi::json()).expect("JSON");
    for (path, item) in document["paths"].as_object().expect("paths") {
        let get = &item["get"];
        let names: Vec<&str> = get["parameters"]
            .as_array()
            .expect("parameters")
            .iter()
            .filter_map(|parameter| parameter["name"].as_str())
            .collect();
        assert!(names.contains(&"index") && names.contains(&"wait"), "{path}: {names:?}");
        assert!(get["responses"]["400"].is_object(), "{path}");
        assert!(get["description"].is_string() || get["summary"].is_string(), "{path}");
    }
}
