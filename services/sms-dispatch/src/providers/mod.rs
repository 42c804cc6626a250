//! Carriers' APIs on the internet.

pub mod log_messages;
pub mod messaging;
pub mod telnyx;
pub mod telnyx_messages;
pub mod twilio_messages;

use std::{collections::HashMap, sync::Arc};

use chassis::Clock;

use self::{
    log_messages::LogMessages, messaging::Messaging, telnyx_messages::TelnyxMessages,
    twilio_messages::TwilioMessages,
};
use crate::{config::SmsSettings, domain::sender::ProviderName};

/// Those that messages may go through, each with its client.
pub type Providers = Arc<HashMap<ProviderName, Arc<dyn Messaging>>>;

/// The clients of all providers that are configured.
pub fn messaging(settings: &SmsSettings) -> Providers {
    let mut all: HashMap<ProviderName, Arc<dyn Messaging>> = HashMap::new();
    if settings.log {
        all.insert(ProviderName::Log, Arc::new(LogMessages));
    }
    if let Some(telnyx) = settings.telnyx.clone() {
        let client = TelnyxMessages::new(telnyx.api, telnyx.profile, Clock::System);
        all.insert(ProviderName::Telnyx, Arc::new(client));
    }
    if let Some(twilio) = settings.twilio.clone() {
        all.insert(ProviderName::Twilio, Arc::new(TwilioMessages::new(twilio)));
    }
    Arc::new(all)
}
