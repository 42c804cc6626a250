//! Generated supplier workbooks.
