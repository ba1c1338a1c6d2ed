//! The log's storage against openraft's own conformance suite: what the consensus algorithm relies
//! on, checked by those who wrote it (invariant 7: nothing acknowledged is lost).

mod log_support;

use std::sync::Arc;

use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use openraft_rt_tokio::TokioRuntime;
use tempfile::TempDir;
use vedette_node::log::{Machine, Store, Types};

use log_support::{Witness, identity};

type Raft = Types<TokioRuntime>;

struct Builder;

impl StoreBuilder<Raft, Store, Machine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, Store, Machine), StorageError<Raft>> {
        let dir = tempfile::tempdir().expect("a directory for the database");
        let store =
            Store::open(&dir.path().join("cluster.db"), identity(1), true).expect("a new store");
        let machine = Machine::open(Arc::new(Witness::default()), Arc::new(store.clone())).await;
        Ok((dir, store, machine))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn storage_passes_the_conformance_suite() {
    Suite::test_all(Builder).await.expect("the storage conforms");
}
