use super::Encoding::{Gsm7, Ucs2};
use super::*;

/// A text as pieces to repeat, its encoding, units and parts.
type Case = (&'static [(&'static str, usize)], Encoding, u32, u16);

/// The same in every alphabet: ASCII, the extension table, UTF-16, and every seam.
#[rustfmt::skip]
const COMMON: [Case; 62] = [
    (&[], Gsm7, 0, 0),
    (&[("a", 1)], Gsm7, 1, 1),
    (&[("a", 70)], Gsm7, 70, 1),
    (&[("a", 71)], Gsm7, 71, 1),
    (&[("a", 159)], Gsm7, 159, 1),
    (&[("a", 160)], Gsm7, 160, 1),
    (&[("a", 161)], Gsm7, 161, 2),
    (&[("a", 305)], Gsm7, 305, 2),
    (&[("a", 306)], Gsm7, 306, 2),
    (&[("a", 307)], Gsm7, 307, 3),
    (&[("a", 459)], Gsm7, 459, 3),
    (&[("a", 460)], Gsm7, 460, 4),
    (&[("a", 612)], Gsm7, 612, 4),
    (&[("a", 613)], Gsm7, 613, 5),
    (&[("a", 765)], Gsm7, 765, 5),
    (&[("a", 766)], Gsm7, 766, 6),
    (&[("a", 1_377)], Gsm7, 1_377, 9),
    (&[("a", 1_378)], Gsm7, 1_378, 10),
    (&[("a", 1_530)], Gsm7, 1_530, 10),
    (&[("a", 1_531)], Gsm7, 1_531, 11),
    (&[("Pague su adeudo: 1,250.00 en OXXO.\r\n", 1)], Gsm7, 36, 1),
    (&[("@$_", 1)], Gsm7, 3, 1),
    (&[("\n", 160)], Gsm7, 160, 1),
    // An escape and its character are two septets, and stay together.
    (&[("[", 1)], Gsm7, 2, 1),
    (&[("^{}\\[~]|", 1)], Gsm7, 16, 1),
    (&[("[", 80)], Gsm7, 160, 1),
    (&[("a", 1), ("[", 80)], Gsm7, 161, 2),
    (&[("[", 81)], Gsm7, 162, 2),
    (&[("a", 158), ("[", 1)], Gsm7, 160, 1),
    (&[("a", 159), ("[", 1)], Gsm7, 161, 2),
    (&[("a", 151), ("[", 1), ("a", 153)], Gsm7, 306, 2),
    (&[("a", 152), ("[", 1), ("a", 151)], Gsm7, 305, 2),
    (&[("a", 152), ("[", 1), ("a", 152)], Gsm7, 306, 3),
    (&[("[", 152)], Gsm7, 304, 2),
    (&[("[", 153)], Gsm7, 306, 3),
    (&[("a", 153), ("[", 76), ("a", 1)], Gsm7, 306, 2),
    (&[("a", 305), ("[", 1)], Gsm7, 307, 3),
    (&[("a", 304), ("[", 1)], Gsm7, 306, 2),
    (&[("a", 303), ("[", 1), ("a", 1)], Gsm7, 306, 2),
    (&[("[", 760)], Gsm7, 1_520, 10),
    (&[("[", 761)], Gsm7, 1_522, 11),
    // One character more than seven bits can say.
    (&[("á", 1)], Ucs2, 1, 1),
    (&[("a", 69), ("á", 1)], Ucs2, 70, 1),
    (&[("a", 70), ("á", 1)], Ucs2, 71, 2),
    (&[("a", 159), ("á", 1)], Ucs2, 160, 3),
    (&[("á", 134)], Ucs2, 134, 2),
    (&[("á", 135)], Ucs2, 135, 3),
    (&[("á", 201)], Ucs2, 201, 3),
    (&[("á", 202)], Ucs2, 202, 4),
    (&[("á", 670)], Ucs2, 670, 10),
    (&[("á", 671)], Ucs2, 671, 11),
    // Two units, and never in two parts.
    (&[("😀", 1)], Ucs2, 2, 1),
    (&[("😀", 35)], Ucs2, 70, 1),
    (&[("😀", 36)], Ucs2, 72, 2),
    (&[("a", 68), ("😀", 1)], Ucs2, 70, 1),
    (&[("a", 69), ("😀", 1)], Ucs2, 71, 2),
    (&[("a", 65), ("😀", 1), ("a", 67)], Ucs2, 134, 2),
    (&[("a", 66), ("😀", 1), ("a", 65)], Ucs2, 133, 2),
    (&[("a", 66), ("😀", 1), ("a", 66)], Ucs2, 134, 3),
    (&[("😀", 66)], Ucs2, 132, 2),
    (&[("😀", 67)], Ucs2, 134, 3),
    // Extension characters are one unit there.
    (&[("[", 69), ("á", 1)], Ucs2, 70, 1),
];

/// Outside of every alphabet.
#[rustfmt::skip]
const NOWHERE: [&str; 14] =
    ["á", "í", "ó", "ú", "Á", "Í", "Ó", "Ú", "ç", "`", "\t", "“", "…", "\u{a0}"];

fn text(pieces: &[(&str, usize)]) -> String {
    pieces.iter().map(|(piece, times)| piece.repeat(*times)).collect()
}

fn of(alphabet: Alphabet, text: &str) -> (Encoding, u32, u16) {
    let Count { encoding, units, parts } = alphabet.count(text);
    (encoding, units, parts)
}

