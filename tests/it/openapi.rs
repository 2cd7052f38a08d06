//! The OpenAPI documents: every route is in them, they are valid, and the server does what they say.

use crate::support::{Api, Site, echo, free_port, python_with, ready_workers, run_tool, secs};
use actix_web::{App, introspection::IntrospectionTree, test, web};
use rbee::http::{hive, queen};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

/// Methods by path.
type Routes = BTreeMap<String, BTreeSet<String>>;

/// What the server really serves.
async fn configured(configure: fn(&mut web::ServiceConfig)) -> Routes {
    async fn report(tree: web::Data<IntrospectionTree>) -> String {
        tree.report_as_json()
    }
    let app = App::new().configure(configure).route("/report", web::get().to(report));
    let app = test::init_service(app).await;
    let request = test::TestRequest::get().uri("/report").to_request();
    let report: Value = test::call_and_read_body_json(&app, request).await;
    let mut routes = Routes::new();
    for item in report.as_array().expect("a list of routes") {
        if item["resource_type"] == "resource" && item["full_path"] != "/report" {
            let methods = item["methods"].as_array().expect("a list of methods");
            let methods = methods.iter().map(|method| method.as_str().unwrap().to_owned());
            routes.insert(item["full_path"].as_str().unwrap().to_owned(), methods.collect());
        }
    }
    assert!(routes.len() > 5, "{report:#}");
    routes
}

/// What the document says; what is read with GET may be asked for with HEAD.
fn documented(document: &Value) -> Routes {
    let paths = document["paths"].as_object().expect("a document has paths");
    let methods = |item: &Value| {
        let methods = item.as_object().expect("a path has operations").keys();
        let mut methods: BTreeSet<_> = methods.map(|method| method.to_uppercase()).collect();
        if methods.contains("GET") {
            methods.insert("HEAD".into());
        }
        methods
    };
    paths.iter().map(|(path, item)| (path.clone(), methods(item))).collect()
}

fn parsed(document: &str) -> Value {
    serde_json::from_str(document).expect("the document is JSON")
}

#[actix_web::test]
async fn the_hives_document_has_every_route_and_no_other() {
    let documented = documented(&parsed(hive::document()));
    similar(&configured(hive::configure).await, &documented);
}

#[actix_web::test]
async fn the_queens_document_has_every_route_and_no_other() {
    let documented = documented(&parsed(queen::document()));
    similar(&configured(queen::configure).await, &documented);
}

#[actix_web::test]
async fn the_queen_passes_on_every_call_about_workers_that_a_hive_has() {
    let queen = documented(&parsed(queen::document()));
    for (path, methods) in documented(&parsed(hive::document())) {
        if let Some(rest) = path.strip_prefix("/v1/workers") {
            assert_eq!(queen.get(&format!("/v1/hives/{{id}}/workers{rest}")), Some(&methods));
        }
    }
}

#[track_caller]
fn similar(configured: &Routes, documented: &Routes) {
    for (path, methods) in configured {
        assert_eq!(documented.get(path), Some(methods), "{path} is served, and documented so");
    }
    for path in documented.keys() {
        assert!(configured.contains_key(path), "{path} is documented and not served");
    }
}

/// Judges whether a document is OpenAPI 3.1.
const VALIDATOR: &str = "openapi-spec-validator==0.9.0";

#[actix_web::test]
async fn the_documents_are_valid() {
    let site = Site::new();
    let (queen, hive) = site.start_both(json!([])).await;
    let validator = python_with("openapi-validator", &[VALIDATOR]).join("openapi-spec-validator");
    for (role, api) in [("hive", hive.hive()), ("queen", queen.queen())] {
        let file = site.path(&format!("{role}.json"));
        let document = api.get("/openapi.json").await;
        assert_eq!(document.json["openapi"], "3.1.0");
        std::fs::write(&file, document.text).expect("the directory is ours");
        run_tool(Command::new(&validator).args(["--schema", "3.1"]).arg(&file));
    }
}

/// Makes requests of all kinds out of a document, and compares the answers with it.
const SCHEMATHESIS: &str = "schemathesis==4.32.5";
const SETTINGS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/schemathesis.toml");

/// All checks but those that `SETTINGS` gives a reason for, with the same requests each time.
fn tried_as_documented(site: &Site, name: &str, api: &Api) {
    let program = python_with(name, &[SCHEMATHESIS]).join("schemathesis");
    let mut command = Command::new(program);
    command.current_dir(site.path("")).args(["--config-file", SETTINGS, "run"]);
    command.arg(format!("{}/openapi.json", api.url()));
    command.args(["--seed", "1", "--max-examples", "10", "--request-timeout", "20", "--no-color"]);
    let report = run_tool(&mut command);
    println!("{report}");
    assert!(report.contains(" generated, "), "no request was made: {report}");
}

/// Few examples of slots, so that all cases come: taken, full, reserved.
fn worker() -> Value {
    json!([echo(free_port(), "echo-small", 0, json!({"slots": 4}))])
}

#[actix_web::test]
async fn the_hive_does_what_its_document_says() {
    let site = Site::new();
    let mut config = site.hive_config(None);
    config["hive"]["workers"] = worker();
    config["hive"]["admin"]["allow_commands"] = json!([]);
    let hive = site.start("hive", &config).await;
    tried_as_documented(&site, "schemathesis-hive", hive.hive());
}

#[actix_web::test]
async fn the_queen_does_what_its_document_says() {
    let site = Site::new();
    let mut config = site.queen_config();
    config["queen"]["gateway"] = json!({"queue_timeout_ms": 100});
    let queen = site.start("queen", &config).await;
    let mut config = site.hive_config(Some(queen.queen().url()));
    config["hive"]["workers"] = worker();
    config["hive"]["admin"]["allow_commands"] = json!([]);
    let _hive = site.start("hive", &config).await;
    ready_workers(queen.queen(), 1, secs(10)).await;
    tried_as_documented(&site, "schemathesis-queen", queen.queen());
}

#[actix_web::test]
async fn the_page_and_what_it_loads_come_from_the_server_alone() {
    let site = Site::new();
    let (queen, hive) = site.start_both(json!([])).await;
    for api in [queen.queen(), hive.hive()] {
        let client = awc::Client::new();
        for (path, kind) in [
            ("/docs", "text/html"),
            ("/docs/app.js", "text/javascript"),
            ("/docs/style.css", "text/css"),
        ] {
            let mut answer = client.get(format!("{}{path}", api.url())).send().await.unwrap();
            let header = |name| answer.headers().get(name).unwrap().to_str().unwrap().to_owned();
            assert!(header("content-type").starts_with(kind));
            let policy = header("content-security-policy");
            assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"));
            assert!(policy.split_whitespace().all(|word| !word.contains("://") && word != "*"));
            let body = answer.body().await.unwrap();
            let text = String::from_utf8_lossy(&body);
            for forbidden in ["http://", "https://", "innerHTML", "insertAdjacentHTML", "<script>"]
            {
                assert!(!text.contains(forbidden), "{path} has {forbidden}");
            }
        }
    }
}
