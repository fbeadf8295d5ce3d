//! What a desired set asks for. Pure.

use crate::protocol::Desired;
use crate::store::TaskId;

use super::table::Table;

/// What has to be done so that the tasks become the desired ones.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// To be stopped and removed, first.
    pub stop: Vec<TaskId>,
    /// To be made, then.
    pub create: Vec<Desired>,
}

/// Compares the tasks with the desired set. Equal ones are left alone, in whatever state they are.
#[must_use]
pub fn plan(table: &Table, desired: Vec<Desired>) -> Plan {
    let stays = |task: &Desired| {
        let current = table.named(&task.name).filter(|entry| entry.deleting().is_none());
        current
            .filter(|entry| *entry.spec == task.spec)
            .map(|entry| entry.id.clone())
    };
    let mut kept = std::collections::HashSet::new();
    let mut create = Vec::new();
    for task in desired {
        match stays(&task) {
            Some(id) => {
                kept.insert(id);
            }
            None => create.push(task),
        }
    }
    let others = table
        .all()
        .filter(|entry| entry.deleting().is_none() && !kept.contains(&entry.id));
    Plan {
        stop: others.map(|entry| entry.id.clone()).collect(),
        create,
    }
}
