//! The secret that names the caller. It can't be printed.

use http::HeaderValue;

use crate::ClientError;

/// A bearer token. Neither `Debug` nor `Display` shows it.
#[derive(Clone)]
pub struct Token(HeaderValue);

impl Token {
    /// Takes a token's text; white space around it is dropped, as files end with a newline.
    pub fn new(text: impl AsRef<str>) -> Result<Token, ClientError> {
        let text = text.as_ref().trim();
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ClientError::Token);
        }
        let mut value =
            HeaderValue::from_str(&format!("Bearer {text}")).map_err(|_| ClientError::Token)?;
        value.set_sensitive(true);
        Ok(Token(value))
    }

    pub(crate) fn header(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Token(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_never_shown_and_must_be_one_word() {
        let token = Token::new(" secret-word\n").unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(
            format!("{token:?} {:?}", token.header()),
            "Token(..) Sensitive"
        );
        for bad in ["", " \n", "two words", "a\nb", "\u{e9}"] {
            assert!(
                matches!(Token::new(bad), Err(ClientError::Token)),
                "{bad:?}"
            );
        }
    }
}
