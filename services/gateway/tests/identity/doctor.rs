use gateway::storage::doctor;
use sea_orm::sqlx;

use crate::door::{ADMIN, Door, PASSWORD};

#[tokio::test]
async fn finds_what_must_not_be() -> anyhow::Result<()> {
    let door = Door::open("doctor").await?;
    let pool = &door.database.pool;
    let login = door.log_in(ADMIN, PASSWORD).await?.expect(200)?;
    door.refresh(&login.text("refresh_token")).await?.expect(200)?;
    door.session(ADMIN).await?;
    assert_eq!(doctor(pool).await?, [""; 0]);

    for (damage, finding) in [
        ("UPDATE refresh_tokens SET generation = 9 WHERE generation = 2", "has not reached"),
        ("DELETE FROM refresh_tokens WHERE generation = 9", "newest generation"),
        ("UPDATE users SET disabled_at = now()", "live logins of disabled users"),
        ("UPDATE token_families SET expires_at = now() - interval '2 days'", "still stored"),
        ("UPDATE users SET role = 'viewer'", "no enabled administrator"),
        ("DELETE FROM signing_keys", "no signing key"),
    ] {
        sqlx::query(damage).execute(pool).await?;
        let findings = doctor(pool).await?;
        assert!(findings.iter().any(|found| found.contains(finding)), "{damage}: {findings:?}");
    }
    Ok(())
}
