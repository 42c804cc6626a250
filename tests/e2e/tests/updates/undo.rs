//! Updates that are taken back.

use super::*;
use sea_orm::sqlx::AssertSqlSafe;

#[tokio::test]
async fn imports_that_are_undone_from_the_last_to_the_first_leave_what_was_before() -> Result<()> {
    let scene = Scene::start("upchain", |options| options.env("IMPORT_BATCH_ROWS", 3)).await?;
    let supplier = scene.platform.supplier(SUPPLIER).await?;
    let pool = scene.platform.catalog().await?;
    let base = rows(8);
    import(&supplier, &Upload::new(&csv(&scene, "base.csv", &base)?, SUPPLIER)).await?;
    let before = contents(&pool).await?;
    let mut imports = Vec::new();
    let mut changed = base.clone();
    changed.push(row("N-1", "NC-1", "Nuevo", 1));
    for round in 0..4 {
        changed.iter_mut().skip(round).for_each(|row| row.nombre = format!("Ronda {round}"));
        let file = csv(&scene, &format!("round{round}.csv"), &changed)?;
        imports.push(import(&supplier, &Upload::new(&file, SUPPLIER).replacing(true)).await?);
    }
    // Undone, then another one over it, which is undone too.
    counts(&undo(&supplier, &imports[3]).await?, &[("rechazados", 0)])?;
    changed.iter_mut().for_each(|row| row.precio += 5);
    let file = csv(&scene, "again.csv", &changed)?;
    imports[3] = import(&supplier, &Upload::new(&file, SUPPLIER).replacing(true)).await?;
    for import in imports.iter().rev() {
        let status = undo(&supplier, import).await?;
        counts(&status, &[("rechazados", 0)])?;
    }
    ensure!(contents(&pool).await? == before, "the catalog is not as it was");
    // What somebody changed after an undo is theirs.
    let file = csv(&scene, "first.csv", &changed)?;
    let first = import(&supplier, &Upload::new(&file, SUPPLIER).replacing(true)).await?;
    changed.iter_mut().for_each(|row| row.precio += 5);
    let second = Upload::new(&csv(&scene, "second.csv", &changed)?, SUPPLIER).replacing(true);
    undo(&supplier, &import(&supplier, &second).await?).await?;
    let mut product = supplier.get(&format!("{ITEMS}/P-0003")).await?.body;
    product["nombre"] = json!("De alguien");
    ensure!(supplier.put(&format!("{ITEMS}/P-0003"), &product).await?.status == 200, "edit");
    let status = undo(&supplier, &first).await?;
    counts(&status, &[("rechazados", 1)])?;
    ensure!(supplier.get(&format!("{ITEMS}/P-0003")).await?.body["nombre"] == "De alguien", "overwritten");
    healthy(&scene).await
}

