//! Where no secret may ever appear: looked for there.

use super::auth::{ADMIN, HIVE, HIVES_OWN, INFERENCE};
use crate::support::{Site, ask, eventually, secs};
use serde_json::json;
use std::fs;

/// A file of /proc whole.
fn of_process(pid: u64, name: &str) -> String {
    let bytes = fs::read(format!("/proc/{pid}/{name}")).expect("the process is there");
    String::from_utf8_lossy(&bytes).into_owned()
}

#[actix_web::test]
async fn no_secret_is_in_a_log_an_argument_or_a_workers_environment() {
    let site = Site::new();
    site.set_variable("RUST_LOG", "debug");
    site.set_variable("RBEE__QUEEN__AUTH__TOKEN", ADMIN);
    site.set_variable("RBEE__HIVE__ADMIN__TOKEN", HIVES_OWN);
    site.set_variable("RBEE__HIVE__QUEEN_TOKEN", HIVE);
    let mut queen = site.queen_config();
    queen["queen"]["auth"] = json!({
        "hive_token_file": site.secret("hive-token", HIVE),
        "inference_token_file": site.secret("inference", INFERENCE),
    });
    let port = crate::support::free_port();
    let url = format!("http://127.0.0.1:{port}");
    let own = site.secret("own", HIVES_OWN);
    queen["queen"]["hives"] = json!([{"id": "test-hive", "url": url, "token_file": own}]);
    let mut queen = site.start("queen", &queen).await;
    let mut config = site.hive_config(Some(queen.queen().url()));
    config["hive"]["bind"] = json!(format!("127.0.0.1:{port}"));
    config["hive"]["workers"] =
        json!([{"group": "g", "instance": "a", "command": "/bin/sleep", "args": ["1000"]}]);
    let mut hive = site.start("hive", &config).await;

    let admin = queen.queen().with_token(ADMIN);
    eventually(secs(10), async || match admin.get("/v1/workers/test-hive/g/a").await {
        answer if answer.status == 200 && answer.json["pid"].is_u64() => Ok(()),
        answer => Err(answer.text),
    })
    .await;
    let by_api = json!({"group": "g", "instance": "b", "command": "/bin/sleep", "args": ["1000"]});
    let by_api = admin.post("/v1/hives/test-hive/workers", by_api).await.expect(201);
    let by_file = hive.hive().with_token(HIVES_OWN).worker("g/a").await;
    let login = json!({"token": ADMIN}).to_string();
    let kind = ("content-type", "application/json");
    let login = ask(queen.queen(), "POST", "/login", &[kind], &login).await;
    let cookie = login.header("set-cookie").unwrap().split(['=', ';']).nth(1).unwrap().to_owned();
    let misspelt = "misspelt-5f4e3d2c1b";
    assert_eq!(queen.queen().with_token(misspelt).get("/v1/hives").await.status, 401);

    for daemon in [&mut queen, &mut hive] {
        daemon.log_line(|line| line.contains("DEBUG").then_some(())).await;
    }
    let mut texts = vec![queen.log_text(), hive.log_text()];
    for worker in [by_api, by_file] {
        let pid = worker["pid"].as_u64().unwrap();
        let environment = of_process(pid, "environ");
        assert!(environment.contains("PATH="), "it has an environment");
        assert!(!environment.contains("RBEE__"), "{environment}");
        texts.extend([environment, of_process(pid, "cmdline"), worker.to_string()]);
    }
    texts.extend([queen.pid(), hive.pid()].map(|pid| of_process(pid.into(), "cmdline")));
    for secret in [ADMIN, HIVE, HIVES_OWN, INFERENCE, &cookie, misspelt] {
        for text in &texts {
            assert!(!text.contains(secret), "{secret} is in {text}");
        }
    }
}
