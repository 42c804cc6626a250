//! The collections dashboards. Each path also with a slash at its end, as clients have it.

use std::collections::HashMap;

use actix_web::{HttpRequest, HttpResponse, http::header, web::Data};
use chassis::{
    ApiResult, Problem,
    auth::Caller,
    http::{Json, repeated_parameters},
};
use chrono::{NaiveDate, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{Resources, may_read};
use crate::collections::{
    answers::{
        self, assignment::Assignment, dashboard::Dashboard, evolution::Evolution, operation::Operation,
        productivity::Productivity,
    },
    cache::{Answer, Failed},
    question::{self, Filters, Metric, PERIODOS, Question, SERVICIOS, Unclear},
};

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
struct DashboardQuery {
    /// `TODAS`, o carteras; se puede repetir.
    #[param(value_type = Vec<String>)]
    cartera: Option<Vec<String>>,
    /// `TODOS`, `MOVIL`, `FIJA`; se puede repetir.
    #[param(value_type = Vec<String>)]
    servicio: Option<Vec<String>>,
    /// El día a cuyo final todo está como se muestra. Hoy, en Lima, si falta.
    fecha_corte: Option<NaiveDate>,
}

/// `POST /dashboard`.
#[derive(Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct DashboardRequest {
    filters: Option<Filters>,
    fecha_corte: Option<NaiveDate>,
    /// Una o dos de `cartera`, `servicio`, `tramo`, `vencimiento`, `rangoDeuda`, `archivo`.
    #[schema(example = json!(["cartera"]))]
    dimensions: Option<Vec<String>>,
}

/// The dashboard as of a day.
#[utoipa::path(
    operation_id = "dashboard_get", summary = "Ver el tablero de una fecha",
    description = "Al cierre de `fecha_corte`.",
    get, path = "/api/v1/dashboard", tag = "cobranzas", params(DashboardQuery),
    responses((status = 200, body = Dashboard), (status = 304), (status = 422))
)]
pub(super) async fn dashboard(api: Data<Resources>, caller: Caller, request: HttpRequest) -> ApiResult {
    let mut given = Given::read(&request, &["cartera", "servicio", "fecha_corte"])?;
    let query = DashboardQuery {
        cartera: given.all("cartera"),
        servicio: given.all("servicio"),
        fecha_corte: given.day("fecha_corte")?,
    };
    let filters = Filters { cartera: query.cartera, servicio: query.servicio, ..Filters::default() };
    let question = question::dashboard(filters, query.fecha_corte, &[], question::today(Utc::now()));
    show(&api, &caller, &request, named(question, &[("fechaCorte", "fecha_corte")])).await
}

/// The dashboard of the accounts that filters say, by other dimensions.
#[utoipa::path(
    operation_id = "dashboard_query", summary = "Ver el tablero con otros filtros y dimensiones",
    description = "",
    post, path = "/api/v1/dashboard", tag = "cobranzas", request_body = DashboardRequest,
    responses((status = 200, body = Dashboard), (status = 422))
)]
pub(super) async fn dashboard_by_filters(
    api: Data<Resources>,
    caller: Caller,
    request: HttpRequest,
    body: Json<DashboardRequest>,
) -> ApiResult {
    let DashboardRequest { filters, fecha_corte, dimensions } = body.into_inner();
    let question = question::dashboard(
        filters.unwrap_or_default(),
        fecha_corte,
        &dimensions.unwrap_or_default(),
        question::today(Utc::now()),
    );
    show(&api, &caller, &request, question).await
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
struct EvolutionQuery {
    #[param(value_type = Vec<String>)]
    cartera: Option<Vec<String>>,
    #[param(value_type = Vec<String>)]
    servicio: Option<Vec<String>>,
    /// 30 días hasta `fecha_fin` si falta.
    fecha_inicio: Option<NaiveDate>,
    /// Hoy si falta.
    fecha_fin: Option<NaiveDate>,
    /// Con comas, o repetido: `cobertura,contacto,cd,ci,sc,cierre,recupero,intensidad`.
    #[param(value_type = Vec<String>)]
    metrics: Option<Vec<String>>,
}

/// `POST /evolution`.
#[derive(Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct EvolutionRequest {
    filters: Option<Filters>,
    fecha_inicio: Option<NaiveDate>,
    fecha_fin: Option<NaiveDate>,
    #[schema(example = "cartera")]
    comparison_dimension: Option<String>,
    include_metrics: Option<Vec<String>>,
}

