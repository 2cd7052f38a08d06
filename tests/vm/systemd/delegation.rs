//! Who owns what in the tree.

use crate::{
    machine::{CONTROLLERS, ROOT, run, sleeper},
    unit::{self, Unit, WORKERS},
};
use serde_json::json;
use std::{fs, path::Path};

#[actix_web::test]
async fn the_hive_writes_below_the_unit_that_was_given_to_it_and_nowhere_else() {
    let given = Path::new(ROOT).join("rbee.slice/rbee-workers.service");
    run("systemctl start rbee-workers");
    // Nothing in it but the leaf of its keeper.
    assert_eq!(fs::read_to_string(given.join("cgroup.procs")).unwrap(), "");
    let above = || {
        ["", "rbee.slice"].map(|p| {
            fs::read_to_string(Path::new(ROOT).join(p).join("cgroup.subtree_control")).unwrap()
        })
    };
    let before = above();
    let hive = Unit::start(json!([sleeper("a")])).await;
    hive.api().worker_in_state("g/a", "ready").await;
    let enabled = fs::read_to_string(given.join("cgroup.subtree_control")).unwrap();
    assert!(CONTROLLERS.iter().all(|name| enabled.contains(name)), "{enabled}");
    assert_eq!(above(), before);
    let capability = hive.api().get("/capabilities").await.expect(200)["cgroup"].clone();
    assert_eq!(capability["reason"], json!(null));
    assert_eq!(capability["slice"], Path::new(ROOT).join(WORKERS).to_str().unwrap());
    assert_eq!(unit::state("rbee-workers"), "active");
}
