//! systemd owns the tree, and the hive has what systemd gave it: the units of `config/systemd`.

mod delegation;
mod hardening;
mod hive_unit;
mod ordinary_user;
