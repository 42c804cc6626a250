use std::collections::{BTreeMap, HashSet};

use proptest::prelude::*;

use super::{
    Accepted, Claims, Decision, ExistingProduct, ImportContext, Outcome, ProductRow, Summary, classify,
};

/// A good row.
pub(crate) fn row(number: u32, id: &str, codigo: &str) -> ProductRow {
    ProductRow {
        row: number,
        id: id.to_owned(),
        nombre: "n".to_owned(),
        codigo: codigo.to_owned(),
        categoria: "c".to_owned(),
        presentacion: None,
        precio_unitario: 1.into(),
        certificado_sanitario: "s".to_owned(),
        condiciones_almacenamiento: "a".to_owned(),
        tiempo_entrega_dias: Some(1),
        stock_minimo: 10,
        stock_critico: 5,
        requiere_lote: false,
        requiere_vencimiento: true,
    }
}

fn product(id: &str, codigo: &str, supplier: &str) -> ExistingProduct {
    ExistingProduct {
        id: id.to_owned(),
        codigo: codigo.to_owned(),
        proveedor_id: supplier.to_owned(),
        version: 1,
        from_this_file: false,
    }
}

fn import(replace: bool) -> ImportContext<'static> {
    ImportContext { proveedor_id: "mine", replace }
}

fn nothing() -> Claims {
    Claims::nothing(100)
}

/// Each outcome in short: `+`, `=<id>` or the error's code.
fn short(decisions: &[Decision]) -> Vec<String> {
    let one = |decision: &Decision| match &decision.outcome {
        Outcome::Create => "+".to_owned(),
        Outcome::Update { id } => format!("={id}"),
        Outcome::Reject(error) => error.code.to_owned(),
    };
    decisions.iter().map(one).collect()
}

#[test]
fn the_first_of_a_file_wins_whatever_replace_says() {
    for replace in [false, true] {
        let rows = [row(2, "a", "A"), row(3, "a", "B"), row(4, "b", "A"), row(5, "b", "B")];
        let decisions = classify(&rows, &[], &nothing(), import(replace));
        assert_eq!(short(&decisions), ["+", "duplicate_in_file", "duplicate_in_file", "+"]);
        assert_eq!(
            decisions.iter().map(|decision| decision.duplicate).collect::<Vec<_>>(),
            [false, true, true, false]
        );
    }
    let mut written = product("a", "A", "mine");
    written.from_this_file = true;
    let decisions = classify(&[row(900, "z", "A")], &[written], &nothing(), import(true));
    assert_eq!(short(&decisions), ["duplicate_in_file"]);
}

#[test]
fn a_known_product_is_refused_or_updated() {
    let known = [product("a", "A", "mine"), product("b", "B", "mine")];
    let rows = [row(2, "a", "A"), row(3, "x", "B"), row(4, "c", "C")];
    let refused = classify(&rows, &known, &nothing(), import(false));
    assert_eq!(short(&refused), ["duplicate_product", "duplicate_product", "+"]);
    let Outcome::Reject(error) = &refused[1].outcome else { panic!("rejected above") };
    assert_eq!(error.message, "Producto duplicado (ID: x o Código: B)");
    assert_eq!((error.row, error.value.as_deref()), (3, Some("B")));
    assert_eq!(short(&classify(&rows, &known, &nothing(), import(true))), ["=a", "=b", "+"]);
}

#[test]
fn another_suppliers_product_is_never_touched() {
    let known = [product("a", "A", "other"), product("b", "B", "mine")];
    for replace in [false, true] {
        let rows = [row(2, "a", "Z"), row(3, "z", "A"), row(4, "b", "A"), row(5, "a", "B")];
        let decisions = classify(&rows, &known, &nothing(), import(replace));
        assert_eq!(short(&decisions), ["other_supplier"; 4]);
        for (decision, message) in decisions.iter().zip([
            "El ID a pertenece a un producto de otro proveedor; use otro",
            "El Código A pertenece a un producto de otro proveedor; use otro",
            "El Código A pertenece a un producto de otro proveedor; use otro",
            "El ID a pertenece a un producto de otro proveedor; use otro",
        ]) {
            let Outcome::Reject(error) = &decision.outcome else { panic!("rejected above") };
            assert_eq!(error.message, message);
            assert!(decision.duplicate);
        }
    }
}

#[test]
fn a_row_between_two_products_is_refused_naming_both() {
    let known = [product("a", "A", "mine"), product("b", "B", "mine")];
    let decisions = classify(&[row(2, "a", "B")], &known, &nothing(), import(true));
    let Outcome::Reject(error) = &decisions[0].outcome else { panic!("must be rejected") };
    assert_eq!(error.code, "id_and_codigo_conflict");
    assert_eq!(
        error.message,
        "El ID a es de un producto (Código: A) y el Código B es de otro (ID: b); corrija uno de los dos"
    );
}

