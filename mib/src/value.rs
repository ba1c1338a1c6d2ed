//! Values of variables, as AgentX carries them, and how ours are made from the core's.

use vedette_core::time::WallTime;

use crate::oid::Oid;

/// A value, or the reason why there is none (RFC 2741, 5.4).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Value {
    /// A signed number; enumerations too.
    Integer(i32),
    /// Octets: text, addresses, dates.
    Octets(Vec<u8>),
    /// Nothing.
    Null,
    /// A name.
    ObjectId(Oid),
    /// An IPv4 address.
    IpAddress([u8; 4]),
    /// A number that only grows, and wraps.
    Counter32(u32),
    /// A number that grows and shrinks; `Unsigned32` looks the same on the wire.
    Gauge32(u32),
    /// Hundredths of a second.
    TimeTicks(u32),
    /// Octets that nobody looks into.
    Opaque(Vec<u8>),
    /// A number that only grows.
    Counter64(u64),
    /// There is no such object.
    NoSuchObject,
    /// The object exists, this instance of it does not.
    NoSuchInstance,
    /// Nothing follows.
    EndOfMibView,
}

impl Value {
    /// An enumerated value.
    pub fn code(code: u32) -> Self {
        Self::Integer(i32::try_from(code).unwrap_or(i32::MAX))
    }

    /// A `TruthValue`: true(1), false(2).
    pub const fn truth(truth: bool) -> Self {
        Self::Integer(if truth { 1 } else { 2 })
    }

    /// Microseconds as milliseconds, as far as 32 bits hold them.
    pub fn milliseconds(micros: i64) -> Self {
        let most = if micros < 0 { i32::MIN } else { i32::MAX };
        Self::Integer(i32::try_from(micros / 1_000).unwrap_or(most))
    }

    /// A count, as far as 32 bits hold it.
    pub fn gauge(count: usize) -> Self {
        Self::Gauge32(u32::try_from(count).unwrap_or(u32::MAX))
    }

    /// Text of at most `most` bytes; what is longer is cut between two characters.
    pub fn text(text: &str, most: usize) -> Self {
        const ELLIPSIS: &str = "…";
        if text.len() <= most {
            return Self::Octets(text.as_bytes().to_vec());
        }
        let mut end = most.saturating_sub(ELLIPSIS.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        Self::Octets([&text.as_bytes()[..end], ELLIPSIS.as_bytes()].concat())
    }

    /// `DateAndTime` in UTC with tenths of a second; eight zero octets if the time is not known.
    pub fn date(time: WallTime) -> Self {
        let (year, month, day, hour, minute, second) = time.utc();
        let Ok(year) = u16::try_from(year) else { return Self::Octets(vec![0; 8]) };
        if time == WallTime::default() {
            return Self::Octets(vec![0; 8]);
        }
        let [high, low] = year.to_be_bytes();
        let tenths = (time.micros_of_second() / 100_000) as u8;
        Self::Octets(vec![high, low, month, day, hour, minute, second, tenths, b'+', 0, 0])
    }

    /// Its type on the wire.
    pub const fn kind(&self) -> u16 {
        match self {
            Self::Integer(_) => 2,
            Self::Octets(_) => 4,
            Self::Null => 5,
            Self::ObjectId(_) => 6,
            Self::IpAddress(_) => 64,
            Self::Counter32(_) => 65,
            Self::Gauge32(_) => 66,
            Self::TimeTicks(_) => 67,
            Self::Opaque(_) => 68,
            Self::Counter64(_) => 70,
            Self::NoSuchObject => 128,
            Self::NoSuchInstance => 129,
            Self::EndOfMibView => 130,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_between_characters() {
        assert_eq!(Value::text("äöü", 6), Value::Octets("äöü".into()));
        assert_eq!(Value::text("äöü", 5), Value::Octets("ä…".into()));
        assert_eq!(Value::text("abcdef", 5), Value::Octets("ab…".into()));
    }

    #[test]
    fn milliseconds_end_where_32_bits_end() {
        assert_eq!(Value::milliseconds(-1_500), Value::Integer(-1));
        assert_eq!(Value::milliseconds(3_600_000_000), Value::Integer(3_600_000));
        assert_eq!(Value::milliseconds(i64::MIN), Value::Integer(i32::MIN));
        assert_eq!(Value::milliseconds(i64::MAX), Value::Integer(i32::MAX));
    }

    #[test]
    fn dates_are_in_utc_and_zero_if_unknown() {
        let date = Value::date(WallTime(1_709_210_096_789_000));
        assert_eq!(date, Value::Octets(vec![7, 232, 2, 29, 12, 34, 56, 7, b'+', 0, 0]));
        assert_eq!(Value::date(WallTime(0)), Value::Octets(vec![0; 8]));
        assert_eq!(Value::date(WallTime(i64::MIN)), Value::Octets(vec![0; 8]));
    }
}
