use std::{future::Future, pin::Pin};

use actix_web::{FromRequest, HttpMessage as _, HttpRequest, dev::Payload, http::header, web};

use super::{Claims, Role, Verifier};
use crate::Problem;

/// Who sent a request. As an argument of a handler it demands a valid bearer token (RFC 6750) and answers
/// 401 where there is none; what the caller may do is the handler's to ask. Needs a
/// `web::Data<Verifier>`, or a middleware that put a `Caller` into the request's extensions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    claims: Claims,
}

impl From<Claims> for Caller {
    fn from(claims: Claims) -> Self {
        Self { claims }
    }
}

impl Caller {
    /// All that its token says.
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// The user's or API key's id.
    pub fn id(&self) -> &str {
        &self.claims.sub
    }

    /// The user's id, also where an API key of theirs is used: what is counted is counted by user.
    pub fn user(&self) -> &str {
        self.claims.owner.as_deref().unwrap_or(&self.claims.sub)
    }

    /// Its role.
    pub fn role(&self) -> Role {
        self.claims.role
    }

    /// The supplier it acts for, if it is bound to one.
    pub fn proveedor_id(&self) -> Option<&str> {
        self.claims.proveedor_id.as_deref()
    }

    /// # Errors
    /// 403 unless the caller has one of `roles`.
    pub fn require(&self, roles: &[Role]) -> Result<(), Problem> {
        if roles.contains(&self.claims.role) {
            Ok(())
        } else {
            Err(Problem::forbidden("Su rol no permite esta operación"))
        }
    }

    /// # Errors
    /// 403 if the token is limited to scopes and `scope` is none of them.
    pub fn require_scope(&self, scope: &str) -> Result<(), Problem> {
        if self.claims.scopes.is_empty() || self.claims.scopes.iter().any(|granted| granted == scope) {
            Ok(())
        } else {
            Err(Problem::forbidden(format!("La credencial no tiene el alcance {scope}")))
        }
    }

    /// For what is nobody's in particular: whoever is bound to one supplier sees none of it.
    ///
    /// # Errors
    /// 403 where the caller is bound to one.
    pub fn require_unbound(&self) -> Result<(), Problem> {
        match self.proveedor_id() {
            None => Ok(()),
            Some(_) => Err(Problem::forbidden("La cuenta está limitada a un proveedor")),
        }
    }

    /// For who reads what is nobody's in particular: admins, operators and viewers who are bound to no supplier.
    ///
    /// # Errors
    /// 403 for everybody else, and where the token is limited to other scopes than `scope`.
    pub fn require_reader(&self, scope: &str) -> Result<(), Problem> {
        self.require(&[Role::Admin, Role::Operator, Role::Viewer])?;
        self.require_unbound()?;
        self.require_scope(scope)
    }

    /// For who works with what is nobody's in particular: admins and operators.
    ///
    /// # Errors
    /// As [`Self::require_reader`].
    pub fn require_operator(&self, scope: &str) -> Result<(), Problem> {
        self.require(&[Role::Admin, Role::Operator])?;
        self.require_scope(scope)
    }

    /// Whether it may change what belongs to this supplier: admins and operators any, a supplier its own,
    /// a viewer none.
    pub fn may_act_for(&self, proveedor_id: &str) -> bool {
        match self.claims.role {
            Role::Admin | Role::Operator => true,
            Role::Supplier => self.proveedor_id() == Some(proveedor_id),
            Role::Viewer => false,
        }
    }

    /// Whether it may read what belongs to this supplier. What it may not see does not exist: answer 404.
    pub fn may_see(&self, proveedor_id: &str) -> bool {
        match self.claims.role {
            Role::Admin | Role::Operator => true,
            // A viewer bound to a supplier sees that one.
            Role::Viewer => self.proveedor_id().is_none_or(|own| own == proveedor_id),
            Role::Supplier => self.proveedor_id() == Some(proveedor_id),
        }
    }

    /// The supplier whose data alone it sees, or none if it sees everyone's.
    ///
    /// # Errors
    /// 403 for a supplier's token without a supplier.
    pub fn sees_only(&self) -> Result<Option<&str>, Problem> {
        match (self.claims.role, self.proveedor_id()) {
            (Role::Admin | Role::Operator, _) | (Role::Viewer, None) => Ok(None),
            (Role::Supplier | Role::Viewer, Some(own)) => Ok(Some(own)),
            (Role::Supplier, None) => Err(Problem::forbidden("La cuenta no tiene un proveedor asignado")),
        }
    }

