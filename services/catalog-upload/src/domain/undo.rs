//! What becomes of each change of an import that is taken back. Pure: the caller brings the products as
//! they stand now.

use std::collections::HashMap;

/// One change of the import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The row of the file.
    pub row: u32,
    /// The product.
    pub product_id: String,
    /// The version that the change gave it.
    pub version: i64,
    /// Its code before the change; none where the import created it.
    pub old_codigo: Option<String>,
}

/// A product as it stands now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Current {
    /// Its id.
    pub id: String,
    /// Its code.
    pub codigo: String,
    /// The version whose content it has: its own, or, where an undo gave the product back, the one that it had before.
    pub version: i64,
    /// Whether it is of the import's supplier, who may hear of it.
    pub is_own: bool,
    /// The last import whose file says that it is to be as it was then, if one does that nobody took back.
    pub confirmed: Option<Confirmed>,
}

/// A file that has a product as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confirmed {
    /// When: above the version that the product had.
    pub version: i64,
    /// Its name.
    pub filename: String,
}

/// What becomes of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reversal {
    /// The import created the product: it is removed.
    Remove,
    /// The import updated the product: it gets its values back.
    Restore,
    /// The product stays as it is.
    Keep(KeepReason),
}

/// Why a product stays as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeepReason {
    /// Somebody changed it after the import.
    ChangedSince,
    /// A later import's file has the product as this one made it: it changed nothing, and says that this is right.
    ConfirmedSince {
        /// That file's name.
        filename: String,
    },
    /// It was deleted after the import.
    DeletedSince,
    /// The code that it had before belongs to another product now.
    CodeTaken {
        /// The code.
        codigo: String,
        /// Whose it is now; none where that is another supplier's, which is nobody's business.
        by: Option<String>,
    },
}

impl KeepReason {
    /// Stable, for programs.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::ChangedSince => "changed_since",
            Self::ConfirmedSince { .. } => "confirmed_since",
            Self::DeletedSince => "deleted_since",
            Self::CodeTaken { .. } => "code_taken",
        }
    }

    /// In Spanish, with what to do.
    pub fn message(&self, product_id: &str) -> String {
        match self {
            Self::ChangedSince => format!(
                "El producto {product_id} cambió después de la carga; no se modificó. Revíselo a mano"
            ),
            Self::ConfirmedSince { filename } => format!(
                "El producto {product_id} está igual en una carga posterior («{filename}»); no se modificó. Si tampoco \
                 esa es correcta, reviértala primero; si no, revíselo a mano"
            ),
            Self::DeletedSince => {
                format!(
                    "El producto {product_id} fue eliminado después de la carga; no hay nada que revertir"
                )
            }
            Self::CodeTaken { codigo, by: Some(by) } => format!(
                "El Código {codigo}, que el producto {product_id} tenía antes de la carga, es ahora del producto {by}; \
                 no se modificó. Cambie uno de los dos a mano"
            ),
            Self::CodeTaken { codigo, by: None } => format!(
                "El Código {codigo}, que el producto {product_id} tenía antes de la carga, es ahora de un producto de \
                 otro proveedor; no se modificó. Déle otro código a mano"
            ),
        }
    }
}

