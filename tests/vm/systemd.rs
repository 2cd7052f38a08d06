//! systemd owns the tree, and the hive has what systemd gave it: the units of `config/systemd`, copied by hand
//! or from the package.

mod delegation;
mod hardening;
mod hive_unit;
mod ordinary_user;
mod package;
