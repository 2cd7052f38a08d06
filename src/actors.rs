//! Everything that lives and reacts: one actor each, with the pure decisions it acts on beside it.

pub mod registry;
pub mod sse_broadcaster;
