//! What a provider's answers and reports mean, code by code: whether a message may be sent again, whose fault it is, and
//! what a person reads. An unknown code has the meaning that does no harm.
//!
//! Sources: Telnyx, "Messaging Error Code Reference", "API error codes" and "Configurable spend limits"; Twilio, "Error
//! and warning dictionary" and "Message resource".

use super::message_state::Observed;
use super::sender::ProviderName;

/// What follows from an answer or a report.
///
/// In an answer, all but [`Outcome::Accepted`] and [`Outcome::Unknown`] say that the provider surely doesn't have the
/// message. In a report it had it, and lost it: there [`Outcome::Later`] says that another attempt can succeed, and the
/// two closed ones what has to be stopped besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The provider has the message.
    Accepted,
    /// Not now; later the same request may succeed.
    Later,
    /// It is this message's own fault, or its recipient's: trying again by itself gives the same.
    Failed,
    /// It is the sender's fault: others may succeed.
    SenderClosed,
    /// Nothing else will be accepted either: no funds, a wrong credential, a limit of the account. No row is burnt; a
    /// person or the balance opens the provider again.
    ProviderClosed,
    /// Nobody knows. It is not sent again.
    Unknown,
}

/// A provider's code and what it means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub outcome: Outcome,
    /// The provider's own code; none where it gave none.
    pub code: Option<u32>,
    /// Why, for people, in Spanish. It names no phone.
    pub reason: String,
    /// The phone's owner has opted out at the provider: it is suppressed here too.
    pub suppresses: bool,
    /// The number is a landline, or can't receive messages.
    pub landline: bool,
    /// Whether the provider may charge for it. What it refuses is free; where it doesn't say that a failed delivery is, it
    /// isn't.
    pub billed: bool,
    /// Whether another attempt can make sense when a person asks for it.
    pub repeatable: bool,
}

impl Verdict {
    /// What it says of the attempt, as an answer to its submission.
    pub const fn observed(&self) -> Observed {
        match self.outcome {
            Outcome::Accepted => Observed::Accepted,
            Outcome::Later | Outcome::SenderClosed | Outcome::ProviderClosed => Observed::NotAccepted,
            Outcome::Failed => Observed::Failed,
            Outcome::Unknown => Observed::Unknown,
        }
    }

    fn without_row(outcome: Outcome, code: Option<u32>, what: &str) -> Self {
        let code_text = code.map_or_else(String::new, |code| format!(" (código {code})"));
        Self {
            outcome,
            code,
            reason: format!("{what}{code_text}."),
            suppresses: false,
            landline: false,
            billed: true,
            repeatable: !matches!(outcome, Outcome::Unknown),
        }
    }
}

/// What a code says besides its outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    /// Its owner opted out.
    Suppresses,
    Landline,
    /// The provider says that it doesn't charge for it.
    Unbilled,
    /// It failed, but another attempt can succeed.
    Repeatable,
    /// Its validity ended.
    Expired,
}

#[derive(Debug)]
struct Row {
    code: u32,
    outcome: Outcome,
    marks: &'static [Mark],
    reason: &'static str,
}

const fn row(code: u32, outcome: Outcome, marks: &'static [Mark], reason: &'static str) -> Row {
    Row { code, outcome, marks, reason }
}

use Mark::{Expired, Landline, Repeatable, Suppresses, Unbilled};
use Outcome::{Failed, Later, ProviderClosed, SenderClosed, Unknown};

