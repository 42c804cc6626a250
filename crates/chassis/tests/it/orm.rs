//! Entities on a connection of sqlx.

use chassis::{
    config::DatabaseSettings,
    db::{self, Database, Orm},
};
use sea_orm::{ActiveValue::Set, SqlErr, entity::prelude::*, sqlx};
use stack::Namespace;
use tokio_util::sync::CancellationToken;

#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text")]
enum State {
    #[sea_orm(string_value = "open")]
    Open,
    #[sea_orm(string_value = "done")]
    Done,
}

mod things {
    use sea_orm::entity::prelude::*;

    use super::State;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "things")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: i64,
        pub state: State,
        pub note: Option<String>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

async fn database(name: &str) -> anyhow::Result<(Namespace, Database)> {
    let namespace = Namespace::create(name).await?;
    let settings = DatabaseSettings::at(&namespace.database_url);
    let database = db::connect(&settings, "chassis-test", &CancellationToken::new()).await?;
    sqlx::query("CREATE TABLE things (id bigint PRIMARY KEY, state text NOT NULL, note text)")
        .execute(&database.pool)
        .await?;
    Ok((namespace, database))
}

fn thing(id: i64) -> things::ActiveModel {
    things::ActiveModel { id: Set(id), state: Set(State::Open), note: Set(None) }
}

#[tokio::test]
async fn an_entity_written_on_a_connection_is_part_of_its_transaction() -> anyhow::Result<()> {
    let (_namespace, database) = database("chassis_orm_transaction").await?;
    let find = |id| things::Entity::find_by_id(id);
    for commits in [false, true] {
        let mut transaction = database.pool.begin().await?;
        let orm = Orm::on(&mut transaction);
        things::Entity::insert(thing(7)).exec_without_returning(&orm).await?;
        let done = things::ActiveModel { id: Set(7), state: Set(State::Done), ..Default::default() };
        let updated = things::Entity::update(done).exec(&orm).await?;
        assert_eq!(updated, things::Model { id: 7, state: State::Done, note: None });
        // SQL sees on the same connection what the entity wrote, and nobody else does.
        let state: String =
            sqlx::query_scalar("SELECT state FROM things").fetch_one(&mut *transaction).await?;
        assert_eq!(state, "done");
        assert_eq!(find(7).one(&database.orm).await?, None);
        if commits {
            transaction.commit().await?;
        } else {
            transaction.rollback().await?;
        }
        assert_eq!(find(7).one(&database.orm).await?.is_some(), commits);
    }
    Ok(())
}

#[tokio::test]
async fn a_statement_of_an_entity_is_prepared_once_per_connection() -> anyhow::Result<()> {
    let (_namespace, database) = database("chassis_orm_prepared").await?;
    let mut conn = database.pool.acquire().await?;
    for id in 0..5 {
        things::Entity::insert(thing(id)).exec_without_returning(&Orm::on(&mut conn)).await?;
        things::Entity::find_by_id(id).one(&Orm::on(&mut conn)).await?;
        things::Entity::find().filter(things::Column::Id.eq_any(0..id)).all(&Orm::on(&mut conn)).await?;
    }
    let prepared: Vec<String> =
        sqlx::query_scalar("SELECT statement FROM pg_prepared_statements WHERE statement LIKE '%things%'")
            .persistent(false)
            .fetch_all(&mut *conn)
            .await?;
    // The insert, the look-up, the list of keys, and the one whose list is empty.
    assert_eq!(prepared.len(), 4, "{prepared:#?}");
    Ok(())
}

#[tokio::test]
async fn a_column_that_is_added_breaks_no_statement_that_was_prepared_before() -> anyhow::Result<()> {
    let (_namespace, database) = database("chassis_orm_columns").await?;
    let mut conn = database.pool.acquire().await?;
    things::Entity::insert(thing(1)).exec_without_returning(&Orm::on(&mut conn)).await?;
    let by_hand = format!("SELECT {} FROM things t", db::columns::<things::Entity>("t"));
    for added in [false, true] {
        if added {
            sqlx::raw_sql("ALTER TABLE things ADD COLUMN more text").execute(&mut *conn).await?;
        }
        let found = things::Entity::find().all(&Orm::on(&mut conn)).await?;
        let row = sqlx::query(sqlx::AssertSqlSafe(by_hand.clone())).fetch_one(&mut *conn).await?;
        assert_eq!(found, [db::decode::<things::Model>(row)?], "added: {added}");
    }
    Ok(())
}

#[tokio::test]
async fn what_the_database_refuses_keeps_its_reason() -> anyhow::Result<()> {
    let (_namespace, database) = database("chassis_orm_refused").await?;
    let mut conn = database.pool.acquire().await?;
    let orm = Orm::on(&mut conn);
    things::Entity::insert(thing(1)).exec_without_returning(&orm).await?;
    let again = things::Entity::insert(thing(1)).exec_without_returning(&orm).await.expect_err("it is there");
    assert!(matches!(again.sql_err(), Some(SqlErr::UniqueConstraintViolation(_))), "{again}");
    assert!(!db::orm_unavailable(&again));
    Ok(())
}
