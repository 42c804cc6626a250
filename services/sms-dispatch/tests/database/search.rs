use anyhow::{Result, ensure};
use sea_orm::sqlx::{self, AssertSqlSafe, PgPool};
use sms_dispatch::{
    domain::search::{PhoneQuery, phone, words},
    storage::search::{Filter, page},
};

const CONTACTS: i64 = 20_000;

/// Names of every frequency: in each tenth row, in each two hundredth, in seven rows, and in the last six hundred alone; three
/// words that go together. States
/// lie together, as in the files that contacts come from.
async fn fill(pool: &PgPool) -> Result<()> {
    sqlx::query(
        "insert into contacts (phone_e164, full_name, address, municipality, state_code, lada, city, is_valid, status,
                               consent, import, source_id)
         select '+52' || (6120000000 + n * 7),
                concat_ws(' ', case when n % 10 = 3 then 'María' else 'Ana' end, case when n % 200 = 7 then 'CATALINO' end,
                          case when n % 3000 = 11 then 'Ñandú' end, case when n > $1 - 600 then 'Norteño' end,
                          case when n % 20 = 1 then 'DE LA CRUZ' end,
                          'Apellido' || n % 97),
                'Calle ' || n % 31 || ' #' || n % 7, 'Municipio ' || n / 500, case when n <= $1 / 2 then 'BCS' else 'JAL' end,
                '612', 'Ciudad ' || n / 4000, true, case when n % 5 = 0 then 'INACTIVE' else 'ACTIVE' end, 'unknown', 1, n
         from generate_series(1, $1) n",
    )
    .bind(CONTACTS)
    .execute(pool)
    .await?;
    sqlx::query("vacuum analyze contacts").execute(pool).await?;
    Ok(())
}

struct Row {
    id: i64,
    phone: String,
    name: String,
    state: String,
    status: String,
}

async fn rows(pool: &PgPool) -> Result<Vec<Row>> {
    let rows: Vec<(i64, String, String, String, String)> =
        sqlx::query_as("select id, phone_e164, full_name, state_code, status from contacts order by id")
            .fetch_all(pool)
            .await?;
    let row = |(id, phone, name, state, status)| Row { id, phone, name, state, status };
    Ok(rows.into_iter().map(row).collect())
}

/// In lower case, without accents: said once more, in another way than the database's.
fn plain(text: &str) -> String {
    let letter = |letter: char| match letter {
        'á' => 'a',
        'í' => 'i',
        'ú' => 'u',
        'ñ' => 'n',
        other => other,
    };
    text.to_lowercase().chars().map(letter).collect()
}

/// Words that mean themselves, for everybody knows them.
async fn common(pool: &PgPool) -> Result<Vec<String>> {
    let words = "select unnest(most_common_elems::text::text[]) from pg_stats
                 where schemaname = current_schema() and tablename = 'contacts_words_of_names'";
    Ok(sqlx::query_scalar(words).fetch_all(pool).await?)
}

fn has(name: &str, asked: &str, common: &[String]) -> bool {
    let (name, asked) = (plain(name), plain(asked));
    let words: Vec<&str> = name.split(' ').collect();
    let mut asked: Vec<&str> = asked.split_whitespace().collect();
    let last = asked.pop().unwrap_or_default();
    let last_is = |word: &str| {
        if common.iter().any(|common| common == last) { word == last } else { word.starts_with(last) }
    };
    asked.iter().all(|word| words.contains(word)) && words.iter().any(|word| last_is(word))
}

/// All pages, one after another.
async fn walk(pool: &PgPool, filter: &Filter, limit: i64) -> Result<Vec<i64>> {
    let (mut ids, mut after) = (Vec::new(), 0);
    let mut conn = pool.acquire().await?;
    loop {
        let found = page(&mut conn, filter, after, limit).await?;
        ids.extend(found.iter().map(|contact| contact.id));
        match found.last() {
            Some(last) if found.len() as i64 == limit => after = last.id,
            _ => return Ok(ids),
        }
    }
}

