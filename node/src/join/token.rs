//! The join token: one line of text that lets one node become a member, once.
//!
//! It carries what a node needs to trust the cluster before it knows it (the fingerprint of its
//! authority), to find it (addresses of members), and to be trusted (a secret of which the cluster
//! keeps only the hash). The checksum at its end tells a slip in copying from a token that the
//! cluster does not know.
//!
//! ```text
//! vjoin1. then in hexadecimal digits:
//!   cluster id 16 | fingerprint 32 | secret 32 | expires_at 8 | number 2
//!   | name: length 1, bytes | addresses: count 1, each: family 1 (4 or 6), address 4 or 16, port 2
//!   | first 4 bytes of the SHA-256 of all before
//! ```

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use vedette_core::id::{ClusterId, Hash, NodeNumber};
use vedette_core::state::ClusterState;
use vedette_core::time::WallTime;

use crate::peers::members;

const PREFIX: &str = "vjoin1.";
const CHECKSUM: usize = 4;

/// Permission for one node to join one cluster.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// The cluster.
    pub cluster: ClusterId,
    /// SHA-256 of the certificate of the cluster's authority.
    pub fingerprint: Hash,
    /// What proves the permission.
    pub secret: [u8; 32],
    /// When the permission ends.
    pub expires_at: WallTime,
    /// The number the node will have.
    pub number: NodeNumber,
    /// The name the node must have.
    pub name: String,
    /// Where members listen for peers, best first.
    pub members: Vec<SocketAddr>,
}

/// Shows everything but the secret.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("cluster", &self.cluster)
            .field("name", &self.name)
            .field("number", &self.number)
            .field("expires_at", &self.expires_at)
            .field("members", &self.members)
            .finish_non_exhaustive()
    }
}

/// Why a text is no token: what is wrong, and what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It does not begin like one.
    #[error(
        "this is not a join token: one begins with \"{PREFIX}\". Copy the line that `vedette node \
         add NODE` printed on a member."
    )]
    NotAToken,
    /// It is a token of another version.
    #[error(
        "this join token was made by another release of vedette. Install the release that the \
         members run, then join."
    )]
    OtherVersion,
    /// It was changed on its way.
    #[error(
        "this join token is damaged: {0}. Copy the whole line again, from \"{PREFIX}\" to its end."
    )]
    Damaged(&'static str),
}

impl Token {
    /// A token with a new secret, for a node to find the members of `state`.
    pub fn issue(
        state: &ClusterState,
        cluster: ClusterId,
        fingerprint: Hash,
        (name, number): (&str, NodeNumber),
        expires_at: WallTime,
    ) -> Self {
        let members = members(state);
        let addresses = members.values().flat_map(|peer| peer.addresses.values().copied());
        Self {
            cluster,
            fingerprint,
            secret: rand::random(),
            expires_at,
            number,
            name: name.into(),
            members: addresses.take(usize::from(u8::MAX)).collect(),
        }
    }

    /// What the cluster keeps of it.
    pub fn hash(&self) -> Hash {
        Hash::of(&self.secret)
    }

    fn content(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&self.cluster.0);
        bytes.extend_from_slice(&self.fingerprint.0);
        bytes.extend_from_slice(&self.secret);
        bytes.extend_from_slice(&self.expires_at.0.to_be_bytes());
        bytes.extend_from_slice(&self.number.0.to_be_bytes());
        // Names are at most 63 bytes long (checked where they come from outside).
        let name = &self.name.as_bytes()[..self.name.len().min(usize::from(u8::MAX))];
        bytes.push(name.len() as u8);
        bytes.extend_from_slice(name);
        let addresses = &self.members[..self.members.len().min(usize::from(u8::MAX))];
        bytes.push(addresses.len() as u8);
        for address in addresses {
            match address.ip() {
                IpAddr::V4(ip) => {
                    bytes.push(4);
                    bytes.extend_from_slice(&ip.octets());
                }
                IpAddr::V6(ip) => {
                    bytes.push(6);
                    bytes.extend_from_slice(&ip.octets());
                }
            }
            bytes.extend_from_slice(&address.port().to_be_bytes());
        }
        bytes
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let content = self.content();
        let checksum = &Hash::of(&content).0[..CHECKSUM];
        write!(f, "{PREFIX}{}{}", hex::encode(&content), hex::encode(checksum))
    }
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        let Some(digits) = text.strip_prefix(PREFIX) else {
            return Err(if text.starts_with("vjoin") {
                TokenError::OtherVersion
            } else {
                TokenError::NotAToken
            });
        };
        let bytes = hex::decode(digits).map_err(|why| {
            TokenError::Damaged(match why {
                hex::FromHexError::OddLength => "a character is missing or too many",
                _ => "a character in it is no hexadecimal digit",
            })
        })?;
        let Some((content, checksum)) = bytes.split_last_chunk::<CHECKSUM>() else {
            return Err(TokenError::Damaged("it is too short"));
        };
        if Hash::of(content).0[..CHECKSUM] != *checksum {
            return Err(TokenError::Damaged("its checksum does not match, a character is wrong"));
        }
        Reader(content).token().ok_or(TokenError::Damaged("its content makes no sense"))
    }
}

