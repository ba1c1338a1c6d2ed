//! Carries out what comes out of the machine.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::mpsc;
use vedette_core::command::Command;
use vedette_core::group::ResourceDef;
use vedette_core::holding::executor::{Action, Input, Orders, Output};
use vedette_node::guard::protocol::{Hold, Order};

use super::super::runner::insist;
use super::reporter::Reporter;
use super::resource_ops::Context;
use super::{Shared, lock};

/// One after the other, for as long as the process lives.
pub(super) async fn out(shared: Arc<Shared>, mut waiting: mpsc::UnboundedReceiver<Output>) {
    while let Some(output) = waiting.recv().await {
        carry_out(&shared, output).await;
    }
}

async fn carry_out(shared: &Arc<Shared>, output: Output) {
    let ops = &shared.ops;
    match output {
        Output::Order(orders) => order(shared, *orders).await,
        Output::Do { id, group, token, action, resource } => {
            begin(shared, id, (group, token), action, *resource);
        }
        Output::Cancel { id } => {
            // What comes next may be its opposite: it is waited for.
            let task = lock(&shared.under_way).remove(&id);
            if let Some(task) = task {
                task.abort();
                let _ = task.await;
            }
        }
        Output::LookOutside { id, group, started } => {
            let resources = ops.outside(&group, &shared.state(), &started);
            shared.act(Input::Outside { id, resources });
        }
        Output::Announce(resource) => {
            let shared = shared.clone();
            tokio::spawn(async move {
                shared.ops.announce(&shared.state(), &resource).await;
            });
        }
        Output::MakePlace(group) => ops.make_place(&group, &shared.state()),
        Output::RemovePlace(group) => ops.remove_place(&group, &shared.state()),
        Output::Report { group, number, command } => {
            lock(&shared.reporters)
                .entry(group.clone())
                .or_insert_with(|| Reporter::start(group, shared.clone()))
                .report(number, *command);
        }
        Output::Covered(command) => {
            let shared = shared.clone();
            tokio::spawn(async move { insist(&shared.proposer, Command::Group(*command)).await });
        }
        Output::Line { ask, text } => {
            tracing::info!("{text}");
            let asking = lock(&shared.asking);
            if let Some(lines) = asking.get(&ask).and_then(|asking| asking.lines.as_ref()) {
                // Nobody is waited for.
                let _ = lines.try_send(text);
            }
        }
        Output::Answer { ask, said } => {
            let asking = lock(&shared.asking).remove(&ask);
            if let Some(asking) = asking {
                let _ = asking.answer.send(said);
            }
        }
        Output::Missed { epoch, group, token } => shared.tell_missed(epoch, &group, token),
        Output::Stuck => shared.show_stuck(),
        Output::Note { group, text, error: true } => tracing::error!(group, "{text}"),
        Output::Note { group, text, error: false } => tracing::warn!(group, "{text}"),
    }
}

/// Tells the guard what it is to hold.
async fn order(shared: &Arc<Shared>, orders: Orders) {
    let (state, ops) = (shared.state(), &shared.ops);
    let Orders { sequence, epoch, covered, left, anew } = orders;
    let mut known: BTreeSet<_> = ops.known(&state);
    for left in ops.all(&state, &left).addresses {
        known.remove(&left.address);
    }
    let held = ops.all(&state, &covered);
    let order = Order::Hold(Box::new(Hold { sequence, epoch, known, held, anew }));
    let sent = match shared.orders.get() {
        Some(orders) => orders.send(&order).await.map_err(|error| error.to_string()),
        None => Err("its guard is not there".into()),
    };
    if let Err(why) = sent {
        shared.act(Input::NotOrdered { sequence, why });
    }
}

/// Begins an operation, which ends with an input.
fn begin(
    shared: &Arc<Shared>,
    id: u64,
    (group, token): (String, u64),
    action: Action,
    resource: ResourceDef,
) {
    let context = Context { group, token, state: shared.state() };
    let work = {
        let shared = shared.clone();
        async move {
            let done = shared.ops.act(&context, action, &resource).await;
            lock(&shared.under_way).remove(&id);
            shared.act(Input::Done { id, done });
        }
    };
    // It cannot be over before it is known.
    let mut under_way = lock(&shared.under_way);
    under_way.insert(id, tokio::spawn(work));
}
