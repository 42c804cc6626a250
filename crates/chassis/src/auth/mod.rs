//! Who calls: tokens that the gateway signs (EdDSA), checked by every service with the gateway's public
//! keys, and what their bearers may do.

mod caller;
mod claims;
mod jwks;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod verifier;

pub use caller::Caller;
pub use claims::{Claims, Role};
pub use verifier::{Rejected, Verifier};
