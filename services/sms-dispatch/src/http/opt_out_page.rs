//! The page behind the link of a message: whoever got the message may opt out there. Showing it does nothing, for previews of
//! links and scanners open whatever stands in a message; only its button does.

use actix_web::{
    HttpResponse,
    http::{StatusCode, header},
    web::{Data, Path},
};
use chassis::{ApiResult, Problem};
use sea_orm::sqlx::PgConnection;
use serde_json::json;

use super::Resources;
use crate::{
    domain::link::Token,
    opt_outs,
    storage::{audit, campaigns, ledger},
};

/// Nothing is loaded, nobody frames it, and its form goes nowhere else.
const POLICY: &str = "default-src 'none'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// A phone that a link belongs to, and the campaign of its message.
struct Owner {
    phone: String,
    campaign: String,
}

impl Owner {
    /// What a page shows of the phone: whoever has the link may be somebody else.
    fn last_digits(&self) -> &str {
        self.phone.get(self.phone.len().saturating_sub(4)..).unwrap_or_default()
    }
}

/// Whose link it is; none where we did not make it, or its message is past retention.
async fn owner(conn: &mut PgConnection, text: &str) -> Result<Option<Owner>, Problem> {
    let Some(token) = Token::parse(text) else { return Ok(None) };
    let Some(campaign) = campaigns::by_number(conn, token.id.campaign).await? else { return Ok(None) };
    let links = campaign.frozen.as_ref().and_then(|frozen| frozen.links.as_ref());
    if campaign.date != Some(token.id.date) || !links.is_some_and(|links| links.made(&token)) {
        return Ok(None);
    }
    let row = ledger::get(conn, token.id).await?;
    Ok(row.map(|row| Owner { phone: row.phone_e164, campaign: campaign.id.to_string() }))
}

/// A page without anything but its text.
fn page(status: StatusCode, title: &str, body: &str) -> HttpResponse {
    let html = format!(
        "<!doctype html>\n<html lang=\"es-MX\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n</head>\n\
         <body>\n<main>\n<h1>{title}</h1>\n{body}\n</main>\n</body>\n</html>\n"
    );
    HttpResponse::build(status)
        .content_type("text/html; charset=utf-8")
        .insert_header((header::CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((header::REFERRER_POLICY, "no-referrer"))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header(("X-Robots-Tag", "noindex"))
        .body(html)
}

fn no_link() -> HttpResponse {
    page(
        StatusCode::NOT_FOUND,
        "Enlace no válido",
        "<p>Este enlace no es válido o ya venció. Para dejar de recibir mensajes, responda BAJA al mensaje.</p>",
    )
}

/// Asks whoever has a message's link whether they want no more messages.
#[utoipa::path(
    operation_id = "opt_out_page", summary = "Ver la página de baja de un mensaje",
    description = "Lo que abre el enlace de {baja}. Solo muestra: las vistas previas de enlaces también la abren.",
    get, path = "/b/{token}", tag = "campaigns", params(("token" = String, Path)),
    responses(
        (status = 200, body = String, content_type = "text/html"),
        (status = 404, description = "El enlace no vale: una página lo dice", body = String, content_type = "text/html"),
    ),
    security(())
)]
pub(super) async fn show(api: Data<Resources>, token: Path<String>) -> ApiResult {
    let mut conn = api.database.pool.acquire().await?;
    let Some(owner) = owner(&mut conn, &token).await? else { return Ok(no_link()) };
    let body = format!(
        "<p>El número que termina en {} dejará de recibir nuestros mensajes SMS.</p>\n\
         <form method=\"post\"><button type=\"submit\">Darme de baja</button></form>",
        owner.last_digits()
    );
    Ok(page(StatusCode::OK, "¿Dejar de recibir mensajes?", &body))
}

/// Opts the owner of a message's link out, everywhere and at once. Done again it changes nothing.
#[utoipa::path(
    operation_id = "opt_out_by_link", summary = "Darse de baja con el enlace de un mensaje",
    description = "El número no recibe más mensajes, de ninguna campaña.",
    post, path = "/b/{token}", tag = "campaigns", params(("token" = String, Path)),
    responses(
        (status = 200, body = String, content_type = "text/html"),
        (status = 404, description = "El enlace no vale: una página lo dice", body = String, content_type = "text/html"),
    ),
    security(())
)]
pub(super) async fn opt_out(api: Data<Resources>, token: Path<String>) -> ApiResult {
    let mut transaction = api.database.pool.begin().await?;
    let Some(owner) = owner(&mut transaction, &token).await? else { return Ok(no_link()) };
    let phones = [owner.phone.clone()];
    let fresh = opt_outs::suppress(&mut transaction, &phones, "enlace", "recipient").await?;
    let details = json!({ "campaign": owner.campaign });
    audit::record(&mut transaction, "recipient", "contact_opted_out", Some(&owner.phone), &details).await?;
    transaction.commit().await?;
    opt_outs::follow(&api.database.pool, &fresh).await;
    let body =
        format!("<p>El número que termina en {} no recibirá más mensajes nuestros.</p>", owner.last_digits());
    Ok(page(StatusCode::OK, "Listo", &body))
}
