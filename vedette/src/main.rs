//! The one program: daemon, command line and demo.

mod cli;
mod daemon;
mod demo;
mod logging;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