#[tokio::test]
async fn every_page_of_a_search_is_what_a_look_at_each_contact_finds() -> Result<()> {
    let (namespace, database) = super::database("search").await?;
    let pool = &database.pool;
    fill(pool).await?;
    let (all, common) = (rows(pool).await?, common(pool).await?);
    let knows = |word: &str| common.iter().any(|common| common == word);
    ensure!(knows("maria") && knows("apellido1") && !knows("ma") && !knows("catal"), "{common:?}");
    for asked in [
        "maria",
        "MARÍA",
        "catalino",
        "catal",
        "norteno",
        "nandu",
        "apellido12 ana",
        "Ana Apellido1",
        "Ana Apellido",
        "ma",
        "catalino maria",
        "nobody",
        // A thousand, where a planner expects three.
        "de la cruz",
        "la cruz apellido12",
        "norteño apellido5",
    ] {
        let expected: Vec<i64> =
            all.iter().filter(|row| has(&row.name, asked, &common)).map(|row| row.id).collect();
        let filter = Filter { name: words(asked), ..Filter::default() };
        for limit in [7, 51, 201] {
            ensure!(walk(pool, &filter, limit).await? == expected, "{asked:?} in pages of {limit}");
        }
        let filter = Filter { state_code: Some("JAL".into()), status: Some("ACTIVE".into()), ..filter };
        let expected = all
            .iter()
            .filter(|row| has(&row.name, asked, &common) && row.state == "JAL" && row.status == "ACTIVE");
        let expected: Vec<i64> = expected.map(|row| row.id).collect();
        ensure!(walk(pool, &filter, 51).await? == expected, "{asked:?} of one state");
    }
    let everybody: Vec<i64> = all.iter().map(|row| row.id).collect();
    ensure!(walk(pool, &Filter::default(), 201).await? == everybody, "everybody");
    database.pool.close().await;
    namespace.cleanup().await
}

#[tokio::test]
async fn a_phone_is_found_whole_and_by_its_first_digits_and_an_address_by_its_words() -> Result<()> {
    let (namespace, database) = super::database("searchphone").await?;
    let pool = &database.pool;
    fill(pool).await?;
    let all = rows(pool).await?;
    for asked in ["612 000 0007", "+52 1 612 014 0000", "044 612 00", "612000", "6120001", "612", "999"] {
        let query = phone(asked)?;
        let begin = match &query {
            PhoneQuery::Whole(phone) => phone.to_string(),
            PhoneQuery::Begins(digits) => format!("+52{digits}"),
        };
        let expected: Vec<i64> =
            all.iter().filter(|row| row.phone.starts_with(&begin)).map(|row| row.id).collect();
        ensure!(expected.is_empty() == (asked == "999"), "{asked} is one of the phones");
        let filter = Filter { phone: Some(query), ..Filter::default() };
        ensure!(walk(pool, &filter, 201).await? == expected, "{asked}");
    }
    let filter = Filter { address: words("5 calle 30"), ..Filter::default() };
    let found = walk(pool, &filter, 51).await?;
    let expected: Vec<i64> = sqlx::query_scalar(
        "select id from contacts where address in ('Calle 30 #5', 'Calle 5 #30') order by id",
    )
    .fetch_all(pool)
    .await?;
    ensure!(!found.is_empty() && found == expected, "{found:?}");
    database.pool.close().await;
    namespace.cleanup().await
}

