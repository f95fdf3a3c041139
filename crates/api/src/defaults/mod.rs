//! Defaults that the API server fills in, one file per kind.
