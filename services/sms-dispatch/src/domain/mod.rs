//! The rules, with no I/O.