#[tokio::test]
async fn pages_of_places_are_in_the_order_of_the_ids() -> Result<()> {
    let (namespace, database) = super::database("searchplace").await?;
    let pool = &database.pool;
    fill(pool).await?;
    // Whoever opted out is found too.
    sqlx::query("update contacts set opt_out_at = now() where source_id % 7 = 0").execute(pool).await?;
    sqlx::query("update contacts set status = 'INVALID' where source_id % 11 = 0").execute(pool).await?;
    sqlx::query("vacuum analyze contacts").execute(pool).await?;
    let text = |text: &str| Some(text.to_owned());
    let everybody = Filter::default;
    for (filter, condition) in [
        (Filter { state_code: text("JAL"), ..everybody() }, "state_code = 'JAL'"),
        (Filter { city: text("Ciudad 4"), ..everybody() }, "city = 'Ciudad 4'"),
        (Filter { municipality: text("Municipio 3"), ..everybody() }, "municipality = 'Municipio 3'"),
        (Filter { lada: text("612"), ..everybody() }, "lada = '612'"),
        (Filter { lada: text("55"), ..everybody() }, "lada = '55'"),
        (Filter { status: text("INVALID"), ..everybody() }, "status = 'INVALID'"),
        (Filter { status: text("UNKNOWN"), ..everybody() }, "status = 'UNKNOWN'"),
        (
            Filter {
                city: text("Ciudad 2"),
                state_code: text("BCS"),
                status: text("INACTIVE"),
                ..everybody()
            },
            "city = 'Ciudad 2' and state_code = 'BCS' and status = 'INACTIVE'",
        ),
        (
            Filter { city: text("Ciudad 2"), state_code: text("JAL"), ..everybody() },
            "city = 'Ciudad 2' and state_code = 'JAL'",
        ),
    ] {
        let statement = format!("select id from contacts where {condition} order by id");
        let expected: Vec<i64> = sqlx::query_scalar(AssertSqlSafe(statement)).fetch_all(pool).await?;
        for limit in [51, 1_001] {
            ensure!(walk(pool, &filter, limit).await? == expected, "{condition} in pages of {limit}");
        }
    }
    database.pool.close().await;
    namespace.cleanup().await
}

#[tokio::test]
async fn a_sign_between_words_hides_neither() -> Result<()> {
    let (namespace, database) = super::database("searchsigns").await?;
    let pool = &database.pool;
    let people = [
        ("MA.GUADALUPE LOPEZ", "AV. 12-34 COL.CENTRO S/N"),
        ("PEREZ/GUADALUPE", "CALLE -77 INT.5"),
        ("JOSE_LUIS@GUADALUPE.MX", "KM +15.5 CARR.57"),
        ("ANA<GUADALUPE>", "C.P.01000 MZ&LT;3"),
        ("MARÍA-JOSÉ ÑÚÑEZ", "~/LOTE/8"),
    ];
    for (number, (name, address)) in people.iter().enumerate() {
        sqlx::query(
            "insert into contacts (phone_e164, full_name, address, lada, is_valid, status, consent, import, source_id)
             values ('+52' || (6120000000 + $1), $2, $3, '612', true, 'ACTIVE', 'unknown', 1, $1)",
        )
        .bind(number as i64)
        .bind(name)
        .bind(address)
        .execute(pool)
        .await?;
    }
    sqlx::query("vacuum analyze contacts").execute(pool).await?;
    let all: Vec<i64> =
        sqlx::query_scalar("select id from contacts order by source_id").fetch_all(pool).await?;
    for (name, address, should) in [
        (Some("guadalupe"), None, &[0, 1, 2, 3][..]),
        (Some("GUADALUPE MA"), None, &[0]),
        (Some("ma.guadalupe"), None, &[0]),
        (Some("luis jose"), None, &[2]),
        (Some("jose nunez"), None, &[4]),
        (Some("María-José"), None, &[4]),
        (None, Some("12"), &[0]),
        (None, Some("34 12"), &[0]),
        (None, Some("12-34"), &[0]),
        (None, Some("s/n centro"), &[0]),
        (None, Some("77"), &[1]),
        (None, Some("15 5"), &[2]),
        (None, Some("57"), &[2]),
        (None, Some("01000"), &[3]),
        (None, Some("lt 3"), &[3]),
        (None, Some("lote"), &[4]),
    ] {
        let filter =
            Filter { name: name.and_then(words), address: address.and_then(words), ..Filter::default() };
        // Sessions hold ids in reserve: those of later rows may be lower.
        let mut expected: Vec<i64> = should.iter().map(|number: &usize| all[*number]).collect();
        expected.sort_unstable();
        let found = walk(pool, &filter, 51).await?;
        ensure!(found == expected, "{name:?} {address:?} finds {found:?}, not {expected:?}");
    }
    database.pool.close().await;
    namespace.cleanup().await
}
