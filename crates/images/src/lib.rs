//! Container images: content store, import, pull, unpack, snapshots.
