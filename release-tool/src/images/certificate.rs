//! The certificate of a registry, and the authority that signs it and nothing else: its key is forgotten at once.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use jiff::{Timestamp, ToSpan as _, civil::Date, tz::TimeZone};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::{
    ServerConfig,
    crypto::ring::default_provider,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};

/// How long it holds, in days: longer than any try.
const DAYS: i64 = 30;

/// What a registry shows, and what its clients trust.
pub(super) struct Made {
    /// For the server.
    pub(super) server: Arc<ServerConfig>,
    /// The authority, in PEM.
    pub(super) authority: String,
}

/// Makes the certificate of a server with these names and addresses.
pub(super) fn make(names: &[String]) -> Result<Made> {
    let made = || {
        let key = KeyPair::generate()?;
        let mut authority = params(&[], "Push buildset")?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let signed = authority.self_signed(&key)?;
        let issuer = Issuer::new(authority, key);
        let key = KeyPair::generate()?;
        let mut server = params(names, "Push buildset registry")?;
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        server.use_authority_key_identifier_extension = true;
        let certificate = server.signed_by(&key, &issuer)?;
        anyhow::Ok((signed, certificate, key))
    };
    let (authority, certificate, key) = made().context("could not make a certificate")?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let server = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .context("could not set TLS up")?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .context("could not use the certificate that was made")?;
    Ok(Made { server: Arc::new(server), authority: authority.pem() })
}

fn params(names: &[String], called: &str) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(names.to_vec())?;
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, called);
    params.distinguished_name = name;
    // Clocks differ.
    let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
    let at = |date: Date| {
        anyhow::Ok(rcgen::date_time_ymd(date.year().into(), date.month().try_into()?, date.day().try_into()?))
    };
    params.not_before = at(today.checked_sub(2.days())?)?;
    params.not_after = at(today.checked_add(DAYS.days())?)?;
    Ok(params)
}
