//! What a campaign is, and how it may go from one state to the next.

use chrono_tz::Tz;
use sea_orm::{DeriveActiveEnum, EnumIter, FromJsonQueryResult};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    audience_file::FileAudience,
    link::Links,
    money::Money,
    own_hour::OwnHour,
    segment::{BadSegment, Segment},
    sender::{ProviderName, SenderKind},
};

/// En qué punto está una campaña.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema, EnumIter, DeriveActiveEnum,
)]
#[serde(rename_all = "snake_case")]
#[sea_orm(rs_type = "String", db_type = "Text")]
pub enum State {
    /// Su plan puede cambiar.
    #[sea_orm(string_value = "draft")]
    Draft,
    /// Inicia por sí sola a su hora.
    #[sea_orm(string_value = "scheduled")]
    Scheduled,
    /// Se escribe la lista de sus mensajes.
    #[sea_orm(string_value = "preparing")]
    Preparing,
    #[sea_orm(string_value = "running")]
    Running,
    #[sea_orm(string_value = "paused")]
    Paused,
    #[sea_orm(string_value = "completed")]
    Completed,
    #[sea_orm(string_value = "cancelled")]
    Cancelled,
    #[sea_orm(string_value = "failed")]
    Failed,
}

impl State {
    /// Its name in tables and APIs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Scheduled => "scheduled",
            Self::Preparing => "preparing",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Completed => "completed",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
        }
    }

    /// As report's users read it.
    pub const fn told(self) -> &'static str {
        match self {
            Self::Draft => "BORRADOR",
            Self::Scheduled => "PROGRAMADA",
            Self::Preparing | Self::Running => "EN PROCESO",
            Self::Paused => "PAUSADA",
            Self::Completed => "COMPLETADA",
            Self::Cancelled => "CANCELADA",
            Self::Failed => "FALLIDA",
        }
    }

    /// Where `action` leads from here; none where it is not allowed.
    pub fn after(self, action: Action) -> Option<Self> {
        TRANSITIONS.iter().find(|(from, by, _)| *from == self && *by == action).map(|(_, _, to)| *to)
    }
}

/// What changes a campaign's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Schedule,
    Unschedule,
    Start,
    /// The ledger is written.
    Prepared,
    Pause,
    Resume,
    Cancel,
    /// Nothing is left to send.
    Complete,
    /// The ledger can't be written.
    Fail,
    /// Messages that failed are to be sent again.
    Retry,
}

impl Action {
    /// As audits have it, in the past.
    pub const fn audited(self) -> &'static str {
        match self {
            Self::Schedule => "campaign_scheduled",
            Self::Unschedule => "campaign_unscheduled",
            Self::Start => "campaign_started",
            Self::Prepared => "campaign_prepared",
            Self::Pause => "campaign_paused",
            Self::Resume => "campaign_resumed",
            Self::Cancel => "campaign_cancelled",
            Self::Complete => "campaign_completed",
            Self::Fail => "campaign_failed",
            Self::Retry => "campaign_retried",
        }
    }
}

/// The one table of transitions: what is not in it does not happen.
const TRANSITIONS: &[(State, Action, State)] = &[
    (State::Draft, Action::Schedule, State::Scheduled),
    (State::Draft, Action::Start, State::Preparing),
    (State::Draft, Action::Cancel, State::Cancelled),
    (State::Scheduled, Action::Schedule, State::Scheduled),
    (State::Scheduled, Action::Unschedule, State::Draft),
    (State::Scheduled, Action::Start, State::Preparing),
    (State::Scheduled, Action::Cancel, State::Cancelled),
    (State::Preparing, Action::Prepared, State::Running),
    (State::Preparing, Action::Fail, State::Failed),
    (State::Preparing, Action::Cancel, State::Cancelled),
    (State::Running, Action::Pause, State::Paused),
    (State::Running, Action::Complete, State::Completed),
    (State::Running, Action::Cancel, State::Cancelled),
    (State::Running, Action::Retry, State::Running),
    (State::Paused, Action::Resume, State::Running),
    (State::Paused, Action::Cancel, State::Cancelled),
    (State::Paused, Action::Retry, State::Paused),
    (State::Completed, Action::Retry, State::Running),
];

