//! The Kubernetes API over HTTPS: authentication, authorization, admission, storage, watch.
