//! What becomes of rows, one by one: unchanged, edited meanwhile, moved, twice in a file.

use super::*;

#[tokio::test]
async fn rows_that_change_nothing_are_not_written() -> Result<()> {
    let scene = Scene::start("updsame", |options| options.env("IMPORT_BATCH_ROWS", 40)).await?;
    let events = Events::listen(&scene.platform.place).await?;
    let supplier = scene.platform.supplier(SUPPLIER).await?;
    let pool = scene.platform.catalog().await?;
    let mut base = rows(120);
    import(&supplier, &Upload::new(&csv(&scene, "base.csv", &base)?, SUPPLIER)).await?;
    let before = versions(&pool).await?;

    // The same file, and one row that means its product by its code.
    base[7].id = "OTRO-ID".to_owned();
    let same = Upload::new(&csv(&scene, "same.csv", &base)?, SUPPLIER).replacing(true);
    let told = [
        ("total", 120),
        ("exitosos", 120),
        ("rechazados", 0),
        ("duplicados", 120),
        ("productos_creados", 0),
        ("productos_actualizados", 120),
        ("sin_cambios", 120),
    ];
    let plan = import(&supplier, &same.clone().with("dry_run", "true")).await?;
    counts(&plan, &told)?;
    ensure!(plan["result"]["simulacion"]["cambios"] == json!([]), "{plan:#}");
    let status = import(&supplier, &same).await?;
    counts(&status, &told)?;
    ensure!(status["result"]["productos_actualizados"] == json!([]), "{status:#}");
    ensure!(status["result"]["truncado"] == false && status["progress"]["successful"] == 120, "{status:#}");
    ensure!(versions(&pool).await? == before, "a product was written");
    let task = status["task_id"].as_str().context("a task")?;
    let lines: i64 = sqlx::query_scalar("SELECT count(*) FROM import_ledger WHERE import_id = $1::uuid")
        .bind(task)
        .fetch_one(&pool)
        .await?;
    ensure!(lines == 0, "{lines} lines of the ledger");
    // Taken back, it says no more that the products are right; they stay as they are.
    counts(&undo(&supplier, &status).await?, &[("total", 0), ("rechazados", 0)])?;
    ensure!(versions(&pool).await? == before, "a product was written by the undo");
    stack::wait::until("the import's event", LIMIT, async || {
        events.of(task).await.is_ok_and(|events| !events.is_empty())
    })
    .await?;
    ensure!(events.changes(task).await?.is_empty(), "an event of changes");
    healthy(&scene).await?;

    // Five of them change.
    for n in [3, 50, 51, 99, 119] {
        base[n].precio += 1;
    }
    let some = Upload::new(&csv(&scene, "some.csv", &base)?, SUPPLIER).replacing(true);
    let plan = import(&supplier, &some.clone().with("dry_run", "true")).await?;
    let status = import(&supplier, &some.clone().with("error_policy", "reject_file")).await?;
    for status in [&plan, &status] {
        counts(status, &[("productos_actualizados", 120), ("sin_cambios", 115), ("exitosos", 120)])?;
        let ids = json!(["P-0003", "P-0050", "P-0051", "P-0099", "P-0119"]);
        ensure!(status["result"]["productos_actualizados"] == ids, "{status:#}");
    }
    let task = status["task_id"].as_str().context("a task")?;
    stack::wait::until("the event of five changes", LIMIT, async || {
        events.changes(task).await.is_ok_and(|changes| changes.len() == 5)
    })
    .await?;
    counts(&undo(&supplier, &status).await?, &[("productos_restaurados", 5), ("rechazados", 0)])?;
    healthy(&scene).await
}