/// Para qué es una campaña: la ley y el tope de publicidad las tratan de forma distinta.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema, EnumIter, DeriveActiveEnum,
)]
#[serde(rename_all = "snake_case")]
#[sea_orm(rs_type = "String", db_type = "Text")]
pub enum Kind {
    /// Publicidad: cuentan REPEP, REUS, el consentimiento y el tope de un mensaje por semana.
    #[sea_orm(string_value = "marketing")]
    Marketing,
    /// Cobranza.
    #[sea_orm(string_value = "cobranza")]
    Cobranza,
    /// Sobre algo que el destinatario hizo o tiene.
    #[sea_orm(string_value = "transactional")]
    Transactional,
}

impl Kind {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Marketing => "marketing",
            Self::Cobranza => "cobranza",
            Self::Transactional => "transactional",
        }
    }
}

/// Days between two messages of marketing to a phone.
pub const CAP_DAYS: i32 = 7;
/// Senders a campaign may name.
const MOST_SENDERS: usize = 20;
/// Segments or campaigns that an audience may be without.
const MOST_LESS: usize = 20;

/// Lo que deciden quienes hacen una campaña.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, FromJsonQueryResult)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Un texto, o varios de los que cada destinatario recibe uno.
    pub texts: Vec<Text>,
    pub audience: Audience,
    pub senders: Vec<WeightedSender>,
    /// Decide el día de la campaña.
    #[serde(default = "mexico_city")]
    pub zone: String,
    /// Partes por minuto como máximo: un mensaje de dos partes cuenta dos.
    #[serde(default)]
    pub per_minute: Option<u32>,
    /// Con más destinatarios que estos la campaña falla antes de enviar nada.
    #[serde(default)]
    pub most_recipients: Option<i64>,
    /// No se envía nada con lo que costaría más. Todos sus remitentes necesitan un precio en esta moneda.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most_cost: Option<Cost>,
    /// Tantos mensajes salen primero; los demás siguen cuando están sus reportes y la mayoría llegó.
    #[serde(default)]
    pub ramp: Option<u32>,
    /// Se pausa sola cuando falla más de este porcentaje de sus últimos 500 mensajes terminados; si falta, el que está
    /// configurado.
    #[serde(default)]
    pub pause_above_percent: Option<u8>,
    /// Las letras que obligan a otro alfabeto se cambian por las que no: á por a.
    #[serde(default)]
    pub transliterate: bool,
}

/// Un importe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Cost {
    /// Millonésimas de `currency`.
    pub micros: i64,
    /// ISO 4217: `USD`.
    pub currency: String,
}

fn mexico_city() -> String {
    "America/Mexico_City".to_owned()
}

/// Un texto con su parte de los destinatarios.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Text {
    /// Con `{nombre}`, `{primer_nombre}`, `{ciudad}`, `{baja}`, `{x|lo que va si falta}`.
    pub text: String,
    #[serde(default = "one")]
    pub weight: u32,
}

/// Un remitente con su parte de los mensajes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WeightedSender {
    pub address: String,
    #[serde(default = "one")]
    pub weight: u32,
}

const fn one() -> u32 {
    1
}

/// A quién se escribe: un filtro, un segmento guardado, o las personas de un archivo cargado; menos algunas.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Audience {
    #[serde(default)]
    pub filter: Option<Segment>,
    #[serde(default)]
    pub segment_id: Option<Uuid>,
    /// Un archivo cargado: sus columnas son campos de los textos.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_id: Option<Uuid>,
    /// A quien está en uno de estos segmentos no se le escribe.
    #[serde(default)]
    pub less_segments: Vec<Uuid>,
    /// A quien fue destinatario de una de estas campañas no se le escribe.
    #[serde(default)]
    pub less_campaigns: Vec<Uuid>,
}