/// Metrics day by day.
#[utoipa::path(
    operation_id = "evolution_get", summary = "Ver la evolución de las métricas",
    description = "Día por día.",
    get, path = "/api/v1/evolution", tag = "cobranzas", params(EvolutionQuery),
    responses((status = 200, body = [Evolution]), (status = 304), (status = 422))
)]
pub(super) async fn evolution(api: Data<Resources>, caller: Caller, request: HttpRequest) -> ApiResult {
    let mut given = Given::read(&request, &["cartera", "servicio", "fecha_inicio", "fecha_fin", "metrics"])?;
    let query = EvolutionQuery {
        cartera: given.all("cartera"),
        servicio: given.all("servicio"),
        fecha_inicio: given.day("fecha_inicio")?,
        fecha_fin: given.day("fecha_fin")?,
        metrics: given.all("metrics"),
    };
    let filters = Filters { cartera: query.cartera, servicio: query.servicio, ..Filters::default() };
    let metrics = query.metrics.unwrap_or_default();
    let today = question::today(Utc::now());
    let question = question::evolution(filters, query.fecha_inicio, query.fecha_fin, None, &metrics, today);
    show(&api, &caller, &request, question).await
}

/// Metrics day by day, of the accounts that filters say, for each value of a dimension.
#[utoipa::path(
    operation_id = "evolution_query", summary = "Ver la evolución con otros filtros",
    description = "",
    post, path = "/api/v1/evolution", tag = "cobranzas", request_body = EvolutionRequest,
    responses((status = 200, body = [Evolution]), (status = 422))
)]
pub(super) async fn evolution_by_filters(
    api: Data<Resources>,
    caller: Caller,
    request: HttpRequest,
    body: Json<EvolutionRequest>,
) -> ApiResult {
    let EvolutionRequest { filters, fecha_inicio, fecha_fin, comparison_dimension, include_metrics } =
        body.into_inner();
    let question = question::evolution(
        filters.unwrap_or_default(),
        fecha_inicio,
        fecha_fin,
        comparison_dimension.as_deref(),
        &include_metrics.unwrap_or_default(),
        question::today(Utc::now()),
    );
    let question = named(
        question,
        &[
            ("fecha_inicio", "fechaInicio"),
            ("fecha_fin", "fechaFin"),
            ("dimensions", "comparisonDimension"),
            ("metrics", "includeMetrics"),
        ],
    );
    show(&api, &caller, &request, question).await
}

