//! Logs to standard error, traces to an OpenTelemetry collector where one is configured.

use std::{fmt, io::IsTerminal as _};

use anyhow::Context as _;
use opentelemetry::{
    KeyValue,
    trace::{TraceContextExt as _, TracerProvider as _},
};
use opentelemetry_otlp::WithHttpConfig as _;
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    runtime,
    trace::{SdkTracerProvider, span_processor_with_async_runtime::BatchSpanProcessor},
};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::{
    EnvFilter, Layer as _,
    filter::{ParseError, filter_fn},
    fmt::{
        FmtContext, FormatEvent, FormatFields, MakeWriter,
        format::{DefaultFields, Format, Json, JsonFields, Writer},
    },
    layer::SubscriberExt as _,
    registry::LookupSpan,
    util::SubscriberInitExt as _,
};
use uuid::Uuid;

use crate::VERSION;

/// What is logged where `RUST_LOG` says nothing: our own info, the libraries' warnings.
const DEFAULT_FILTER: &str =
    "info,sqlx=warn,sea_orm_migration=warn,lapin=warn,aws_config=warn,hyper=warn,h2=warn";

/// Modules of libraries whose events show whole messages, with people's phones and texts in them, each with the most
/// verbose level that it is shown at, whatever `RUST_LOG` says. Of a message that RabbitMQ returned, who published it says
/// what became of it.
const PRIVATE: &[(&str, Level)] = &[
    ("lapin::returned_messages", Level::ERROR),
    ("lapin::channels", Level::DEBUG),
    ("lapin::frames", Level::DEBUG),
    ("lapin::io_loop", Level::DEBUG),
];

/// Sends what is left when dropped. Hold it in `main`.
#[must_use = "spans are flushed when this is dropped"]
#[derive(Debug)]
pub struct Telemetry {
    provider: SdkTracerProvider,
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        if let Err(error) = self.provider.shutdown() {
            tracing::warn!(%error, "the last spans may be lost");
        }
    }
}

/// Sets up the logs and traces of a process of `service`, which runs as `role`. `LOG_FORMAT` is `json` or `text` (text
/// where standard error is a terminal); a JSON line within a span has its `trace_id`. `RUST_LOG` filters, but shows no
/// message that a library would log whole. `OTEL_EXPORTER_OTLP_ENDPOINT` switches the export of spans on. Trace context
/// (W3C) travels with requests and messages either way.
///
/// # Errors
/// A filter or endpoint that can't be understood, or telemetry that was set up before.
///
/// # Panics
/// Outside of a Tokio runtime, where spans are exported.
pub fn init(service: &'static str, role: &'static str) -> anyhow::Result<Telemetry> {
    let rust_log = std::env::var("RUST_LOG").unwrap_or_default();
    let filter = filter(&rust_log).with_context(|| format!("RUST_LOG is {rust_log:?}"))?;
    opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
    let provider = provider(service, role)?;
    let spans = tracing_opentelemetry::layer().with_tracer(provider.tracer("lote"));

    let terminal = std::io::stderr().is_terminal();
    let format = std::env::var("LOG_FORMAT").unwrap_or_default();
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match format.as_str() {
        "json" => json(lines).boxed(),
        "text" => lines.with_ansi(terminal).boxed(),
        "" if terminal => lines.with_ansi(true).boxed(),
        "" => json(lines).boxed(),
        other => anyhow::bail!("LOG_FORMAT is {other:?}, expected json or text"),
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(spans)
        .with(lines)
        .try_init()
        .context("telemetry was set up before")?;
    Ok(Telemetry { provider })
}

/// What `RUST_LOG` says, or the default, without what [`PRIVATE`] keeps back. Directives of its own would not do: one that is
/// more specific, or on a span, would win over them.
fn filter<S: Subscriber>(rust_log: &str) -> Result<impl tracing_subscriber::Layer<S>, ParseError> {
    let filter = EnvFilter::try_new(if rust_log.trim().is_empty() { DEFAULT_FILTER } else { rust_log })?;
    Ok(filter.and_then(filter_fn(|event| {
        !PRIVATE.iter().any(|(module, most)| event.target().starts_with(module) && event.level() > most)
    })))
}

/// JSON lines, each with the id of its trace.
fn json<S, W>(
    lines: tracing_subscriber::fmt::Layer<S, DefaultFields, Format, W>,
) -> tracing_subscriber::fmt::Layer<S, JsonFields, Traced<Format<Json>>, W>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    W: for<'writer> MakeWriter<'writer> + 'static,
{
    lines.json().flatten_event(true).with_span_list(false).map_event_format(Traced)
}

/// JSON objects with `trace_id` as their first field, where the event is in a span.
struct Traced<F>(F);

impl<S, N, F> FormatEvent<S, N> for Traced<F>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = String::new();
        self.0.format_event(context, Writer::new(&mut line), event)?;
        let span = event.parent().cloned().or_else(|| context.lookup_current().map(|span| span.id()));
        let trace = span.and_then(|span| {
            let of = |dispatch: &_| tracing_opentelemetry::get_otel_context(&span, dispatch);
            let context = tracing::dispatcher::get_default(of)?;
            Some(context.span().span_context().trace_id())
        });
        match (trace, line.strip_prefix('{')) {
            (Some(trace), Some(fields)) => write!(writer, "{{\"trace_id\":\"{trace}\",{fields}"),
            _ => writer.write_str(&line),
        }
    }
}

/// What a collector tells processes apart by (OpenTelemetry's semantic conventions for `service`).
fn resource(service: &'static str, role: &'static str) -> Resource {
    Resource::builder()
        .with_service_name(service)
        .with_attributes([
            KeyValue::new("service.version", VERSION),
            KeyValue::new("service.instance.id", Uuid::new_v4().to_string()),
            KeyValue::new("lote.role", role),
        ])
        .build()
}

fn provider(service: &'static str, role: &'static str) -> anyhow::Result<SdkTracerProvider> {
    let resource = resource(service, role);
    let builder = SdkTracerProvider::builder().with_resource(resource);
    if std::env::var_os("OTEL_EXPORTER_OTLP_ENDPOINT").is_none_or(|endpoint| endpoint.is_empty()) {
        return Ok(builder.build());
    }
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_http_client(crate::http_client())
        .build()
        .context("OTEL_EXPORTER_OTLP_ENDPOINT")?;
    // On the Tokio runtime, because the HTTP client needs one; the default processor's own thread has none.
    let processor = BatchSpanProcessor::builder(exporter, runtime::Tokio).build();
    Ok(builder.with_span_processor(processor).build())
}