/// The list of week 2 has nearly all that the list of week 1 brought: who takes back week 1 doesn't mean that.
#[tokio::test]
async fn what_a_later_file_confirms_is_not_taken_back() -> Result<()> {
    let scene = Scene::start("upconfirm", |options| options.env("IMPORT_BATCH_ROWS", 3)).await?;
    let supplier = scene.platform.supplier(SUPPLIER).await?;
    let pool = scene.platform.catalog().await?;
    let replacing = |name: &str, rows: &[Row]| -> Result<Upload> {
        Ok(Upload::new(&csv(&scene, name, rows)?, SUPPLIER).replacing(true))
    };
    let mut list = rows(8);
    let first = import(&supplier, &replacing("semana1.csv", &list)?).await?;
    // P-0007 is not in the second list, P-0003 is there at another price, and P-0001 under another id, by its code.
    list.pop();
    list[3].precio += 1;
    list[1].id = "OTRO-ID".to_owned();
    let second = import(&supplier, &replacing("semana2.csv", &list)?).await?;
    counts(&second, &[("sin_cambios", 6), ("productos_actualizados", 7)])?;
    let before = contents(&pool).await?;
    let status = undo(&supplier, &first).await?;
    counts(&status, &[("total", 8), ("rechazados", 7), ("productos_eliminados", 1)])?;
    let mut told: BTreeMap<String, usize> = BTreeMap::new();
    for (_, code) in refused(&status) {
        *told.entry(code).or_default() += 1;
    }
    let expected = BTreeMap::from([("changed_since".to_owned(), 1), ("confirmed_since".to_owned(), 6)]);
    ensure!(told == expected, "{status:#}");
    let named = status["result"]["errores"].to_string();
    ensure!(named.contains("semana2.csv"), "which file has it is not told: {named}");
    let after = contents(&pool).await?;
    ensure!(after.keys().all(|id| before.get(id) == after.get(id)), "a confirmed product was changed");
    ensure!(before.len() - after.len() == 1 && !after.contains_key("P-0007"), "{:?}", after.keys());
    healthy(&scene).await?;

    // The other way round, the later one no longer says anything.
    let raised: Vec<Row> = rows(5).into_iter().map(|row| Row { precio: row.precio + 50, ..row }).collect();
    let raise = import(&supplier, &replacing("alza.csv", &raised)?).await?;
    let again = import(&supplier, &replacing("alza-otra-vez.csv", &raised)?).await?;
    counts(&again, &[("sin_cambios", 5)])?;
    counts(&undo(&supplier, &again).await?, &[("total", 0), ("rechazados", 0)])?;
    counts(&undo(&supplier, &raise).await?, &[("productos_restaurados", 5), ("rechazados", 0)])?;
    ensure!(contents(&pool).await? == after, "the prices are not as they were");
    healthy(&scene).await
}

/// A file that is written whole may keep others waiting for longer than a connection waits for a lock.
#[tokio::test]
async fn to_wait_for_another_import_costs_no_attempt() -> Result<()> {
    let scene = Scene::start("upwait", |options| options).await?;
    let supplier = scene.platform.supplier(SUPPLIER).await?;
    let pool = scene.platform.catalog().await?;
    let status = import(&supplier, &Upload::new(&csv(&scene, "base.csv", &rows(3))?, SUPPLIER)).await?;
    let key = "hashtextextended(current_schema() || ' catalog import', 0)";
    let mut other = pool.acquire().await?;
    sqlx::query(AssertSqlSafe(format!("SELECT pg_advisory_lock({key})"))).execute(&mut *other).await?;
    let task = status["task_id"].as_str().context("a task")?;
    let undo = task_id(&supplier.task(task, "undo").await?)?;
    let waits_since = async || -> Option<String> {
        let query = "SELECT max(xact_start)::text FROM pg_stat_activity
            WHERE usename = current_user AND wait_event_type = 'Lock' AND wait_event = 'advisory'";
        sqlx::query_scalar(query).fetch_one(&pool).await.ok().flatten()
    };
    stack::wait::until("the undo should wait", LIMIT, async || waits_since().await.is_some()).await?;
    let first = waits_since().await;
    stack::wait::until("the undo should wait on", LIMIT, async || {
        let now = waits_since().await;
        now.is_some() && now != first
    })
    .await?;
    let attempts: i32 = sqlx::query_scalar("SELECT attempts FROM jobs WHERE id = $1::uuid")
        .bind(&undo)
        .fetch_one(&pool)
        .await?;
    ensure!(attempts == 1, "{attempts} attempts");
    sqlx::query(AssertSqlSafe(format!("SELECT pg_advisory_unlock({key})"))).execute(&mut *other).await?;
    let status = supplier.finished(&undo, LIMIT).await?;
    counts(&status, &[("productos_eliminados", 3), ("rechazados", 0)])?;
    healthy(&scene).await
}

/// A file that repeats most of the catalog, in random ways.
struct Resync {
    file: Vec<Row>,
    /// The lines of rows that repeat another.
    wrong: Vec<u64>,
    /// Products that it leaves as they are, changes, and brings.
    same: u64,
    changed: u64,
    created: u64,
    /// The catalog once it is imported.
    after: Vec<Row>,
}

