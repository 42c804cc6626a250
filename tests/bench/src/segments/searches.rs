use super::{Arena, REQUESTS, items, timed};
use anyhow::{Result, ensure};
use reqwest::Method;
use sea_orm::sqlx;
use stack::platform::answer;

/// `search_name`: each of the ten commonest words, then words drawn by their frequency, every third time two of one name, and
/// now and then a word only begun.
pub async fn by_name(arena: &Arena) -> Result<()> {
    let mut terms: Vec<String> = sqlx::query_scalar(
        "select word from (select unnest(tsvector_to_array(to_tsvector('simple', words(full_name)))) as word
                           from contacts tablesample system (10)) words
         group by word order by count(*) desc limit 10",
    )
    .fetch_all(&arena.pool)
    .await?;
    // A word of somebody at random is a word drawn by its frequency.
    let names: Vec<Vec<String>> = sqlx::query_scalar(
        "select string_to_array(full_name, ' ') from contacts where full_name is not null
         order by hashint8extended(id, 1) limit $1",
    )
    .bind((REQUESTS - terms.len()) as i64)
    .fetch_all(&arena.pool)
    .await?;
    for (number, words) in names.iter().enumerate() {
        let word = |place: usize| words.get(place % words.len()).map_or("maria", String::as_str);
        terms.push(match number % 6 {
            0 | 3 => format!("{} {}", word(number), word(number + 1)),
            5 => word(number).chars().take(4).collect(),
            _ => word(number).to_owned(),
        });
    }
    let (mut times, mut slowest) = (Vec::new(), (0.0, String::new()));
    for term in terms {
        let request =
            arena.client.request(Method::GET, "/api/v1/contacts").query(&[("nombre", term.as_str())]);
        let (took, page) = timed(answer(request)).await?;
        ensure!(!items(&page).is_empty(), "{term:?} is somebody's name");
        if took > slowest.0 {
            slowest = (took, term);
        }
        times.push(took);
    }
    arena.figure("search_name", times).with("slowest", serde_json::json!(slowest.1)).print();
    Ok(())
}

/// `search_phone`: whole, in several spellings, and by the first digits.
pub async fn by_phone(arena: &Arena) -> Result<()> {
    let phones: Vec<String> = sqlx::query_scalar(
        "select substr(phone_e164, 4) from contacts order by hashint8extended(id, 2) limit $1",
    )
    .bind(REQUESTS as i64)
    .fetch_all(&arena.pool)
    .await?;
    let mut times = Vec::new();
    for (number, phone) in phones.iter().enumerate() {
        let asked = match number % 6 {
            0 => format!("+52 {phone}"),
            1 => format!("044 {} {}", &phone[..3], &phone[3..]),
            2 => format!("+52 1 {}-{}", &phone[..6], &phone[6..]),
            3 => phone[..3].to_owned(),
            4 => phone[..7].to_owned(),
            _ => phone.clone(),
        };
        let request = arena.client.request(Method::GET, "/api/v1/contacts").query(&[("telefono", asked)]);
        let (took, page) = timed(answer(request)).await?;
        ensure!(!items(&page).is_empty(), "{phone} is somebody's phone");
        times.push(took);
    }
    arena.figure("search_phone", times).print();
    Ok(())
}
