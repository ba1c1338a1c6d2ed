//! How the API behaves: headers, waiting, problems, HEAD, events, and that no input breaks it.

mod common;

use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use axum::{Router, routing};
use common::{Answer, DEADLINE, Stage, ask, get, one_down};
use proptest::prelude::*;
use vedette_collector::clinfo::ProblemDoc;
use vedette_collector::clinfo::problem::Kind;
use vedette_core::command::Command;
use vedette_core::fixture::{DOWN_AT, busy_fixture};
use vedette_core::id::NodeNumber;
use vedette_core::model::{HostStatus, Severity};
use vedette_exporter::{Problem, Sent};

#[tokio::test]
async fn every_answer_says_revision_age_and_quorum() {
    let stage = Stage::one_down();
    let router = stage.router();
    let revision = one_down().state.revision.to_string();
    for path in ["/api/v1/nodes", "/metrics", "/healthz", "/nowhere", "/api/v1/nodes/n9", "/"] {
        let answer = get(&router, path).await;
        assert_eq!(answer.header("x-vedette-revision"), revision, "{path}");
        assert_eq!(answer.header("x-vedette-stale-ms"), "0", "{path}");
        assert_eq!(answer.header("x-vedette-quorate"), "true", "{path}");
        let now = DOWN_AT.plus(Duration::from_secs(30)).to_string();
        assert_eq!(answer.header("x-vedette-time"), now, "{path}");
    }
}

/// A node without a quorum says so in every header, is not ready, and has no primary.
#[tokio::test]
async fn without_a_quorum_nothing_is_claimed() {
    let mut view = one_down().view(vedette_core::id::NodeNumber(1));
    view.local.quorate = false;
    view.local.host = HostStatus::Disconnected;
    let router = Stage::showing(view, Vec::new(), Duration::from_millis(4_200)).router();
    let answer = get(&router, "/api/v1/status").await;
    assert_eq!(answer.header("x-vedette-quorate"), "false");
    assert_eq!(answer.header("x-vedette-stale-ms"), "4200");
    assert_eq!(answer.json()["level"], "failed");
    assert_eq!(answer.json()["cluster"]["status"], "unknown");
    assert_eq!(get(&router, "/healthz").await.status, StatusCode::OK);
    let ready = get(&router, "/readyz").await;
    assert_eq!(
        (ready.status, ready.json()["code"].as_str()),
        (StatusCode::SERVICE_UNAVAILABLE, Some("not_ready"))
    );
    assert_eq!(get(&router, "/api/v1/primary").await.json()["code"], "no_primary");
    let page = get(&router, "/metrics").await.body;
    assert!(page.contains("vedette_quorate{cluster=\"prod\"} 0"));
    assert!(page.contains("vedette_director{cluster=\"prod\",node=\"n1\"} 0"));
}

/// The journal, page by page; without `after` its end.
#[tokio::test]
async fn the_journal_comes_in_pages() {
    let router = Stage::alone().router();
    let latest = get(&router, "/api/v1/local/records").await;
    assert_eq!(latest.header("x-vedette-quorate"), "false");
    let page = latest.json();
    assert_eq!(
        (&page["node"], &page["last"], &page["next_after"]),
        (&"n1".into(), &1.into(), &1.into())
    );
    assert_eq!(page["records"][0]["code"], "QUORUM_LOST");
    let beyond = get(&router, "/api/v1/local/records?after=1&limit=5").await.json();
    assert_eq!(
        (beyond["records"].as_array().map(Vec::len), &beyond["next_after"]),
        (Some(0), &1.into())
    );
    for bad in ["limit=0", "limit=1001", "after=x", "severity=error"] {
        let answer = get(&router, &format!("/api/v1/local/records?{bad}")).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{bad}");
    }
}