#[test]
fn an_update_frees_its_old_code() {
    let known = [product("a", "A", "mine"), product("b", "B", "mine")];
    let rows = [row(2, "a", "C"), row(3, "b", "A"), row(4, "c", "B"), row(5, "d", "C")];
    let decisions = classify(&rows, &known, &nothing(), import(true));
    assert_eq!(short(&decisions), ["=a", "=b", "+", "duplicate_in_file"]);
}

/// What earlier rows of the file had, whatever became of their products since.
#[test]
fn the_first_row_of_a_file_wins_also_where_its_product_is_gone_or_changed() {
    let known = [product("a", "A", "mine"), product("b", "B", "mine")];
    let rows = [row(2, "a", "A"), row(3, "x", "B"), row(4, "n", "N")];
    let decisions = classify(&rows, &known, &nothing(), import(true));
    assert_eq!(short(&decisions), ["=a", "=b", "+"]);
    let mut claims = nothing();
    claims.take(Accepted::of(&rows, &decisions));
    // Somebody gave a another code and deleted n; nobody knows any more that the import had written them.
    let now = [product("a", "A2", "mine"), product("b", "B", "mine")];
    let later = [
        row(5, "a", "Z1"),
        row(6, "z2", "A"),
        row(7, "z3", "A2"),
        row(8, "x", "Z4"),
        row(9, "b", "Z5"),
        row(10, "n", "Z6"),
        row(11, "z7", "N"),
    ];
    let decisions = classify(&later, &now, &claims, import(true));
    assert_eq!(short(&decisions), ["duplicate_in_file"; 7]);
    assert!(decisions.iter().all(|decision| decision.duplicate));
}

/// What the rows of a file had that were accepted: the first of them wins.
#[derive(Default)]
struct Had {
    ids: HashSet<String>,
    codes: HashSet<String>,
}

/// The rules again, one row at a time over a plain list of products.
fn model(
    products: &mut Vec<ExistingProduct>,
    had: &mut Had,
    row: &ProductRow,
    replace: bool,
) -> (String, bool) {
    let matches = |product: &&ExistingProduct| product.id == row.id || product.codigo == row.codigo;
    let met: Vec<ExistingProduct> = products.iter().filter(matches).cloned().collect();
    let repeats = had.ids.contains(&row.id)
        || had.codes.contains(&row.codigo)
        || met.iter().any(|product| had.ids.contains(&product.id));
    if repeats {
        return ("duplicate_in_file".to_owned(), true);
    }
    let accepted = |had: &mut Had, product: &str| {
        had.ids.extend([row.id.clone(), product.to_owned()]);
        had.codes.insert(row.codigo.clone());
    };
    if met.is_empty() {
        accepted(had, &row.id);
        apply(products, row, &Outcome::Create);
        return ("+".to_owned(), false);
    }
    if met.iter().any(|product| product.proveedor_id != "mine") {
        return ("other_supplier".to_owned(), true);
    }
    if met.len() > 1 {
        return ("id_and_codigo_conflict".to_owned(), true);
    }
    if !replace {
        return ("duplicate_product".to_owned(), true);
    }
    accepted(had, &met[0].id);
    apply(products, row, &Outcome::Update { id: met[0].id.clone() });
    (format!("={}", met[0].id), true)
}

/// What somebody does to a product between two batches: delete it, or give it a code that is free. They wrote it last
/// then.
fn meddle(products: &mut Vec<ExistingProduct>, which: usize, codigo: Option<u8>) {
    if products.is_empty() {
        return;
    }
    let place = which % products.len();
    match codigo.map(|codigo| codigo.to_string()) {
        None => drop(products.remove(place)),
        Some(codigo) if products.iter().all(|product| product.codigo != codigo) => {
            (products[place].codigo, products[place].from_this_file) = (codigo, false);
        }
        Some(_) => {}
    }
}

/// What the database does with a decision.
fn apply(products: &mut Vec<ExistingProduct>, row: &ProductRow, outcome: &Outcome) {
    match outcome {
        Outcome::Create => {
            let mut new = product(&row.id, &row.codigo, "mine");
            new.from_this_file = true;
            products.push(new);
        }
        Outcome::Update { id } => {
            for product in products.iter_mut().filter(|product| product.id == *id) {
                product.codigo = row.codigo.clone();
                product.from_this_file = true;
            }
        }
        Outcome::Reject(_) => {}
    }
}

/// The products that rows can meet.
fn met<'a>(
    products: &[ExistingProduct],
    rows: impl IntoIterator<Item = &'a ProductRow> + Clone,
) -> Vec<ExistingProduct> {
    let meets = |product: &&ExistingProduct| {
        rows.clone().into_iter().any(|row| row.id == product.id || row.codigo == product.codigo)
    };
    products.iter().filter(meets).cloned().collect()
}

