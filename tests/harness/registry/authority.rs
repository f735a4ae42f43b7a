//! An authority of one's own, as companies have: its certificates are good for who trusts it, and for nobody else.

use std::sync::Arc;

use anyhow::Result;
use rcgen::{BasicConstraints, Certificate, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};

/// An authority that nobody trusts yet.
#[derive(Debug)]
pub struct Authority {
    /// What whoever trusts it has, in PEM.
    pub pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Makes one that is called so.
    ///
    /// # Errors
    /// When there are no random numbers for its key.
    pub fn new(name: &str) -> Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let pem = params.self_signed(&key)?.pem();
        Ok(Self { pem, issuer: Issuer::new(params, key) })
    }

    /// A certificate for a name or an address and its key, in PEM.
    ///
    /// # Errors
    /// When that is no name.
    pub fn sign(&self, name: &str) -> Result<(String, String)> {
        let (certificate, key) = self.signed(name)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }

    /// How a server speaks TLS that is called so.
    ///
    /// # Errors
    /// As [`Self::sign`].
    pub(super) fn server(&self, name: &str) -> Result<Arc<ServerConfig>> {
        let (certificate, key) = self.signed(name)?;
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let config = config.with_safe_default_protocol_versions()?.with_no_client_auth();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Ok(Arc::new(config.with_single_cert(vec![certificate.der().clone()], key)?))
    }

    fn signed(&self, name: &str) -> Result<(Certificate, KeyPair)> {
        let key = KeyPair::generate()?;
        Ok((CertificateParams::new([name.to_owned()])?.signed_by(&key, &self.issuer)?, key))
    }
}
