//! The link that a message carries for its recipient to opt out by (`{baja}`): short, and nobody else's to guess. It says which
//! message it stands in, under a key of that message's campaign.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rand::RngExt as _;
use ring::hmac;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;

use super::message_id::MessageId;

/// Bytes of a message's id in a token, and of what proves that we made it.
const ID: usize = 10;
const PROOF: usize = 8;

/// What a campaign's links are made with. Frozen by its start: a message's text stays what it was when it was sent.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Links {
    /// What stands before `/b/`.
    base: String,
    /// 64 hexadecimal digits.
    key: String,
}

/// Without the key.
impl std::fmt::Debug for Links {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Links").field("base", &self.base).finish_non_exhaustive()
    }
}

impl Links {
    /// With a new key.
    pub fn under(base: &str) -> Self {
        let key: [u8; 32] = rand::rng().random();
        let key = key.iter().map(|byte| format!("{byte:02x}")).collect();
        Self { base: base.trim_end_matches('/').to_owned(), key }
    }

    /// The link of a message: `https://lote.mx/b/` and 24 letters.
    pub fn url(&self, id: MessageId) -> String {
        let id = id_bytes(id);
        let token = [&id[..], &self.proof(&id)].concat();
        format!("{}/b/{}", self.base, URL_SAFE_NO_PAD.encode(token))
    }

    /// Whether we made this token.
    pub fn made(&self, token: &Token) -> bool {
        self.proof(&id_bytes(token.id)).ct_eq(&token.proof).into()
    }

    fn proof(&self, id: &[u8; ID]) -> [u8; PROOF] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.key.as_bytes());
        let tag = hmac::sign(&key, id);
        std::array::from_fn(|place| tag.as_ref().get(place).copied().unwrap_or_default())
    }
}

/// What a link says, before anybody has looked whether we made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    pub id: MessageId,
    proof: [u8; PROOF],
}

impl Token {
    /// None where it is not a token.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (id, proof) = bytes.split_first_chunk::<ID>()?;
        // The day, the campaign and the position of a UUID of ours.
        let mut uuid = [0; 16];
        uuid[..6].copy_from_slice(&id[..6]);
        uuid[12..].copy_from_slice(&id[6..]);
        let uuid = uuid::Builder::from_custom_bytes(uuid).into_uuid();
        Some(Self { id: MessageId::parse(uuid)?, proof: proof.try_into().ok()? })
    }
}

/// Day, campaign and position: what of a message's UUID is not always the same.
fn id_bytes(id: MessageId) -> [u8; ID] {
    let uuid = id.uuid().into_bytes();
    let mut bytes = [0; ID];
    bytes[..6].copy_from_slice(&uuid[..6]);
    bytes[6..].copy_from_slice(&uuid[12..]);
    bytes
}

#[cfg(test)]
mod tests {
    use chrono::NaiveDate;

    use super::*;

    const ID: MessageId = MessageId {
        date: NaiveDate::from_ymd_opt(2026, 11, 26).expect("a day"),
        campaign: 70_000,
        position: 36_000_000,
    };

    #[test]
    fn a_link_is_short_and_leads_back_to_its_message() {
        let links = Links::under("https://lote.mx/");
        let url = links.url(ID);
        assert_eq!((url.len(), &url[..18]), (18 + 24, "https://lote.mx/b/"));
        let token = Token::parse(&url[18..]).expect("a token");
        assert_eq!(token.id, ID);
        assert!(links.made(&token));
        assert!(!Links::under("https://lote.mx").made(&token), "another campaign's key");
    }

    #[test]
    fn no_other_token_is_ours() {
        let links = Links::under("https://lote.mx");
        let url = links.url(ID);
        let token = &url[18..];
        for place in 0..token.len() {
            let mut other = token.as_bytes().to_vec();
            other[place] = if other[place] == b'A' { b'B' } else { b'A' };
            let other = String::from_utf8(other).expect("ASCII");
            assert!(Token::parse(&other).is_none_or(|token| !links.made(&token)), "{other}");
        }
        for other in ["", "AAAA", &token[1..], &format!("{token}A"), "../../etc/passwd", "á"] {
            assert_eq!(Token::parse(other), None, "{other}");
        }
    }

    #[test]
    fn the_key_is_not_in_what_is_logged() {
        let links = Links::under("https://lote.mx");
        assert!(!format!("{links:?}").contains(&links.key));
    }
}
