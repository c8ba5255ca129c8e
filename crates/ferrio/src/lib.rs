//! ferrio.