#[test]
fn parts_are_filled_one_after_the_other_in_every_alphabet() {
    for alphabet in [Alphabet::Gsm, Alphabet::Telnyx, Alphabet::Ascii] {
        for (pieces, encoding, units, parts) in COMMON {
            assert_eq!(of(alphabet, &text(pieces)), (encoding, units, parts), "{alphabet:?} {pieces:?}");
        }
        for character in NOWHERE {
            assert_eq!(of(alphabet, character), (Ucs2, 1, 1), "{alphabet:?} {character:?}");
        }
    }
}

#[test]
fn gsm_has_its_table_and_nothing_else() {
    // 128 positions, of which one is the escape.
    assert_eq!(GSM.chars().count(), 127);
    for character in GSM.chars() {
        assert_eq!(of(Alphabet::Gsm, &character.to_string()), (Gsm7, 1, 1), "{character:?}");
    }
    for (text, units, parts) in [
        ("€", 2, 1),
        ("\u{c}", 2, 1),
        (&"€".repeat(80), 160, 1),
        (&"€".repeat(81), 162, 2),
        (&"€".repeat(153), 306, 3),
        ("Ωñé¿", 4, 1),
        (&"ñ".repeat(160), 160, 1),
        (&"ñ".repeat(161), 161, 2),
    ] {
        assert_eq!(of(Alphabet::Gsm, text), (Gsm7, units, parts), "{text}");
    }
}

#[test]
fn telnyx_lacks_the_euro_the_cedilla_and_greek() {
    for character in "éèùìòñÑüÜäÄöÖàåÅæÆøØßÉ¡¿£¥".chars() {
        assert_eq!(of(Alphabet::Telnyx, &character.to_string()), (Gsm7, 1, 1), "{character}");
    }
    for character in "€Ç§¤ΔΦΓΛΩΠΨΣΘΞ\u{c}".chars() {
        assert_eq!(of(Alphabet::Telnyx, &character.to_string()), (Ucs2, 1, 1), "{character}");
    }
    assert_eq!(of(Alphabet::Telnyx, &format!("{}€", "a".repeat(70))), (Ucs2, 71, 2));
    assert_eq!(of(Alphabet::Telnyx, &"ñ".repeat(160)), (Gsm7, 160, 1));
}

#[test]
fn short_codes_of_telnyx_begin_with_ascii() {
    for character in "éñÑ¿¡üÜ£¥àß€".chars() {
        assert_eq!(of(Alphabet::Ascii, &character.to_string()), (Ucs2, 1, 1), "{character}");
    }
    assert_eq!(of(Alphabet::Ascii, &format!("{}ñ", "a".repeat(70))), (Ucs2, 71, 2));
}

#[test]
fn the_alphabet_follows_from_provider_and_sender() {
    for kind in SenderKind::ALL {
        assert_eq!(Alphabet::of(ProviderName::Twilio, kind), Alphabet::Gsm);
        let telnyx = if kind == SenderKind::ShortCode { Alphabet::Ascii } else { Alphabet::Telnyx };
        assert_eq!(Alphabet::of(ProviderName::Telnyx, kind), telnyx);
    }
}

#[test]
fn transliteration_keeps_what_the_alphabet_has() {
    for (alphabet, before, after) in [
        (Alphabet::Gsm, "¡Mañana vence! ¿Pagó José María?", "¡Mañana vence! ¿Pago José Maria?"),
        (Alphabet::Telnyx, "Señor Núñez: 5 € — “hoy”…", "Señor Nuñez: 5 EUR - \"hoy\"..."),
        (Alphabet::Gsm, "5 €", "5 €"),
        (Alphabet::Ascii, "¿Señor José? ¡Sí!", "?Senor Jose? !Si!"),
        (Alphabet::Ascii, "£5 ßÆ", "GBP5 ssAE"),
        // Two code points are the letter that they spell.
        (Alphabet::Gsm, "e\u{301} a\u{301}", "é a"),
        (Alphabet::Gsm, "Ánimo\u{a0}Íñigo\u{200b}", "Animo Iñigo"),
        (Alphabet::Telnyx, "ça va, Ça va", "ca va, Ca va"),
        (Alphabet::Gsm, "Hola 😀 á", "Hola 😀 a"),
        (Alphabet::Gsm, "1º y 2ª", "1o y 2a"),
    ] {
        assert_eq!(alphabet.transliterate(before), after, "{alphabet:?}");
    }
}

#[test]
fn transliteration_saves_parts() {
    let text = format!("Estimado José María: {}", "su crédito venció. ".repeat(6));
    let alphabet = Alphabet::Telnyx;
    assert_eq!(alphabet.count(&text).parts, 3);
    assert_eq!(alphabet.count(&alphabet.transliterate(&text)).parts, 1);
}

#[test]
fn a_text_is_never_smaller_than_its_units_and_never_wastes_more_than_a_character_a_part() {
    proptest::proptest!(|(text in "[a-z\\[€ñá😀\n]{0,700}")| {
        for alphabet in [Alphabet::Gsm, Alphabet::Telnyx, Alphabet::Ascii] {
            let Count { encoding, units, parts } = alphabet.count(&text);
            let (alone, room) = encoding.room();
            let least = if units == 0 { 0 } else if units <= alone { 1 } else { units.div_ceil(room) };
            let most = if units <= alone { least } else { units.div_ceil(room - 1) };
            proptest::prop_assert!((least..=most).contains(&u32::from(parts)));
            let plain = alphabet.transliterate(&text);
            proptest::prop_assert_eq!(alphabet.transliterate(&plain), plain);
        }
    });
}
