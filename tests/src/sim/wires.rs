//! The wires: one path per ordered pair of nodes and network, each with faults of its own.

use super::rng::Rng;

/// What is wrong with one direction between two nodes on one network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Fault {
    /// Nothing arrives.
    pub(super) cut: bool,
    /// So many of a hundred datagrams do not arrive.
    pub(super) loss: u8,
    /// A lost datagram takes so many following ones with it.
    pub(super) burst: u8,
    /// Additional delay in microseconds.
    pub(super) slow: u64,
}

#[derive(Clone, Copy, Debug)]
struct Path {
    fault: Fault,
    burst_left: u8,
    /// Since when there is nothing wrong; `u64::MAX` while there is.
    clean_since: u64,
    /// Since when nothing has arrived; `u64::MAX` while something may.
    cut_since: u64,
}

/// All paths.
#[derive(Debug)]
pub(super) struct Wires {
    nodes: usize,
    networks: usize,
    paths: Vec<Path>,
    /// Delay of every datagram, and up to so much more, in microseconds.
    pub(super) delay: (u64, u64),
}

impl Wires {
    pub(super) fn new(nodes: usize, networks: usize, delay: (u64, u64)) -> Self {
        let whole =
            Path { fault: Fault::default(), burst_left: 0, clean_since: 0, cut_since: u64::MAX };
        let paths = vec![whole; nodes * nodes * networks];
        Self { nodes, networks, paths, delay }
    }

    pub(super) fn networks(&self) -> usize {
        self.networks
    }

    fn place(&self, from: usize, to: usize, network: usize) -> usize {
        (from * self.nodes + to) * self.networks + network
    }

    pub(super) fn fault(&self, from: usize, to: usize, network: usize) -> Fault {
        self.paths[self.place(from, to, network)].fault
    }

    pub(super) fn set(&mut self, now: u64, from: usize, to: usize, network: usize, fault: Fault) {
        let place = self.place(from, to, network);
        let path = &mut self.paths[place];
        let clean = fault == Fault::default();
        match (clean, path.clean_since) {
            (true, u64::MAX) => path.clean_since = now,
            (true, _) => {}
            (false, _) => path.clean_since = u64::MAX,
        }
        match (fault.cut, path.cut_since) {
            (true, u64::MAX) => path.cut_since = now,
            (true, _) => {}
            (false, _) => path.cut_since = u64::MAX,
        }
        path.fault = fault;
    }

    pub(super) fn heal(&mut self, now: u64) {
        for from in 0..self.nodes {
            for to in 0..self.nodes {
                for network in 0..self.networks {
                    self.set(now, from, to, network, Fault::default());
                }
            }
        }
    }

    /// How long a datagram takes, or `None` if it does not arrive.
    pub(super) fn send(
        &mut self,
        rng: &mut Rng,
        from: usize,
        to: usize,
        network: usize,
    ) -> Option<u64> {
        let (delay, jitter) = self.delay;
        let place = self.place(from, to, network);
        let path = &mut self.paths[place];
        let Fault { cut, loss, burst, slow } = path.fault;
        if cut {
            return None;
        }
        if path.burst_left > 0 {
            path.burst_left -= 1;
            return None;
        }
        if loss > 0 && rng.percent(u64::from(loss)) {
            path.burst_left = burst;
            return None;
        }
        Some(delay + rng.range(0, jitter) + slow)
    }

    /// Whether a connection between two nodes can live: some network carries both directions.
    pub(super) fn connected(&self, a: usize, b: usize) -> bool {
        a == b
            || (0..self.networks)
                .any(|network| !self.fault(a, b, network).cut && !self.fault(b, a, network).cut)
    }

    /// The share of datagrams lost on the best network between two nodes.
    pub(super) fn least_loss(&self, a: usize, b: usize) -> u64 {
        (0..self.networks)
            .filter(|network| !self.fault(a, b, *network).cut && !self.fault(b, a, *network).cut)
            .map(|network| {
                u64::from(self.fault(a, b, network).loss.max(self.fault(b, a, network).loss))
            })
            .min()
            .unwrap_or(100)
    }

    /// Since when some network has carried both directions without any fault; `u64::MAX` if none
    /// does.
    pub(super) fn clean_since(&self, a: usize, b: usize) -> u64 {
        (0..self.networks)
            .map(|network| {
                let there = self.paths[self.place(a, b, network)].clean_since;
                there.max(self.paths[self.place(b, a, network)].clean_since)
            })
            .min()
            .unwrap_or(u64::MAX)
    }

    /// Since when nothing at all has been wrong on some network in this one direction.
    pub(super) fn clean_one_way_since(&self, from: usize, to: usize) -> u64 {
        (0..self.networks)
            .map(|network| self.paths[self.place(from, to, network)].clean_since)
            .min()
            .unwrap_or(u64::MAX)
    }

    /// Since when a node has been unable to hear anybody; `u64::MAX` if it can.
    pub(super) fn deaf_since(&self, node: usize) -> u64 {
        (0..self.nodes)
            .filter(|from| *from != node)
            .flat_map(|from| (0..self.networks).map(move |network| (from, network)))
            .map(|(from, network)| self.paths[self.place(from, node, network)].cut_since)
            .max()
            .unwrap_or(u64::MAX)
    }
}