#[rustfmt::skip]
static TELNYX: [Row; 53] = [
    row(10001, SenderClosed, &[], "El número del remitente está inactivo"),
    row(10002, Failed, &[], "El número no es válido para el proveedor"),
    row(10003, Failed, &[Repeatable], "El proveedor no aceptó la URL de los reportes"),
    row(10004, Failed, &[Repeatable], "Al proveedor le faltó un dato de la petición"),
    row(10005, ProviderClosed, &[], "El proveedor no encuentra la cuenta o la dirección de su API"),
    row(10006, SenderClosed, &[], "El proveedor no conoce el perfil de mensajes"),
    row(10007, Unknown, &[], "El proveedor tuvo un error inesperado"),
    row(10008, Unknown, &[], "El proveedor no respondió a tiempo"),
    row(10009, ProviderClosed, &[], "El proveedor rechazó la credencial"),
    row(10010, ProviderClosed, &[], "La credencial no permite enviar mensajes"),
    row(10011, Later, &[], "El proveedor recibió demasiadas peticiones"),
    row(10015, Failed, &[Repeatable], "El proveedor no entendió la petición"),
    row(10016, Failed, &[], "El número no tiene el formato que el proveedor pide"),
    row(10027, Failed, &[Repeatable], "El proveedor no pudo procesar la petición"),
    row(10039, ProviderClosed, &[], "El nivel de la cuenta no permite este envío"),
    row(20100, ProviderClosed, &[], "La cuenta del proveedor no tiene fondos"),
    // Delivery.
    row(40001, Failed, &[Landline], "Es un teléfono fijo o no puede recibir mensajes"),
    row(40002, Failed, &[Repeatable], "La operadora lo bloqueó como spam por ahora"),
    row(40003, SenderClosed, &[Repeatable], "La operadora bloqueó al remitente como spam"),
    row(40004, Failed, &[Repeatable], "La operadora del destinatario lo rechazó"),
    row(40005, Failed, &[Repeatable, Expired], "Venció antes de entregarse"),
    row(40006, Later, &[Repeatable], "La operadora del destinatario no estaba disponible"),
    row(40008, Failed, &[Repeatable], "No se pudo entregar"),
    row(40009, Failed, &[], "La operadora rechazó el contenido"),
    row(40010, SenderClosed, &[Repeatable], "El remitente no está registrado como la operadora exige"),
    row(40011, Later, &[Repeatable], "La operadora recibió demasiados mensajes"),
    row(40012, Failed, &[], "La operadora dice que el número no es válido"),
    row(40013, SenderClosed, &[Repeatable], "La operadora dice que el remitente no es válido"),
    row(40014, Later, &[Repeatable, Expired, Unbilled], "Venció en la cola del proveedor"),
    row(40015, Failed, &[], "El filtro de contenido del proveedor lo bloqueó"),
    // Refusals.
    row(40300, Failed, &[Suppresses], "El destinatario pidió no recibir mensajes"),
    row(40301, Failed, &[], "El proveedor no admite este tipo de mensaje"),
    row(40302, Failed, &[], "El mensaje es demasiado largo"),
    row(40305, SenderClosed, &[], "El remitente no es válido"),
    row(40306, SenderClosed, &[], "El remitente alfanumérico no está configurado"),
    row(40307, SenderClosed, &[], "El remitente alfanumérico no está permitido"),
    row(40308, SenderClosed, &[], "El remitente no pertenece a la cuenta"),
    row(40309, SenderClosed, &[], "El perfil del remitente no permite enviar a esta región"),
    row(40310, Failed, &[], "El número del destinatario no es válido"),
    row(40311, SenderClosed, &[], "El secreto del perfil de mensajes no es válido"),
    row(40312, SenderClosed, &[], "El perfil de mensajes está desactivado"),
    row(40313, SenderClosed, &[], "Falta el secreto del perfil de mensajes"),
    row(40314, ProviderClosed, &[], "La cuenta tiene desactivados los mensajes"),
    row(40315, SenderClosed, &[], "El remitente tiene una mala reputación"),
    row(40316, Failed, &[], "El mensaje no tiene contenido"),
    row(40318, Later, &[], "La cola del remitente en el proveedor está llena"),
    row(40319, Failed, &[], "El destinatario no puede recibir este tipo de mensaje"),
    row(40320, SenderClosed, &[], "El remitente no se puede usar por ahora"),
    row(40321, SenderClosed, &[], "El perfil no tiene números que se puedan usar"),
    row(40322, Failed, &[], "El proveedor bloqueó el contenido"),
    row(40328, Failed, &[], "El mensaje es más largo de lo que el proveedor recomienda"),
    row(40331, SenderClosed, &[], "El remitente todavía no está verificado"),
    row(40333, ProviderClosed, &[], "Se alcanzó el límite de gasto diario; abre a medianoche UTC"),
];

