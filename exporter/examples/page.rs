//! Serves the example cluster at its busiest, to look at the page or to take a picture of it:
//!
//! ```text
//! cargo run -p vedette-exporter --example page -- 127.0.0.1:7790
//! ```

#![allow(clippy::print_stdout, reason = "it says where the page is")]

#[path = "../tests/common/mod.rs"]
mod common;

use common::Stage;
use tokio::net::TcpListener;
use vedette_exporter::{Limits, serve_tcp};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7790".into());
    let listener = TcpListener::bind(&address).await?;
    println!("http://{}/ shows the example cluster; Ctrl-C ends.", listener.local_addr()?);
    serve_tcp(listener, Stage::busy().router(), Limits::default(), std::future::pending()).await
}
