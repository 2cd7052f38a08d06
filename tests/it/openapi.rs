//! The OpenAPI documents: every route is in them, they are valid, and the server does what they say.

use actix_web::{App, introspection::IntrospectionTree, test, web};
use rbee::http::{hive, queen};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Methods by path.
type Routes = BTreeMap<String, BTreeSet<String>>;

/// Where the queen takes all that a hive has.
const PASSED_ON: &str = "/v1/hives/{id}/workers{rest:.*}";

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
async fn the_queens_document_has_every_route_and_all_that_is_passed_on() {
    let mut configured = configured(queen::configure).await;
    let any_method = configured.remove(PASSED_ON).expect("calls are passed on");
    assert_eq!(any_method, BTreeSet::new(), "with any method");
    for (path, methods) in documented(&parsed(hive::document())) {
        if let Some(rest) = path.strip_prefix("/v1/workers") {
            configured.insert(format!("/v1/hives/{{id}}/workers{rest}"), methods);
        }
    }
    similar(&configured, &documented(&parsed(queen::document())));
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
