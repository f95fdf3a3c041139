//! `memory_manager_state`: which NUMA nodes' memory containers have, as upstream writes it.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::checkpoint::{self, printed_map};

/// The memory of one kind (`memory`, `hugepages-2Mi`) of one node, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Table {
    pub total: u64,
    pub system_reserved: u64,
    pub allocatable: u64,
    pub reserved: u64,
    pub free: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Node {
    pub number_of_assignments: i64,
    pub memory_map: BTreeMap<String, Table>,
    /// The nodes that memory of this one is given together with, itself among them.
    pub cells: Vec<u32>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Block {
    pub numa_affinity: Vec<u32>,
    #[serde(rename = "type")]
    pub kind: String,
    pub size: u64,
}

pub type Nodes = BTreeMap<u32, Node>;
/// By pod and container.
pub type Entries = BTreeMap<String, BTreeMap<String, Vec<Block>>>;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct State {
    policy_name: String,
    machine_state: Nodes,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    entries: Entries,
    checksum: u32,
}

fn printed_list(list: &[u32]) -> String {
    let words: Vec<String> = list.iter().map(ToString::to_string).collect();
    format!("([]int)[{}]", words.join(" "))
}

impl Table {
    fn printed(&self) -> String {
        format!(
            "<*>{{TotalMemSize:(uint64){} SystemReserved:(uint64){} Allocatable:(uint64){} Reserved:(uint64){} Free:(uint64){}}}",
            self.total, self.system_reserved, self.allocatable, self.reserved, self.free
        )
    }
}

impl Node {
    fn printed(&self) -> String {
        format!(
            "<*>{{NumberOfAssignments:(int){} MemoryMap:(map[v1.ResourceName]*state.MemoryTable){} Cells:{}}}",
            self.number_of_assignments,
            printed_map(&self.memory_map, Table::printed),
            printed_list(&self.cells)
        )
    }
}

impl Block {
    fn printed(&self) -> String {
        format!(
            "{{NUMAAffinity:{} Type:(v1.ResourceName){} Size:(uint64){}}}",
            printed_list(&self.numa_affinity),
            self.kind,
            self.size
        )
    }
}

impl State {
    fn compute(&self) -> u32 {
        let blocks = |blocks: &Vec<Block>| {
            let blocks: Vec<String> = blocks.iter().map(Block::printed).collect();
            format!("[{}]", blocks.join(" "))
        };
        let entries = printed_map(&self.entries, |containers| printed_map(containers, blocks));
        // Go prints keys that are numbers in the order of the numbers, as this map has them.
        let machine = printed_map(&self.machine_state, Node::printed);
        checkpoint::checksum(&format!(
            "(*state.MemoryManagerCheckpoint){{PolicyName:(string){} MachineState:(state.NUMANodeMap){machine} \
             Entries:(state.ContainerMemoryAssignments){entries} Checksum:(checksum.Checksum)0}}",
            self.policy_name
        ))
    }
}

/// Those of the file, if they were given by this policy.
pub fn read(path: &Path, policy: &str) -> Entries {
    let state: State = checkpoint::read_checked(path, "which memory containers have", |state: &State| {
        (state.checksum, state.compute())
    });
    // Upstream's tests have it in small letters, its kubelet has not.
    if state.policy_name.eq_ignore_ascii_case(policy) {
        return state.entries;
    }
    if !state.entries.is_empty() {
        tracing::warn!(
            path = %path.display(), policy, before = state.policy_name,
            "the memory manager's policy has changed: what it had given is nobody's from now on"
        );
    }
    Entries::new()
}

pub fn write(path: &Path, policy: &str, nodes: &Nodes, entries: &Entries) -> Result<(), String> {
    let mut state = State {
        policy_name: policy.to_owned(),
        machine_state: nodes.clone(),
        entries: entries.clone(),
        checksum: 0,
    };
    state.checksum = state.compute();
    checkpoint::write(path, &state)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checksums that upstream's kubelet has computed.
    #[test]
    fn files_of_another_kubelet() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("memory_manager_state");
        let check = |checksum: u32, policy: &str, known: bool| {
            let text = r#"{"policyName":"static","machineState":{"0":{"numberOfAssignments":0,"memoryMap":{"memory":
                {"total":2048,"systemReserved":512,"allocatable":1536,"reserved":512,"free":1024}},"cells":[]}},
                "entries":{"pod":{"container1":[{"numaAffinity":[0],"type":"memory","size":512}]}},"checksum":SUM}"#;
            std::fs::write(&path, text.replace("SUM", &checksum.to_string())).unwrap();
            let entries = read(&path, policy);
            assert_eq!(entries.contains_key("pod"), known, "{checksum} {policy}");
        };
        check(4_215_593_881, "Static", true);
        check(0, "Static", true);
        check(101_010, "Static", false);
        check(4_215_593_881, "None", false);
    }

    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("memory_manager_state");
        let block = Block { numa_affinity: vec![0, 1], kind: "hugepages-2Mi".into(), size: 7 };
        let entries = Entries::from([("u".into(), BTreeMap::from([("c".into(), vec![block])]))]);
        let node = Node { number_of_assignments: 1, cells: vec![0, 1], ..Default::default() };
        write(&path, "Static", &Nodes::from([(0, node.clone()), (1, node)]), &entries).unwrap();
        assert_eq!(read(&path, "Static"), entries);
    }
}
