//! The import of contacts against a real PostgreSQL, by the library and by the binary.

mod attempts;
mod backup;
mod cases;
mod contact_files;
mod csv;
mod doctor;
mod dry_run;
mod generated;
mod guesses;
mod hostile;
mod lookups;
mod merging;
mod picture;
mod plan;
mod property;
mod resume;
mod rollback;
mod source;
mod suppressed;
mod world;