fn keys() -> impl Strategy<Value = Vec<(u8, u8)>> {
    proptest::collection::vec((0u8..16, 0u8..16), 0..40)
}

/// Products by id, with their codes and whether they are ours; no code twice.
fn catalog(products: BTreeMap<u8, (u8, bool)>) -> Vec<ExistingProduct> {
    let mut codes = HashSet::new();
    products
        .into_iter()
        .filter(|(_, (codigo, _))| codes.insert(*codigo))
        .map(|(id, (codigo, mine))| {
            product(&id.to_string(), &codigo.to_string(), if mine { "mine" } else { "other" })
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever the size of the batches, whether the rows that are apart are created without a look or all are
    /// looked up, and whatever people do between two batches, the outcome is that of one row at a time.
    #[test]
    fn batches_do_not_matter(
        existing in proptest::collection::btree_map(0u8..16, (0u8..16, any::<bool>()), 0..8),
        keys in keys(),
        sizes in proptest::collection::vec((1usize..12, 0usize..40, proptest::option::of(0u8..16), any::<bool>()), 1..20),
        replace in any::<bool>(),
        ahead in any::<bool>(),
        meddled in any::<bool>(),
    ) {
        let existing = catalog(existing);
        let rows: Vec<_> = keys
            .iter()
            .enumerate()
            .map(|(index, (id, codigo))| row(index as u32 + 2, &id.to_string(), &codigo.to_string()))
            .collect();

        let (mut expected_products, mut had) = (existing.clone(), Had::default());
        let mut products = existing.clone();
        let mut claims = Claims::nothing(40);
        let mut believed = ahead;
        let mut summary = Summary::default();
        let (mut rest, mut sizes) = (&rows[..], sizes.iter().cycle());
        while !rest.is_empty() {
            let (size, which, codigo, edits) = *sizes.next().expect("at least one");
            let (batch, after) = rest.split_at(size.min(rest.len()));
            let expected: Vec<_> =
                batch.iter().map(|row| model(&mut expected_products, &mut had, row, replace)).collect();
            let apart = claims.apart(batch);
            let ahead = ahead && {
                // What the unique constraints would say.
                let mut rows = batch.iter().zip(&apart).filter(|(_, apart)| **apart);
                rows.all(|(row, _)| {
                    products.iter().all(|product| product.id != row.id && product.codigo != row.codigo)
                })
            };
            believed &= ahead;
            let decided = if ahead && believed {
                let mut with_new = products.clone();
                for (row, _) in batch.iter().zip(&apart).filter(|(_, apart)| **apart) {
                    apply(&mut with_new, row, &Outcome::Create);
                }
                let others = || batch.iter().zip(&apart).filter(|(_, apart)| !**apart).map(|(row, _)| row);
                let met = met(&with_new, others());
                let mut decided = classify(others(), &met, &claims, import(replace)).into_iter();
                let next = |apart: &bool| if *apart { Some(Decision::CREATE) } else { decided.next() };
                apart.iter().map_while(next).collect()
            } else {
                classify(batch, &met(&products, batch), &claims, import(replace))
            };
            claims.take(Accepted::of(batch, &decided));
            let mut part = Summary::default();
            for (row, decision) in batch.iter().zip(&decided) {
                apply(&mut products, row, &decision.outcome);
                part.count(decision);
            }
            summary.add(&part);
            let got: Vec<_> =
                short(&decided).into_iter().zip(decided.iter().map(|decision| decision.duplicate)).collect();
            prop_assert_eq!(got, expected);
            prop_assert_eq!(&products, &expected_products);
            if meddled && edits {
                meddle(&mut products, which, codigo);
                meddle(&mut expected_products, which, codigo);
            }
            rest = after;
        }

        let ids: HashSet<_> = products.iter().map(|product| &product.id).collect();
        let codes: HashSet<_> = products.iter().map(|product| &product.codigo).collect();
        prop_assert!(ids.len() == products.len() && codes.len() == products.len());
        prop_assert!(summary.holds());
        prop_assert_eq!(summary.total, rows.len() as u64);
        if !meddled {
            for old in existing.iter().filter(|product| product.proveedor_id == "other") {
                prop_assert!(products.contains(old));
            }
            prop_assert_eq!(summary.created as usize, products.len() - existing.len());
        }
    }
}

#[test]
fn sums_that_do_not_hold_are_noticed() {
    let mut summary = Summary::default();
    summary.count_invalid();
    assert!(summary.holds() && summary.rejected == 1);
    assert!(!Summary { total: 2, ..summary }.holds());
    assert!(!Summary { updated: 1, accepted: 1, total: 2, ..summary }.holds());
    assert!(!Summary { unchanged: 1, ..summary }.holds());
}