/// The carteras that there are.
#[utoipa::path(
    operation_id = "evolution_list_carteras", summary = "Listar las carteras",
    description = "",
    get, path = "/api/v1/evolution/carteras", tag = "cobranzas",
    responses((status = 200, body = [String]))
)]
pub(super) async fn evolution_carteras(api: Data<Resources>, caller: Caller) -> ApiResult<Json<Vec<String>>> {
    may_read(&caller)?;
    Ok(Json(answers::carteras(&api.database.pool).await?))
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct MetricInfo {
    metric: Metric,
    description: &'static str,
    value_type: &'static str,
}

/// The metrics that evolve.
#[utoipa::path(
    operation_id = "evolution_list_metrics", summary = "Listar las métricas",
    description = "",
    get, path = "/api/v1/evolution/metrics", tag = "cobranzas",
    responses((status = 200, body = [MetricInfo]))
)]
pub(super) async fn evolution_metrics(caller: Caller) -> ApiResult<Json<Vec<MetricInfo>>> {
    may_read(&caller)?;
    let info = |metric: Metric| MetricInfo {
        metric,
        description: metric.description(),
        value_type: metric.value_type(),
    };
    Ok(Json(Metric::ALL.into_iter().map(info).collect()))
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
struct AssignmentQuery {
    /// Hoy si falta.
    fecha_actual: Option<NaiveDate>,
    /// 30 días antes de `fecha_actual` si falta.
    fecha_anterior: Option<NaiveDate>,
    #[param(value_type = Vec<String>)]
    cartera: Option<Vec<String>>,
}

/// What is assigned on a day, beside what was on another.
#[utoipa::path(
    operation_id = "assignment_get", summary = "Comparar la asignación de dos fechas",
    description = "",
    get, path = "/api/v1/assignment", tag = "cobranzas", params(AssignmentQuery),
    responses((status = 200, body = Assignment), (status = 304), (status = 422))
)]
pub(super) async fn assignment(api: Data<Resources>, caller: Caller, request: HttpRequest) -> ApiResult {
    let mut given = Given::read(&request, &["fecha_actual", "fecha_anterior", "cartera"])?;
    let query = AssignmentQuery {
        fecha_actual: given.day("fecha_actual")?,
        fecha_anterior: given.day("fecha_anterior")?,
        cartera: given.all("cartera"),
    };
    let today = question::today(Utc::now());
    let question = question::assignment(query.fecha_actual, query.fecha_anterior, query.cartera, today);
    show(&api, &caller, &request, question).await
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
struct OperationQuery {
    /// Hoy si falta.
    fecha_analisis: Option<NaiveDate>,
}

/// The calls of a day.
#[utoipa::path(
    operation_id = "operation_get", summary = "Ver la operación de un día",
    description = "",
    get, path = "/api/v1/operation", tag = "cobranzas", params(OperationQuery),
    responses((status = 200, body = Operation), (status = 304), (status = 422))
)]
pub(super) async fn operation(api: Data<Resources>, caller: Caller, request: HttpRequest) -> ApiResult {
    let query =
        OperationQuery { fecha_analisis: Given::read(&request, &["fecha_analisis"])?.day("fecha_analisis")? };
    let question = question::operation(query.fecha_analisis, question::today(Utc::now()));
    show(&api, &caller, &request, question).await
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
struct ProductivityQuery {
    /// 30 días hasta `fecha_fin` si falta.
    fecha_inicio: Option<NaiveDate>,
    /// Hoy si falta.
    fecha_fin: Option<NaiveDate>,
}

/// The agents' work, and what it recovered.
#[utoipa::path(
    operation_id = "productivity_get", summary = "Ver la productividad de los agentes",
    description = "",
    get, path = "/api/v1/productivity", tag = "cobranzas", params(ProductivityQuery),
    responses((status = 200, body = Productivity), (status = 304), (status = 422))
)]
pub(super) async fn productivity(api: Data<Resources>, caller: Caller, request: HttpRequest) -> ApiResult {
    let mut given = Given::read(&request, &["fecha_inicio", "fecha_fin"])?;
    let query =
        ProductivityQuery { fecha_inicio: given.day("fecha_inicio")?, fecha_fin: given.day("fecha_fin")? };
    let question = question::productivity(query.fecha_inicio, query.fecha_fin, question::today(Utc::now()));
    show(&api, &caller, &request, question).await
}

#[derive(Serialize, ToSchema)]
pub(super) struct FiltersAnswer {
    #[schema(example = "success")]
    status: &'static str,
    message: &'static str,
    data: FilterValues,
}

