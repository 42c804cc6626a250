//! Where the numbers of a LADA are, for contacts whose file doesn't say. Nothing is guessed: where the source
//! names two states or two cities, there is none here. The data and its source are in `ladas.csv`.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::phone::Lada;
use super::states::State;

/// Where the numbers of a LADA are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LadaInfo {
    /// The one state of the LADA.
    pub state: Option<State>,
    /// The one city of the LADA.
    pub city: Option<&'static str>,
}

static DATA: &str = include_str!("ladas.csv");

static LADAS: LazyLock<HashMap<Lada, LadaInfo>> = LazyLock::new(|| lines().filter_map(parse).collect());

/// Where the numbers of `lada` are, where that is beyond doubt.
pub fn of(lada: Lada) -> Option<&'static LadaInfo> {
    LADAS.get(&lada)
}

/// All that are known.
pub fn all() -> impl Iterator<Item = (Lada, &'static LadaInfo)> {
    LADAS.iter().map(|(lada, info)| (*lada, info))
}

fn lines() -> impl Iterator<Item = &'static str> {
    DATA.lines().filter(|line| !line.starts_with('#'))
}

/// `612,BCS,` or `229,VER,Veracruz`; a test reads every line.
fn parse(line: &'static str) -> Option<(Lada, LadaInfo)> {
    let mut fields = line.split(',');
    let lada = Lada::parse(fields.next()?)?;
    let state = State::parse(fields.next()?);
    let city = fields.next().filter(|city| !city.is_empty());
    Some((lada, LadaInfo { state, city }))
}

#[cfg(test)]
mod tests {
    use super::super::normalise;
    use super::*;

    fn info(lada: &str) -> Option<(Option<&'static str>, Option<&'static str>)> {
        let info = of(Lada::parse(lada).expect("a LADA"))?;
        Some((info.state.map(State::code), info.city))
    }

    #[test]
    fn every_line_is_a_lada_of_a_state() {
        let count = lines().count();
        assert_eq!(LADAS.len(), count);
        assert!(count > 380);
        assert!(LADAS.values().all(|info| info.state.is_some()));
        for lada in LADAS.keys() {
            let number = format!("{:2<10}", format!("{lada}987"));
            let phone = normalise(number.as_bytes()).map(|normalised| normalised.phone.lada());
            assert_eq!(phone, Ok(*lada), "no number begins with {lada}");
        }
    }

    #[test]
    fn one_state_and_one_city_or_nothing() {
        assert_eq!(info("229"), Some((Some("VER"), Some("Veracruz"))));
        assert_eq!(info("55"), Some((Some("CDMX"), Some("Ciudad de México"))));
        // Two cities: La Paz and Todos Santos.
        assert_eq!(info("612"), Some((Some("BCS"), None)));
        // The name of the state alone.
        assert_eq!(info("222"), Some((Some("PUE"), None)));
        // A shorter prefix: 37 is Jalisco.
        assert_eq!(info("371"), Some((Some("JAL"), None)));
        // Oaxaca and Puebla; Nuevo León and Tamaulipas.
        assert_eq!(info("236"), None);
        assert_eq!(info("867"), None);
        // No geocoding.
        assert_eq!(info("56"), None);
        assert_eq!(info("800"), None);
        // Corrected.
        assert_eq!(info("987"), Some((Some("QROO"), Some("Cozumel"))));
    }
}
