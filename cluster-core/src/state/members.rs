//! Questions about members: who may join, under which name, number and addresses, and who is there.

use std::collections::BTreeMap;

use crate::command::NewNode;
use crate::id::{Hash, NetworkNumber, NodeNumber};
use crate::model::HostStatus;
use crate::reach;
use crate::refusal::Refusal;
use crate::time::WallTime;
use crate::trigger::StopMode;

use super::ClusterState;

impl ClusterState {
    /// Refuses a number or a name that is taken, naming both owners (spec V4).
    ///
    /// # Errors
    /// Who has the number or the name.
    pub fn check_free(&self, name: &str, number: NodeNumber) -> Result<(), Refusal> {
        if let Some(owner) = self.nodes.get(&number).filter(|owner| owner.name == name) {
            return Err(Refusal::new(
                "duplicate_name",
                format!("{name} is a member already, as node {}", owner.number),
                format!("Delete it first if it was installed anew: vedette node delete {name}."),
            ));
        }
        if let Some(owner) = self.nodes.get(&number) {
            return Err(Refusal::new(
                "duplicate_number",
                format!("number {number} was asked for {name}, but it belongs to {}", owner.name),
                format!("Choose another number, such as {}.", self.free_number()),
            ));
        }
        if let Some(owner) = self.node_named(name) {
            return Err(Refusal::new(
                "duplicate_name",
                format!(
                    "the name {name} was asked for node {number}, but node {} has it",
                    owner.number
                ),
                format!("Choose another name, or delete it first: vedette node delete {name}."),
            ));
        }
        Ok(())
    }

    /// The lowest number that no node has and no token promises.
    pub fn free_number(&self) -> NodeNumber {
        let taken = |number: NodeNumber| {
            self.nodes.contains_key(&number) || self.tokens.iter().any(|t| t.number == number)
        };
        (1..=NodeNumber::MAX)
            .map(NodeNumber)
            .find(|number| !taken(*number))
            .unwrap_or(NodeNumber(1))
    }

    /// Finds the permission for `node` to join, by the hash of its token's secret: its place in
    /// `tokens`.
    ///
    /// # Errors
    /// The token is not known, has expired, or is for another node.
    pub fn check_token(&self, node: &NewNode, token: Hash, at: WallTime) -> Result<usize, Refusal> {
        let Some(place) = self.tokens.iter().position(|known| known.hash == token) else {
            return Err(Refusal::new(
                "unknown_token",
                "this join token is not known here: it was used already, replaced or never issued",
                format!("Issue a new one on a member: vedette node add {}.", node.name),
            ));
        };
        let permission = &self.tokens[place];
        if permission.expires_at <= at {
            return Err(Refusal::new(
                "expired_token",
                format!("this join token expired at {}", permission.expires_at),
                format!("Issue a new one on a member: vedette node add {}.", node.name),
            ));
        }
        if permission.number != node.number || permission.name != node.name {
            return Err(Refusal::new(
                "wrong_node",
                format!(
                    "this join token is for {} (number {}), not for {} (number {})",
                    permission.name, permission.number, node.name, node.number
                ),
                "Use the token on the node it was issued for.",
            ));
        }
        Ok(place)
    }

    /// Refuses a node without an address on each network of this cluster, or with another's.
    ///
    /// # Errors
    /// Which network lacks an address, is not known, or which node has the address.
    pub fn check_addresses(&self, node: &NewNode) -> Result<(), Refusal> {
        for (number, network) in &self.networks {
            if !node.addresses.contains_key(number) {
                return Err(Refusal::new(
                    "missing_address",
                    format!("{} has no address on network {}", node.name, network.name),
                    "Add the network to its vedette.toml and join again.",
                ));
            }
        }
        for (number, address) in &node.addresses {
            let local = address.is_loopback() && self.is_on_one_machine();
            if let Some(why) = reach::unreachable(*address).filter(|_| !local) {
                return Err(Refusal::new(
                    "unreachable_address",
                    format!(
                        "nobody could reach {} by its address {address}, which {why}",
                        node.name
                    ),
                    format!(
                        "{} Correct its vedette.toml, then join again.",
                        reach::instead(*address)
                    ),
                ));
            }
            if !self.networks.contains_key(number) {
                return Err(Refusal::new(
                    "unknown_network",
                    format!(
                        "{} has address {address} on network {number}, which this cluster does not have",
                        node.name
                    ),
                    "Remove the network from its vedette.toml and join again.",
                ));
            }
            let owner = self.nodes.values().find(|other| {
                other.interfaces.values().any(|interface| interface.address == *address)
            });
            if let Some(owner) = owner {
                return Err(Refusal::new(
                    "duplicate_address",
                    format!(
                        "{} claims address {address}, which belongs to {}",
                        node.name, owner.name
                    ),
                    "Correct the address in its vedette.toml and join again.",
                ));
            }
        }
        Ok(())
    }

