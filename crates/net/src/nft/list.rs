//! What the kernel holds.

use std::time::Duration;

use super::socket::Nft;
use super::{Family, attr, kind, nfgen};
use crate::Result;
use crate::error::Context;
use crate::netlink::{Attribute, Message, Reply};

/// `struct nfgenmsg`.
const NFGEN: usize = 4;
/// How often a list that cannot be right is asked for again, waiting a little longer each time.
const ATTEMPTS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(2);

/// A table found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedTable {
    pub name: String,
    /// Its maker's note.
    pub comment: String,
}

/// An element found.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ListedElement {
    pub key: Vec<u8>,
    pub key_end: Option<Vec<u8>>,
    pub data: Option<Vec<u8>>,
    /// The chain that a verdict leads to.
    pub chain: Option<String>,
}

impl Nft {
    /// The table of that name, if there is one.
    pub fn table(&mut self, family: Family, name: &str) -> Result<Option<ListedTable>> {
        let mut message = Message::new(kind(libc::NFT_MSG_GETTABLE), 0).raw(&nfgen(family.number(), 0));
        message.put_str(attr::TABLE_NAME, name);
        let mut found = None;
        let result = self.socket.query(&mut message, |reply| found = parse_table(&reply).or(found.take()));
        match result {
            Err(error) if error.errno == libc::ENOENT => Ok(None),
            result => result.context("look up nftables table", name).map(|()| found),
        }
    }

    /// The names of the chains of a table.
    pub fn chains(&mut self, family: Family, table: &str) -> Result<Vec<String>> {
        let mut message = dump(libc::NFT_MSG_GETCHAIN, family);
        let mut found = Vec::new();
        let mut each = |reply: Reply<'_>| {
            let attributes = reply.attributes(NFGEN);
            let of = attributes.find_kind(attr::CHAIN_TABLE).and_then(|a| a.str());
            let name = attributes.find_kind(attr::CHAIN_NAME).and_then(|a| a.str());
            if of == Some(table) {
                found.extend(name.map(str::to_owned));
            }
        };
        self.socket.query(&mut message, &mut each).context("list the chains of nftables table", table)?;
        Ok(found)
    }

    /// The elements of a set or map, by key. The set must exist.
    ///
    /// While the kernel makes a hash table larger, which it does some time after a commit, a list that takes several
    /// messages has elements twice and lacks as many others. Such a list is asked for again.
    pub fn elements(&mut self, family: Family, table: &str, set: &str) -> Result<Vec<ListedElement>> {
        let mut attempt = 0;
        loop {
            let mut found = self.list_elements(family, table, set)?;
            found.sort_unstable_by(|one, other| one.key.cmp(&other.key));
            let consistent = found.windows(2).all(|pair| pair[0] != pair[1]);
            if consistent || attempt == ATTEMPTS {
                return Ok(found);
            }
            attempt += 1;
            std::thread::sleep(attempt * PAUSE);
        }
    }

    fn list_elements(&mut self, family: Family, table: &str, set: &str) -> Result<Vec<ListedElement>> {
        let mut message = dump(libc::NFT_MSG_GETSETELEM, family);
        message.put_str(attr::ELEMS_TABLE, table);
        message.put_str(attr::ELEMS_SET, set);
        let mut found = Vec::new();
        let mut each = |reply: Reply<'_>| {
            if let Some(list) = reply.attributes(NFGEN).find_kind(attr::ELEMS_LIST) {
                found.extend(list.nested().filter_map(|element| parse_element(&element)));
            }
        };
        let object = || format!("{table} {set}");
        self.socket.query(&mut message, &mut each).context("list nftables set", object())?;
        Ok(found)
    }
}

fn dump(operation: libc::c_int, family: Family) -> Message {
    Message::new(kind(operation), libc::NLM_F_DUMP as u16).raw(&nfgen(family.number(), 0))
}

pub(crate) fn parse_table(reply: &Reply<'_>) -> Option<ListedTable> {
    let attributes = reply.attributes(NFGEN);
    let userdata = attributes.find_kind(attr::TABLE_USERDATA);
    Some(ListedTable {
        name: attributes.find_kind(attr::TABLE_NAME)?.str()?.to_owned(),
        comment: userdata.and_then(|a| parse_comment(a.payload)).unwrap_or_default(),
    })
}

pub(crate) fn parse_element(element: &Attribute<'_>) -> Option<ListedElement> {
    let parts = element.nested();
    let value = |kind| -> Option<Vec<u8>> {
        let value = parts.find_kind(kind)?.nested().find_kind(attr::DATA_VALUE)?;
        Some(value.payload.to_vec())
    };
    let chain = || {
        let data = parts.find_kind(attr::ELEM_DATA)?.nested();
        let verdict = data.find_kind(attr::DATA_VERDICT)?.nested();
        Some(verdict.find_kind(attr::VERDICT_CHAIN)?.str()?.to_owned())
    };
    Some(ListedElement {
        key: value(attr::ELEM_KEY)?,
        key_end: value(attr::ELEM_KEY_END),
        data: value(attr::ELEM_DATA),
        chain: chain(),
    })
}

/// User data is `nft`'s own: type, length, value, one after the other, the comment being of type 0.
fn parse_comment(mut userdata: &[u8]) -> Option<String> {
    loop {
        let (kind, length) = (*userdata.first()?, usize::from(*userdata.get(1)?));
        let value = userdata.get(2..2 + length)?;
        if kind == 0 {
            let text = value.strip_suffix(&[0]).unwrap_or(value);
            return Some(String::from_utf8_lossy(text).into_owned());
        }
        userdata = userdata.get(2 + length..)?;
    }
}
