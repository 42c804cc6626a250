//! The address that a provider reports to: it names a message and its attempt, because nothing else of ours comes back.

use url::Url;
use uuid::Uuid;

use super::sender::ProviderName;

/// The message and the attempt that a report is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Callback {
    /// The ledger's id.
    pub message: Uuid,
    /// From 1.
    pub attempt: i16,
}

impl Callback {
    /// `https://lote.mx/webhooks/telnyx?message=…&attempt=1`, under the address that providers reach us by.
    ///
    /// Twilio tries a callback twice at most unless its fragment asks for more: here six times, at whatever fails, within
    /// 15 s ("Connection overrides"). A fragment is not sent, and so not signed.
    pub fn url(self, base: &str, provider: ProviderName) -> String {
        let Self { message, attempt } = self;
        let base = base.trim_end_matches('/');
        let retries = if provider == ProviderName::Twilio { "#rc=5&rp=all" } else { "" };
        format!("{base}/webhooks/{}?message={message}&attempt={attempt}{retries}", provider.name())
    }

    /// What an address names; none where it isn't one of ours. Only ask about addresses that a signature covers.
    pub fn parse(url: &str) -> Option<Self> {
        let url = Url::parse(url).ok()?;
        let value = |wanted: &str| {
            url.query_pairs().find(|(name, _)| name == wanted).map(|(_, value)| value.into_owned())
        };
        let message = Uuid::try_parse(&value("message")?).ok()?;
        let attempt = value("attempt")?.parse().ok().filter(|attempt| *attempt > 0)?;
        Some(Self { message, attempt })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_what_it_was_made_of() {
        let callback = Callback { message: Uuid::from_u128(0x1234_5678), attempt: 3 };
        for provider in ProviderName::ALL {
            assert_eq!(Callback::parse(&callback.url("https://lote.mx/", provider)), Some(callback));
        }
        assert_eq!(
            callback.url("https://lote.mx", ProviderName::Twilio),
            "https://lote.mx/webhooks/twilio?message=00000000-0000-0000-0000-000012345678&attempt=3#rc=5&rp=all"
        );
        for other in [
            "https://lote.mx/webhooks/telnyx",
            "https://lote.mx/?message=x&attempt=1",
            "https://lote.mx/?message=00000000-0000-0000-0000-000012345678&attempt=0",
            "https://lote.mx/?message=00000000-0000-0000-0000-000012345678&attempt=40000",
            "no url",
            "",
        ] {
            assert_eq!(Callback::parse(other), None, "{other}");
        }
    }
}
