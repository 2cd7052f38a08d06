//! The whole tree is free, and whoever starts a hive is in its root.

mod figures;
mod limits;
mod misfortune;
mod thousand;
mod tree;
