//! What a role is bound to, and which role may hand out which.

use chassis::auth::Role;

/// A role with what it is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The role.
    pub role: Role,
    /// The one supplier it may see: always with a supplier, perhaps with a viewer, else never.
    pub proveedor_id: Option<String>,
}

/// Why a role and a `proveedor_id` do not fit together. The text is for the administrator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unbound {
    /// A supplier bound to nobody would see nothing, or everything.
    #[error("El rol supplier exige un proveedor_id")]
    Missing,
    /// Admins and operators see all suppliers: accepting one would promise a restriction nobody enforces.
    #[error("Solo los roles supplier y viewer llevan proveedor_id")]
    Unexpected,
    /// Longer than 64 characters, with white space around it, or with control characters.
    #[error("proveedor_id debe tener de 1 a 64 caracteres, sin espacios al principio ni al final")]
    Malformed,
}

impl Standing {
    /// Puts the two together if they fit.
    ///
    /// # Errors
    /// As [`Unbound`] says.
    pub fn new(role: Role, proveedor_id: Option<String>) -> Result<Self, Unbound> {
        match (role, &proveedor_id) {
            (Role::Supplier, None) => Err(Unbound::Missing),
            (Role::Admin | Role::Operator, Some(_)) => Err(Unbound::Unexpected),
            (_, Some(id))
                if id.is_empty()
                    || id.chars().count() > 64
                    || id.trim() != id
                    || id.chars().any(char::is_control) =>
            {
                Err(Unbound::Malformed)
            }
            _ => Ok(Self { role, proveedor_id }),
        }
    }

    /// Whether everything `other` may do, this may do as well: the condition to hand `other` out as an API key,
    /// and for that key to go on working. A viewer of all suppliers writes nothing and a supplier sees only
    /// itself: neither covers the other.
    pub fn covers(&self, other: &Self) -> bool {
        let sees_as_much = self.proveedor_id.is_none() || self.proveedor_id == other.proveedor_id;
        match (self.role, other.role) {
            (Role::Admin, _) => true,
            (Role::Operator, other) => other != Role::Admin,
            (Role::Supplier, Role::Supplier | Role::Viewer) | (Role::Viewer, Role::Viewer) => sees_as_much,
            (Role::Supplier | Role::Viewer, _) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(role: Role, to: &str) -> Standing {
        Standing::new(role, Some(to.to_owned())).expect("role and supplier fit")
    }

    fn free(role: Role) -> Standing {
        Standing::new(role, None).expect("role without a supplier")
    }

    #[test]
    fn role_and_proveedor_id_must_fit() {
        assert_eq!(Standing::new(Role::Supplier, None), Err(Unbound::Missing));
        assert_eq!(Standing::new(Role::Supplier, Some(String::new())), Err(Unbound::Malformed));
        assert_eq!(Standing::new(Role::Supplier, Some(" PROV001".into())), Err(Unbound::Malformed));
        assert_eq!(Standing::new(Role::Viewer, Some("x".repeat(65))), Err(Unbound::Malformed));
        assert_eq!(Standing::new(Role::Operator, Some("PROV001".into())), Err(Unbound::Unexpected));
        assert_eq!(Standing::new(Role::Admin, Some("PROV001".into())), Err(Unbound::Unexpected));
    }

    #[test]
    fn covers_never_widens() {
        let standings = [
            free(Role::Admin),
            free(Role::Operator),
            bound(Role::Supplier, "P1"),
            bound(Role::Supplier, "P2"),
            free(Role::Viewer),
            bound(Role::Viewer, "P1"),
        ];
        let expected = [
            [true, true, true, true, true, true],
            [false, true, true, true, true, true],
            [false, false, true, false, false, true],
            [false, false, false, true, false, false],
            [false, false, false, false, true, true],
            [false, false, false, false, false, true],
        ];
        for (holder, row) in standings.iter().zip(expected) {
            for (wanted, expected) in standings.iter().zip(row) {
                assert_eq!(holder.covers(wanted), expected, "{holder:?} covers {wanted:?}");
            }
        }
    }
}