#[tokio::test]
async fn an_edit_during_an_updating_batch_is_neither_lost_nor_overtaken() -> Result<()> {
    let scene = Scene::start("upedit", |options| options).await?;
    let supplier = scene.platform.supplier(SUPPLIER).await?;
    let pool = scene.platform.catalog().await?;
    let base = rows(4);
    import(&supplier, &Upload::new(&csv(&scene, "base.csv", &base)?, SUPPLIER)).await?;
    for policy in ["reject_rows", "reject_file"] {
        let mut changed = base.clone();
        changed.iter_mut().for_each(|row| row.nombre = format!("Nuevo {policy}"));
        let mut somebody = hold(&pool, "P-0002").await?;
        let file = csv(&scene, &format!("{policy}.csv"), &changed)?;
        let upload = Upload::new(&file, SUPPLIER).replacing(true).with("error_policy", policy);
        let task = task_id(&supplier.upload(&upload).await?)?;
        blocked(&pool).await?;
        let edited = edit(&mut somebody, "P-0002", "C-0002", "Editado").await?;
        somebody.commit().await?;
        let status = supplier.finished(&task, LIMIT).await?;
        counts(&status, &[("productos_actualizados", 4), ("sin_cambios", 0)])?;
        let version: i64 =
            sqlx::query_scalar("SELECT version FROM products WHERE id = 'P-0002'").fetch_one(&pool).await?;
        ensure!(version > edited, "{policy}: the import gave version {version}, the edit {edited}");
        healthy(&scene).await?;
        counts(&undo(&supplier, &status).await?, &[("productos_restaurados", 4)])?;
        let product = supplier.get(&format!("{ITEMS}/P-0002")).await?;
        ensure!(product.body["nombre"] == "Editado", "{policy}: the edit is lost: {product}");
    }
    healthy(&scene).await
}

/// Whose a product is, is asked before it is held.
#[tokio::test]
async fn a_product_that_is_anothers_by_then_is_not_changed() -> Result<()> {
    let scene = Scene::start("upowner", |options| options).await?;
    let supplier = scene.platform.supplier(SUPPLIER).await?;
    let pool = scene.platform.catalog().await?;
    import(&supplier, &Upload::new(&csv(&scene, "base.csv", &rows(2))?, SUPPLIER)).await?;
    for id in ["P-0000", "P-0001"] {
        let mut somebody = hold(&pool, id).await?;
        let path = format!("{ITEMS}/{id}");
        let change = async {
            if id == "P-0000" {
                supplier.put(&path, &json!({ "nombre": "De otro" })).await
            } else {
                supplier.delete(&path).await
            }
        };
        let meanwhile = async {
            blocked(&pool).await?;
            let taken = "UPDATE products SET proveedor_id = 'PROV999' WHERE id = $1";
            sqlx::query(taken).bind(id).execute(&mut *somebody).await?;
            somebody.commit().await?;
            anyhow::Ok(())
        };
        let (answer, ()) = tokio::try_join!(change, meanwhile)?;
        ensure!(answer.status == 404, "{answer}");
    }
    let names: Vec<String> =
        sqlx::query_scalar("SELECT nombre FROM products ORDER BY id").fetch_all(&pool).await?;
    ensure!(names == ["Producto 0", "Producto 1"], "{names:?}");
    Ok(())
}

#[tokio::test]
async fn a_code_that_moved_after_the_look_up_does_not_get_the_row() -> Result<()> {
    let scene = Scene::start("upmoved", |options| options).await?;
    let supplier = scene.platform.supplier(SUPPLIER).await?;
    let pool = scene.platform.catalog().await?;
    import(&supplier, &Upload::new(&csv(&scene, "base.csv", &rows(3))?, SUPPLIER)).await?;
    let mut somebody = hold(&pool, "P-0001").await?;
    let file = csv(&scene, "by-code.csv", &[row("N", "C-0001", "Por su código", 7)])?;
    let task = task_id(&supplier.upload(&Upload::new(&file, SUPPLIER).replacing(true)).await?)?;
    blocked(&pool).await?;
    edit(&mut somebody, "P-0001", "MOVIDO", "Editado").await?;
    somebody.commit().await?;
    let status = supplier.finished(&task, LIMIT).await?;
    counts(&status, &[("productos_creados", 1), ("productos_actualizados", 0)])?;
    let old = supplier.get(&format!("{ITEMS}/P-0001")).await?;
    ensure!(old.body["codigo"] == "MOVIDO" && old.body["nombre"] == "Editado", "{old}");
    let new = supplier.get(&format!("{ITEMS}/N")).await?;
    ensure!(new.body["codigo"] == "C-0001", "{new}");
    healthy(&scene).await
}

