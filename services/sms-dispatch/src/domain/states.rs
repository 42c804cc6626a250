//! The 32 states of Mexico: how files name them, and what time it is there.

use tabular::without_accent;

/// A state of Mexico.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct State(&'static Row);

#[derive(Debug, PartialEq, Eq, Hash)]
struct Row {
    code: &'static str,
    name: &'static str,
    zone: &'static str,
    /// Other codes (ISO 3166-2, libphonenumber's) and names, in upper case, without accents and full stops.
    aliases: &'static [&'static str],
}

const MEXICO_CITY: &str = "America/Mexico_City";
const MAZATLAN: &str = "America/Mazatlan";

const fn row(
    code: &'static str,
    name: &'static str,
    zone: &'static str,
    aliases: &'static [&'static str],
) -> Row {
    Row { code, name, zone, aliases }
}

/// Codes as the regulator's files have them. The zone is that of most of a state: border municipalities differ.
static STATES: [Row; 32] = [
    row("AGS", "Aguascalientes", MEXICO_CITY, &["AGU"]),
    row("BC", "Baja California", "America/Tijuana", &["BCN", "BAJA CALIFORNIA NORTE"]),
    row("BCS", "Baja California Sur", MAZATLAN, &[]),
    row("CAMP", "Campeche", MEXICO_CITY, &["CAM"]),
    row(
        "CDMX",
        "Ciudad de México",
        MEXICO_CITY,
        &["CMX", "DF", "FD", "DISTRITO FEDERAL", "MEXICO DF", "MEXICO CITY"],
    ),
    row("CHIH", "Chihuahua", "America/Chihuahua", &["CHH"]),
    row("CHIS", "Chiapas", MEXICO_CITY, &["CHP"]),
    row("COAH", "Coahuila", MEXICO_CITY, &["COA", "COAHUILA DE ZARAGOZA"]),
    row("COL", "Colima", MEXICO_CITY, &[]),
    row("DGO", "Durango", MEXICO_CITY, &["DUR"]),
    row("GRO", "Guerrero", MEXICO_CITY, &[]),
    row("GTO", "Guanajuato", MEXICO_CITY, &["GUA"]),
    row("HGO", "Hidalgo", MEXICO_CITY, &["HID"]),
    row("JAL", "Jalisco", MEXICO_CITY, &[]),
    row(
        "MEX",
        "Estado de México",
        MEXICO_CITY,
        &["EDOMEX", "EDO MEX", "EDO DE MEX", "EDO DE MEXICO", "MEXICO"],
    ),
    row("MICH", "Michoacán", MEXICO_CITY, &["MIC", "MICHOACAN DE OCAMPO"]),
    row("MOR", "Morelos", MEXICO_CITY, &[]),
    row("NAY", "Nayarit", MAZATLAN, &[]),
    row("NL", "Nuevo León", MEXICO_CITY, &["NLE"]),
    row("OAX", "Oaxaca", MEXICO_CITY, &[]),
    row("PUE", "Puebla", MEXICO_CITY, &[]),
    row("QRO", "Querétaro", MEXICO_CITY, &["QUE", "QUERETARO DE ARTEAGA"]),
    row("QROO", "Quintana Roo", "America/Cancun", &["ROO", "QR", "Q ROO"]),
    row("SIN", "Sinaloa", MAZATLAN, &[]),
    row("SLP", "San Luis Potosí", MEXICO_CITY, &[]),
    row("SON", "Sonora", "America/Hermosillo", &[]),
    row("TAB", "Tabasco", MEXICO_CITY, &[]),
    row("TAMPS", "Tamaulipas", MEXICO_CITY, &["TAM", "TAMS"]),
    row("TLAX", "Tlaxcala", MEXICO_CITY, &["TLA"]),
    row("VER", "Veracruz", MEXICO_CITY, &["VERACRUZ DE IGNACIO DE LA LLAVE", "VERACRUZ-LLAVE"]),
    row("YUC", "Yucatán", MEXICO_CITY, &[]),
    row("ZAC", "Zacatecas", MEXICO_CITY, &[]),
];

impl State {
    /// All states, by code.
    pub fn all() -> impl Iterator<Item = Self> {
        STATES.iter().map(State)
    }

    /// The state that a code or a name means; case, accents, full stops and repeated spaces aside. `MEXICO` is
    /// the state of that name, not the country.
    pub fn parse(text: &str) -> Option<Self> {
        let exact = STATES.iter().find(|row| row.code == text);
        exact
            .or_else(|| {
                let plain = plain(text);
                STATES.iter().find(|row| {
                    row.code == plain
                        || row.aliases.contains(&plain.as_str())
                        || self::plain(row.name) == plain
                })
            })
            .map(State)
    }

    /// As the regulator's files abbreviate it: `BCS`.
    pub fn code(self) -> &'static str {
        self.0.code
    }

    /// As people write it: `Baja California Sur`.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// The time zone of most of the state, as IANA names it: `America/Mazatlan`.
    pub fn zone(self) -> &'static str {
        self.0.zone
    }
}

/// In upper case, without the accents of Spanish, full stops and repeated spaces.
fn plain(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let letters = words.join(" ");
    letters.chars().filter(|letter| *letter != '.').flat_map(char::to_uppercase).map(without_accent).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_state_is_found_by_every_name_and_alias() {
        let mut seen = HashSet::new();
        for row in &STATES {
            for spelling in [row.code, row.name].iter().chain(row.aliases) {
                assert_eq!(State::parse(spelling).map(State::code), Some(row.code), "{spelling}");
                assert_eq!(
                    State::parse(&spelling.to_lowercase()).map(State::code),
                    Some(row.code),
                    "{spelling}"
                );
                assert!(seen.insert(plain(spelling)), "{spelling} stands for two states");
            }
        }
        assert!(STATES.is_sorted_by_key(|row| row.code));
    }

    #[test]
    fn as_people_write_them() {
        for (text, code) in [
            ("BCS", "BCS"),
            (" bcn ", "BC"),
            ("D.F.", "CDMX"),
            ("ciudad  de mexico", "CDMX"),
            ("Edo. de Méx.", "MEX"),
            ("México", "MEX"),
            ("MICHOACÁN DE OCAMPO", "MICH"),
            ("nuevo leon", "NL"),
            ("Q. Roo", "QROO"),
            ("YUCATAN", "YUC"),
        ] {
            assert_eq!(State::parse(text).map(State::code), Some(code), "{text:?}");
        }
        for text in ["", " ", "TX", "BAJA", "Oaxaca/Puebla", "La Paz"] {
            assert_eq!(State::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn time_zones() {
        let zone = |code| State::parse(code).map(State::zone);
        assert_eq!(zone("QROO"), Some("America/Cancun"));
        assert_eq!(zone("BC"), Some("America/Tijuana"));
        assert_eq!(zone("SON"), Some("America/Hermosillo"));
        assert_eq!(zone("CHIH"), Some("America/Chihuahua"));
        let mazatlan = State::all().filter(|state| state.zone() == "America/Mazatlan").map(State::code);
        assert_eq!(mazatlan.collect::<Vec<_>>(), ["BCS", "NAY", "SIN"]);
        assert_eq!(State::all().filter(|state| state.zone() == "America/Mexico_City").count(), 25);
    }
}
