//! What the tests share: the simulator, the lab of real daemons, its campaigns and comparisons.

pub mod alone;
pub mod bench;
pub mod lab;
pub mod sim;
pub mod soak;