/// People change and delete what the file has written, and its worker dies; a batch a row.
#[tokio::test]
async fn the_first_row_of_a_file_wins_whatever_becomes_of_its_product() -> Result<()> {
    let mut scene = Scene::start("upfirst", |options| options.env("IMPORT_BATCH_ROWS", 1)).await?;
    let supplier = scene.platform.supplier(SUPPLIER).await?;
    let pool = scene.platform.catalog().await?;
    for dies in [false, true] {
        let prefix = if dies { "D" } else { "L" };
        let id = |n: u32| format!("{prefix}-{n}");
        let code = |n: u32| format!("{prefix}C-{n}");
        let base: Vec<Row> = (0..4).map(|n| row(&id(n), &code(n), "Antes", 10)).collect();
        import(&supplier, &Upload::new(&csv(&scene, &format!("base{prefix}.csv"), &base)?, SUPPLIER)).await?;

        let first = [
            // Updated, then given another code by somebody.
            row(&id(0), &code(0), "Primera", 11),
            // Met by its code.
            row(&id(90), &code(1), "Primera", 11),
            // As it is already, then changed by somebody.
            row(&id(2), &code(2), "Antes", 10),
            // Created, then deleted.
            row(&id(91), &code(91), "Primera", 11),
            // Held by somebody, so that the import waits.
            row(&id(3), &code(3), "Primera", 11),
        ];
        let second = [
            (row(&id(0), &code(50), "Segunda", 12), "the id of row 2"),
            (row(&id(51), &code(0), "Segunda", 12), "the code of row 2"),
            (row(&id(90), &code(52), "Segunda", 12), "the id of row 3"),
            (row(&id(1), &code(53), "Segunda", 12), "the product of row 3"),
            (row(&id(2), &code(54), "Segunda", 12), "the id of row 4"),
            (row(&id(55), &code(2), "Segunda", 12), "the code of row 4"),
            (row(&id(91), &code(56), "Segunda", 12), "the id of row 5"),
            (row(&id(57), &code(91), "Segunda", 12), "the code of row 5"),
            (row(&id(58), &format!("{prefix}MOVED"), "Segunda", 12), "the product of row 2, by its new code"),
        ];
        let whole: Vec<Row> =
            first.iter().cloned().chain(second.iter().map(|(row, _)| row.clone())).collect();
        let somebody = hold(&pool, &id(3)).await?;
        let file = csv(&scene, &format!("first{prefix}.csv"), &whole)?;
        let task = task_id(&supplier.upload(&Upload::new(&file, SUPPLIER).replacing(true)).await?)?;
        blocked(&pool).await?;
        for (n, codigo) in [(0, format!("{prefix}MOVED")), (2, format!("{prefix}MOVED-2"))] {
            let mut product = supplier.get(&format!("{ITEMS}/{}", id(n))).await?.body;
            (product["codigo"], product["nombre"]) = (json!(codigo), json!("Editado"));
            let put = supplier.put(&format!("{ITEMS}/{}", id(n)), &product).await?;
            ensure!(put.status == 200, "{put}");
        }
        let deleted = supplier.delete(&format!("{ITEMS}/{}", id(91))).await?;
        ensure!(deleted.status == 204, "{deleted}");
        if dies {
            let worker =
                scene.platform.service_mut(&CATALOG_UPLOAD).workers.first_mut().context("a worker")?;
            worker.restart().await?;
        }
        somebody.rollback().await?;
        let status = supplier.finished(&task, LIMIT).await?;
        counts(
            &status,
            &[("total", 14), ("rechazados", 9), ("productos_creados", 1), ("productos_actualizados", 4)],
        )?;
        counts(&status, &[("sin_cambios", 1)])?;
        let told: Vec<(u64, String)> =
            (7..).zip(&second).map(|(fila, _)| (fila, "duplicate_in_file".to_owned())).collect();
        ensure!(refused(&status) == told, "{second:?}: {status:#}");
        for (n, nombre) in [(0, "Editado"), (1, "Primera"), (2, "Editado"), (3, "Primera")] {
            let product = supplier.get(&format!("{ITEMS}/{}", id(n))).await?;
            ensure!(product.body["nombre"] == nombre, "{nombre}: {product}");
        }
        healthy(&scene).await?;
    }
    Ok(())
}