#[derive(Serialize, ToSchema)]
pub(super) struct FilterValues {
    cartera: Vec<Choice>,
    servicio: Vec<Choice>,
    periodo: Vec<Choice>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Choice {
    value: String,
    label: String,
}

impl Choice {
    fn of(value: &str) -> Self {
        let label = match value {
            "TODAS" => "Todas las carteras".to_owned(),
            "TODOS" => "Todos los servicios".to_owned(),
            "MOVIL" => "Móvil".to_owned(),
            "ULTIMO_MES" => "Último mes".to_owned(),
            "ULTIMOS_3_MESES" => "Últimos 3 meses".to_owned(),
            other => {
                let text = other.to_lowercase().replace('_', " ");
                let mut letters = text.chars();
                letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
            }
        };
        Self { value: value.to_owned(), label }
    }
}

/// What the dashboards can be filtered by.
#[utoipa::path(
    operation_id = "filters_get", summary = "Ver los valores de los filtros",
    description = "",
    get, path = "/api/v1/filters", tag = "cobranzas",
    responses((status = 200, body = FiltersAnswer))
)]
pub(super) async fn filters(api: Data<Resources>, caller: Caller) -> ApiResult<Json<FiltersAnswer>> {
    may_read(&caller)?;
    let carteras = answers::carteras(&api.database.pool).await?;
    let carteras = std::iter::once("TODAS").chain(carteras.iter().map(String::as_str));
    Ok(Json(FiltersAnswer {
        status: "success",
        message: "Filtros disponibles",
        data: FilterValues {
            cartera: carteras.map(Choice::of).collect(),
            servicio: std::iter::once("TODOS").chain(SERVICIOS).map(Choice::of).collect(),
            periodo: PERIODOS.map(Choice::of).into(),
        },
    }))
}

/// What is unclear, by the name that this caller has given it.
fn named(question: Result<Question, Unclear>, names: &[(&str, &'static str)]) -> Result<Question, Unclear> {
    question.map_err(|unclear| {
        let name = names.iter().find(|(ours, _)| *ours == unclear.parameter);
        Unclear { parameter: name.map_or(unclear.parameter, |(_, theirs)| *theirs), ..unclear }
    })
}

/// Answers a question, or says what is unclear about it.
async fn show(
    api: &Resources,
    caller: &Caller,
    request: &HttpRequest,
    question: Result<Question, Unclear>,
) -> ApiResult {
    may_read(caller)?;
    let question =
        question.map_err(|unclear| Problem::unprocessable("invalid_parameter", unclear.to_string()))?;
    let answer = api.dashboards.ask(question).await.map_err(|failed: Failed| {
        let cause = anyhow::anyhow!("{failed}");
        if failed.unavailable {
            Problem::unavailable("database_unavailable", cause)
        } else {
            Problem::internal(cause)
        }
    })?;
    Ok(response(request, &answer))
}

fn response(request: &HttpRequest, answer: &Answer) -> HttpResponse {
    let etag = answer.etag();
    let asked = request.headers().get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let known = asked.is_some_and(|tags| {
        tags.split(',').map(str::trim).any(|tag| tag == "*" || tag.trim_start_matches("W/") == etag)
    });
    // Only reading is conditional (RFC 9110, 13.1.2): a POST is answered.
    let mut response =
        if known && request.method().is_safe() { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    response
        .insert_header((header::ETAG, etag))
        .insert_header((header::CACHE_CONTROL, "private, no-cache"))
        .insert_header(("X-Cache", answer.cache.name()))
        .insert_header(("X-Data-Version", answer.version.to_string()));
    if let Some(as_of) = answer.as_of {
        response.insert_header(("X-Data-As-Of", as_of.to_rfc3339_opts(SecondsFormat::Secs, true)));
    }
    if known && request.method().is_safe() {
        return response.finish();
    }
    response.content_type("application/json").body(answer.body.clone())
}

/// What a query says. A name may come several times, which no derived reader takes.
struct Given(HashMap<String, Vec<String>>);

impl Given {
    /// Refuses a name that is not among `known`.
    fn read(request: &HttpRequest, known: &'static [&'static str]) -> Result<Self, Problem> {
        let mut given: HashMap<String, Vec<String>> = HashMap::new();
        for (name, value) in repeated_parameters(request.query_string(), known)? {
            given.entry(name).or_default().push(value);
        }
        Ok(Self(given))
    }

    fn all(&mut self, name: &str) -> Option<Vec<String>> {
        self.0.remove(name)
    }

    fn day(&mut self, name: &'static str) -> Result<Option<NaiveDate>, Problem> {
        let last = self.0.remove(name).and_then(|mut values| values.pop()).filter(|value| !value.is_empty());
        last.map(|value| {
            value.parse().map_err(|_| {
                let detail = format!("{name}: {value:?} no es una fecha; se espera AAAA-MM-DD");
                Problem::unprocessable("invalid_parameter", detail)
            })
        })
        .transpose()
    }
}
