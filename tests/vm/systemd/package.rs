//! The Debian package: installed, upgraded while a worker runs, removed and purged.

use crate::{
    machine::{PATIENCE, main_pid as main_of, run, sleeper},
    support::{Api, eventually, proc},
    unit,
};
use serde_json::{Value, json};
use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

/// Where the machine has them; the second has the higher version.
const PACKAGES: [&str; 2] = ["/vm/packages/1.deb", "/vm/packages/2.deb"];

/// What other tests use, and what would stand in the package's way.
const OTHERS: [&str; 4] =
    ["/usr/local/bin/rbee", "/etc/rbee", "/etc/systemd/system", "/etc/systemd/user"];

/// The machine without any rbee but the package. Dropping this takes the package away and puts the rest back.
struct Bare;

impl Bare {
    fn new() -> Self {
        fs::create_dir("/vm/aside").unwrap();
        for (number, path) in OTHERS.iter().enumerate() {
            fs::rename(path, format!("/vm/aside/{number}")).unwrap();
        }
        // All but rbee's units: those that bring the machine up.
        for (number, directory) in [(2, OTHERS[2]), (3, OTHERS[3])] {
            run(&format!("cp -a /vm/aside/{number} {directory}; rm -f {directory}/rbee*"));
        }
        run("systemctl daemon-reload");
        Self
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let units = "-u rbee-hive -u rbee-queen -u rbee-workers";
            eprintln!(
                "{}",
                run(&format!("journalctl --no-pager -n 60 {units}; dpkg -l rbee || :"))
            );
        }
        run("dpkg --purge rbee; systemctl reset-failed; true");
        for (number, path) in OTHERS.iter().enumerate() {
            run(&format!("rm -rf {path}"));
            fs::rename(format!("/vm/aside/{number}"), path).unwrap();
        }
        run("rmdir /vm/aside; systemctl daemon-reload");
    }
}

/// Owner, group and permission bits.
fn rights(path: &str) -> String {
    run(&format!("stat -c '%U %G %a' {path}")).trim().to_owned()
}

fn is_enabled(unit: &str) -> String {
    run(&format!("systemctl is-enabled {unit} || :")).trim().to_owned()
}

fn version() -> String {
    run("dpkg-query -W -f '${db:Status-Status} ${Version}' rbee")
}

/// A queen with a token beside its configuration, and a hive with a worker, as an operator writes them.
fn configure(token: &str) {
    let path = "/etc/rbee/admin.token";
    fs::write(path, token).unwrap();
    run(&format!("chown rbee-queen {path} && chmod 600 {path}"));
    let mut hive = unit::config(json!([sleeper("a")]));
    hive["hive"]["queen_token_file"] = json!(path);
    let queen = json!({"queen": {"auth": {"token_file": path}}});
    for (name, config) in [("hive", hive), ("queen", queen)] {
        let site = crate::support::Site::new();
        let text = fs::read(site.write(name, &config)).unwrap();
        fs::write(format!("/etc/rbee/{name}.toml"), text).unwrap();
    }
}

/// The worker as the queen has it from a hive that it heard just now.
async fn worker(queen: &Api) -> Value {
    eventually(PATIENCE, async || {
        let answer =
            queen.try_get("/v1/workers/vm/g/a").await.map_err(|error| error.to_string())?;
        let well = answer.json["state"] == "ready" && answer.json["freshness"] == "healthy";
        if well { Ok(answer.json) } else { Err(answer.text) }
    })
    .await
}

fn main_pids() -> [u32; 3] {
    ["rbee-hive", "rbee-queen", "rbee-workers"].map(unit::main_pid)
}

#[actix_web::test]
async fn a_package_is_installed_upgraded_under_a_worker_removed_and_purged() {
    let _bare = Bare::new();
    run(&format!("dpkg --install {}", PACKAGES[0]));
    for unit in ["rbee-hive", "rbee-queen", "rbee-workers"] {
        assert_eq!(unit::state(unit), "inactive", "{unit}");
    }
    assert_eq!(
        (is_enabled("rbee-hive"), is_enabled("rbee-queen")),
        ("disabled".into(), "disabled".into())
    );
    assert_eq!(rights("/etc/rbee"), "root rbee-queen 750");
    assert_eq!(rights("/etc/rbee/hive.toml"), "root root 640");
    let units = "/usr/lib/systemd/system/rbee-*.service /usr/lib/systemd/system/rbee.slice";
    assert_eq!(run(&format!("systemd-analyze verify {units} 2>&1")), "");
    for role in ["hive", "queen"] {
        run(&format!("rbee --config /etc/rbee/{role}.toml --check"));
    }
    let completed = "COMP_WORDS=(rbee st); COMP_CWORD=1; _rbee rbee st rbee; echo ${COMPREPLY[@]}";
    let file = "/usr/share/bash-completion/completions/rbee";
    assert_eq!(run(&format!("bash -c '. {file}; {completed}'")), "status stop\n");

    configure("of-an-operator");
    run("systemctl enable --now rbee-hive rbee-queen");
    let queen = Api::new("http://127.0.0.1:7833".into()).with_token("of-an-operator");
    let before = worker(&queen).await;
    let [hive_pid, queen_pid, place_pid] = main_pids();
    let owner = fs::metadata(format!("/proc/{queen_pid}")).unwrap().uid();
    assert_eq!(owner.to_string(), run("id -u rbee-queen").trim());

    run(&format!("dpkg --install {}", PACKAGES[1]));
    let higher = run(&format!("dpkg-deb -f {} Version", PACKAGES[1]));
    assert_eq!(version(), format!("installed {}", higher.trim()));
    let after = main_pids();
    assert!(after[0] != hive_pid && after[1] != queen_pid, "the new program runs: {after:?}");
    assert_eq!(after[2], place_pid, "nothing touches the workers' place");
    let known = worker(&queen).await;
    assert_eq!((&known["pid"], &known["restarts"]), (&before["pid"], &json!(0)));
    assert_eq!(known["adopted"], true);
    assert_eq!(is_enabled("rbee-hive"), "enabled");

    run("dpkg --remove rbee");
    assert!(!proc::alive(main_of(&before)) && main_pids() == [0; 3]);
    assert!(!Path::new("/usr/bin/rbee").exists());
    assert!(!Path::new("/usr/lib/systemd/system/rbee-hive.service").exists());
    for kept in ["hive.toml", "queen.toml", "admin.token"] {
        let kept = Path::new("/etc/rbee").join(kept);
        assert_ne!(fs::metadata(kept).unwrap().permissions().mode() & 0o600, 0);
    }
    assert!(Path::new("/var/lib/rbee").exists());

    run("dpkg --purge rbee");
    let left = run("find /etc /usr /var /run /sys/fs/cgroup -xdev -name '*rbee*'");
    assert_eq!(left, "", "this is left");
}
