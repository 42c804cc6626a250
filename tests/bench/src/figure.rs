use serde_json::{Value, json};

/// One figure, printed as one JSON line.
pub struct Figure {
    /// In the order in which they are printed.
    members: Vec<(String, Value)>,
    value: f64,
}

impl Figure {
    /// A figure of a suite, in a unit.
    pub fn new(bench: &str, metric: &str, value: f64, unit: &str) -> Self {
        Self { members: Vec::new(), value }
            .with("bench", json!(bench))
            .with("metric", json!(metric))
            .with("value", json!(rounded(value)))
            .with("unit", json!(unit))
    }

    /// A floor in the same unit, where more is better: the ratio says how many times as fast the floor is.
    #[must_use]
    pub fn floor_of_rate(self, floor: f64) -> Self {
        let ratio = floor / self.value;
        self.with_floor(floor, ratio)
    }

    /// A floor in the same unit, where less is better: the ratio says how many times as long it takes.
    #[must_use]
    pub fn floor_of_time(self, floor: f64) -> Self {
        let ratio = self.value / floor;
        self.with_floor(floor, ratio)
    }

    fn with_floor(self, floor: f64, ratio: f64) -> Self {
        self.with("floor", json!(rounded(floor))).with("ratio", json!(rounded(ratio)))
    }

    /// How many things were measured.
    #[must_use]
    pub fn n(self, n: usize) -> Self {
        self.with("n", json!(n))
    }

    /// Another number, rounded like the figure.
    #[must_use]
    pub fn number(self, name: &str, value: f64) -> Self {
        self.with(name, json!(rounded(value)))
    }

    /// Something else that a reader should know.
    #[must_use]
    pub fn with(mut self, name: &str, value: Value) -> Self {
        self.members.push((name.to_owned(), value));
        self
    }

    /// Prints it.
    pub fn print(self) {
        let members: Vec<_> =
            self.members.iter().map(|(name, value)| format!("{}:{value}", json!(name))).collect();
        println!("{{{}}}", members.join(","));
    }
}

/// Three significant digits are more than such figures are good for.
fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let digits = (2.0 - value.abs().log10().floor()).clamp(0.0, 9.0);
    let scale = 10_f64.powf(digits);
    (value * scale).round() / scale
}

/// The middle one.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The smallest value that `percent` of all are not above (nearest rank).
pub fn percentile(mut values: Vec<f64>, percent: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let rank = (percent / 100.0 * values.len() as f64).ceil() as usize;
    values.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_and_digits() {
        let hundred: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(percentile(hundred.clone(), 99.0).to_bits(), 99_f64.to_bits());
        assert_eq!(percentile(hundred.clone(), 95.0).to_bits(), 95_f64.to_bits());
        assert_eq!(median(vec![3.0, 1.0, 2.0]).to_bits(), 2_f64.to_bits());
        for (value, shown) in [(12_345.6, 12_346.0), (1.234_5, 1.23), (0.012_345, 0.012_3), (99.96, 100.0)] {
            assert!((rounded(value) - shown).abs() < 1e-9, "{value} is shown as {}", rounded(value));
        }
    }
}
