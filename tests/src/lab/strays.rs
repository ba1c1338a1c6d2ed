//! Service addresses where they should not be: on a foreign host, or left on a node.

use std::net::Ipv4Addr;

use super::{Lab, LabError, Result, namespaces};

/// A service address that somebody put on a device; it is taken off again when this is dropped.
#[derive(Debug)]
pub struct Stray {
    namespace: String,
    device: String,
    address: Ipv4Addr,
}

impl Stray {
    fn put(namespace: String, device: String, address: Ipv4Addr) -> Result<Self> {
        let stray = Self { namespace, device, address };
        stray.change("add")?;
        Ok(stray)
    }

    fn change(&self, verb: &str) -> Result<()> {
        let line = format!("addr {verb} {}/32 dev {}", self.address, self.device);
        namespaces::ip_batch_in(&self.namespace, &[line])
    }

    /// The hardware address of its device.
    ///
    /// # Errors
    /// If the device cannot be looked at.
    pub fn hardware(&self) -> Result<String> {
        let shown = self.shown()?;
        let address = shown["address"].as_str().map(str::to_owned);
        address.ok_or_else(|| LabError(format!("{} has no hardware address.", self.device)))
    }

    /// Whether its device still has it.
    ///
    /// # Errors
    /// If the device cannot be looked at.
    pub fn is_there(&self) -> Result<bool> {
        let (shown, address) = (self.shown()?, self.address.to_string());
        let mut all = shown["addr_info"].as_array().into_iter().flatten();
        Ok(all.any(|it| it["local"] == address.as_str()))
    }

    fn shown(&self) -> Result<serde_json::Value> {
        let words = ["-n", &self.namespace, "-json", "address", "show", "dev", &self.device];
        let shown = std::process::Command::new("ip").args(words).output()?;
        let all: serde_json::Value = serde_json::from_slice(&shown.stdout)
            .map_err(|error| LabError(format!("{} is not shown: {error}.", self.device)))?;
        Ok(all[0].clone())
    }
}

impl Drop for Stray {
    fn drop(&mut self) {
        // Who has the group may have taken it off already.
        let _ = self.change("del");
    }
}

impl Lab {
    /// A foreign host on the network of that place (0, 1, …) that answers for an address: the switch itself.
    ///
    /// # Errors
    /// If the address cannot be given to it.
    pub fn foreign_host(&self, network: usize, address: Ipv4Addr) -> Result<Stray> {
        Stray::put(self.switch(), format!("br{network}"), address)
    }

    /// A service address that somebody leaves on a node's device of that network.
    ///
    /// # Errors
    /// If the address cannot be given to it.
    pub fn stray_address(&self, name: &str, network: usize, address: Ipv4Addr) -> Result<Stray> {
        self.node(name)?;
        Stray::put(self.plan.namespace(name), self.plan.device(network), address)
    }
}
