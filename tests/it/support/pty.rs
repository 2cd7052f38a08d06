//! The binary in a terminal that is not there: keys in, a screen out.

use super::{RBEE, eventually, proc, secs, site};
use nix::{
    pty::{Winsize, openpty},
    sys::signal::Signal,
};
use std::{
    fs::File,
    io::{Read, Write},
    num::NonZero,
    os::fd::OwnedFd,
    process::{Child, Command, ExitStatus},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

/// See the module. Dropping it ends the program.
pub(crate) struct Pty {
    child: Child,
    master: File,
    slave: OwnedFd,
    screen: Arc<Mutex<vt100::Parser>>,
    raw: Arc<Mutex<Vec<u8>>>,
}

impl Pty {
    /// Starts `rbee` with these arguments, in a session whose terminal this is.
    pub(crate) fn start(arguments: &[&str], rows: u16, columns: u16) -> Self {
        Self::start_with(&[], arguments, rows, columns)
    }

    /// The same, with these variables.
    pub(crate) fn start_with(
        variables: &[(&str, &str)],
        arguments: &[&str],
        rows: u16,
        columns: u16,
    ) -> Self {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let pair = openpty(Some(&size), None).expect("a pseudo-terminal");
        let end = || pair.slave.try_clone().expect("a descriptor");
        // Makes the terminal the session's own, then becomes the program: same PID.
        let mut command = Command::new("setsid");
        site::without_settings(&mut command)
            .arg("--ctty")
            .arg(RBEE)
            .args(arguments)
            .env("TERM", "xterm-256color")
            .envs(variables.iter().copied())
            .stdin(end())
            .stdout(end())
            .stderr(end());
        let child = command.spawn().expect("setsid of util-linux is there");
        let master = File::from(pair.master);
        let screen = Arc::new(Mutex::new(vt100::Parser::new(some(rows), some(columns), 0)));
        let raw = Arc::default();
        follow(master.try_clone().expect("a descriptor"), Arc::clone(&screen), Arc::clone(&raw));
        Self { child, master, slave: pair.slave, screen, raw }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Keys, as a terminal sends them.
    pub(crate) fn press(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).expect("the terminal takes keys");
    }

    /// Another size, and the program is told as by a terminal.
    pub(crate) fn resize(&self, rows: u16, columns: u16) {
        let size =
            rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        self.screen.lock().unwrap().screen_mut().set_size(some(rows), some(columns));
        rustix::termios::tcsetwinsize(&self.slave, size).expect("the size is set");
    }

    /// What can be read on the screen.
    pub(crate) fn text(&self) -> String {
        self.screen.lock().unwrap().screen().contents()
    }

    /// All that was ever written to it.
    pub(crate) fn raw(&self) -> String {
        String::from_utf8_lossy(&self.raw.lock().unwrap()).into_owned()
    }

    /// Whether the program has the whole screen to itself.
    pub(crate) fn has_screen(&self) -> bool {
        self.screen.lock().unwrap().screen().alternate_screen()
    }

    /// Whether lines are echoed and edited, as a shell wants them.
    pub(crate) fn is_cooked(&self) -> bool {
        let modes = rustix::termios::tcgetattr(&self.slave).expect("it is a terminal").local_modes;
        let wanted = rustix::termios::LocalModes::ECHO | rustix::termios::LocalModes::ICANON;
        modes.contains(wanted)
    }

    /// The screen once `wanted` holds for it.
    pub(crate) async fn shows(&self, wanted: impl Fn(&str) -> bool) -> String {
        eventually(secs(10), async || {
            let text = self.text();
            if wanted(&text) {
                Ok(text)
            } else {
                Err(text.lines().map(str::to_owned).collect::<Vec<_>>())
            }
        })
        .await
    }

    /// Waits for the program's end.
    pub(crate) async fn ended(&mut self, deadline: Duration) -> ExitStatus {
        let child = &mut self.child;
        eventually(deadline, async || child.try_wait().unwrap().ok_or("still running")).await
    }

    pub(crate) fn signal(&self, signal: Signal) {
        proc::signal(self.pid(), signal);
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn some(count: u16) -> NonZero<u16> {
    NonZero::new(count).expect("a terminal has a size")
}

fn follow(mut master: File, screen: Arc<Mutex<vt100::Parser>>, raw: Arc<Mutex<Vec<u8>>>) {
    thread::spawn(move || {
        let mut buffer = [0; 8192];
        while let Ok(count @ 1..) = master.read(&mut buffer) {
            screen.lock().unwrap().process(&buffer[..count]);
            raw.lock().unwrap().extend_from_slice(&buffer[..count]);
        }
    });
}
