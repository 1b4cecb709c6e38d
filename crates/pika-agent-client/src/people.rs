//! The calls about people, by name: the caller and its tokens, and what operators do about owners and access.
//!
//! Owns which route each call takes, and which of them must not be repeated when their answer was lost.

use bytes::Bytes;
use http::Method;
use pika_managed_agent_contract::{
    AllowBody, AllowList, AllowView, AuditList, MadeToken, NewOwner, NewTokenBody, OwnerList,
    OwnerView, QuotaBody, StrayList, TokenList, TokenView, routes,
};
use serde::Serialize;

use crate::call::{self, Call};
use crate::client::{body_of, with_page};
use crate::{AgentClient, ClientError, Page};

impl AgentClient {
    /// The caller, its quotas and what it uses.
    pub async fn owner(&self) -> Result<OwnerView, ClientError> {
        self.get(routes::OWNER.to_owned()).await
    }

    /// A page of the caller's tokens, revoked and ended ones too.
    pub async fn tokens(&self, page: &Page) -> Result<TokenList, ClientError> {
        self.get(with_page(routes::TOKENS, page)).await
    }

    /// All of the caller's tokens, page by page.
    pub async fn all_tokens(&self) -> Result<Vec<TokenView>, ClientError> {
        self.all(routes::TOKENS, |list: TokenList| (list.tokens, list.next))
            .await
    }

    /// One more token for the caller, of at most the scope of the token that asks.
    ///
    /// Its secret is in the answer and nowhere else, so the call is not repeated when its answer was lost: the error is
    /// [`ClientError::Lost`] or [`ClientError::Timeout`], and [`AgentClient::tokens`] tells whether there is one to revoke.
    pub async fn add_token(&self, asked: &NewTokenBody) -> Result<MadeToken, ClientError> {
        self.post_once(routes::TOKENS.to_owned(), asked).await
    }

    /// A token for an owner. For operators. Like [`AgentClient::add_token`] it is not repeated when its answer was lost.
    pub async fn add_token_for(
        &self,
        owner_id: &str,
        asked: &NewTokenBody,
    ) -> Result<MadeToken, ClientError> {
        self.post_once(routes::with_id(routes::OWNER_TOKENS, owner_id), asked)
            .await
    }

    /// Revokes a token of the caller's; of anybody's, for an operator. One that is revoked stays so.
    pub async fn revoke_token(&self, token_id: &str) -> Result<(), ClientError> {
        let target = routes::with_id(routes::TOKEN, token_id);
        let call = self.change(Method::DELETE, target, Bytes::new());
        call::bytes(self, &call).await.map(drop)
    }

    /// A page of owners. For operators, as is all below.
    pub async fn owners(&self, page: &Page) -> Result<OwnerList, ClientError> {
        self.get(with_page(routes::OWNERS, page)).await
    }

    /// All owners, page by page.
    pub async fn all_owners(&self) -> Result<Vec<OwnerView>, ClientError> {
        self.all(routes::OWNERS, |list: OwnerList| (list.owners, list.next))
            .await
    }

    /// One more owner, on the allow-list. One that is there with this role and these quotas stays as it is.
    pub async fn add_owner(&self, asked: &NewOwner) -> Result<OwnerView, ClientError> {
        self.post(routes::OWNERS.to_owned(), asked).await
    }

    /// What an owner may have, all of it.
    pub async fn set_quotas(
        &self,
        owner_id: &str,
        quotas: &QuotaBody,
    ) -> Result<OwnerView, ClientError> {
        self.put(routes::with_id(routes::QUOTAS, owner_id), quotas)
            .await
    }

    /// A page of the allow-list.
    pub async fn allow_list(&self, page: &Page) -> Result<AllowList, ClientError> {
        self.get(with_page(routes::ALLOW_LIST, page)).await
    }

    /// The whole allow-list, page by page.
    pub async fn all_allowed(&self) -> Result<Vec<AllowView>, ClientError> {
        self.all(routes::ALLOW_LIST, |list: AllowList| {
            (list.entries, list.next)
        })
        .await
    }

    /// Lets an owner use the API, who need not be known yet.
    pub async fn allow(&self, owner_id: &str, why: &AllowBody) -> Result<AllowView, ClientError> {
        self.put(routes::with_id(routes::ALLOWED, owner_id), why)
            .await
    }

    /// Takes that back. Not repeated when its answer was lost, since a second one finds nothing and says so.
    pub async fn disallow(&self, owner_id: &str) -> Result<(), ClientError> {
        let target = routes::with_id(routes::ALLOWED, owner_id);
        let call = self.change(Method::DELETE, target, Bytes::new()).once();
        call::bytes(self, &call).await.map(drop)
    }

    /// A page of the audit log, the newest first; `after` is the number of the last entry of the page before.
    pub async fn audit(&self, page: &Page) -> Result<AuditList, ClientError> {
        self.get(with_page(routes::AUDIT, page)).await
    }

    /// What carries the server's label in Incus and belongs to no agent.
    pub async fn strays(&self) -> Result<StrayList, ClientError> {
        self.get(routes::STRAYS.to_owned()).await
    }

    /// Removes a stray instance at once; its volume stays. Not repeated when its answer was lost, since a second one finds
    /// nothing and says so.
    pub async fn remove_stray(&self, name: &str) -> Result<(), ClientError> {
        let target = routes::with_id(routes::STRAY, name);
        let call = self.change(Method::DELETE, target, Bytes::new()).once();
        call::bytes(self, &call).await.map(drop)
    }

    async fn post_once(
        &self,
        target: String,
        asked: &impl Serialize,
    ) -> Result<MadeToken, ClientError> {
        let body = body_of(&target, asked)?;
        let call: Call = self.change(Method::POST, target, body).once();
        self.document(&call).await
    }

    async fn put<T: serde::de::DeserializeOwned>(
        &self,
        target: String,
        asked: &impl Serialize,
    ) -> Result<T, ClientError> {
        let body = body_of(&target, asked)?;
        self.document(&self.change(Method::PUT, target, body)).await
    }
}