/// Takes a token apart.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn token(mut self) -> Option<Token> {
        let cluster = ClusterId(self.array()?);
        let fingerprint = Hash(self.array()?);
        let secret = self.array()?;
        let expires_at = WallTime(i64::from_be_bytes(self.array()?));
        let number = NodeNumber::new(u16::from_be_bytes(self.array()?))?;
        let length = usize::from(self.byte()?);
        let (name, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        let name = String::from_utf8(name.to_vec()).ok()?;
        let count = self.byte()?;
        let members = (0..count).map(|_| self.address()).collect::<Option<Vec<_>>>()?;
        let token = Token { cluster, fingerprint, secret, expires_at, number, name, members };
        self.0.is_empty().then_some(token)
    }

    fn address(&mut self) -> Option<SocketAddr> {
        let ip = match self.byte()? {
            4 => IpAddr::from(self.array::<4>()?),
            6 => IpAddr::from(self.array::<16>()?),
            _ => return None,
        };
        Some(SocketAddr::new(ip, u16::from_be_bytes(self.array()?)))
    }

    fn byte(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn address() -> impl Strategy<Value = SocketAddr> {
        (any::<IpAddr>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip, port))
    }

    prop_compose! {
        fn token()(
            cluster in any::<[u8; 16]>(),
            fingerprint in any::<[u8; 32]>(),
            secret in any::<[u8; 32]>(),
            expires_at in any::<i64>(),
            number in 1..=NodeNumber::MAX,
            name in "[a-z0-9.-]{1,63}",
            members in proptest::collection::vec(address(), 0..12),
        ) -> Token {
            Token {
                cluster: ClusterId(cluster),
                fingerprint: Hash(fingerprint),
                secret,
                expires_at: WallTime(expires_at),
                number: NodeNumber(number),
                name,
                members,
            }
        }
    }

    proptest! {
        /// What was printed can be read.
        #[test]
        fn tokens_survive_printing(token in token()) {
            prop_assert_eq!(token.to_string().parse(), Ok(token));
        }

        /// No text makes the parser panic.
        #[test]
        fn random_text_never_panics(text in "(vjoin1\\.)?[0-9a-f]{0,300}", other in ".{0,60}") {
            let _ = text.parse::<Token>();
            let _ = other.parse::<Token>();
        }

        /// Content that has a good checksum but makes no sense is refused, too.
        #[test]
        fn random_content_never_panics(content in proptest::collection::vec(any::<u8>(), 0..200)) {
            let checksum = hex::encode(&Hash::of(&content).0[..CHECKSUM]);
            let _ = format!("{PREFIX}{}{checksum}", hex::encode(&content)).parse::<Token>();
        }

        /// A wrong digit anywhere is noticed.
        #[test]
        fn slips_are_noticed(token in token(), place in any::<prop::sample::Index>()) {
            let mut text = token.to_string().into_bytes();
            let place = PREFIX.len() + place.index(text.len() - PREFIX.len());
            text[place] = if text[place] == b'0' { b'1' } else { b'0' };
            let text = String::from_utf8(text).expect("digits");
            prop_assert!(matches!(text.parse::<Token>(), Err(TokenError::Damaged(_))));
        }
    }

    /// A token that was cut off, or is none, says so.
    #[test]
    fn mistakes_are_explained() {
        let explain = |text: &str| text.parse::<Token>().expect_err("no token").to_string();
        assert!(explain("hello").starts_with("this is not a join token"));
        assert!(explain("vjoin2.00").contains("another release"));
        assert!(explain("vjoin1.0").contains("a character is missing or too many"));
        assert!(explain("vjoin1.0g").contains("no hexadecimal digit"));
        assert!(explain("vjoin1.00").contains("too short"));
        assert!(explain("vjoin1.0011223344").contains("checksum"));
    }
}