#[tokio::test]
async fn problems_are_rfc_9457() {
    let router = Stage::one_down().router();
    let cases = [
        ("/nowhere", 404, "unknown_route"),
        ("/api/v1/nodes/n9", 404, "unknown_node"),
        ("/api/v1/nodes/n3/route", 404, "no_route"),
        ("/api/v1/nodes/1/route?from=x", 404, "unknown_node"),
        ("/api/v1/networks/netz", 404, "unknown_network"),
        ("/api/v1/addresses/x/available", 400, "bad_parameter"),
        ("/api/v1/addresses/192.0.2.9/available", 404, "unknown_address"),
        ("/api/v1/groups/mail", 404, "unknown_group"),
        ("/api/v1/groups/mail/location", 404, "unknown_group"),
        ("/api/v1/lb/mail/active", 404, "unknown_group"),
        ("/api/v1/lb/mail/backup", 404, "unknown_route"),
        ("/api/v1/incidents/x", 404, "unknown_incident"),
        ("/api/v1/incidents/999999", 404, "unknown_incident"),
        ("/api/v1/incidents?limit=101", 400, "bad_parameter"),
        ("/api/v1/incidents/report?since=yesterday", 400, "bad_parameter"),
        ("/api/v1/incidents/report?since=2026-12&until=2026-11", 400, "bad_parameter"),
        ("/api/v1/incidents/report?group=nothing", 404, "unknown_group"),
        ("/api/v1/nodes?index=x", 400, "bad_parameter"),
        ("/api/v1/nodes?wait=11m", 400, "bad_parameter"),
        ("/api/v1/nodes?colour=red", 400, "bad_parameter"),
        ("/api/v1/nodes?index=1&index=2", 400, "bad_parameter"),
        ("/api/v1/events?limit=0", 400, "bad_parameter"),
        ("/api/v1/events?severity=loud", 400, "bad_parameter"),
        ("/api/v1/events?code=NOPE", 400, "bad_parameter"),
        ("/api/v1/nodes?viewpoint=x", 400, "bad_parameter"),
        ("/api/v1/nodes/%ff", 400, "bad_parameter"),
    ];
    for (path, status, code) in cases {
        let answer = get(&router, path).await;
        let kind = Kind::ALL.iter().find(|kind| kind.name() == code).expect("a kind");
        let problem = problem_of(&answer, path);
        assert_eq!((answer.status.as_u16(), kind.status()), (status, status), "{path}");
        assert!(problem.is(*kind) && *problem.code == *code, "{path}: {problem:?}");
    }
}

/// The problem that an answer is: whole, of a kind in the table, and with the status of the answer.
fn problem_of(answer: &Answer, what: &str) -> ProblemDoc {
    assert_eq!(answer.header("content-type"), "application/problem+json", "{what}");
    let problem = ProblemDoc::read(answer.status.as_u16(), answer.body.as_bytes()).expect(what);
    let kind = Kind::ALL.iter().find(|kind| problem.is(**kind)).expect(what);
    assert_eq!((&*problem.title, problem.status), (kind.title(), kind.status()), "{what}");
    assert!(!problem.detail.is_empty() && !problem.advice.is_empty(), "{what}");
    problem
}

/// Every kind of problem, as it leaves the house.
#[tokio::test]
async fn every_kind_of_problem_is_answered_alike() {
    for kind in Kind::ALL {
        let detail = "web is not there.";
        let answer = move || async move { Problem::new(*kind, detail, "Wait for it.") };
        let answer = get(&Router::new().route("/", routing::get(answer)), "/").await;
        let problem = problem_of(&answer, kind.name());
        assert!(problem.is(*kind), "{kind:?}");
        assert_eq!((&*problem.detail, &*problem.advice), (detail, "Wait for it."), "{kind:?}");
        let again = if answer.status == StatusCode::SERVICE_UNAVAILABLE { "1" } else { "" };
        assert_eq!(answer.header("retry-after"), again, "{kind:?}");
    }
}