    /// Whether all members are on one machine, to try things: then they reach each other by loopback, and
    /// nobody else reaches them.
    pub fn is_on_one_machine(&self) -> bool {
        let mut addresses = self.nodes.values().flat_map(|node| node.interfaces.values());
        addresses.all(|interface| interface.address.is_loopback())
    }

    /// Why a cluster that runs is not to be seeded.
    pub fn seeded_already(&self) -> Refusal {
        let missing: Vec<&str> =
            self.missing_nodes().iter().map(|node| node.name.as_str()).collect();
        let waits = if missing.is_empty() {
            "all of its nodes are there".to_owned()
        } else {
            format!("it goes on without {}", missing.join(", "))
        };
        let what = format!("{} was seeded before and runs: {waits}", self.name);
        Refusal::met("seeded_already", what)
    }

    /// The members, by number.
    pub fn node_names(&self) -> BTreeMap<NodeNumber, String> {
        self.nodes.values().map(|node| (node.number, node.name.clone())).collect()
    }

    /// How a node's manager is being stopped, if what the node has leaves it thereby: it begins with nothing any more.
    pub(crate) fn is_giving_up(&self, node: NodeNumber) -> Option<StopMode> {
        let member = self.manager.members.get(&node)?;
        member.stopped.filter(|how| *how != StopMode::Forced)
    }

    /// Whether a node's host is there, as far as everybody knows.
    pub fn is_there(&self, node: NodeNumber) -> bool {
        let host = self.nodes.get(&node).map(|node| node.host);
        matches!(host, Some(HostStatus::Up | HostStatus::Netpar))
    }

    /// Whether a node's host is certainly away.
    pub(crate) fn is_away(&self, node: NodeNumber) -> bool {
        let host = self.nodes.get(&node).map(|node| node.host);
        matches!(host, Some(HostStatus::Down | HostStatus::Disconnected))
    }

    /// Why interfaces on a network that is DOWN are DOWN.
    pub(crate) fn unreached(&self, network: NetworkNumber) -> String {
        let name = self.network_name(network);
        format!("no peer reaches it over {name}, which carries nobody")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::IpAddr;

    use crate::command::NewNode;
    use crate::fixture::Fixture;
    use crate::id::{NodeNumber, StorageId};

    /// O5: a node that only itself can reach by its address does not become a member.
    #[test]
    fn a_node_that_nobody_reaches_is_not_admitted() {
        let state = Fixture::settled(3).state;
        let check = |address: &str| {
            let address: IpAddr = address.parse().unwrap();
            let addresses = state.networks.keys().map(|number| (*number, address));
            let addresses: BTreeMap<_, _> = addresses.collect();
            state.check_addresses(&NewNode {
                number: NodeNumber(9),
                name: "n9".into(),
                storage: StorageId([9; 16]),
                version: String::new(),
                addresses,
            })
        };
        for (address, word) in [
            ("127.0.1.1", "loopback"),
            ("::1", "loopback"),
            ("0.0.0.0", "every address"),
            ("239.1.1.1", "multicast"),
            ("255.255.255.255", "broadcast"),
            ("::ffff:10.91.0.9", "Write it as"),
        ] {
            let refused = check(address).unwrap_err();
            assert_eq!(refused.code, "unreachable_address");
            assert!(refused.to_string().contains(word), "{refused}");
        }
        assert_eq!(check("10.91.0.9"), Ok(()));
    }
}