    async fn identify(request: HttpRequest) -> Result<Self, Problem> {
        // A guard of its own statement: the borrow must end before the await below.
        let known = request.extensions().get::<Self>().cloned();
        if let Some(caller) = known {
            return Ok(caller);
        }
        let token = bearer(&request)?;
        let verifier = request
            .app_data::<web::Data<Verifier>>()
            .ok_or_else(|| Problem::internal(anyhow::anyhow!("the service has no Verifier")))?;
        let caller = Self::from(verifier.verify(token).await?);
        request.extensions_mut().insert(caller.clone());
        Ok(caller)
    }
}

/// The token in `Authorization: Bearer …`; the scheme's case does not matter (RFC 9110, 11.1).
fn bearer(request: &HttpRequest) -> Result<&str, Problem> {
    let missing = || Problem::unauthorized("Falta el token de acceso");
    let mut values = request.headers().get_all(header::AUTHORIZATION);
    let value = values.next().ok_or_else(missing)?;
    if values.next().is_some() {
        return Err(Problem::invalid_token("La petición trae más de un token"));
    }
    let (scheme, token) = value.to_str().ok().and_then(|text| text.split_once(' ')).ok_or_else(missing)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(token.trim()) } else { Err(missing()) }
}

impl FromRequest for Caller {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        Box::pin(Self::identify(request.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::testing;

    fn caller(role: Role, proveedor_id: Option<&str>, scopes: &[&str]) -> Caller {
        Caller::from(Claims {
            proveedor_id: proveedor_id.map(str::to_owned),
            scopes: scopes.iter().map(|&scope| scope.to_owned()).collect(),
            ..testing::claims(role)
        })
    }

    #[test]
    fn who_may_act_and_see() {
        // Role, bound to, acts for P1, sees P1.
        for (role, bound, acts, sees) in [
            (Role::Admin, None, true, true),
            (Role::Operator, None, true, true),
            (Role::Supplier, Some("P1"), true, true),
            (Role::Supplier, Some("P2"), false, false),
            (Role::Supplier, None, false, false),
            (Role::Viewer, None, false, true),
            (Role::Viewer, Some("P1"), false, true),
            (Role::Viewer, Some("P2"), false, false),
        ] {
            let caller = caller(role, bound, &[]);
            assert_eq!(caller.may_act_for("P1"), acts, "{role} bound to {bound:?} acts");
            assert_eq!(caller.may_see("P1"), sees, "{role} bound to {bound:?} sees");
            if let Ok(only) = caller.sees_only() {
                assert_eq!(only.is_none_or(|own| own == "P1"), sees, "{role} bound to {bound:?} lists");
            } else {
                assert!(!sees);
            }
        }
    }

    #[test]
    fn scopes_narrow_and_roles_are_required() {
        let key = caller(Role::Supplier, Some("P1"), &["catalog:read"]);
        assert!(key.require_scope("catalog:read").is_ok());
        assert_eq!(key.require_scope("catalog:write").expect_err("not granted").status().as_u16(), 403);
        assert!(caller(Role::Supplier, None, &[]).require_scope("catalog:write").is_ok());
        assert!(key.require(&[Role::Admin, Role::Supplier]).is_ok());
        assert_eq!(key.require(&[Role::Admin]).expect_err("no admin").code(), "forbidden");
        assert_eq!(key.require_unbound().expect_err("bound").code(), "forbidden");
        assert!(caller(Role::Viewer, None, &[]).require_unbound().is_ok());
    }

    #[test]
    fn what_is_nobodys_in_particular_is_read_by_the_unbound_and_worked_with_by_operators() {
        for (role, bound, reads, works) in [
            (Role::Admin, None, true, true),
            (Role::Operator, None, true, true),
            (Role::Viewer, None, true, false),
            (Role::Viewer, Some("P1"), false, false),
            (Role::Supplier, Some("P1"), false, false),
        ] {
            let caller = caller(role, bound, &["etl:read"]);
            assert_eq!(caller.require_reader("etl:read").is_ok(), reads, "{role} bound to {bound:?} reads");
            assert_eq!(caller.require_operator("etl:read").is_ok(), works, "{role} bound to {bound:?} works");
            assert!(
                caller.require_reader("etl:write").is_err() && caller.require_operator("etl:write").is_err()
            );
        }
    }
}
