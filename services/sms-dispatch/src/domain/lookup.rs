//! What a provider's look-up says of a number, and what follows from it for a contact.

/// An answer about one number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lookup {
    /// Whether a phone of this number can be; none where the provider doesn't say.
    pub valid: Option<bool>,
    /// Whose it is now.
    pub operator: Option<String>,
    /// What it is, in the provider's words: `mobile`, `fixed line`, `voip`.
    pub line_type: Option<String>,
}

impl Lookup {
    /// Whether it is a mobile phone. Where the provider can't tell the two apart, or it is neither, nobody knows: nothing is
    /// guessed.
    pub fn is_mobile(&self) -> Option<bool> {
        match self.line_type.as_deref()?.trim().to_ascii_lowercase().as_str() {
            "mobile" => Some(true),
            "fixed line" | "landline" | "toll free" | "premium rate" | "shared cost" | "uan"
            | "voicemail" => Some(false),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_certainly_mobile_or_certainly_not_is_told() {
        let of =
            |line_type: &str| Lookup { line_type: Some(line_type.into()), ..Lookup::default() }.is_mobile();
        for (line_type, mobile) in [
            ("mobile", Some(true)),
            ("Mobile ", Some(true)),
            ("fixed line", Some(false)),
            ("toll free", Some(false)),
            ("fixed line or mobile", None),
            ("voip", None),
            ("unknown", None),
            ("", None),
        ] {
            assert_eq!(of(line_type), mobile, "{line_type:?}");
        }
        assert_eq!(Lookup::default().is_mobile(), None);
    }
}
