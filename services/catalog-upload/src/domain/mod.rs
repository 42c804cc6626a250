//! The rules of a catalog, with no input or output.
