//! What user names and addresses look like.

/// A user name: lower case, 3 to 64 of `a-z 0-9 . _ -`. Without `@`, so that it can't be someone's address.
pub fn username(text: &str) -> Option<String> {
    let name = text.trim().to_lowercase();
    let fits = (3..=64).contains(&name.len())
        && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-'));
    fits.then_some(name)
}

/// An address, lower case. Only the shape is checked: whether it exists, only a message to it could tell.
pub fn email(text: &str) -> Option<String> {
    let address = text.trim().to_lowercase();
    let (local, domain) = address.split_once('@')?;
    let fits = address.len() <= 254
        && !local.is_empty()
        && domain.contains('.')
        && !domain.starts_with('.')
        && !domain.ends_with('.')
        && !domain.contains('@')
        && !address.chars().any(|c| c.is_whitespace() || c.is_control());
    fits.then_some(address)
}

/// A person's name: 1 to 128 characters.
pub fn display_name(text: &str) -> Option<String> {
    let name = text.trim();
    let fits = (1..=128).contains(&name.chars().count()) && !name.chars().any(char::is_control);
    fits.then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_normalised_or_refused() {
        assert_eq!(username(" Ana.Ruiz "), Some("ana.ruiz".into()));
        for bad in ["ab", "ana@lote.co", "ana ruiz", "añá", ""] {
            assert_eq!(username(bad), None, "{bad}");
        }
        assert_eq!(display_name("  Ana Ruiz "), Some("Ana Ruiz".into()));
        assert_eq!(display_name("Ana\nRuiz"), None);
    }

    #[test]
    fn addresses_have_the_shape_of_one() {
        assert_eq!(email("Ana@Lote.CO"), Some("ana@lote.co".into()));
        for bad in ["ana", "@lote.co", "ana@lote", "ana@@lote.co", "a na@lote.co", "ana@.co"] {
            assert_eq!(email(bad), None, "{bad}");
        }
    }
}
