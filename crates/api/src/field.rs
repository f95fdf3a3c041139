//! Field errors: a path, what is wrong with the value there, and how Kubernetes words it.
