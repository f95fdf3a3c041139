//! What the API server refuses, one file per kind.
