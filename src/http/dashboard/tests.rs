#![allow(clippy::unwrap_used, reason = "a test says what it expects")]

use super::*;
use actix_web::{
    App,
    body::MessageBody,
    dev::ServiceResponse,
    http::{StatusCode, header::HeaderName},
    test,
};

/// A macro, since the type of an initialised app has no name.
macro_rules! call {
    ($request:expr) => {{
        let app = test::init_service(App::new().configure(configure)).await;
        test::call_service(&app, $request.to_request()).await
    }};
}

fn get_at(uri: &str) -> test::TestRequest {
    test::TestRequest::get().uri(uri)
}

fn told<B>(response: &ServiceResponse<B>, name: impl TryInto<HeaderName>) -> String {
    let name = name.try_into().unwrap_or_else(|_| unreachable!("a header's name"));
    let value = response.headers().get(&name).and_then(|value| value.to_str().ok());
    value.unwrap_or_default().to_owned()
}

async fn text<B: MessageBody>(response: ServiceResponse<B>) -> String {
    String::from_utf8(test::read_body(response).await.to_vec()).unwrap()
}

#[actix_web::test]
async fn every_file_goes_out_with_its_type_and_under_the_strict_policy() {
    let names = ASSETS.iter().map(|asset| (format!("/dashboard/{}", asset.name), asset.mime));
    for (uri, mime) in names.chain([("/".to_owned(), HTML)]) {
        let response = call!(get_at(&uri));
        assert_eq!(
            (response.status(), told(&response, "content-type")),
            (StatusCode::OK, mime.into())
        );
        let policy = told(&response, "content-security-policy");
        assert!(
            policy.starts_with("default-src 'none'; ") && !policy.contains("unsafe"),
            "{policy}"
        );
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
        assert_eq!(told(&response, "x-content-type-options"), "nosniff");
        assert_eq!(told(&response, "referrer-policy"), "no-referrer");
        assert_eq!(told(&response, "cache-control"), "no-cache");
        assert!(!text(response).await.is_empty(), "{uri}");
    }
}

#[actix_web::test]
async fn a_file_that_the_browser_has_is_not_sent_again() {
    let first = call!(get_at("/dashboard/main.js"));
    let tag = told(&first, "etag");
    let again = call!(get_at("/dashboard/main.js").insert_header(("if-none-match", tag.clone())));
    assert_eq!((again.status(), told(&again, "etag")), (StatusCode::NOT_MODIFIED, tag.clone()));
    assert!(text(again).await.is_empty());
    let other = call!(get_at("/dashboard/style.css").insert_header(("if-none-match", tag)));
    assert_eq!(other.status(), StatusCode::OK);
}

#[actix_web::test]
async fn files_are_compressed_for_who_can_read_that() {
    let plain = call!(get_at("/dashboard/style.css"));
    assert_eq!(told(&plain, "content-encoding"), "");
    let packed = call!(get_at("/dashboard/style.css").insert_header(("accept-encoding", "gzip")));
    assert_eq!(told(&packed, "content-encoding"), "gzip");
    let (plain, packed) = (test::read_body(plain).await, test::read_body(packed).await);
    assert!(packed.len() * 2 < plain.len(), "{} of {}", packed.len(), plain.len());
}

#[actix_web::test]
async fn the_page_names_only_files_that_exist_and_no_other_host() {
    let page = std::str::from_utf8(INDEX.bytes).unwrap();
    for part in page.split(['"', '\'']).filter(|part| part.starts_with("/dashboard/")) {
        assert_eq!(call!(get_at(part)).status(), StatusCode::OK, "{part}");
    }
    assert!(!page.contains("://") && !page.contains("style=") && !page.contains("<script>"));
    assert_eq!(call!(get_at("/dashboard/none.js")).status(), StatusCode::NOT_FOUND);
    assert_eq!(call!(get_at("/dashboard/..%2Fdashboard.rs")).status(), StatusCode::NOT_FOUND);
}

#[actix_web::test]
async fn no_script_writes_markup() {
    for asset in ASSETS.iter().filter(|asset| asset.mime == SCRIPT) {
        let script = std::str::from_utf8(asset.bytes).unwrap();
        for way in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
            assert!(!script.contains(way), "{} uses {way}", asset.name);
        }
    }
}

#[actix_web::test]
async fn a_browser_is_known_by_what_it_wants_first() {
    let wanted = |accept: &'static str| {
        is_wanted(get_at("/").insert_header(("accept", accept)).to_http_request().headers())
    };
    assert!(wanted("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"));
    assert!(wanted("Text/HTML;level=1"));
    for program in ["text/event-stream", "*/*", "text/event-stream, text/html", "text/htmlx", ""] {
        assert!(!wanted(program), "{program}");
    }
    assert!(!is_wanted(get_at("/").to_http_request().headers()));
}
