//! placeholder
pub mod alone;
pub mod bench;
pub mod lab;
pub mod sim;