#[rustfmt::skip]
static TWILIO: [Row; 51] = [
    row(10001, ProviderClosed, &[], "La cuenta del proveedor no está activa"),
    row(14107, Later, &[], "El proveedor recibió demasiadas peticiones"),
    row(20003, ProviderClosed, &[], "El proveedor rechazó la credencial"),
    row(20005, ProviderClosed, &[], "La cuenta del proveedor no está activa o no tiene fondos"),
    row(20404, ProviderClosed, &[], "El proveedor no encuentra la cuenta o la dirección de su API"),
    row(20429, Later, &[], "El proveedor recibió demasiadas peticiones"),
    row(21211, Failed, &[], "El número del destinatario no es válido"),
    row(21212, SenderClosed, &[], "El remitente no es válido"),
    row(21408, ProviderClosed, &[], "La cuenta no permite enviar a este país"),
    row(21602, Failed, &[], "El mensaje no tiene contenido"),
    row(21603, SenderClosed, &[], "Falta el remitente"),
    row(21604, Failed, &[], "Falta el destinatario"),
    row(21605, Failed, &[], "El mensaje es demasiado largo"),
    row(21606, SenderClosed, &[], "El remitente no puede enviar mensajes"),
    row(21608, Failed, &[], "La cuenta de prueba solo envía a números verificados"),
    row(21609, Failed, &[Repeatable], "El proveedor no aceptó la URL de los reportes"),
    row(21610, Failed, &[Suppresses], "El destinatario pidió no recibir mensajes"),
    row(21611, Later, &[], "La cola del remitente en el proveedor está llena"),
    row(21612, Failed, &[Repeatable], "El proveedor no llega a este destinatario con este remitente"),
    row(21614, Failed, &[Landline], "Es un teléfono fijo o no puede recibir mensajes"),
    row(21617, Failed, &[], "El mensaje es demasiado largo"),
    row(21635, Failed, &[Landline], "Es un teléfono fijo o no puede recibir mensajes"),
    row(21659, SenderClosed, &[], "El remitente no pertenece a la cuenta"),
    row(21660, SenderClosed, &[], "El remitente no pertenece a la cuenta"),
    row(21701, SenderClosed, &[], "El servicio de mensajes no existe"),
    row(21703, SenderClosed, &[], "El servicio de mensajes no tiene números que se puedan usar"),
    row(21704, SenderClosed, &[], "El servicio de mensajes no tiene números que se puedan usar"),
    row(21705, SenderClosed, &[], "El servicio de mensajes no es válido"),
    // Delivery.
    row(30001, Later, &[Repeatable, Unbilled], "La cola del remitente en el proveedor está llena"),
    row(30002, ProviderClosed, &[Repeatable, Unbilled], "La cuenta del proveedor fue suspendida antes de enviarlo"),
    row(30003, Failed, &[Repeatable], "El teléfono está apagado o fuera de alcance"),
    row(30004, Failed, &[], "La operadora o el destinatario bloquea estos mensajes"),
    row(30005, Failed, &[], "El número no existe o ya no está en servicio"),
    row(30006, Failed, &[Landline], "Es un teléfono fijo o su operadora no es alcanzable"),
    row(30007, Failed, &[], "La operadora filtró el contenido"),
    row(30008, Failed, &[Repeatable], "No se pudo entregar"),
    row(30010, Failed, &[], "El precio es mayor que el máximo"),
    row(30017, Later, &[Repeatable], "La red de la operadora está congestionada"),
    row(30019, Failed, &[], "El contenido es demasiado largo para la operadora"),
    row(30022, Later, &[Repeatable], "La operadora recibió demasiados mensajes"),
    row(30023, Later, &[Repeatable], "La operadora no acepta más mensajes de este remitente por hoy"),
    row(30024, SenderClosed, &[Repeatable], "El remitente no está dado de alta en la operadora"),
    row(30027, Later, &[Repeatable], "La operadora no acepta más mensajes de esta cuenta por hoy"),
    row(30032, SenderClosed, &[Repeatable], "El remitente todavía no está verificado"),
    row(30034, SenderClosed, &[Repeatable], "El remitente no está registrado como la operadora exige"),
    row(30035, SenderClosed, &[Repeatable], "El remitente está mal configurado"),
    row(30036, Failed, &[Repeatable, Expired], "Venció antes de entregarse"),
    row(30410, Failed, &[Repeatable], "La operadora no respondió al proveedor"),
    row(30450, Failed, &[], "El proveedor bloqueó este envío por riesgo de fraude"),
    row(30453, Failed, &[Repeatable], "No se pudo entregar"),
    row(63038, ProviderClosed, &[], "La cuenta alcanzó su límite diario de mensajes"),
];

fn find(provider: ProviderName, code: u32) -> Option<&'static Row> {
    let table: &[Row] = match provider {
        ProviderName::Telnyx => &TELNYX,
        ProviderName::Twilio => &TWILIO,
        ProviderName::Log => &[],
    };
    let at = table.binary_search_by_key(&code, |row| row.code).ok()?;
    table.get(at)
}

