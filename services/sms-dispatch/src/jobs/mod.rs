//! One file a kind of job: its name, its queue, how it is run, and its work.

pub mod import_contacts;
pub mod load_audience;
pub mod prepare_campaign;
pub mod roll_back_import;
pub mod send_slice;
pub mod validate_contacts;