/// Bodies that cannot be read, as whoever sends them is told.
#[tokio::test]
async fn bad_bodies_are_problems() {
    let router = Router::new()
        .route("/", routing::post(|Sent(number): Sent<u64>| async move { number.to_string() }))
        .method_not_allowed_fallback(vedette_exporter::wrong_method);
    let large = "1".repeat(3 << 20);
    let json = Some("application/json");
    let cases = [
        (Method::POST, json, "nonsense", Kind::MalformedBody),
        (Method::POST, json, "", Kind::MalformedBody),
        (Method::POST, json, "\"seven\"", Kind::BadBody),
        (Method::POST, json, large.as_str(), Kind::TooLarge),
        (Method::POST, Some("text/plain"), "7", Kind::NotJson),
        (Method::POST, None, "7", Kind::NotJson),
        (Method::GET, None, "", Kind::WrongMethod),
    ];
    for (method, media, body, kind) in cases {
        let request = Request::builder().method(method).uri("/");
        let request = media.into_iter().fold(request, |it, media| it.header("content-type", media));
        let request = request.body(Body::from(body.to_owned())).expect("a request");
        let answer = ask(&router, request).await;
        assert!(problem_of(&answer, kind.name()).is(kind), "{kind:?}: {}", answer.body);
    }
    let good = Request::post("/").header("content-type", "application/json").body(Body::from("7"));
    assert_eq!(ask(&router, good.expect("a request")).await.body, "7");
}

/// A route refuses what it does not take, and tells what it does take: just what the document says.
#[tokio::test]
async fn what_is_taken_is_what_is_documented() {
    let router = Stage::one_down().router();
    let document: serde_json::Value =
        serde_json::from_str(&vedette_exporter::openapi::json()).expect("JSON");
    for (path, item) in document["paths"].as_object().expect("paths") {
        let parameters = item["get"]["parameters"].as_array().expect("parameters").iter();
        let documented: Vec<&str> = parameters
            .filter(|parameter| parameter["in"] == "query")
            .filter_map(|parameter| parameter["name"].as_str())
            .collect();
        let filled = path.replace(['{', '}'], "");
        let answer = get(&router, &format!("{filled}?nothing=1")).await;
        let advice = format!("Use one of {}.", documented.join(", "));
        assert_eq!(*problem_of(&answer, path).advice, *advice, "{path}");
    }
}

#[tokio::test]
async fn other_methods_are_refused_and_head_works() {
    let router = Stage::one_down().router();
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
        let request = Request::builder().method(method).uri("/api/v1/nodes");
        let answer = ask(&router, request.body(Body::empty()).expect("a request")).await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(answer.json()["code"], "wrong_method");
        assert!(answer.header("allow").contains("GET"));
    }
    for path in ["/", "/metrics", "/readyz", "/api/v1/status", "/api/v1/watch"] {
        let head = Request::head(path).body(Body::empty()).expect("a request");
        let answer = ask(&router, head).await;
        assert_eq!((answer.status, answer.body.as_str()), (StatusCode::OK, ""), "{path}");
    }
}

/// The revision is newer already: no waiting.
#[tokio::test]
async fn an_old_index_is_answered_at_once() {
    let router = Stage::one_down().router();
    assert_eq!(get(&router, "/api/v1/nodes?index=1&wait=10m").await.status, StatusCode::OK);
}

/// Nothing happens: the answer comes after `wait` (virtual time), and is the latest there is.
#[tokio::test(start_paused = true)]
async fn waiting_ends() {
    let stage = Stage::one_down();
    let router = stage.router();
    let begin = tokio::time::Instant::now();
    let answer = get(&router, "/api/v1/nodes?index=100000&wait=10m").await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(begin.elapsed().as_secs(), 600);
}

#[tokio::test]
async fn a_waiting_request_is_answered_by_a_change() {
    let (stage, mut fixture) = (Stage::one_down(), one_down());
    let router = stage.router();
    let path = format!("/api/v1/clusters?index={}&wait=10m", fixture.state.revision);
    let waiting = tokio::spawn(async move { get(&router, &path).await });
    tokio::task::yield_now().await;
    // The local part of the view alone wakes nobody who waits for a revision.
    stage.publish(&fixture);
    fixture.apply(Command::SetLoggingLevel(Severity::Error));
    stage.publish(&fixture);
    let answer = tokio::time::timeout(DEADLINE, waiting).await.expect("in time").expect("no panic");
    assert_eq!(answer.json()[0]["logging_level"], "error");
    assert_eq!(answer.header("x-vedette-revision"), fixture.state.revision.to_string());
}

