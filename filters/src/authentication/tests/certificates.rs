//! Certificates as callers: who one is, and that one in doubt is nobody's.

use super::{
    possession::{Ask, CERTIFICATE, certificate},
    *,
};
use crate::contract::ClientCertificate;

fn mtls(change: impl FnOnce(&mut model::Mtls)) -> Method {
    let mut config = model::Mtls {
        user_id: Some(model::CertificateName::SanDns),
        email: Some(model::CertificateName::SanEmail),
        roles: vec!["service".into()],
        permissions: Vec::new(),
        principals: Vec::new(),
    };
    change(&mut config);
    Method::mtls("services", &config).unwrap()
}

fn ask(
    route: &Authentication,
    certificate: Option<ClientCertificate>,
    fields: Vec<(&'static str, String)>,
) -> Result<Exchange, Refusal> {
    Ask { route, fields, certificate: certificate.map(Arc::new), now: NOW }.exchange()
}

fn shown(change: impl FnOnce(&mut ClientCertificate)) -> Option<ClientCertificate> {
    let mut shown = (*certificate(CERTIFICATE)).clone();
    change(&mut shown);
    Some(shown)
}

#[test]
fn a_name_is_a_user() {
    let only = route(vec![mtls(|_| {})]);
    let caller = ask(&only, shown(|c| c.emails = vec!["a@b.test".into()]), Vec::new()).unwrap().principal.unwrap();
    assert_eq!((caller.user_id.as_str(), &*caller.method), ("billing.test", "mtls.services"));
    assert_eq!((caller.email.as_deref(), &caller.roles[..]), (Some("a@b.test"), &["service".to_owned()][..]));
    let missing = ask(&only, None, Vec::new()).unwrap_err();
    assert_eq!(missing.code, Code::CredentialsMissing);
    assert_eq!(challenges(&missing), ["Certificate realm=\"gapura\""]);
    for doubtful in [
        shown(|c| c.dns = vec!["a".into(), "b".into()]),
        shown(|c| c.dns.clear()),
        shown(|c| c.dns = vec!["a\0b".into()]),
        shown(|c| c.dns = vec!["a\r\nX-User-Roles: admin".into()]),
        shown(|c| c.dns = vec![" a".into()]),
        shown(|c| c.emails = vec!["a@b".into(), "c@d".into()]),
        shown(|c| c.doubtful = true),
        shown(|c| c.valid = (0, NOW as i64 - 1)),
        shown(|c| c.valid = (NOW as i64 + 1, i64::MAX)),
    ] {
        assert_eq!(
            ask(&only, doubtful.clone(), Vec::new()).unwrap_err().code,
            Code::CredentialsInvalid,
            "{doubtful:?}"
        );
    }
}

#[test]
fn only_the_listed_ones() {
    let entry = |user: &str| model::MtlsPrincipal {
        san_dns: None,
        san_email: None,
        san_uri: None,
        subject_cn: None,
        subject: None,
        spki_sha256: None,
        user_id: user.into(),
        email: None,
        roles: vec!["payments".into()],
        permissions: Vec::new(),
    };
    let listed = route(vec![mtls(|config| {
        config.user_id = None;
        config.principals = vec![
            model::MtlsPrincipal { san_dns: Some("Billing.test".into()), ..entry("billing") },
            model::MtlsPrincipal { subject: Some("CN=a,O=b".into()), ..entry("a") },
            model::MtlsPrincipal { spki_sha256: Some("05".repeat(32)), ..entry("key") },
        ];
    })]);
    let user =
        |certificate| ask(&listed, certificate, Vec::new()).map(|e| e.principal.unwrap().user_id.as_str().to_owned());
    assert_eq!(user(shown(|_| {})).unwrap(), "billing");
    assert_eq!(user(shown(|c| (c.dns, c.subject) = (Vec::new(), Some("CN=a,O=b".into())))).unwrap(), "a");
    assert_eq!(user(shown(|c| (c.dns, c.spki_sha256) = (Vec::new(), [5; 32]))).unwrap(), "key");
    for unknown in [
        shown(|c| c.dns = vec!["billing.test.evil".into()]),
        shown(|c| c.dns = vec!["billing.test".into(), "evil.test".into()]),
        shown(|c| (c.dns, c.subject) = (Vec::new(), Some("CN=a\\,O=b".into()))),
        // Of two entries at once, whose roles would count?
        shown(|c| c.spki_sha256 = [5; 32]),
    ] {
        assert_eq!(user(unknown.clone()).unwrap_err().code, Code::CredentialsInvalid, "{unknown:?}");
    }
    let caller = ask(&listed, shown(|_| {}), Vec::new()).unwrap().principal.unwrap();
    assert_eq!(caller.roles, ["service", "payments"]);
}

#[test]
fn a_certificate_is_a_credential_like_any_other() {
    let both = route(vec![jwt("users", &secret_config()), mtls(|_| {})]);
    let bearer = || vec![("authorization", format!("Bearer {}", with_payload(payload(""))))];
    let method = |exchange: Exchange| exchange.principal.unwrap().method.to_string();
    assert_eq!(method(ask(&both, None, bearer()).unwrap()), "jwt.users");
    assert_eq!(method(ask(&both, shown(|_| {}), Vec::new()).unwrap()), "mtls.services");
    assert_eq!(method(ask(&both, shown(|_| {}), bearer()).unwrap()), "jwt.users", "the first of `auth`");
    // Neither covers up for the other.
    let bad = vec![("authorization", "Bearer x".to_owned())];
    assert_eq!(ask(&both, shown(|_| {}), bad).unwrap_err().code, Code::CredentialsInvalid);
    assert_eq!(ask(&both, shown(|c| c.dns.clear()), bearer()).unwrap_err().code, Code::CredentialsInvalid);
    let place = Place::root().key("routes").index(0).key("auth");
    let other =
        Method::mtls("others", &model::Mtls { user_id: Some(model::CertificateName::Subject), ..mtls_config() })
            .unwrap();
    assert!(Authentication::new(&place, vec![mtls(|_| {}), other]).is_err(), "a certificate could not choose");
    // A route that does not name the method does not look at the certificate.
    assert_eq!(method(ask(&only(&secret_config()), shown(|c| c.dns.clear()), bearer()).unwrap()), "jwt.users");
}

fn mtls_config() -> model::Mtls {
    model::Mtls { user_id: None, email: None, roles: Vec::new(), permissions: Vec::new(), principals: Vec::new() }
}
