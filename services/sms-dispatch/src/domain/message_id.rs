//! The id of a message says where its row is: a webhook that brings it back needs no index.

use chrono::{Days, NaiveDate};
use uuid::Uuid;

/// Where a message's row is in the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId {
    /// Its campaign's day: the partition.
    pub date: NaiveDate,
    /// Its campaign's number.
    pub campaign: i32,
    /// Its place in the campaign, from 1.
    pub position: i32,
}

/// Days are counted from here.
const EPOCH: NaiveDate = NaiveDate::from_ymd_opt(2020, 1, 1).expect("a day of the calendar");

impl MessageId {
    /// As a UUID of version 8 (RFC 9562, 5.8): 16 bits of day, 32 of campaign; 12 of zeros; 30 of zeros and 32 of position.
    /// Ids of one campaign lie beside each other in an index.
    pub fn uuid(self) -> Uuid {
        let day = self.date.signed_duration_since(EPOCH).num_days().clamp(0, i64::from(u16::MAX)) as u128;
        let bits = (day << 112)
            | (u128::from(self.campaign.cast_unsigned()) << 80)
            | u128::from(self.position.cast_unsigned());
        uuid::Builder::from_custom_bytes(bits.to_be_bytes()).into_uuid()
    }

    /// What a UUID of [`MessageId::uuid`] says; none where it is another.
    pub fn parse(id: Uuid) -> Option<Self> {
        let bits = id.as_u128();
        let id_of = Self {
            date: EPOCH.checked_add_days(Days::new((bits >> 112) as u64))?,
            campaign: ((bits >> 80) as u32).cast_signed(),
            position: (bits as u32).cast_signed(),
        };
        (id_of.campaign > 0 && id_of.position > 0 && id_of.uuid() == id).then_some(id_of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_of_version_8_and_says_where_its_row_is() {
        let id = MessageId {
            date: NaiveDate::from_ymd_opt(2026, 11, 26).expect("a day"),
            campaign: 7,
            position: 36_000_000,
        };
        let uuid = id.uuid();
        assert_eq!((uuid.get_version_num(), uuid.get_variant()), (8, uuid::Variant::RFC4122));
        assert_eq!(MessageId::parse(uuid), Some(id));
        let next = MessageId { position: id.position + 1, ..id };
        assert!(next.uuid() > uuid, "in the order of their positions");
    }

    #[test]
    fn other_uuids_are_no_ids_of_messages() {
        for other in [Uuid::nil(), Uuid::max(), Uuid::now_v7(), Uuid::new_v4()] {
            assert_eq!(MessageId::parse(other), None, "{other}");
        }
    }
}
