//! A browser for all tests of this process: started by the first that asks, and it ends with the process.
//!
//! It is driven through a pair of pipes (`--remote-debugging-pipe`): JSON messages with a zero byte after
//! each. Once this process is gone the pipes are closed, and the browser ends by itself.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, fcntl};
use serde_json::{Value, json};
use vedette_tests::lab::Lab;

/// How long the browser may take for its answer on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Opens a page and answers what the script makes of it; `None` if the page cannot be opened or the
/// script answers nothing. The page is left afterwards, so that it listens to nobody.
pub(crate) fn read(lab: &Lab, url: &str, script: &str) -> Option<Value> {
    static BROWSER: Mutex<Option<Browser>> = Mutex::new(None);
    let mut place = BROWSER.lock().unwrap_or_else(PoisonError::into_inner);
    let browser = place.get_or_insert_with(|| Browser::start(lab));
    let opened = browser.call("Page.navigate", &json!({ "url": url }));
    let seen = opened["errorText"].is_null().then(|| {
        let how = json!({ "expression": script, "awaitPromise": true, "returnByValue": true });
        browser.call("Runtime.evaluate", &how)["result"]["value"].clone()
    });
    browser.call("Page.navigate", &json!({ "url": "about:blank" }));
    seen.filter(|seen| !seen.is_null())
}

struct Browser {
    _process: Child,
    pipe: File,
    answers: Receiver<Value>,
    calls: u64,
    /// The tab.
    session: Option<String>,
}

impl Browser {
    fn start(lab: &Lab) -> Self {
        let (commands, pipe) = std::io::pipe().expect("a pipe");
        let (from, answers) = std::io::pipe().expect("a pipe");
        let ends = [high(commands.into()), high(answers.into())];
        let mut command = Command::new("chromium");
        command
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"])
            .arg(format!("--user-data-dir={}", lab.dir().join("browser").display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let numbers = [ends[0].as_raw_fd(), ends[1].as_raw_fd()];
        // SAFETY: between fork and exec only async-signal-safe calls are made.
        unsafe {
            command.pre_exec(move || {
                for (from, to) in numbers.into_iter().zip([3, 4]) {
                    if libc::dup2(from, to) < 0 {
                        return Err(std::io::Error::last_os_error());
                    }
                }
                Ok(())
            });
        }
        let process = command.spawn().expect("chromium is needed: apt-get install chromium");
        let pipe = File::from(OwnedFd::from(pipe));
        let answers = follow(File::from(OwnedFd::from(from)));
        let mut browser = Self { _process: process, pipe, answers, calls: 0, session: None };
        let tab = browser.call("Target.createTarget", &json!({ "url": "about:blank" }));
        let how = json!({ "targetId": tab["targetId"], "flatten": true });
        let attached = browser.call("Target.attachToTarget", &how);
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        assert!(browser.session.is_some(), "the browser gives no tab: {attached}");
        browser
    }

    /// Calls a method of the browser and waits for its answer.
    fn call(&mut self, method: &str, parameters: &Value) -> Value {
        self.calls += 1;
        let mut message = json!({ "id": self.calls, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.pipe.write_all(format!("{message}\0").as_bytes()).expect("the browser runs");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let answer = self.answers.recv_timeout(left);
            let answer = answer.unwrap_or_else(|error| panic!("{method}: {error}"));
            // Everything else is news that nobody asked for.
            if answer["id"] == self.calls {
                return answer["result"].clone();
            }
        }
    }
}

/// The same file under a number that is in nobody's way.
fn high(file: OwnedFd) -> OwnedFd {
    use std::os::fd::FromRawFd;
    let number = fcntl(&file, FcntlArg::F_DUPFD_CLOEXEC(10)).expect("a file number");
    // SAFETY: the number is new and nobody else's.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// The browser's messages, until it ends.
fn follow(pipe: File) -> Receiver<Value> {
    let (sender, messages) = mpsc::channel();
    std::thread::spawn(move || {
        for message in BufReader::new(pipe).split(0).map_while(Result::ok) {
            if sender.send(serde_json::from_slice(&message).unwrap_or_default()).is_err() {
                return;
            }
        }
    });
    messages
}