/// T4: a request waits for a revision that does not come while the answering node loses its quorum; it
/// is woken by that, and one that came between two requests is not missed.
#[tokio::test]
async fn a_waiting_request_is_answered_by_a_change_of_viewpoint() {
    let (stage, fixture) = (Stage::one_down(), one_down());
    let alone = |viewpoint: u64| {
        let mut view = fixture.view(NodeNumber(1));
        (view.local.quorate, view.viewpoint) = (false, viewpoint);
        view
    };
    for path in ["/api/v1/local", "/readyz", "/api/v1/groups"] {
        stage.publish(&fixture);
        let router = stage.router();
        let asked = format!("{path}?index={}&wait=10m", fixture.state.revision);
        let waiting = tokio::spawn(async move { get(&router, &asked).await });
        tokio::task::yield_now().await;
        stage.publish_view(alone(1), fixture.records.clone());
        let answer = tokio::time::timeout(DEADLINE, waiting).await.expect("in time").expect(path);
        assert_eq!(answer.header("x-vedette-quorate"), "false", "{path}");
        let seen = answer.header("x-vedette-viewpoint").to_owned();
        let asked = format!("{path}?index={}&viewpoint=0&wait=10m", fixture.state.revision);
        let answer = tokio::time::timeout(DEADLINE, get(&stage.router(), &asked)).await;
        assert_eq!(answer.expect("at once").header("x-vedette-viewpoint"), seen, "{path}");
    }
}

/// Pages of the history follow each other without a gap, filters lose nothing.
#[tokio::test]
async fn events_come_in_pages() {
    let (router, all) = (Stage::one_down().router(), one_down().records);
    let (mut after, mut seen) = (0, Vec::new());
    loop {
        let page = get(&router, &format!("/api/v1/events?after={after}&limit=7")).await.json();
        let events = page["events"].as_array().expect("events").clone();
        if events.is_empty() {
            break;
        }
        seen.extend(events.iter().map(|event| event["seq"].as_u64().expect("seq")));
        after = page["next_after"].as_u64().expect("next_after");
    }
    assert_eq!(seen, (1..=all.len() as u64).collect::<Vec<_>>());

    let errors = get(&router, "/api/v1/events?severity=error&limit=1000").await.json();
    let expected = all.iter().filter(|record| record.severity == Severity::Error).count();
    assert_eq!(errors["events"].as_array().map(Vec::len), Some(expected));
    assert_eq!(errors["next_after"].as_u64(), Some(all.len() as u64), "nothing more to scan");
}

/// What a load balancer is told, on each kind of node: 200 only where it holds, 503 with a reason
/// where it does not, and nothing at all from a node without a quorum.
#[tokio::test]
async fn load_balancers_are_told_who_serves() {
    let fixture = busy_fixture();
    let cases = [
        (1, "logs/active", 200, "active\n"),
        (3, "logs/active", 503, "logs is in service on n1 and not on n3."),
        (1, "web/active", 503, "web is ACQUIRING and not in service on n1."),
        (1, "web/online", 503, "web is ACQUIRING and in service nowhere."),
        (3, "logs/online", 200, "online\n"),
        (1, "web/standby", 503, "n1 has web itself."),
        (2, "web/standby", 503, "n2 is in maintenance."),
        (3, "web/standby", 503, "the manager of n3 takes no part in events."),
        (3, "db/standby", 503, "db may not run on n3."),
        (1, "5/standby", 503, "n1 is avoided by db because of failures there."),
    ];
    for (node, question, status, says) in cases {
        let mut view = fixture.view(vedette_core::id::NodeNumber(node));
        let path = format!("/api/v1/lb/{question}");
        let stage = Stage::showing(view.clone(), Vec::new(), Duration::ZERO);
        let answer = get(&stage.router(), &path).await;
        assert_eq!(answer.status.as_u16(), status, "{node} {question}");
        if status == 200 {
            assert_eq!(answer.body, says, "{node} {question}");
        } else {
            assert_eq!(answer.json()["detail"], says, "{node} {question}");
        }
        view.local.quorate = false;
        let stage = Stage::showing(view, Vec::new(), Duration::from_secs(1));
        let answer = get(&stage.router(), &path).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{node} {question}");
    }
    let mut free = fixture.clone();
    free.state.manager.members.get_mut(&vedette_core::id::NodeNumber(2)).expect("n2").maintenance =
        false;
    let stage =
        Stage::showing(free.view(vedette_core::id::NodeNumber(2)), Vec::new(), Duration::ZERO);
    assert_eq!(get(&stage.router(), "/api/v1/lb/web/standby").await.body, "standby\n");
}

