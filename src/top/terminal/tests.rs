#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what it expects")]

use super::*;
use nix::pty::openpty;
use rustix::termios::tcgetattr;
use std::{
    fs::File,
    io::Read as _,
    process::{Command, Stdio},
    thread,
};

/// The test starts itself again with this set, in a terminal, as the program that panics.
const PANICS: &str = "RBEE_TEST_PANICS";

#[test]
fn a_panic_gives_the_terminal_back_and_can_be_read() {
    if std::env::var_os(PANICS).is_some() {
        let _screen = Screen::enter().unwrap();
        panic!("a panic on the screen");
    }
    let pair = openpty(None, None).unwrap();
    let before = tcgetattr(&pair.slave).unwrap();
    let end = || Stdio::from(pair.slave.try_clone().unwrap());
    let name = module_path!().split_once("::").unwrap().1;
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture"])
        .arg(format!("{name}::a_panic_gives_the_terminal_back_and_can_be_read"))
        .env(PANICS, "1")
        .stdin(end())
        .stdout(end())
        .stderr(end())
        .spawn()
        .unwrap();
    let written = thread::spawn(move || {
        let (mut master, mut written) = (File::from(pair.master), Vec::new());
        // Ends with an error, once nobody has the other end.
        let _ = master.read_to_end(&mut written);
        String::from_utf8_lossy(&written).into_owned()
    });
    assert!(!child.wait().unwrap().success());
    let after = tcgetattr(&pair.slave).unwrap();
    drop(pair.slave);
    let written = written.join().unwrap();
    let place = |text: &str| written.find(text).unwrap_or_else(|| panic!("{text:?} in {written}"));
    let [entered, left, told] = ["\x1b[?1049h", "\x1b[?1049l", "a panic on the screen"].map(place);
    assert!(entered < left && left < told, "{written}");
    let modes = |termios: &rustix::termios::Termios| {
        (termios.input_modes, termios.output_modes, termios.control_modes, termios.local_modes)
    };
    assert_eq!(modes(&after), modes(&before));
}
