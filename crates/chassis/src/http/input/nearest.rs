//! What somebody meant who wrote a name that is not known.

/// The known name that is nearest to `name`, if one is near enough to be meant: case, `-` and `_` aside, a third of its
/// letters may differ.
pub fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let plain = |text: &str| -> String {
        text.chars().filter(|letter| !matches!(letter, '_' | '-')).flat_map(char::to_lowercase).collect()
    };
    // Longer ones are no slips; and the distance takes time.
    if name.len() > 64 {
        return None;
    }
    let name = plain(name);
    let most = (name.chars().count() / 3).max(1);
    known
        .iter()
        .map(|known| (strsim::damerau_levenshtein(&name, &plain(known)), *known))
        .filter(|(distance, _)| *distance <= most)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn slips_are_understood_and_strangers_are_not() {
        let known = ["dry_run", "proveedor_id", "reemplazar_duplicados", "size", "page"];
        for (name, meant) in [
            ("dryrun", Some("dry_run")),
            ("dryRun", Some("dry_run")),
            ("DRY-RUN", Some("dry_run")),
            ("proveedorId", Some("proveedor_id")),
            ("provedor_id", Some("proveedor_id")),
            ("reemplazar_duplicado", Some("reemplazar_duplicados")),
            ("sise", Some("size")),
            ("categoria", None),
            ("", None),
            ("x", None),
        ] {
            assert_eq!(nearest(name, &known), meant, "{name}");
        }
        assert_eq!(nearest(&"x".repeat(1000), &known), None);
    }
}
