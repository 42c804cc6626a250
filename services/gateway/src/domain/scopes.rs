//! What of its role an API key may use: `<area>:<what>`, as `catalog:read`. The services ask for theirs.

/// Every scope that a service asks for.
pub const KNOWN: &[&str] = &[
    "admin:read",
    "admin:write",
    "campaigns:approve",
    "campaigns:read",
    "campaigns:write",
    "catalog:read",
    "catalog:write",
    "contacts:read",
    "contacts:write",
    "etl:read",
    "etl:write",
    "messages:send",
    "reports:read",
    "reports:write",
    "stream:read",
];

/// Scopes that no service asks for. The text is for the person.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("No existe el alcance {}; los que hay son {}", .0.join(", "), KNOWN.join(", "))]
pub struct Unknown(Vec<String>);

/// The scopes, sorted, each once.
///
/// # Errors
/// Those that don't exist, by name: a key with a misspelled one would be refused where it is used, long after.
pub fn check(mut scopes: Vec<String>) -> Result<Vec<String>, Unknown> {
    scopes.sort_unstable();
    scopes.dedup();
    let shown = |scope: &String| scope.chars().filter(|c| !c.is_control()).take(40).collect();
    let unknown: Vec<String> =
        scopes.iter().filter(|scope| !KNOWN.contains(&scope.as_str())).take(5).map(shown).collect();
    if unknown.is_empty() { Ok(scopes) } else { Err(Unknown(unknown)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorted_once_each_and_known() {
        let given = ["catalog:write", "catalog:read", "catalog:write"].map(str::to_owned).to_vec();
        assert_eq!(check(given), Ok(vec!["catalog:read".to_owned(), "catalog:write".to_owned()]));
        for wrong in ["catalog", "catalog:", ":read", "Catalog:read", "catalog:read:all", "sms:send", "*", ""]
        {
            assert_eq!(check(vec![wrong.to_owned()]), Err(Unknown(vec![wrong.to_owned()])));
        }
        let message = check(vec!["catalog:reed".to_owned()]).expect_err("misspelled").to_string();
        assert!(message.contains("catalog:reed") && message.contains("catalog:read,"), "{message}");
    }
}