impl Resync {
    fn of(known: &[Row], round: u64, random: &mut StdRng) -> Self {
        let (mut file, mut wrong) = (Vec::new(), Vec::new());
        let (mut same, mut changed, mut created) = (0_u64, 0_u64, 0_u64);
        let mut after = known.to_vec();
        for (place, product) in known.iter().enumerate() {
            let mut row = product.clone();
            match random.random_range(0..20) {
                0 => row.nombre = format!("Ronda {round}-{place}"),
                1 => row.precio += 1,
                2 => row.codigo = format!("R{round}-{place}"),
                // Not in the file.
                3 => continue,
                _ => {}
            }
            if row == *product {
                same += 1
            } else {
                changed += 1
            }
            after[place] = row.clone();
            if random.random_bool(0.1) {
                // By its code alone.
                row.id = if row.codigo == product.codigo { format!("POR-CODIGO-{place}") } else { row.id };
            }
            file.push(row.clone());
            if random.random_bool(0.1) {
                row.nombre = "Repetida".to_owned();
                file.push(row);
                wrong.push(file.len() as u64 + 1);
            }
            if random.random_bool(0.05) {
                let new = self::row(&format!("N{round}-{place}"), &format!("NC{round}-{place}"), "Nuevo", 9);
                file.push(new.clone());
                after.push(new);
                created += 1;
            }
        }
        Self { file, wrong, same, changed, created, after }
    }
}

/// Files that repeat most of the catalog, in random ways; each is tried out, imported and taken back.
#[tokio::test]
async fn a_resync_tells_what_it_changes_and_goes_back_whole() -> Result<()> {
    let scene = Scene::start("upresync", |options| options.env("IMPORT_BATCH_ROWS", 16)).await?;
    let supplier = scene.platform.supplier(SUPPLIER).await?;
    let pool = scene.platform.catalog().await?;
    let mut known = rows(90);
    import(&supplier, &Upload::new(&csv(&scene, "base.csv", &known)?, SUPPLIER)).await?;
    for round in 0..10_u64 {
        let mut random = StdRng::seed_from_u64(round);
        let (before, exact) = (contents(&pool).await?, versions(&pool).await?);
        let Resync { file, wrong, same, changed, created, after } = Resync::of(&known, round, &mut random);
        let upload =
            Upload::new(&csv(&scene, &format!("round{round}.csv"), &file)?, SUPPLIER).replacing(true);
        let plan = import(&supplier, &upload.clone().with("dry_run", "true")).await?;
        ensure!(versions(&pool).await? == exact, "round {round}: the dry run wrote");
        let status = import(&supplier, &upload).await?;
        for status in [&plan, &status] {
            counts(
                status,
                &[
                    ("total", file.len() as u64),
                    ("productos_creados", created),
                    ("productos_actualizados", same + changed),
                    ("sin_cambios", same),
                    ("rechazados", wrong.len() as u64),
                ],
            )
            .with_context(|| format!("round {round}"))?;
            let refused: Vec<u64> = refused(status).into_iter().map(|(fila, _)| fila).collect();
            ensure!(refused == wrong, "round {round}: {refused:?}, not {wrong:?}");
        }
        let written = contents(&pool).await?;
        for product in &after {
            let is = written.get(&product.id).with_context(|| format!("round {round}: {}", product.id))?;
            ensure!(
                is.contains(&format!("\"{}\"", product.nombre))
                    && is.contains(&format!("\"{}\"", product.codigo)),
                "round {round}: {is}, not {product:?}"
            );
        }
        healthy(&scene).await?;
        if changed + created > 0 {
            let undone = undo(&supplier, &status).await?;
            counts(
                &undone,
                &[("productos_restaurados", changed), ("productos_eliminados", created), ("rechazados", 0)],
            )
            .with_context(|| format!("round {round}"))?;
        }
        ensure!(contents(&pool).await? == before, "round {round}: the catalog is not as it was");
        healthy(&scene).await?;
        // Every other round stays.
        if round % 2 == 0 {
            import(&supplier, &upload.with("error_policy", "reject_rows")).await?;
            known = after;
        }
    }
    Ok(())
}