#[tokio::test]
async fn of_a_column_that_the_file_lacks_products_keep_what_they_have() -> Result<()> {
    let scene = Scene::start("upabsent", |options| options).await?;
    let supplier = scene.platform.supplier(SUPPLIER).await?;
    let pool = scene.platform.catalog().await?;
    let head = "id,nombre,codigo,categoria,precio_unitario,certificado_sanitario,condiciones_almacenamiento,\
        tiempo_entrega_dias";
    let file = |name: &str, more: &str, lines: &[&str]| -> Result<Upload> {
        let path = scene.dir.join(name);
        std::fs::write(&path, format!("{head}{more}\n{}\n", lines.join("\n")))?;
        Ok(Upload::new(&path, SUPPLIER).replacing(true))
    };
    let optional = ",presentacion,stock_minimo,stock_critico,requiere_lote,requiere_vencimiento";
    let base = ["A,Uno,CA,V,1.00,S,Seco,1,Caja,40,20,si,no", "B,Dos,CB,V,1.00,S,Seco,1,Bolsa,41,21,si,no"];
    import(&supplier, &file("base.csv", optional, &base)?).await?;
    let read = async || -> Result<Vec<String>> {
        let query =
            "SELECT concat_ws('|', id, nombre, coalesce(presentacion, '-'), stock_minimo, stock_critico,
            requiere_lote, requiere_vencimiento) FROM products ORDER BY id";
        Ok(sqlx::query_scalar(query).fetch_all(&pool).await?)
    };

    // Nothing of what it has differs.
    let status = import(&supplier, &file("same.csv", "", &["A,Uno,CA,V,1.00,S,Seco,1"])?).await?;
    counts(&status, &[("sin_cambios", 1)])?;
    for (name, policy) in [("Tres", "reject_rows"), ("Cuatro", "reject_file")] {
        let line = format!("A,{name},CA,V,1.00,S,Seco,1");
        let upload = file(&format!("{name}.csv"), "", &[&line])?.with("error_policy", policy);
        let plan = import(&supplier, &upload.clone().with("dry_run", "true")).await?;
        ensure!(plan["result"]["simulacion"]["campos"] == json!({ "nombre": 1 }), "{plan:#}");
        import(&supplier, &upload).await?;
        ensure!(read().await?[0] == format!("A|{name}|Caja|40|20|t|f"), "{:?}", read().await?);
    }
    // An empty cell is a value: it clears. A new product has the defaults.
    let lines = ["B,Dos,CB,V,1.00,S,Seco,1,,7", "N,Nuevo,CN,V,1.00,S,Seco,1,Frasco,"];
    import(&supplier, &file("some.csv", ",presentacion,stock_critico", &lines)?).await?;
    let should = ["A|Cuatro|Caja|40|20|t|f", "B|Dos|-|41|7|t|f", "N|Nuevo|Frasco|10|5|f|t"];
    ensure!(read().await? == should, "{:?}", read().await?);
    healthy(&scene).await
}
