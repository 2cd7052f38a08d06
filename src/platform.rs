//! What the operating system knows and does: cgroups, processes, /proc. No actor, no HTTP, no wire
//! type. Parsers take text, readers take a root path, so that a test points them where it likes.

pub mod limits;