/// Incidents come latest first, page by page, each with what is known of it.
#[tokio::test]
async fn incidents_come_in_pages() {
    let (stage, mut fixture) = (Stage::one_down(), one_down());
    fixture.node_down(vedette_core::id::NodeNumber(2), "silent");
    stage.publish(&fixture);
    let router = stage.router();
    let first = get(&router, "/api/v1/incidents?limit=1").await.json();
    assert_eq!(first["incidents"][0]["title"], "node n2 is DOWN");
    let before = first["next_before"].as_u64().expect("more");
    let second = get(&router, &format!("/api/v1/incidents?limit=1&before={before}")).await.json();
    assert_eq!(second["incidents"][0]["title"], "node n3 is DOWN");
    let last = get(&router, "/api/v1/incidents/last").await.json();
    assert_eq!(last["id"], first["incidents"][0]["id"]);
    assert_eq!(last["steps"][0]["what"], "node n2 is DOWN");
}

/// The page is one file: it asks no other host for anything.
#[tokio::test]
async fn the_page_is_self_contained() {
    let answer = get(&Stage::one_down().router(), "/").await;
    assert!(answer.header("content-type").starts_with("text/html"));
    assert!(answer.header("content-security-policy").contains("default-src 'none'"));
    for word in ["http://", "https://", "//cdn", "@import", "eval(", "innerHTML"] {
        assert!(!answer.body.contains(word), "{word}");
    }
    assert!(answer.body.contains("/api/v1/watch") && answer.body.contains("prefers-color-scheme"));
    assert!(answer.body.len() < 40_000);
}

const PATHS: &[&str] = &[
    "/",
    "/metrics",
    "/healthz",
    "/readyz",
    "/api/v1/status",
    "/api/v1/clusters",
    "/api/v1/nodes",
    "/api/v1/local",
    "/api/v1/primary",
    "/api/v1/networks",
    "/api/v1/interfaces",
    "/api/v1/links",
    "/api/v1/ports",
    "/api/v1/groups",
    "/api/v1/manager",
    "/api/v1/incidents",
    "/api/v1/incidents/last",
    "/api/v1/incidents/report",
    "/api/v1/alerts",
    "/api/v1/events",
    "/api/v1/openapi.json",
    "/api/v1/watch",
];

/// Never a 5xx, whatever is asked; a problem is always JSON with a code.
fn survives(uri: &str) {
    let Ok(request) = Request::get(uri).body(Body::empty()) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let router = Stage::one_down().router();
        // The head is enough: /api/v1/watch has no end.
        let response = tower::ServiceExt::oneshot(router, request).await.expect("an answer");
        assert!(!response.status().is_server_error(), "{uri}: {}", response.status());
        if response.status().is_client_error() {
            assert_eq!(response.headers()["content-type"], "application/problem+json", "{uri}");
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_query_breaks_it(path in prop::sample::select(PATHS), query in "[ -~]{0,40}") {
        survives(&format!("{path}?{query}"));
    }

    #[test]
    fn no_known_parameter_breaks_it(
        path in prop::sample::select(PATHS),
        name in prop::sample::select(&["index", "wait", "after", "before", "limit", "severity", "code", "from"][..]),
        value in "[0-9a-z%._-]{0,24}",
    ) {
        survives(&format!("{path}?{name}={value}"));
    }

    #[test]
    fn no_path_breaks_it(name in "[!-~]{1,30}") {
        survives(&format!("/api/v1/nodes/{name}"));
        survives(&format!("/api/v1/nodes/{name}/route"));
        survives(&format!("/api/v1/addresses/{name}/available"));
        survives(&format!("/api/v1/groups/{name}"));
        survives(&format!("/api/v1/groups/{name}/location"));
        survives(&format!("/api/v1/lb/{name}/active"));
        survives(&format!("/api/v1/incidents/{name}"));
        survives(&format!("/{name}"));
    }
}
