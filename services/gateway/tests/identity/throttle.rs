use std::time::Duration;

use chrono::TimeDelta;
use futures::future::join_all;
use gateway::domain::throttle::Policy;
use serde_json::json;

use crate::door::{ADMIN, Door, PASSWORD, now, send};

const STRICT: Policy = Policy {
    free: 3,
    base: Duration::from_secs(10),
    cap: Duration::from_secs(40),
    forget: Duration::from_secs(3600),
};
const WRONG: &str = "wrong-password";

#[tokio::test]
async fn guessing_one_account_costs_ever_more_time_but_never_locks_it() -> anyhow::Result<()> {
    let door = Door::with("guess", now(), |settings| settings.throttle_account = STRICT).await?;
    let replica = door.replica(|_| {}).await?;
    for _ in 0..4 {
        door.log_in(ADMIN, WRONG).await?.expect(401)?;
    }
    // From here on, at every replica, whatever the password.
    for at in [&door, &replica] {
        let refused = at.log_in(ADMIN, PASSWORD).await?.expect(429)?;
        assert_eq!(
            (&refused.body["code"], &refused.headers["retry-after"]),
            (&json!("login_throttled"), &"10".parse()?)
        );
    }
    // Not from elsewhere: the administrator gets in while somebody guesses.
    door.log_in_from("198.51.100.7", ADMIN, PASSWORD).await?.expect(200)?;

    // Attempts while waiting prolong nothing; each further failure doubles the wait, up to the cap.
    for wait in [10, 20, 40, 40] {
        door.advance(TimeDelta::seconds(wait - 1));
        assert_eq!(door.log_in(ADMIN, PASSWORD).await?.expect(429)?.headers["retry-after"], "1");
        door.advance(TimeDelta::seconds(1));
        door.log_in(ADMIN, WRONG).await?.expect(401)?;
    }
    door.advance(TimeDelta::seconds(40));
    door.log_in(ADMIN, PASSWORD).await?.expect(200)?;
    // The right password settles it.
    for _ in 0..4 {
        door.log_in(ADMIN, WRONG).await?.expect(401)?;
    }
    door.log_in(ADMIN, WRONG).await?.expect(429)?;
    // And so does time.
    door.advance(TimeDelta::seconds(3700));
    for _ in 0..4 {
        door.log_in(ADMIN, WRONG).await?.expect(401)?;
    }
    Ok(())
}

#[tokio::test]
async fn guesses_sent_at_once_are_counted_one_by_one() -> anyhow::Result<()> {
    let door = Door::with("burst", now(), |settings| settings.throttle_account = STRICT).await?;
    let answers = join_all((0..24).map(|_| door.log_in(ADMIN, WRONG))).await;
    let statuses =
        answers.into_iter().map(|answer| Ok(answer?.status)).collect::<anyhow::Result<Vec<_>>>()?;
    assert_eq!(statuses.iter().filter(|status| **status == 401).count(), 4, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 429).count(), 20, "{statuses:?}");
    Ok(())
}

#[tokio::test]
async fn trying_many_accounts_from_one_address_is_seen() -> anyhow::Result<()> {
    let door = Door::with("spray", now(), |settings| settings.throttle_address = STRICT).await?;
    // Right passwords don't count.
    for _ in 0..6 {
        door.log_in(ADMIN, PASSWORD).await?.expect(200)?;
    }
    for account in ["a-one", "b-two", "c-three", "d-four"] {
        door.log_in(account, WRONG).await?.expect(401)?;
    }
    door.log_in("e-five", WRONG).await?.expect(429)?;
    door.log_in_from("198.51.100.7", "e-five", WRONG).await?.expect(401)?;
    // One's own right password does not wash off the guesses before it.
    door.advance(TimeDelta::seconds(10));
    door.log_in(ADMIN, PASSWORD).await?.expect(200)?;
    door.log_in("e-five", WRONG).await?.expect(401)?;
    assert_eq!(door.log_in("f-six", WRONG).await?.expect(429)?.headers["retry-after"], "20");
    Ok(())
}

#[tokio::test]
async fn name_and_address_are_one_account() -> anyhow::Result<()> {
    let door = Door::with("spelled", now(), |settings| settings.throttle_account = STRICT).await?;
    let admin = door.admin().await?;
    let user = door.user(&admin, "luis", chassis::auth::Role::Viewer).await?;
    door.change(&admin, &user, &json!({ "email": "luis@lote.example" })).await?.expect(200)?;
    for login in ["luis", "luis@lote.example", " Luis", "LUIS@lote.example"] {
        door.log_in(login, WRONG).await?.expect(401)?;
    }
    for login in ["luis", "luis@lote.example"] {
        door.log_in(login, PASSWORD).await?.expect(429)?;
    }
    Ok(())
}

#[tokio::test]
async fn a_stolen_access_token_does_not_allow_guessing_the_password() -> anyhow::Result<()> {
    let door = Door::with("stolen", now(), |settings| settings.throttle_account = STRICT).await?;
    let token = door.admin().await?;
    let guess = async || {
        let body = json!({ "current_password": WRONG, "new_password": "another-good-one" });
        send(door.post("/api/v1/auth/password", &body).bearer_auth(&token)).await
    };
    for _ in 0..4 {
        guess().await?.expect(401)?;
    }
    guess().await?.expect(429)?;
    Ok(())
}
