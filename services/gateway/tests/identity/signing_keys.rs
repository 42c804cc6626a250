use chassis::config::Secret;
use chrono::TimeDelta;
use futures::future::try_join_all;
use gateway::identity::Identity;
use sea_orm::sqlx;

use crate::door::{Door, send};

async fn published(door: &Door) -> anyhow::Result<Vec<String>> {
    let set = send(door.get("/.well-known/jwks.json")).await?.expect(200)?.body;
    let keys = set["keys"].as_array().cloned().unwrap_or_default();
    assert!(keys.iter().all(|key| key.get("d").is_none()), "public parts only");
    Ok(keys.iter().map(|key| key["kid"].as_str().unwrap_or_default().to_owned()).collect())
}

fn signer(token: &str) -> anyhow::Result<String> {
    Ok(jsonwebtoken::decode_header(token)?.kid.unwrap_or_default())
}

#[tokio::test]
async fn keys_overlap_and_replicas_agree() -> anyhow::Result<()> {
    let door = Door::open("overlap").await?;
    let replica = door.replica(|_| {}).await?;
    let me = async |at: &Door, token: &str| send(at.get("/auth/me").bearer_auth(token)).await;
    let old = published(&door).await?;
    assert_eq!((old.len(), published(&replica).await?), (1, old.clone()));
    assert_eq!(signer(&door.admin().await?)?, old[0]);

    // An hour before it signs, the next key is published.
    door.advance(TimeDelta::days(30) - TimeDelta::minutes(61));
    door.identity.maintain_once().await?;
    assert_eq!(published(&door).await?, old);
    door.advance(TimeDelta::minutes(2));
    for _ in 0..2 {
        door.identity.maintain_once().await?;
        replica.identity.maintain_once().await?;
    }
    let both = published(&door).await?;
    assert_eq!((both.len(), published(&replica).await?), (2, both.clone()));
    let before = door.admin().await?;
    assert_eq!(signer(&before)?, old[0], "not yet");

    door.advance(TimeDelta::minutes(60));
    let after = replica.admin().await?;
    assert_eq!(signer(&after)?, both[1], "without asking the database");
    me(&door, &after).await?.expect(200)?;
    me(&replica, &before).await?.expect(200)?;

    // The old one goes when its last token is over.
    door.identity.maintain_once().await?;
    assert_eq!(published(&door).await?, both);
    door.advance(TimeDelta::minutes(17));
    door.identity.maintain_once().await?;
    assert_eq!(published(&door).await?, both[1..]);
    me(&door, &before).await?.expect(401)?;
    me(&door, &after).await?.expect(200)?;
    assert_eq!(door.audited("signing_key.created").await?, 2);
    assert_eq!(door.audited("signing_key.withdrawn").await?, 1);
    Ok(())
}

#[tokio::test]
async fn a_replica_that_missed_a_rotation_looks_the_key_up() -> anyhow::Result<()> {
    let door = Door::open("missed").await?;
    let replica = door.replica(|_| {}).await?;
    door.advance(TimeDelta::days(30));
    door.identity.maintain_once().await?;
    door.advance(TimeDelta::hours(1));
    let token = door.admin().await?;
    assert!(!published(&replica).await?.contains(&signer(&token)?));
    send(replica.get("/auth/me").bearer_auth(&token)).await?.expect(200)?;
    Ok(())
}

#[tokio::test]
async fn replicas_that_start_at_once_make_one_key() -> anyhow::Result<()> {
    let door = Door::open("start").await?;
    sqlx::query("DELETE FROM signing_keys").execute(&door.database.pool).await?;
    let opened = try_join_all((0..4).map(|_| Identity::open(&door.database, door.settings.clone()))).await?;
    let kids: Vec<String> =
        sqlx::query_scalar("SELECT kid FROM signing_keys").fetch_all(&door.database.pool).await?;
    assert_eq!(kids.len(), 1);
    for identity in opened {
        let set = identity.jwks()?;
        assert!(set.keys.len() == 1 && set.find(&kids[0]).is_some());
    }
    Ok(())
}

#[tokio::test]
async fn the_database_alone_does_not_give_the_keys_away() -> anyhow::Result<()> {
    let door = Door::open("sealed").await?;
    let mut settings = door.settings.clone();
    settings.encryption_secret = Secret::new("another encryption secret, a wrong one".to_owned());
    let refused = Identity::open(&door.database, settings.clone()).await.err().map(|error| error.to_string());
    assert!(refused.as_deref().is_some_and(|text| text.contains("KEY_ENCRYPTION_SECRET")), "{refused:?}");
    settings.encryption_secret = Secret::new("short".to_owned());
    assert!(Identity::open(&door.database, settings).await.is_err());

    let shown = format!("{:?} {:?}", door.identity, door.settings);
    for secret in [door.settings.encryption_secret.expose().as_str(), crate::door::PASSWORD] {
        assert!(!shown.contains(secret), "{shown}");
    }
    Ok(())
}
