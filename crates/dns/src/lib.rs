//! Cluster DNS answered on the node from the informer cache.
