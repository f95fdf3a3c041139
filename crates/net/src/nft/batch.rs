//! Changes that are made together.

use super::expression::Expr;
use super::set::{Element, Set};
use super::{Family, attr, kind, nfgen};
use crate::netlink::Message;

/// A list of elements is one attribute, whose length has sixteen bits; half of that leaves room for the longest
/// element, and more would not be faster.
const ELEMENT_LIST_LIMIT: usize = 32 * 1024;

const CREATE: u16 = libc::NLM_F_CREATE as u16;
const CREATE_LAST: u16 = (libc::NLM_F_CREATE | libc::NLM_F_APPEND) as u16;

/// Where a base chain hooks in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    Prerouting,
    Input,
    Forward,
    Output,
    Postrouting,
}

impl Hook {
    fn number(self) -> u32 {
        let number = match self {
            Self::Prerouting => libc::NF_INET_PRE_ROUTING,
            Self::Input => libc::NF_INET_LOCAL_IN,
            Self::Forward => libc::NF_INET_FORWARD,
            Self::Output => libc::NF_INET_LOCAL_OUT,
            Self::Postrouting => libc::NF_INET_POST_ROUTING,
        };
        number as u32
    }
}

/// Whether a base chain translates addresses (it then sees the first packet of each connection only).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nat {
    No,
    Yes,
}

/// A chain: a base chain when it has a hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain<'a> {
    pub name: &'a str,
    /// Hook, priority (lower runs earlier) and type.
    pub hook: Option<(Hook, i32, Nat)>,
}

/// Changes to one table, made all or none by [`super::Nft::commit`].
#[derive(Clone, Debug)]
pub struct Batch {
    family: Family,
    table: String,
    pub(crate) messages: Vec<Message>,
    next_set_id: u32,
}

impl Batch {
    pub fn new(family: Family, table: &str) -> Self {
        Self { family, table: table.to_owned(), messages: Vec::new(), next_set_id: 1 }
    }

    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// How many bytes the kernel will be sent.
    pub fn bytes(&self) -> usize {
        self.messages.iter().map(Message::len).sum()
    }

    fn message(&self, operation: libc::c_int, flags: u16, table_attribute: u16) -> Message {
        let mut message = Message::new(kind(operation), flags).raw(&nfgen(self.family.number(), 0));
        message.put_str(table_attribute, &self.table);
        message
    }

    /// Makes the table, unless it exists.
    pub fn add_table(&mut self) {
        self.messages.push(self.message(libc::NFT_MSG_NEWTABLE, CREATE, attr::TABLE_NAME));
    }

    /// Makes the table with a note of its maker, as `nft` shows comments. Longer than 127 bytes it is cut off.
    pub fn add_table_with_comment(&mut self, comment: &str) {
        let text = &comment.as_bytes()[..comment.len().min(127)];
        let mut userdata = vec![0, text.len() as u8 + 1];
        userdata.extend_from_slice(text);
        userdata.push(0);
        let mut message = self.message(libc::NFT_MSG_NEWTABLE, CREATE, attr::TABLE_NAME);
        message.put(attr::TABLE_USERDATA, &userdata);
        self.messages.push(message);
    }

    /// Removes the table with all that is in it. It must exist; [`Batch::add_table`] before makes sure.
    pub fn delete_table(&mut self) {
        let message = self.message(libc::NFT_MSG_DELTABLE, 0, attr::TABLE_NAME);
        self.messages.push(message);
    }

    /// Makes a chain, unless it exists.
    pub fn add_chain(&mut self, chain: &Chain<'_>) {
        let mut message = self.message(libc::NFT_MSG_NEWCHAIN, CREATE, attr::CHAIN_TABLE);
        message.put_str(attr::CHAIN_NAME, chain.name);
        if let Some((hook, priority, nat)) = chain.hook {
            message.nest(4, |inner| {
                inner.put_be32(1, hook.number());
                inner.put_be32(2, priority as u32);
            });
            message.put_be32(5, libc::NF_ACCEPT as u32);
            message.put_str(7, if nat == Nat::Yes { "nat" } else { "filter" });
        }
        self.messages.push(message);
    }

