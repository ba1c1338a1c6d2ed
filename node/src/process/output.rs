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

use super::Program;
use crate::transcript::Tape;

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
    /// The last that was printed behind what is kept, where both ends are wanted.
    last: Option<Vec<u8>>,
    lines: Option<mpsc::Sender<String>>,
    line: Vec<u8>,
    tape: Option<Tape>,
    leave_out: Option<fn(&[u8]) -> bool>,
    /// The beginning of a line of which it is not clear yet whether it is left out.
    pending: Vec<u8>,
}

impl Output {
    pub(super) fn of_pipe(pipe: Receiver, program: &Program) -> Self {
        Self {
            pipe: Some(pipe),
            lines: program.lines.clone(),
            tape: program.tape.clone(),
            leave_out: program.leave_out,
            ..Self::none(program)
        }
    }

    fn none(program: &Program) -> Self {
        let keep = if program.both_ends { program.keep / 2 } else { program.keep };
        Self {
            last: program.both_ends.then(Vec::new),
            pipe: None,
            file: None,
            kept: Vec::new(),
            dropped: 0,
            keep,
            lines: None,
            line: Vec::new(),
            tape: None,
            leave_out: None,
            pending: Vec::new(),
        }
    }

    /// Of a file that others may have written to: what comes after `from`.
    pub(super) fn of_file(path: PathBuf, from: u64, program: &Program) -> Self {
        Self { file: Some((path, from)), ..Self::none(program) }
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
        if let Some(tape) = &self.tape {
            tape.write(bytes);
        }
        match self.leave_out {
            Some(which) => self.keep_lines(bytes, which),
            None => self.keep(bytes),
        }
        if self.lines.is_some() {
            bytes.iter().for_each(|byte| self.take_for_line(*byte));
        }
    }

    /// Keeps lines but for those that are left out.
    fn keep_lines(&mut self, bytes: &[u8], which: fn(&[u8]) -> bool) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.pending.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.pending.len() >= LONGEST_LINE {
                let line = std::mem::take(&mut self.pending);
                if !which(&line) {
                    self.keep(&line);
                }
            }
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = self.keep.saturating_sub(self.kept.len()).min(bytes.len());
        self.kept.extend_from_slice(&bytes[..room]);
        let Some(last) = &mut self.last else {
            self.dropped += (bytes.len() - room) as u64;
            return;
        };
        last.extend_from_slice(&bytes[room..]);
        // Not at every piece, as the rest is moved.
        if last.len() > 2 * self.keep {
            let surplus = last.len() - self.keep;
            last.drain(..surplus);
            self.dropped += surplus as u64;
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
        if let Some(which) = self.leave_out {
            let last = std::mem::take(&mut self.pending);
            if !which(&last) {
                self.keep(&last);
            }
        }
        if let Some((path, from)) = self.file.take()
            && let Ok(file) = std::fs::File::open(&path)
        {
            // What cannot be read was not printed, as far as anybody can tell.
            let _ = self.take_file(file, from);
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
    pub(super) fn text(mut self) -> (String, u64) {
        if let Some(mut last) = self.last.take() {
            let surplus = last.len().saturating_sub(self.keep);
            last.drain(..surplus);
            self.dropped += surplus as u64;
            if self.dropped > 0 {
                self.kept.extend(format!("\n[{} bytes are left out here]\n", self.dropped).bytes());
            }
            self.kept.extend(last);
        }
        (String::from_utf8_lossy(&self.kept).into_owned(), self.dropped)
    }

    /// What was written to a file behind `from`.
    fn take_file(&mut self, mut file: std::fs::File, from: u64) -> std::io::Result<()> {
        let there = file.metadata()?.len().saturating_sub(from);
        let mut read = |from: u64, most: u64| {
            file.seek(SeekFrom::Start(from))?;
            let mut bytes = Vec::new();
            file.by_ref().take(most).read_to_end(&mut bytes)?;
            Ok::<_, std::io::Error>(bytes)
        };
        let keep = self.keep as u64;
        self.kept = read(from, keep.min(there))?;
        let rest = there.saturating_sub(self.kept.len() as u64);
        let end = self.last.as_ref().map_or(0, |_| rest.min(keep));
        if end > 0 {
            self.last = Some(read(from + there - end, end)?);
        }
        self.dropped = rest - end;
        Ok(())
    }
}
