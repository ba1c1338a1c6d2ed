//! Renews this node's certificate in time, without a restart.

use std::time::Duration;

use anyhow::{Context, Result};
use vedette_node::identity::{Membership, StateDir};
use vedette_node::pki::{Authority, CertifiedNode, Tls, renewal_due};

use super::proposer::wall_time;

/// How often the certificate's age is looked at.
const EVERY: Duration = Duration::from_secs(6 * 3_600);

/// Runs until the process ends.
pub(crate) async fn run(dir: StateDir, mut member: Membership, tls: Tls) {
    loop {
        match renew_if_due(&dir, &mut member, &tls) {
            Ok(true) => tracing::info!("the certificate of this node was renewed"),
            Ok(false) => {}
            Err(error) => tracing::error!(%error, "the certificate of this node is not renewed"),
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Disk first: a certificate that is used must be there after a crash.
fn renew_if_due(dir: &StateDir, member: &mut Membership, tls: &Tls) -> Result<bool> {
    let now = wall_time();
    if !renewal_due(&member.node_cert, now)? {
        return Ok(false);
    }
    let authority = Authority::from_pem(&member.ca_cert, &member.ca_key)?;
    let identity = &member.identity;
    let node = CertifiedNode {
        cluster: identity.cluster,
        number: identity.number,
        storage: identity.storage,
    };
    let renewed = authority.renew(node, &identity.name, &member.node_key, now)?;
    dir.replace_certificate(&renewed).context("the new certificate cannot be kept")?;
    member.node_cert = renewed;
    tls.replace(member)?;
    Ok(true)
}
