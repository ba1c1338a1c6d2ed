//! What a program prints: the first part is kept, the rest is read and counted.

use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::process::Child;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout_at};

/// How long output is read after the program exited, if a child of it keeps the pipe open.
const LAST_OUTPUT: Duration = Duration::from_millis(250);

/// The longest line that is passed on in one piece.
const LONGEST_LINE: usize = 4_096;

/// Where output comes from, and what is there of it.
pub(super) struct Output {
    pipe: Option<Receiver>,
    file: Option<(PathBuf, u64)>,
    kept: Vec<u8>,
    dropped: u64,
    keep: usize,
    lines: Option<mpsc::Sender<String>>,
    line: Vec<u8>,
}

impl Output {
    pub(super) fn of_pipe(
        pipe: Receiver,
        keep: usize,
        lines: Option<mpsc::Sender<String>>,
    ) -> Self {
        let (kept, line) = (Vec::new(), Vec::new());
        Self { pipe: Some(pipe), file: None, kept, dropped: 0, keep, lines, line }
    }

    /// Of a file that others may have written to: what comes after `from`.
    pub(super) fn of_file(path: PathBuf, from: u64, keep: usize) -> Self {
        let (kept, line) = (Vec::new(), Vec::new());
        Self { pipe: None, file: Some((path, from)), kept, dropped: 0, keep, lines: None, line }
    }

    /// Reads until the program exits; `None` if the deadline comes first. The inner value is
    /// `None` if the system could not say how it ended.
    pub(super) async fn until_exit(
        &mut self,
        child: &mut Child,
        deadline: Instant,
    ) -> Option<Option<ExitStatus>> {
        loop {
            tokio::select! {
                status = child.wait() => return Some(status.ok()),
                () = sleep_until(deadline) => return None,
                () = self.read(), if self.pipe.is_some() => {}
            }
        }
    }

    async fn read(&mut self) {
        let mut buffer = [0; 16 * 1_024];
        let Some(pipe) = &mut self.pipe else { return };
        let read = pipe.read(&mut buffer).await.unwrap_or(0);
        if read == 0 {
            self.pipe = None;
        }
        self.take(&buffer[..read]);
    }

    fn take(&mut self, bytes: &[u8]) {
        let room = self.keep.saturating_sub(self.kept.len()).min(bytes.len());
        self.kept.extend_from_slice(&bytes[..room]);
        self.dropped += (bytes.len() - room) as u64;
        if self.lines.is_some() {
            bytes.iter().for_each(|byte| self.take_for_line(*byte));
        }
    }

    fn take_for_line(&mut self, byte: u8) {
        if byte != b'\n' {
            self.line.push(byte);
        }
        if byte == b'\n' || self.line.len() >= LONGEST_LINE {
            self.pass_line();
        }
    }

    fn pass_line(&mut self) {
        if let Some(lines) = &self.lines {
            let _left_out_if_full = lines.try_send(String::from_utf8_lossy(&self.line).into());
        }
        self.line.clear();
    }

    /// Reads what is there still.
    pub(super) async fn rest(&mut self) {
        let until = Instant::now() + LAST_OUTPUT;
        let all = async {
            while self.pipe.is_some() {
                self.read().await;
            }
        };
        let _cut_off = timeout_at(until, all).await;
        if !self.line.is_empty() {
            self.pass_line();
        }
        if let Some((path, from)) = self.file.take() {
            let (head, dropped) = head_of(&path, from, self.keep).unwrap_or_default();
            (self.kept, self.dropped) = (head, dropped);
        }
    }

    /// Reads and waits.
    pub(super) async fn wait(&mut self, time: Duration) {
        let until = Instant::now() + time;
        loop {
            tokio::select! {
                () = sleep_until(until) => return,
                () = self.read(), if self.pipe.is_some() => {}
            }
        }
    }

    /// What was kept, and how much was not.
    pub(super) fn text(self) -> (String, u64) {
        (String::from_utf8_lossy(&self.kept).into_owned(), self.dropped)
    }
}

fn head_of(path: &PathBuf, from: u64, keep: usize) -> std::io::Result<(Vec<u8>, u64)> {
    let mut file = std::fs::File::open(path)?;
    let there = file.metadata()?.len().saturating_sub(from);
    file.seek(SeekFrom::Start(from))?;
    let mut head = Vec::new();
    file.take(keep as u64).read_to_end(&mut head)?;
    let dropped = there.saturating_sub(head.len() as u64);
    Ok((head, dropped))
}
