//! rbee-hive.service as its operator knows it: started, stopped and asked through systemctl.

use crate::{
    machine::{PATIENCE, ROOT, run, shell},
    support::{Api, Site, eventually},
};
use serde_json::{Value, json};
use std::{fs, path::Path};

/// Where the hive listens, in this machine.
const BIND: &str = "127.0.0.1:7835";

/// Where its units put its workers.
pub(crate) const WORKERS: &str = "rbee.slice/rbee-workers.service/workers";

/// The units. Dropping this ends both and forgets their state.
pub(crate) struct Unit {
    site: Site,
    api: Api,
}

impl Unit {
    /// Writes the configuration and starts rbee-hive, which starts rbee-workers.
    pub(crate) async fn start(workers: Value) -> Self {
        let unit = Self { site: Site::new(), api: Api::new(format!("http://{BIND}")) };
        unit.configure(workers);
        run("systemctl start rbee-hive");
        unit.listening().await;
        unit
    }

    /// The unit as an earlier test, or the machine's start, has left it.
    pub(crate) async fn found() -> Self {
        let unit = Self { site: Site::new(), api: Api::new(format!("http://{BIND}")) };
        unit.listening().await;
        unit
    }

    pub(crate) fn configure(&self, workers: Value) {
        let path = self.site.write("hive", &config(workers));
        fs::copy(path, "/etc/rbee/hive.toml").unwrap();
    }

    pub(crate) fn api(&self) -> &Api {
        &self.api
    }

    pub(crate) async fn listening(&self) {
        eventually(PATIENCE, async || self.api.try_get("/health").await.map(|_| ())).await;
    }

    /// `systemctl restart`, and the other hive answers.
    pub(crate) async fn restart(&self) {
        let before = main_pid("rbee-hive");
        run("systemctl restart rbee-hive");
        assert_ne!(main_pid("rbee-hive"), before);
        self.listening().await;
    }

    /// Leaves everything as it is, for whoever comes after a reboot.
    pub(crate) fn leave(self) {
        std::mem::forget(self);
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "{}",
                run(
                    "journalctl --no-pager -n 60 -u rbee-hive -u rbee-workers; systemctl status rbee-hive rbee-workers --no-pager | cat"
                )
            );
        }
        run("systemctl stop rbee-workers rbee-hive; systemctl reset-failed; rm -rf /var/lib/rbee");
        let left = Path::new(ROOT).join(WORKERS).exists();
        assert!(!left || std::thread::panicking(), "cgroups are left");
    }
}

/// A hive's configuration; its cgroups are its unit's to say.
pub(crate) fn config(workers: Value) -> Value {
    json!({"hive": {
        "id": "vm", "bind": BIND, "sample_interval_ms": 500, "workers": workers,
        "admin": {"allow_commands": ["/bin/*", "/usr/bin/*"]},
    }})
}

/// Of a service.
pub(crate) fn main_pid(unit: &str) -> u32 {
    run(&format!("systemctl show -P MainPID {unit}")).trim().parse().unwrap()
}

/// `active`, `failed` and so on.
pub(crate) fn state(unit: &str) -> String {
    run(&format!("systemctl show -P ActiveState {unit}")).trim().to_owned()
}

/// A worker that is started again at once.
pub(crate) fn restarting(instance: &str, script: &str) -> Value {
    let mut spec = shell(instance, script);
    spec["restart"] = json!({"backoff_ms": 100, "backoff_max_ms": 100});
    spec
}
