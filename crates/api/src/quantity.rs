//! Resource quantities (`100m`, `1.5Gi`): exact parsing, arithmetic, canonical format.
