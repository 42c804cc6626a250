//! What of its role an API key may use: `<area>:<what>`, as `catalog:read`. The services ask for theirs.

/// Most scopes of one key.
const MOST: usize = 32;

/// Why scopes are refused. The text is for the person.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// One that is none.
    #[error("{0:?} no es un alcance: se espera algo como catalog:read")]
    Shape(String),
    /// More than [`MOST`].
    #[error("Una clave lleva {MOST} alcances como máximo")]
    Many,
}

/// The scopes, sorted, each once.
///
/// # Errors
/// As [`Malformed`] says.
pub fn check(mut scopes: Vec<String>) -> Result<Vec<String>, Malformed> {
    let word = |text: &str| {
        (1..=32).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    scopes.sort_unstable();
    scopes.dedup();
    if scopes.len() > MOST {
        return Err(Malformed::Many);
    }
    match scopes
        .iter()
        .find(|scope| !scope.split_once(':').is_some_and(|(area, what)| word(area) && word(what)))
    {
        Some(wrong) => Err(Malformed::Shape(wrong.chars().take(80).collect())),
        None => Ok(scopes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorted_once_each_and_well_formed() {
        let given = ["sms:send", "catalog:read", "sms:send"].map(str::to_owned).to_vec();
        assert_eq!(check(given), Ok(vec!["catalog:read".to_owned(), "sms:send".to_owned()]));
        for wrong in ["catalog", "catalog:", ":read", "Catalog:read", "catalog:read:all", "*", ""] {
            assert_eq!(check(vec![wrong.to_owned()]), Err(Malformed::Shape(wrong.to_owned())));
        }
        assert_eq!(check((0..33).map(|n| format!("a:{n}")).collect()), Err(Malformed::Many));
    }
}