/// Why a plan can't be. The text is for the person.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPlan {
    #[error("audience lleva filter, segment_id o file_id, uno de los tres")]
    Audience,
    #[error(transparent)]
    Segment(#[from] BadSegment),
    #[error("{0} lleva de 1 a {1} elementos")]
    Many(&'static str, usize),
    #[error("{0} está fuera de rango")]
    Range(&'static str),
    #[error("un texto tiene más de {0} letras")]
    Long(usize),
    #[error("{0:?} no es una zona horaria de IANA, como America/Mexico_City")]
    Zone(String),
    #[error("{0:?} no es una moneda de ISO 4217, como USD")]
    Currency(String),
    #[error("el remitente {0:?} está dos veces")]
    Twice(String),
}

/// Letters of a template: more than ten parts of any alphabet have.
const LONGEST_TEXT: usize = 1_600;

impl Plan {
    /// The same with its filter checked.
    ///
    /// # Errors
    /// As [`BadPlan`] says. Texts are checked by who parses them.
    pub fn checked(mut self) -> Result<Self, BadPlan> {
        if !(1..=10).contains(&self.texts.len()) {
            return Err(BadPlan::Many("texts", 10));
        }
        if self.texts.iter().any(|text| text.text.chars().count() > LONGEST_TEXT) {
            return Err(BadPlan::Long(LONGEST_TEXT));
        }
        if !(1..=MOST_SENDERS).contains(&self.senders.len()) {
            return Err(BadPlan::Many("senders", MOST_SENDERS));
        }
        let weights = self.texts.iter().map(|text| text.weight);
        if weights.chain(self.senders.iter().map(|sender| sender.weight)).any(|w| !(1..=1_000).contains(&w)) {
            return Err(BadPlan::Range("weight"));
        }
        for (place, sender) in self.senders.iter().enumerate() {
            if self.senders[..place].iter().any(|other| other.address == sender.address) {
                return Err(BadPlan::Twice(sender.address.clone()));
            }
        }
        if self.zone.parse::<Tz>().is_err() {
            return Err(BadPlan::Zone(self.zone));
        }
        if self.per_minute.is_some_and(|rate| !(1..=600_000).contains(&rate)) {
            return Err(BadPlan::Range("per_minute"));
        }
        if self.most_recipients.is_some_and(|most| most < 1) {
            return Err(BadPlan::Range("most_recipients"));
        }
        if let Some(cost) = &self.most_cost {
            if cost.micros < 1 {
                return Err(BadPlan::Range("most_cost.micros"));
            }
            if Money::code(&cost.currency).is_none() {
                return Err(BadPlan::Currency(cost.currency.clone()));
            }
        }
        if self.ramp.is_some_and(|ramp| !(1..=100_000).contains(&ramp)) {
            return Err(BadPlan::Range("ramp"));
        }
        if self.pause_above_percent.is_some_and(|percent| !(1..=100).contains(&percent)) {
            return Err(BadPlan::Range("pause_above_percent"));
        }
        let audience = &mut self.audience;
        let named = [audience.filter.is_some(), audience.segment_id.is_some(), audience.file_id.is_some()];
        if named.into_iter().filter(|is_there| *is_there).count() != 1 {
            return Err(BadPlan::Audience);
        }
        for (name, less) in
            [("less_segments", &mut audience.less_segments), ("less_campaigns", &mut audience.less_campaigns)]
        {
            less.sort_unstable();
            less.dedup();
            if less.len() > MOST_LESS {
                return Err(BadPlan::Many(name, MOST_LESS));
            }
        }
        audience.filter = audience.filter.take().map(Segment::checked).transpose()?;
        Ok(self)
    }
}

/// What the start freezes beside the plan: later changes of segments, senders and prices are no change of the campaign.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
pub struct Frozen {
    /// Of contacts; whom a file has is decided by that alone.
    pub filter: Segment,
    /// The file whose people are written to, in the place of contacts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<FileAudience>,
    /// The filters of `less_segments`.
    pub less_filters: Vec<Segment>,
    /// The numbers of `less_campaigns`.
    pub less_campaigns: Vec<i32>,
    pub senders: Vec<FrozenSender>,
    /// When conditions such as `not_contacted_days` are judged from.
    pub at: chrono::DateTime<chrono::Utc>,
    /// Decides random samples and variants.
    pub seed: i64,
    /// When its messages go by their recipients' own clocks, where they do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_hour: Option<OwnHour>,
    /// What `{baja}` is made with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub links: Option<Links>,
}

/// A sender as it was when the campaign started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrozenSender {
    pub address: String,
    pub weight: u32,
    pub provider: ProviderName,
    pub kind: SenderKind,
    /// What a part costs, in millionths of `currency`; none where nobody said.
    pub price_micros: Option<i64>,
    /// ISO 4217, where there is a price.
    #[serde(default)]
    pub currency: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [State; 8] = [
        State::Draft,
        State::Scheduled,
        State::Preparing,
        State::Running,
        State::Paused,
        State::Completed,
        State::Cancelled,
        State::Failed,
    ];

    #[test]
    fn a_transition_stands_in_the_table_once_and_nothing_leaves_a_cancelled_or_failed_campaign() {
        for (place, (from, by, _)) in TRANSITIONS.iter().enumerate() {
            assert!(!matches!(from, State::Cancelled | State::Failed), "{from:?}");
            assert!(
                !TRANSITIONS[..place].iter().any(|(f, b, _)| f == from && b == by),
                "{from:?} {by:?} leads to two states"
            );
        }
        for state in STATES {
            let open = !matches!(state, State::Completed | State::Cancelled | State::Failed);
            assert_eq!(state.after(Action::Cancel).is_some(), open, "{state:?}");
        }
        assert_eq!(State::Completed.after(Action::Start), None);
        assert_eq!(State::Completed.after(Action::Retry), Some(State::Running));
    }

    fn plan(change: impl FnOnce(&mut serde_json::Value)) -> Result<Plan, BadPlan> {
        let mut json = serde_json::json!({
            "texts": [{ "text": "Hola" }], "audience": { "filter": {} }, "senders": [{ "address": "LOTE" }],
        });
        change(&mut json);
        serde_json::from_value::<Plan>(json).expect("a plan's fields").checked()
    }

    #[test]
    fn a_plan_that_makes_no_sense_is_refused() {
        use serde_json::json;
        assert!(plan(|_| ()).is_ok());
        assert_eq!(plan(|p| p["texts"] = json!([])), Err(BadPlan::Many("texts", 10)));
        assert_eq!(plan(|p| p["senders"] = json!([])), Err(BadPlan::Many("senders", MOST_SENDERS)));
        assert_eq!(plan(|p| p["zone"] = json!("Marte")), Err(BadPlan::Zone("Marte".into())));
        assert_eq!(plan(|p| p["per_minute"] = json!(0)), Err(BadPlan::Range("per_minute")));
        assert_eq!(plan(|p| p["ramp"] = json!(0)), Err(BadPlan::Range("ramp")));
        let percent = plan(|p| p["pause_above_percent"] = json!(101));
        assert_eq!(percent, Err(BadPlan::Range("pause_above_percent")));
        assert_eq!(plan(|p| p["audience"] = json!({})), Err(BadPlan::Audience));
        let cost = |micros: i64, currency: &str| json!({ "micros": micros, "currency": currency });
        assert_eq!(plan(|p| p["most_cost"] = cost(0, "USD")), Err(BadPlan::Range("most_cost.micros")));
        assert_eq!(plan(|p| p["most_cost"] = cost(1, "usd")), Err(BadPlan::Currency("usd".into())));
        assert!(plan(|p| p["most_cost"] = cost(1, "USD")).is_ok());
        let both = json!({ "filter": {}, "segment_id": Uuid::nil() });
        assert_eq!(plan(|p| p["audience"] = both), Err(BadPlan::Audience));
        let both = json!({ "filter": {}, "file_id": Uuid::nil() });
        assert_eq!(plan(|p| p["audience"] = both), Err(BadPlan::Audience));
        assert!(plan(|p| p["audience"] = json!({ "file_id": Uuid::nil() })).is_ok());
        let twice = json!([{ "address": "LOTE" }, { "address": "LOTE", "weight": 2 }]);
        assert_eq!(plan(|p| p["senders"] = twice), Err(BadPlan::Twice("LOTE".into())));
        let weightless = json!([{ "text": "Hola", "weight": 0 }]);
        assert_eq!(plan(|p| p["texts"] = weightless), Err(BadPlan::Range("weight")));
        let texas = json!({ "filter": { "states": ["Texas"] } });
        assert!(matches!(plan(|p| p["audience"] = texas), Err(BadPlan::Segment(_))));
    }
}
