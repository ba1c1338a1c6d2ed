//! placeholder
pub mod bench;
pub mod lab;
pub mod sim;
