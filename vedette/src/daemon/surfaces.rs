//! Puts the publisher behind every surface: HTTP on TCP and on the control socket, SNMP.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::net::TcpListener;
use tokio::sync::watch;
use vedette_collector::history::{Filter, Page};
use vedette_core::config::{AgentX, Config};
use vedette_core::record::Record;
use vedette_exporter::{
    Counters, EventQuery, HistoryReader, HistoryUnavailable, Limits, Surface, serve_tcp, serve_unix,
};
use vedette_mib::{Cursor, FileCursor, Handle, Master, Position, Subagent, SubagentConfig};

use super::control::{self, Control};
use super::publisher::Publisher;

/// The file that remembers how far SNMP notifications were sent.
const SNMP_CURSOR: &str = "snmp.cursor";

impl HistoryReader for Publisher {
    fn events(&self, query: &EventQuery) -> Result<Vec<Arc<Record>>, HistoryUnavailable> {
        let filter = Filter { severity: query.severity, code: query.code, ..Filter::default() };
        self.read(query.after, query.limit, &filter)
    }

    fn incidents(&self, before: u64, most: usize) -> Result<Vec<u64>, HistoryUnavailable> {
        let found = self.history().incidents(before, most);
        found.map_err(|error| HistoryUnavailable(error.to_string()))
    }

    fn incident(&self, id: u64, most: usize) -> Result<Vec<Arc<Record>>, HistoryUnavailable> {
        self.read(0, most, &Filter { incident: Some(id), ..Filter::default() })
    }
}

impl Publisher {
    /// Records of the history after `after` that fulfil a filter.
    fn read(
        &self,
        after: u64,
        most: usize,
        filter: &Filter,
    ) -> Result<Vec<Arc<Record>>, HistoryUnavailable> {
        self.history()
            .query(Page::After(after), most, filter)
            .map(|records| records.into_iter().map(Arc::new).collect())
            .map_err(|error| HistoryUnavailable(error.to_string()))
    }
}

/// Serves HTTP where the configuration says, and on the control socket, until `shutdown`.
pub(crate) async fn start_http(
    config: &Config,
    publisher: &Arc<Publisher>,
    control: Control,
    shutdown: watch::Receiver<bool>,
) -> Result<()> {
    let counters = Arc::new(Counters::default());
    let clock = {
        let publisher = publisher.clone();
        Arc::new(move || publisher.clock())
    };
    let surface = || Surface {
        source: publisher.clone(),
        history: publisher.clone(),
        clock: clock.clone(),
        counters: counters.clone(),
        changed: publisher.changes(),
        records: durable_seq(publisher),
    };
    tokio::spawn(watch_history(publisher.clone(), counters.clone()));
    let public = vedette_exporter::router(surface());
    if let Some(address) = config.http {
        let listener = TcpListener::bind(address).await.with_context(|| {
            format!("HTTP cannot listen on {address}. Set another address: [http] listen.")
        })?;
        let (router, end) = (public.clone(), ended(shutdown.clone()));
        tokio::spawn(async move { serve_tcp(listener, router, Limits::default(), end).await });
    }
    let socket = config.control.clone();
    if let Some(folder) = socket.parent() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("{} cannot be made", folder.display()))?;
    }
    let router = control::router(control).merge(public);
    let end = ended(shutdown);
    tokio::spawn(async move {
        let served = serve_unix(&socket, router, 0o600, Limits::default(), end).await;
        if let Err(error) = served {
            tracing::error!(%error, "the control socket cannot be served");
        }
    });
    Ok(())
}

async fn ended(mut shutdown: watch::Receiver<bool>) {
    let _ = shutdown.wait_for(|over| *over).await;
}

/// The last durable record as a bare number.
fn durable_seq(publisher: &Publisher) -> watch::Receiver<u64> {
    let mut durable = publisher.durable();
    let (sender, receiver) = watch::channel(durable.borrow().seq);
    tokio::spawn(async move {
        while durable.changed().await.is_ok() {
            let seq = durable.borrow_and_update().seq;
            sender.send_replace(seq);
        }
    });
    receiver
}

/// Shows how the history does.
async fn watch_history(publisher: Arc<Publisher>, counters: Arc<Counters>) {
    let mut health = publisher.history().health();
    let mut durable = publisher.durable();
    loop {
        let stalled = health.borrow_and_update().stalled.is_some();
        counters.history_stalled.store(stalled, Ordering::Relaxed);
        let seq = durable.borrow_and_update().seq;
        publisher.update_local(|local| local.history_seq = seq);
        tokio::select! {
            changed = health.changed() => if changed.is_err() { return },
            changed = durable.changed() => if changed.is_err() { return },
        }
    }
}

/// Starts the SNMP subagent, where SNMP is on.
pub(crate) fn start_snmp(config: &Config, publisher: &Arc<Publisher>) -> io::Result<Option<Snmp>> {
    let Some(agentx) = &config.snmp else { return Ok(None) };
    let master = match agentx {
        AgentX::Unix(path) => Master::Unix(path.clone()),
        AgentX::Tcp(address) => Master::Tcp(*address),
    };
    let cursor = Box::new(cursor(config));
    let handle = Subagent::start(SubagentConfig::new(master), publisher.clone(), cursor)?;
    let handle = Arc::new(handle);
    tokio::spawn(poke(handle.clone(), publisher.clone()));
    Ok(Some(Snmp(handle)))
}

/// The last record of which SNMP notifications were sent; 0 if that is not known.
pub(crate) fn notified(config: &Config) -> u64 {
    cursor(config).load().ok().flatten().map_or(0, |position| position.seq)
}

/// Has SNMP notifications begin behind the record `seq`, if it is not known how far they were sent.
pub(crate) fn notify_after(config: &Config, seq: u64) {
    let mut cursor = cursor(config);
    if !matches!(cursor.load(), Ok(None)) {
        return;
    }
    if let Err(error) = cursor.store(Position { seq, local: None }) {
        tracing::warn!(%error, "SNMP notifications of the past may be sent again");
    }
}

fn cursor(config: &Config) -> FileCursor {
    FileCursor::new(config.state_dir.join(SNMP_CURSOR))
}

/// The running subagent; dropping it says good-bye to the master.
pub(crate) struct Snmp(#[expect(dead_code, reason = "held until the end")] Arc<Handle>);

/// Wakes the subagent for every change, and shows whether it is connected.
async fn poke(handle: Arc<Handle>, publisher: Arc<Publisher>) {
    let mut revisions = publisher.changes();
    let mut durable = publisher.durable();
    loop {
        let connected = handle.connected();
        publisher.update_local(|local| local.agentx = Some(connected));
        tokio::select! {
            changed = revisions.changed() => if changed.is_err() { return },
            changed = durable.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(Duration::from_millis(200)) => continue,
        }
        handle.poke();
    }
}
