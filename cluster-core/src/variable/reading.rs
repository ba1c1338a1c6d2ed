//! Readings: values that monitors saw.

use serde::{Deserialize, Serialize};

use crate::time::WallTime;

use super::{Instance, Value};

/// A value of one instance of a variable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// The variable, by any of its names.
    pub variable: String,
    /// Which copy.
    pub instance: Instance,
    /// The value.
    pub value: Value,
    /// When it was taken.
    pub at: WallTime,
}
