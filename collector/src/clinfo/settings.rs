//! Settings: what holds on a node, and in the whole cluster.
//!
//! Keys are in the order of the alphabet, as they have been from the beginning.

use serde::Serialize;
use vedette_core::config::Config;
use vedette_core::model::Settings;

use super::versions::DocumentHistoryDoc;

/// The configuration of a node, and that of its cluster where a daemon told it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConfigDoc {
    /// Settings of the cluster.
    pub cluster: Option<SettingsDoc>,
    /// Versions of the cluster's document.
    pub document: Option<DocumentHistoryDoc>,
    /// Settings of the node.
    pub node: NodeConfigDoc,
}

/// The settings of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodeConfigDoc {
    /// The master SNMP agent; `null` where SNMP is off.
    pub agentx: Option<String>,
    /// Addressee of the built-in alert script's mail.
    pub alert_mail_to: Option<String>,
    /// User that runs the alert script.
    pub alert_user: Option<String>,
    /// The cluster's name.
    pub cluster: String,
    /// The control socket.
    pub control: String,
    /// The address of the HTTP surface; `null` where it is off.
    pub http: Option<String>,
    /// The least severity that is logged at first.
    pub log_level: &'static str,
    /// The node's name.
    pub name: String,
    /// Its networks.
    pub networks: Vec<NetworkConfigDoc>,
    /// The number that it asks for.
    pub number: Option<u16>,
    /// The folder of its state.
    pub state_dir: String,
}

/// A network, and the node's address on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NetworkConfigDoc {
    /// The address.
    pub address: String,
    /// The UDP port of beats.
    pub beat_port: u16,
    /// The network's name.
    pub name: String,
    /// Its number.
    pub number: u8,
    /// The TCP port of peers.
    pub peer_port: u16,
    /// The target of probes.
    pub ping: Option<String>,
    /// Its priority.
    pub priority: &'static str,
}

impl From<&Config> for NodeConfigDoc {
    fn from(config: &Config) -> Self {
        let networks = config.networks.iter().map(|(number, network)| NetworkConfigDoc {
            address: network.address.to_string(),
            beat_port: network.beat_port,
            name: network.name.clone(),
            number: number.0,
            peer_port: network.peer_port,
            ping: network.ping.map(|ip| ip.to_string()),
            priority: network.priority.name(),
        });
        Self {
            agentx: config.snmp.as_ref().map(ToString::to_string),
            alert_mail_to: config.alert.mail_to.clone(),
            alert_user: config.alert.user.clone(),
            cluster: config.cluster.clone(),
            control: config.control.display().to_string(),
            http: config.http.map(|listen| listen.to_string()),
            log_level: config.log.level.name(),
            name: config.name.clone(),
            networks: networks.collect(),
            number: config.number.map(|number| number.0),
            state_dir: config.state_dir.display().to_string(),
        }
    }
}

/// The settings of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SettingsDoc {
    /// The longest run of an alert script.
    pub alert_timeout_ms: u64,
    /// The greatest election timeout.
    pub election_max_ms: u64,
    /// The least election timeout.
    pub election_min_ms: u64,
    /// Time between two beats.
    pub interval_ms: u64,
    /// A node's lease.
    pub lease_ms: u64,
    /// The least severity that daemons log.
    pub logging_level: &'static str,
    /// Time between two heartbeats of the log's leader.
    pub raft_heartbeat_ms: u64,
    /// The longest release.
    pub release_max_ms: u64,
    /// Nodes that a starting cluster waits for.
    pub seed_count: u16,
    /// Missed beats until a link is down.
    pub sensitivity: u64,
    /// The number of voters to aim for.
    pub voters: u8,
}

impl From<&Settings> for SettingsDoc {
    fn from(settings: &Settings) -> Self {
        let timing = &settings.timing;
        Self {
            alert_timeout_ms: settings.alert_timeout_ms,
            election_max_ms: timing.election_max_ms,
            election_min_ms: timing.election_min_ms,
            interval_ms: timing.interval_ms,
            lease_ms: timing.lease_ms,
            logging_level: settings.logging_level.name(),
            raft_heartbeat_ms: timing.raft_heartbeat_ms,
            release_max_ms: timing.release_max_ms,
            seed_count: settings.seed_count,
            sensitivity: timing.sensitivity,
            voters: settings.voters,
        }
    }
}

#[cfg(test)]
mod tests {
    use vedette_core::config;

    use super::*;

    /// The very text that scripts have been given, whose keys are those of a map.
    #[test]
    fn settings_are_told_as_ever() {
        let text = "[node]\nname = \"n1\"\n[[network]]\nname = \"neta\"\naddress = \"10.0.1.1\"\n";
        let config = config::parse("vedette.toml", text, "n1").expect("a configuration").config;
        let cluster = Some(SettingsDoc::from(&config.settings));
        let document = ConfigDoc { cluster, document: None, node: (&config).into() };
        let told = serde_json::to_string(&document).expect("JSON");
        let value: serde_json::Value = serde_json::from_str(&told).expect("JSON");
        assert_eq!(told, value.to_string());
        let network = r#"{"address":"10.0.1.1","beat_port":7770,"name":"neta","number":1,"peer_port":7771,"ping":null,"priority":"high"}"#;
        assert_eq!(value["node"]["networks"][0].to_string(), network);
    }
}