fn verdict(row: &Row) -> Verdict {
    let marked = |mark| row.marks.contains(&mark);
    Verdict {
        outcome: row.outcome,
        code: Some(row.code),
        reason: format!("{}.", row.reason),
        suppresses: marked(Suppresses),
        landline: marked(Landline),
        billed: !marked(Unbilled),
        repeatable: marked(Repeatable) || matches!(row.outcome, Later | SenderClosed | ProviderClosed),
    }
}

/// What an answer to a submission says that is no success: its HTTP status, and the code in its body.
///
/// A timeout (408), a server's error (5xx) and an answer that no API gives (1xx, 3xx) say nothing of the message, whatever
/// code comes with them, and nor does 409: the same request is still under way. Every other refusal came before the
/// message was accepted; where its code is unknown, 401, 402 and 404 close the provider, 429 is a matter of time, and
/// all else fails this one message, so that one odd number can't stop the rest.
pub fn refusal(provider: ProviderName, status: u16, code: Option<u32>) -> Verdict {
    if !(400..500).contains(&status) || matches!(status, 408 | 409) {
        let mut verdict = Verdict::without_row(Unknown, code, "El proveedor no dijo si lo aceptó");
        verdict.reason = format!("El proveedor no dijo si lo aceptó (HTTP {status}).");
        return verdict;
    }
    let mut verdict = match code.and_then(|code| find(provider, code)) {
        Some(row) => verdict(row),
        None => {
            let (outcome, what) = match status {
                401 => (ProviderClosed, "El proveedor rechazó la credencial"),
                402 => (ProviderClosed, "La cuenta del proveedor no tiene fondos"),
                404 => (ProviderClosed, "El proveedor no encuentra la cuenta o la dirección de su API"),
                429 => (Later, "El proveedor recibió demasiadas peticiones"),
                _ => (Failed, "El proveedor rechazó el mensaje"),
            };
            Verdict::without_row(outcome, code, what)
        }
    };
    verdict.billed = verdict.outcome == Unknown;
    verdict
}

/// What a report of a message says, in a webhook or in the provider's records: its status, and its first error's code.
///
/// There is a verdict where it didn't arrive. A status that nobody knows says no more than that the provider has the
/// message.
pub fn report(provider: ProviderName, status: &str, code: Option<u32>) -> (Observed, Option<Verdict>) {
    let observed = match provider {
        ProviderName::Telnyx => telnyx_status(status),
        ProviderName::Twilio => twilio_status(status),
        ProviderName::Log => Observed::Delivered,
    };
    let row = code.and_then(|code| find(provider, code));
    let observed = match (observed, row) {
        // Both providers say failed, and only the code says that it was too late.
        (Observed::Failed, Some(row)) if row.marks.contains(&Expired) => Observed::Expired,
        (observed, _) => observed,
    };
    let verdict = match observed {
        Observed::Failed => {
            Some(row.map_or_else(|| Verdict::without_row(Failed, code, "No se pudo entregar"), verdict))
        }
        Observed::Expired => {
            let unknown = || Verdict::without_row(Failed, code, "Venció antes de entregarse");
            Some(row.map_or_else(unknown, verdict))
        }
        Observed::Unconfirmed => {
            let unknown = || Verdict::without_row(Unknown, code, "La operadora no confirmó la entrega");
            Some(row.map_or_else(unknown, verdict))
        }
        _ => None,
    };
    (observed, verdict)
}

/// Statuses of `to[].status`, and those of detail records, which are others.
fn telnyx_status(status: &str) -> Observed {
    match status {
        "sent" => Observed::Sent,
        "delivered" | "read" => Observed::Delivered,
        "sending_failed" | "delivery_failed" | "failed" | "gw_reject" => Observed::Failed,
        "expired" => Observed::Expired,
        // A gateway that didn't answer may have sent it.
        "delivery_unconfirmed" | "dlr_unconfirmed" | "dlr_timeout" | "gw_timeout" => Observed::Unconfirmed,
        // queued, sending, and what is new.
        _ => Observed::Accepted,
    }
}

fn twilio_status(status: &str) -> Observed {
    match status {
        "sent" => Observed::Sent,
        "delivered" | "read" => Observed::Delivered,
        "undelivered" | "failed" | "canceled" => Observed::Failed,
        // Some parts arrived.
        "partially_delivered" => Observed::Unconfirmed,
        // accepted, scheduled, queued, sending, and what is new.
        _ => Observed::Accepted,
    }
}

#[cfg(test)]
#[path = "outcomes_tests.rs"]
mod tests;
