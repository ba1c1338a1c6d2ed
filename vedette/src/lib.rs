//! What the program shares with the lab: [`sandbox`], a whole cluster of real daemons on one
//! machine.

pub mod sandbox;