/// Decides over changes of one import, given from the last row to the first; gives one decision a change.
///
/// From the last to the first, because a later row may have taken a code that an earlier one gave up: each
/// step back then finds its code free again. `current` must hold every product of the changes and every
/// product that has one of their old codes now.
pub fn reverse(changes: &[Change], current: &[Current]) -> Vec<Reversal> {
    let by_id: HashMap<&str, &Current> =
        current.iter().map(|product| (product.id.as_str(), product)).collect();
    let mut holders: HashMap<&str, &str> =
        current.iter().map(|product| (product.codigo.as_str(), product.id.as_str())).collect();
    let decide = |change: &Change, holders: &HashMap<&str, &str>| {
        let Some(product) = by_id.get(change.product_id.as_str()) else {
            return Reversal::Keep(KeepReason::DeletedSince);
        };
        if product.version != change.version {
            return Reversal::Keep(KeepReason::ChangedSince);
        }
        if let Some(confirmed) = product.confirmed.as_ref().filter(|by| by.version > change.version) {
            return Reversal::Keep(KeepReason::ConfirmedSince { filename: confirmed.filename.clone() });
        }
        let Some(old) = &change.old_codigo else { return Reversal::Remove };
        match holders.get(old.as_str()) {
            Some(holder) if *holder != change.product_id => {
                let own = by_id.get(holder).filter(|product| product.is_own);
                let by = own.map(|product| product.id.clone());
                Reversal::Keep(KeepReason::CodeTaken { codigo: old.clone(), by })
            }
            _ => Reversal::Restore,
        }
    };
    let mut reversals = Vec::with_capacity(changes.len());
    for change in changes {
        let reversal = decide(change, &holders);
        if let (Reversal::Remove | Reversal::Restore, Some(product)) =
            (&reversal, by_id.get(change.product_id.as_str()))
        {
            holders.remove(product.codigo.as_str());
            if let Some(old) = &change.old_codigo {
                holders.insert(old, &product.id);
            }
        }
        reversals.push(reversal);
    }
    reversals
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(row: u32, id: &str, version: i64, old: Option<&str>) -> Change {
        Change { row, product_id: id.into(), version, old_codigo: old.map(Into::into) }
    }

    fn now(id: &str, codigo: &str, version: i64) -> Current {
        Current { id: id.into(), codigo: codigo.into(), version, is_own: true, confirmed: None }
    }

    #[test]
    fn what_is_untouched_goes_back() {
        let changes = [change(3, "new", 7, None), change(2, "old", 7, Some("A"))];
        let current = [now("new", "N", 7), now("old", "B", 7)];
        assert_eq!(reverse(&changes, &current), [Reversal::Remove, Reversal::Restore]);
    }

    #[test]
    fn what_changed_or_is_gone_stays() {
        let changes = [change(4, "new", 7, None), change(3, "gone", 7, Some("G")), change(2, "old", 7, None)];
        let current = [now("new", "N", 8), now("old", "A", 9)];
        assert_eq!(
            reverse(&changes, &current),
            [
                Reversal::Keep(KeepReason::ChangedSince),
                Reversal::Keep(KeepReason::DeletedSince),
                Reversal::Keep(KeepReason::ChangedSince)
            ]
        );
    }

    #[test]
    fn a_code_that_went_from_row_to_row_goes_back_the_same_way() {
        // Row 2: a gave up A for X; row 3: b gave up B for A; row 4: a new product took B.
        let changes = [change(4, "c", 7, None), change(3, "b", 7, Some("B")), change(2, "a", 7, Some("A"))];
        let current = [now("a", "X", 7), now("b", "A", 7), now("c", "B", 7)];
        assert_eq!(reverse(&changes, &current), [Reversal::Remove, Reversal::Restore, Reversal::Restore]);
    }

    #[test]
    fn a_code_that_is_taken_stops_the_chain() {
        let changes = [change(4, "c", 7, None), change(3, "b", 7, Some("B")), change(2, "a", 7, Some("A"))];
        // The new product was changed since, so it keeps B; b then keeps A, and a keeps X.
        let current = [now("a", "X", 7), now("b", "A", 7), now("c", "B", 8)];
        let taken = |codigo: &str, by: &str| {
            Reversal::Keep(KeepReason::CodeTaken { codigo: codigo.into(), by: Some(by.into()) })
        };
        assert_eq!(
            reverse(&changes, &current),
            [Reversal::Keep(KeepReason::ChangedSince), taken("B", "c"), taken("A", "b")]
        );
    }

    #[test]
    fn what_a_later_file_has_alike_stays() {
        let changes = [change(3, "new", 7, None), change(2, "old", 7, Some("A"))];
        let at = |version| Some(Confirmed { version, filename: "lista.csv".into() });
        let confirmed = |id, version| Current { confirmed: at(version), ..now(id, id, 7) };
        let keep = || Reversal::Keep(KeepReason::ConfirmedSince { filename: "lista.csv".into() });
        assert_eq!(reverse(&changes, &[confirmed("new", 9), confirmed("old", 8)]), [keep(), keep()]);
        // What a file found before the import changed it says nothing of what it is now.
        let before = [confirmed("new", 6), confirmed("old", 7)];
        assert_eq!(reverse(&changes, &before), [Reversal::Remove, Reversal::Restore]);
    }

    #[test]
    fn of_another_suppliers_product_nothing_is_told() {
        let other = Current { is_own: false, ..now("SECRETO", "A", 9) };
        let reversals = reverse(&[change(2, "a", 7, Some("A"))], &[now("a", "B", 7), other]);
        let [Reversal::Keep(why)] = &*reversals else { panic!("{reversals:?}") };
        assert_eq!(why.code(), "code_taken");
        assert!(!why.message("a").contains("SECRETO"), "{}", why.message("a"));
    }

    #[test]
    fn a_product_that_kept_its_code_is_in_nobodys_way() {
        let changes = [change(2, "a", 7, Some("A"))];
        assert_eq!(reverse(&changes, &[now("a", "A", 7)]), [Reversal::Restore]);
    }
}
