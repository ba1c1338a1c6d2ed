//! Figures of the HTTP surface, as a table. Run it with `--release` on a quiet machine.
//!
//! - `/metrics` for 3 and 128 nodes over one real TCP connection, one request at a time,
//!   interleaved with Debian's prometheus-node-exporter, so that all three see the same machine.
//! - A view is published; the time until it has arrived at each of 1,000 watchers over TCP.

#![allow(clippy::print_stdout, reason = "the table is what this program is for")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::Stage;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use vedette_core::fixture::Fixture;
use vedette_core::model::Severity;
use vedette_exporter::{Limits, serve_tcp};

const ROUNDS: usize = 400;
const WATCHERS: usize = 1_000;
const CHANGES: usize = 40;

/// One connection that is kept open.
struct Client {
    stream: BufReader<TcpStream>,
    path: &'static str,
}

impl Client {
    async fn connect(address: SocketAddr, path: &'static str) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream), path })
    }

    /// One request; answers how long it took and how many bytes came.
    async fn ask(&mut self) -> std::io::Result<(Duration, usize)> {
        let begin = Instant::now();
        let request = format!("GET {} HTTP/1.1\r\nhost: bench\r\n\r\n", self.path);
        self.stream.get_mut().write_all(request.as_bytes()).await?;
        let (mut length, mut chunked, mut line) = (0, false, String::new());
        loop {
            line.clear();
            self.stream.read_line(&mut line).await?;
            let lower = line.trim_end().to_ascii_lowercase();
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
            chunked |= lower == "transfer-encoding: chunked";
            if lower.is_empty() {
                break;
            }
        }
        let bytes = if chunked { self.chunks().await? } else { self.skip(length).await? };
        Ok((begin.elapsed(), bytes))
    }

    async fn skip(&mut self, length: usize) -> std::io::Result<usize> {
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).await
    }

    async fn chunks(&mut self) -> std::io::Result<usize> {
        let (mut all, mut line) = (0, String::new());
        loop {
            line.clear();
            self.stream.read_line(&mut line).await?;
            let length = usize::from_str_radix(line.trim(), 16).unwrap_or(0);
            self.skip(length + 2).await?;
            all += length;
            if length == 0 {
                return Ok(all);
            }
        }
    }
}

/// Ended with the program.
struct NodeExporter(Child);

impl Drop for NodeExporter {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn node_exporter() -> std::io::Result<(NodeExporter, SocketAddr)> {
    let free = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = free.local_addr()?;
    drop(free);
    let child = Command::new("prometheus-node-exporter")
        .arg(format!("--web.listen-address={address}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|_| std::io::Error::other("apt-get install prometheus-node-exporter"))?;
    let guard = NodeExporter(child);
    for _ in 0..200 {
        if TcpStream::connect(address).await.is_ok() {
            return Ok((guard, address));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err(std::io::Error::other("prometheus-node-exporter does not answer"))
}

async fn serve(stage: &Stage) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(serve_tcp(listener, stage.router(), Limits::default(), std::future::pending()));
    Ok(address)
}

fn row(name: &str, mut times: Vec<Duration>, note: &str) {
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    println!("{name:<44} {:>9.3} {:>9.3} {:>9.3}  {note}", at(0.5), at(0.99), at(1.0));
}

async fn scrapes() -> std::io::Result<()> {
    let (small, large) = (Stage::one_down(), Stage::new(&Fixture::settled(128)));
    let (_peer, peer) = node_exporter().await?;
    let mut clients = [
        ("/metrics, 3 nodes", Client::connect(serve(&small).await?, "/metrics").await?),
        ("/metrics, 128 nodes", Client::connect(serve(&large).await?, "/metrics").await?),
        ("prometheus-node-exporter /metrics", Client::connect(peer, "/metrics").await?),
    ];
    let mut times = [const { Vec::new() }; 3];
    let mut sizes = [0; 3];
    for _ in 0..ROUNDS {
        for (place, (_, client)) in clients.iter_mut().enumerate() {
            let (time, bytes) = client.ask().await?;
            times[place].push(time);
            sizes[place] = bytes;
        }
    }
    for ((times, size), (name, _)) in times.into_iter().zip(sizes).zip(&clients) {
        row(name, times, &format!("{size} bytes, {ROUNDS} requests"));
    }
    Ok(())
}

/// Reads one stream for ever and reports when each `record` arrived.
async fn watch(address: SocketAddr, seen: mpsc::UnboundedSender<Option<Instant>>) {
    let Ok(stream) = TcpStream::connect(address).await else { return };
    let mut stream = BufReader::new(stream);
    let request = b"GET /api/v1/watch HTTP/1.1\r\nhost: bench\r\n\r\n";
    let _ = stream.get_mut().write_all(request).await;
    let mut line = String::new();
    while stream.read_line(&mut line).await.is_ok_and(|bytes| bytes > 0) {
        if line.starts_with("event: record") {
            let _ = seen.send(Some(Instant::now()));
        } else if line.starts_with("event: snapshot") {
            let _ = seen.send(None);
        }
        line.clear();
    }
}

async fn watchers() -> std::io::Result<()> {
    let mut fixture = Fixture::settled(3);
    let stage = Stage::new(&fixture);
    let address = serve(&stage).await?;
    let (sender, mut seen) = mpsc::unbounded_channel();
    for _ in 0..WATCHERS {
        tokio::spawn(watch(address, sender.clone()));
    }
    for _ in 0..WATCHERS {
        seen.recv().await;
    }
    let mut times = Vec::new();
    for round in 0..CHANGES {
        let level = if round % 2 == 0 { Severity::Error } else { Severity::Notice };
        fixture.apply(vedette_core::command::Command::SetLoggingLevel(level));
        let begin = Instant::now();
        stage.publish(&fixture);
        for _ in 0..WATCHERS {
            if let Some(Some(at)) = seen.recv().await {
                times.push(at - begin);
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    row("view published -> at each of 1,000 watchers", times, &format!("{CHANGES} changes"));
    Ok(())
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    println!("{:<44} {:>9} {:>9} {:>9}", "milliseconds", "p50", "p99", "max");
    scrapes().await?;
    watchers().await
}
