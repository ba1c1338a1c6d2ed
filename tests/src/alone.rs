//! Signs of a lost quorum: how each surface of a node spells that the node has no quorum.
//!
//! The end-to-end tests ask whether a surface says it, the benchmark asks when, of the same texts.

/// `vedetteQuorumLost`, as a receiver without the MIB prints it.
const NOTIFICATION: &str = "7770.0.17";

/// The sentence of the log, of the notification and of the alert script.
pub fn sentence(node: &str) -> String {
    format!("{node} has no quorum")
}

/// Whether a page of metrics has the condition raised.
pub fn is_on_metrics(page: &str) -> bool {
    page.lines().any(|line| {
        line.starts_with("vedette_local_condition{")
            && line.contains("code=\"quorum_lost\"")
            && line.ends_with(" 1")
    })
}

/// Whether the node's notification is among those that a receiver wrote down.
pub fn is_among_notifications(received: &str, node: &str) -> bool {
    let sentence = sentence(node);
    received.lines().any(|line| line.contains(NOTIFICATION) && line.contains(&sentence))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_that_is_over_is_not_raised() {
        let line =
            |code: &str, value: u8| format!("vedette_local_condition{{code=\"{code}\"}} {value}\n");
        assert!(is_on_metrics(&(line("log_behind", 0) + &line("quorum_lost", 1))));
        assert!(!is_on_metrics(&(line("log_behind", 1) + &line("quorum_lost", 0))));
    }

    #[test]
    fn a_notification_is_of_one_node() {
        let received = "OID: .1.3.6.1.4.1.8072.9999.9999.7770.0.17 STRING: \"n1 has no quorum\"\n";
        assert!(is_among_notifications(received, "n1"));
        assert!(!is_among_notifications(received, "n2"));
        assert!(!is_among_notifications("7770.0.18 n1 has no quorum\n", "n1"));
    }
}
