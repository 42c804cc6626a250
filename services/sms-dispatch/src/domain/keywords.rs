//! What an inbound message orders: no more messages, help, messages again. All else is a reply.

use unicode_normalization::UnicodeNormalization;

/// What a keyword orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keyword {
    /// Never write to this phone again.
    Stop,
    /// Say who writes, and how to stop it.
    Help,
    /// Its owner wants messages again.
    Start,
}

/// The carriers' words (CTIA, and what Telnyx and Twilio act on by themselves), and those that people use in Mexico.
const STOP: [&str; 37] = [
    "STOP",
    "STOPALL",
    "STOP ALL",
    "UNSUBSCRIBE",
    "CANCEL",
    "END",
    "QUIT",
    "OPTOUT",
    "OPT OUT",
    "REVOKE",
    "BAJA",
    "DAR DE BAJA",
    "DARME DE BAJA",
    "DEME DE BAJA",
    "DENME DE BAJA",
    "DAME DE BAJA",
    "DARSE DE BAJA",
    "QUIERO DARME DE BAJA",
    "QUIERO LA BAJA",
    "SOLICITO BAJA",
    "ALTO",
    "CANCELA",
    "CANCELAR",
    "CANCELEN",
    "SALIR",
    "PARA",
    "PARAR",
    "PAREN",
    "DETENER",
    "BORRAR",
    "ELIMINAR",
    "DESUSCRIBIR",
    "NO MAS",
    "NO MAS MENSAJES",
    "NO MAS SMS",
    "NO QUIERO MENSAJES",
    "NO QUIERO MAS MENSAJES",
];
const HELP: [&str; 4] = ["AYUDA", "HELP", "INFO", "INFORMACION"];
const START: [&str; 8] =
    ["START", "UNSTOP", "ALTA", "DAR DE ALTA", "DARME DE ALTA", "SUSCRIBIR", "SUBSCRIBE", "REANUDAR"];

/// Words of courtesy, which order nothing.
const COURTESY: [&str; 9] =
    ["POR", "FAVOR", "PORFAVOR", "PORFA", "GRACIAS", "PLEASE", "YA", "HOLA", "MUCHAS"];

/// What a message orders: it is a keyword and nothing else, whatever its case, accents, punctuation, repetitions and
/// courtesies. `Baja, por favor.` is one; `¿la baja de precios sigue?` isn't.
pub fn keyword(text: &str) -> Option<Keyword> {
    let letters = text.nfkd().filter(|letter| !('\u{300}'..='\u{36f}').contains(letter));
    let letters = letters.flat_map(char::to_uppercase);
    let plain: String = letters.map(|letter| if letter.is_alphanumeric() { letter } else { ' ' }).collect();
    let mut words: Vec<&str> = plain.split_whitespace().collect();
    words.dedup();
    found(&words).or_else(|| {
        words.retain(|word| !COURTESY.contains(word));
        words.dedup();
        found(&words)
    })
}

fn found(words: &[&str]) -> Option<Keyword> {
    let phrase = words.join(" ");
    let among = |list: &[&str]| list.contains(&phrase.as_str());
    match phrase.as_str() {
        _ if among(&STOP) => Some(Keyword::Stop),
        _ if among(&HELP) => Some(Keyword::Help),
        _ if among(&START) => Some(Keyword::Start),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keywords_in_every_spelling() {
        for (text, expected) in [
            ("BAJA", Some(Keyword::Stop)),
            ("baja", Some(Keyword::Stop)),
            ("  Baja. ", Some(Keyword::Stop)),
            ("¡BAJA!", Some(Keyword::Stop)),
            ("\"Baja\"", Some(Keyword::Stop)),
            ("Baja, por favor", Some(Keyword::Stop)),
            ("Hola, dar de baja por favor. Gracias", Some(Keyword::Stop)),
            ("ALTO", Some(Keyword::Stop)),
            ("Stop", Some(Keyword::Stop)),
            ("STOP STOP STOP!!!", Some(Keyword::Stop)),
            ("ＳＴＯＰ", Some(Keyword::Stop)),
            ("stop 🛑", Some(Keyword::Stop)),
            ("STOPALL", Some(Keyword::Stop)),
            ("Unsubscribe", Some(Keyword::Stop)),
            ("cancel", Some(Keyword::Stop)),
            ("END", Some(Keyword::Stop)),
            ("quit", Some(Keyword::Stop)),
            ("Cancelar", Some(Keyword::Stop)),
            ("SALIR", Some(Keyword::Stop)),
            ("parar", Some(Keyword::Stop)),
            ("No más", Some(Keyword::Stop)),
            ("no mas", Some(Keyword::Stop)),
            ("¡No ma\u{301}s!", Some(Keyword::Stop)),
            ("No más mensajes", Some(Keyword::Stop)),
            ("Dar de  baja", Some(Keyword::Stop)),
            ("DAR\nDE\nBAJA", Some(Keyword::Stop)),
            ("AYUDA", Some(Keyword::Help)),
            ("¿Ayuda?", Some(Keyword::Help)),
            ("help", Some(Keyword::Help)),
            ("Información", Some(Keyword::Help)),
            ("ALTA", Some(Keyword::Start)),
            ("start", Some(Keyword::Start)),
            ("unstop", Some(Keyword::Start)),
            ("", None),
            ("...", None),
            ("gracias", None),
            ("¿La baja de precios sigue?", None),
            ("¿Qué tan alto es?", None),
            ("no", None),
            ("Ya pagué", None),
            ("quiero pagar", None),
            ("bajar", None),
        ] {
            assert_eq!(keyword(text), expected, "{text}");
        }
    }

    #[test]
    fn no_word_has_two_meanings_and_each_is_found() {
        for (list, meaning) in
            [(&STOP[..], Keyword::Stop), (&HELP[..], Keyword::Help), (&START[..], Keyword::Start)]
        {
            for word in list {
                assert_eq!(keyword(word), Some(meaning), "{word}");
                assert_eq!(keyword(&word.to_lowercase()), Some(meaning), "{word}");
            }
        }
    }
}
