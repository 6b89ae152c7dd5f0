//! What a caller may do: roles and permissions.

use std::future::{Future, ready};

use gapura_config::model;
use http::request;

use crate::contract::{Code, Exchange, Filter, Principal, Refusal, Stage};

/// What one route asks of its callers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorisation {
    /// Any one of them, where there is one.
    roles: Vec<String>,
    /// All of them.
    permissions: Vec<String>,
}

impl Authorisation {
    /// `None` where the route asks for nothing.
    pub fn new(route: &model::Route) -> Option<Self> {
        let (roles, permissions) = (route.roles.clone(), route.permissions.clone());
        if roles.is_empty() && permissions.is_empty() { None } else { Some(Self { roles, permissions }) }
    }

    /// Without a principal nothing is allowed, however the route came to be built: no proof, no way through.
    pub fn authorise(&self, principal: Option<&Principal>) -> Result<(), Refusal> {
        let Some(principal) = principal else { return Err(denied("no caller is authenticated".into())) };
        if let Some(missing) = self.permissions.iter().find(|wanted| !principal.permissions.contains(wanted)) {
            return Err(denied(format!("the caller has not the permission `{missing}`")));
        }
        if !self.roles.is_empty() && !self.roles.iter().any(|role| principal.roles.contains(role)) {
            return Err(denied(format!("the caller has none of the roles {}", self.roles.join(", "))));
        }
        Ok(())
    }
}

/// The client does not learn which name would open the door; the log does.
fn denied(reason: String) -> Refusal {
    Refusal::new(Code::PermissionDenied, "The caller is known but may not do this.").reason(reason)
}

impl Filter for Authorisation {
    fn stage(&self) -> Stage {
        Stage::Authorisation
    }

    fn explain(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if !self.roles.is_empty() {
            lines.push(format!("any of the roles {}", self.roles.join(", ")));
        }
        if !self.permissions.is_empty() {
            lines.push(format!("all of the permissions {}", self.permissions.join(", ")));
        }
        lines
    }

    fn on_request(
        &self,
        _head: &request::Parts,
        exchange: &mut Exchange,
    ) -> impl Future<Output = Result<(), Refusal>> + Send {
        ready(self.authorise(exchange.principal.as_deref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::UserId;

    fn route(roles: &[&str], permissions: &[&str]) -> Option<Authorisation> {
        let route = serde_json::json!({
            "name": "r", "path": "/r", "upstream": "u", "roles": roles, "permissions": permissions
        });
        Authorisation::new(&serde_json::from_value(route).unwrap())
    }

    fn allowed(asked: &Option<Authorisation>, roles: &[&str], permissions: &[&str]) -> bool {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        let principal = Principal {
            method: "jwt.users".into(),
            user_id: UserId::string("u1"),
            email: None,
            roles: texts(roles),
            permissions: texts(permissions),
            api_key: None,
            token_id: None,
            expires: None,
            limits: Default::default(),
            claims: Default::default(),
        };
        asked.as_ref().unwrap().authorise(Some(&principal)).is_ok()
    }

    #[test]
    fn all_permissions_and_any_role() {
        assert_eq!(route(&[], &[]), None);
        let permissions = route(&[], &["A", "B"]);
        assert!(allowed(&permissions, &[], &["B", "C", "A"]));
        assert!(!allowed(&permissions, &["A", "B"], &["A"]));
        let roles = route(&["x", "y"], &[]);
        assert!(allowed(&roles, &["y"], &[]));
        assert!(!allowed(&roles, &[], &["x", "y"]));
        let both = route(&["x"], &["A"]);
        assert!(allowed(&both, &["x"], &["A"]));
        for (roles, permissions) in
            [(&["x"][..], &[][..]), (&[], &["A"]), (&["X"], &["A"]), (&["x"], &["AB", "a", "A "])]
        {
            assert!(!allowed(&both, roles, permissions));
        }
    }

    #[test]
    fn without_a_caller_nothing_is_allowed() {
        for asked in [route(&["x"], &[]), route(&[], &["A"])] {
            let refusal = asked.unwrap().authorise(None).unwrap_err();
            assert_eq!(refusal.code, Code::PermissionDenied);
        }
    }

    #[test]
    fn the_client_does_not_learn_the_name() {
        let refusal = route(&[], &["SECRET_DOOR"]).unwrap().authorise(None).unwrap_err();
        let principal = Principal {
            method: "jwt.users".into(),
            user_id: UserId::string("u1"),
            email: None,
            roles: Vec::new(),
            permissions: Vec::new(),
            api_key: None,
            token_id: None,
            expires: None,
            limits: Default::default(),
            claims: Default::default(),
        };
        let denied = route(&[], &["SECRET_DOOR"]).unwrap().authorise(Some(&principal)).unwrap_err();
        assert_eq!(denied.detail, refusal.detail);
        assert!(!denied.detail.contains("SECRET_DOOR") && denied.reason.contains("`SECRET_DOOR`"));
    }
}
