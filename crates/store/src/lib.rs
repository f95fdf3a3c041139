//! Revisioned key-value store: get, list, txn, watch from a revision, compact.