    /// Removes a chain with its rules. Nothing may refer to it.
    pub fn delete_chain(&mut self, name: &str) {
        self.flush_chain(name);
        let mut message = self.message(libc::NFT_MSG_DELCHAIN, 0, attr::CHAIN_TABLE);
        message.put_str(attr::CHAIN_NAME, name);
        self.messages.push(message);
    }

    /// Removes the rules of a chain.
    pub fn flush_chain(&mut self, name: &str) {
        let mut message = self.message(libc::NFT_MSG_DELRULE, 0, attr::CHAIN_TABLE);
        message.put_str(2, name);
        self.messages.push(message);
    }

    /// Adds a rule at the end of a chain.
    pub fn add_rule(&mut self, chain: &str, expressions: &[Expr]) {
        let mut message = self.message(libc::NFT_MSG_NEWRULE, CREATE_LAST, attr::CHAIN_TABLE);
        message.put_str(2, chain);
        message.nest(4, |list| {
            for expression in expressions {
                expression.encode(list);
            }
        });
        self.messages.push(message);
    }

    /// Makes a set or map, unless it exists.
    pub fn add_set(&mut self, set: &Set) {
        let mut message = self.message(libc::NFT_MSG_NEWSET, CREATE, attr::SET_TABLE);
        set.encode(&mut message, self.next_set_id);
        self.next_set_id += 1;
        self.messages.push(message);
    }

    /// Adds elements. One whose key is there already with other data is an error: delete it first, in the same
    /// batch.
    pub fn add_elements<'a>(&mut self, set: &str, elements: impl IntoIterator<Item = Element<'a>>) {
        self.elements(libc::NFT_MSG_NEWSETELEM, CREATE, set, elements);
    }

    /// Removes elements. One that is not there is an error.
    pub fn delete_elements<'a>(&mut self, set: &str, elements: impl IntoIterator<Item = Element<'a>>) {
        self.elements(libc::NFT_MSG_DELSETELEM, 0, set, elements);
    }

    fn elements<'a>(
        &mut self,
        operation: libc::c_int,
        flags: u16,
        set: &str,
        elements: impl IntoIterator<Item = Element<'a>>,
    ) {
        let mut elements = elements.into_iter().peekable();
        while elements.peek().is_some() {
            let mut message = self.message(operation, flags, attr::ELEMS_TABLE);
            message.put_str(attr::ELEMS_SET, set);
            message.nest(attr::ELEMS_LIST, |list| {
                let limit = list.len() + ELEMENT_LIST_LIMIT;
                while list.len() < limit
                    && let Some(element) = elements.next()
                {
                    element.encode(list);
                }
            });
            self.messages.push(message);
        }
    }
}

/// What a message was to do, in words, for an error.
pub(crate) fn describe(message: &Message) -> (&'static str, String) {
    let names = message.names();
    let operation = match libc::c_int::from(message.kind() & 0xff) {
        libc::NFT_MSG_NEWTABLE => "make nftables table",
        libc::NFT_MSG_DELTABLE => "remove nftables table",
        libc::NFT_MSG_NEWCHAIN => "make nftables chain",
        libc::NFT_MSG_DELCHAIN => "remove nftables chain",
        libc::NFT_MSG_NEWRULE => "add a rule to nftables chain",
        libc::NFT_MSG_DELRULE => "remove the rules of nftables chain",
        libc::NFT_MSG_NEWSET => "make nftables set",
        libc::NFT_MSG_NEWSETELEM => "add elements to nftables set",
        libc::NFT_MSG_DELSETELEM => "remove elements of nftables set",
        _ => "change nftables object",
    };
    (operation, names.join(" "))
}
