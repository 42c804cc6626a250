//! What a new password must be. After NIST SP 800-63B §5.1.1.2: length and a list of known bad ones, no
//! rules about character classes.

/// Fewest characters.
pub const MIN_LENGTH: usize = 10;
/// Most characters. Bounds what one login can make the hash function read.
pub const MAX_LENGTH: usize = 128;

/// Long enough for [`MIN_LENGTH`] and still among the first guesses, lower case.
const COMMON: &[&str] = &[
    "1234567890",
    "0123456789",
    "0987654321",
    "9876543210",
    "12345678910",
    "123456789a",
    "a123456789",
    "1q2w3e4r5t",
    "1q2w3e4r5t6y",
    "1qaz2wsx3edc",
    "qwertyuiop",
    "qwerty1234",
    "qwerty12345",
    "asdfghjkl1",
    "abcdefghij",
    "abcd123456",
    "password12",
    "password123",
    "password1234",
    "passw0rd123",
    "p@ssw0rd123",
    "contrasena",
    "contraseña",
    "contrasena1",
    "contraseña1",
    "contrasena123",
    "contraseña123",
    "administrador",
    "administrator",
    "admin12345",
    "admin123456",
    "adminadmin",
    "changeme123",
    "bienvenido",
    "bienvenido1",
    "bienvenidos",
    "welcome123",
    "colombia123",
    "medisupply",
    "medisupply1",
    "medisupply123",
    "iloveyou123",
    "teamomucho",
    "secreto123",
];

/// Why a password is refused. The text is for the person who chose it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Weakness {
    /// Fewer than [`MIN_LENGTH`] characters.
    #[error("La contraseña debe tener al menos {MIN_LENGTH} caracteres")]
    Short,
    /// More than [`MAX_LENGTH`] characters.
    #[error("La contraseña no puede pasar de {MAX_LENGTH} caracteres")]
    Long,
    /// Holds the user's own name or the local part of their address.
    #[error("La contraseña no puede contener el nombre de usuario ni el correo")]
    Personal,
    /// Known, or one or two characters repeated.
    #[error("La contraseña es demasiado común")]
    Common,
}

/// Checks a password that someone wants to set.
pub fn check(password: &str, username: &str, email: Option<&str>) -> Result<(), Weakness> {
    let length = password.chars().count();
    if length < MIN_LENGTH {
        return Err(Weakness::Short);
    }
    if length > MAX_LENGTH {
        return Err(Weakness::Long);
    }
    let lower = password.to_lowercase();
    let mut distinct: Vec<char> = lower.chars().collect();
    distinct.sort_unstable();
    distinct.dedup();
    if distinct.len() < 3 || COMMON.contains(&lower.as_str()) {
        return Err(Weakness::Common);
    }
    let local = email.and_then(|email| email.split('@').next());
    // Names of one to three letters occur inside good passwords by chance.
    if [Some(username), local].into_iter().flatten().any(|own| own.len() > 3 && lower.contains(own)) {
        return Err(Weakness::Personal);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_counts_characters_not_bytes() {
        assert_eq!(check("ñandú-gri", "ana", None), Err(Weakness::Short));
        assert_eq!(check("ñandú-gris", "ana", None), Ok(()));
        assert_eq!(check(&"ab c".repeat(33), "ana", None), Err(Weakness::Long));
        assert_eq!(check(&"ab c".repeat(32), "ana", None), Ok(()));
    }

    #[test]
    fn guesses_are_refused() {
        for guess in ["Password123", "CONTRASEÑA123", "aaaaaaaaaaaa", "abababababab"] {
            assert_eq!(check(guess, "ana", None), Err(Weakness::Common), "{guess}");
        }
    }

    #[test]
    fn own_name_is_refused() {
        assert_eq!(check("xx-Marcela-2031", "marcela", None), Err(Weakness::Personal));
        assert_eq!(check("xx-Marcela-2031", "mr", Some("marcela@lote.co")), Err(Weakness::Personal));
        assert_eq!(check("banana-verde-7", "ana", None), Ok(()));
    }
}
