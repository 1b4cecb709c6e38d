//! Trusted certificates and trust tokens: `/1.0/certificates`.

use super::{Client, built};
use crate::error::{Error, ErrorCause};
use crate::request::certificates;
use crate::types::{Certificate, CertificateRequest, Tagged, TrustToken};

impl Client {
    /// Lists trusted certificates: `GET /1.0/certificates`.
    pub async fn certificates(&self) -> Result<Vec<Certificate>, Error> {
        let listed: Tagged<Option<Vec<Certificate>>> = self.fetch(certificates::list()).await?;
        Ok(listed.value.unwrap_or_default())
    }

    /// Adds a certificate to the trust store: `POST /1.0/certificates`.
    pub async fn add_certificate(&self, request: &CertificateRequest) -> Result<(), Error> {
        self.execute(built(certificates::create(request))?).await
    }

    /// Makes a trust token for a client of this name: `POST /1.0/certificates` with `token`. The server must listen
    /// on the network, since the token names its addresses.
    pub async fn create_trust_token(&self, name: &str) -> Result<TrustToken, Error> {
        let request = built(certificates::create(&CertificateRequest::new_token(name)))?;
        let call = super::CallName::of(&request);
        let handle = self.start(request).await?;
        TrustToken::from_operation(&handle.operation.metadata).ok_or_else(|| {
            call.error(ErrorCause::Protocol {
                what: "the operation holds no trust token".to_owned(),
                source: None,
            })
        })
    }

    /// Takes a certificate out of the trust store: `DELETE /1.0/certificates/{fingerprint}`.
    pub async fn delete_certificate(&self, fingerprint: &str) -> Result<(), Error> {
        self.execute(built(certificates::delete(fingerprint))?)
            .await
    }
}
