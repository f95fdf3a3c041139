//! IO-free Kubernetes API machinery: kinds, schemas, patches, defaults, validation, codecs, tables.
