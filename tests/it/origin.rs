//! Pages of other origins and names that DNS points here: refused on both roles; programs are not.

use super::auth::{ADMIN, queen_with_tokens};
use crate::support::{Api, Site, ask};
use serde_json::json;

async fn status(api: &Api, path: &str, headers: &[(&str, &str)]) -> u16 {
    ask(api, "GET", path, headers, "").await.status
}

#[actix_web::test]
async fn a_name_that_is_not_ours_is_refused_on_both_roles() {
    let site = Site::new();
    let (queen, hive) = site.start_both(json!([])).await;
    for api in [queen.queen(), hive.hive()] {
        let port = api.address().rsplit(':').next().unwrap();
        for host in ["localhost", "127.0.0.1", "[::1]", "127.8.8.8"] {
            let host = format!("{host}:{port}");
            assert_eq!(status(api, "/v1/workers", &[("host", &host)]).await, 200, "{host}");
        }
        for host in ["evil.example", "localhost.evil.example", "10.0.0.1", "a b"] {
            for path in ["/v1/workers", "/health"] {
                let refused = ask(api, "GET", path, &[("host", host)], "").await;
                assert_eq!(refused.status, 403, "{host}");
                assert!(refused.body.contains("allowed_hosts"), "{}", refused.body);
            }
        }
    }
}

#[actix_web::test]
async fn a_page_of_another_origin_can_neither_read_nor_act() {
    let site = Site::new();
    let (queen, hive) = site.start_both(json!([])).await;
    for api in [queen.queen(), hive.hive()] {
        let own = format!("http://{}", api.address());
        assert_eq!(status(api, "/v1/workers", &[("origin", &own)]).await, 200);
        assert_eq!(status(api, "/v1/workers", &[("sec-fetch-site", "same-origin")]).await, 200);
        for header in [
            ("origin", "null"),
            ("origin", "http://evil.example"),
            ("origin", "http://localhost:3000"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
        ] {
            let read = ask(api, "GET", "/v1/workers", &[header], "").await;
            assert_eq!(read.status, 403, "{header:?}");
            let written = ask(api, "POST", "/v1/workers", &[header], "{}").await;
            assert_eq!(written.status, 403, "{header:?}");
            let asked = ask(api, "OPTIONS", "/v1/workers", &[header], "").await;
            assert_eq!(asked.status, 403, "{header:?}");
            for answer in [read, written, asked] {
                assert!(!answer.has("access-control-allow-origin"), "{answer:?}");
            }
        }
    }
}

#[actix_web::test]
async fn a_proxy_is_let_in_by_its_name_and_only_with_a_token() {
    let site = Site::new();
    let open = site.start("open", &site.queen_config()).await;
    for header in [
        ("x-forwarded-for", "1.2.3.4"),
        ("x-real-ip", "1.2.3.4"),
        ("forwarded", "for=1.2.3.4"),
        ("via", "1.1 nginx"),
    ] {
        let refused = ask(open.queen(), "GET", "/v1/workers", &[header], "").await;
        assert_eq!(refused.status, 403, "{header:?}");
        assert!(refused.body.contains("token_file"), "{}", refused.body);
    }
    let mut config = queen_with_tokens(&site);
    config["queen"]["allowed_hosts"] = json!(["rbee.example"]);
    let closed = site.start("closed", &config).await;
    let bearer = format!("Bearer {ADMIN}");
    let through = [
        ("host", "rbee.example"),
        ("origin", "https://rbee.example"),
        ("x-forwarded-for", "1.2.3.4"),
        ("authorization", bearer.as_str()),
    ];
    assert_eq!(status(closed.queen(), "/v1/workers", &through).await, 200);
    assert_eq!(status(closed.queen(), "/v1/workers", &through[..3]).await, 401);
}
