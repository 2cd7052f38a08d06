//! What the guard costs each request: `cargo bench --bench guard`. On one thread, without the network.
#![allow(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "a benchmark says what it expects"
)]

use actix_web::test::TestRequest;
use rbee::{
    http::{
        auth::{Guard, GuardConfig, Role, Rules, origin::OwnNames},
        queen::ACCESS,
    },
    platform::secret::Secret,
};
use std::{hint::black_box, sync::Arc, time::Instant};

const ROUNDS: u32 = 200_000;

fn guard(tokens: bool) -> Arc<Guard> {
    let token =
        |name: &str| tokens.then(|| Secret::new(format!("{name}-0123456789abcdef01234567")));
    let roles = [Role::Admin, Role::Hive, Role::Inference];
    let rules = roles.into_iter().zip(["admin", "hive", "inference"].map(token));
    let bind = "127.0.0.1:7833".parse().unwrap();
    let own = OwnNames { bind, hostname: None, allowed: Vec::new(), tls: false };
    Guard::new(GuardConfig { rules: Rules::new(rules, false), own, access: ACCESS })
}

fn main() {
    println!("{:<12} {:<40} {:>10}", "tokens", "path", "ns a call");
    for tokens in [false, true] {
        let guard = guard(tokens);
        for path in ["/v1/chat/completions", "/v1/hive-heartbeat", "/v1/hives/a/workers/b/c/drain"]
        {
            let request = TestRequest::post()
                .uri(path)
                .insert_header(("host", "127.0.0.1:7833"))
                .insert_header(("user-agent", "bench"))
                .insert_header(("accept", "*/*"))
                .insert_header(("content-type", "application/json"))
                .insert_header(("authorization", "Bearer admin-0123456789abcdef01234567"))
                .to_srv_request();
            assert!(guard.admit(&request).is_ok());
            let start = Instant::now();
            for _ in 0..ROUNDS {
                let _ = black_box(guard.admit(black_box(&request)));
            }
            let ns = start.elapsed().as_nanos() as f64 / f64::from(ROUNDS);
            println!("{:<12} {path:<40} {ns:>10.0}", if tokens { "three" } else { "none" });
        }
    }
}
