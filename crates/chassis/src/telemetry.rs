//! Logs to standard error, traces to an OpenTelemetry collector where one is configured.

use std::io::IsTerminal as _;

use anyhow::Context as _;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::WithHttpConfig as _;
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    runtime,
    trace::{SdkTracerProvider, span_processor_with_async_runtime::BatchSpanProcessor},
};
use tracing_subscriber::{EnvFilter, Layer as _, layer::SubscriberExt as _, util::SubscriberInitExt as _};

/// What is logged where `RUST_LOG` says nothing: our own info, the libraries' warnings. lapin's on messages that come
/// back are left out, as they repeat the whole message; who published it says what became of it.
const DEFAULT_FILTER: &str = "info,sqlx=warn,sea_orm_migration=warn,lapin=warn,lapin::returned_messages=error,\
                              aws_config=warn,hyper=warn,h2=warn";

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

/// Sets up the process's logs and traces. `LOG_FORMAT` is `json` or `text` (text where standard error is
/// a terminal), `RUST_LOG` filters, `OTEL_EXPORTER_OTLP_ENDPOINT` switches the export of spans on. Trace
/// context (W3C) travels with requests and messages either way.
///
/// # Errors
/// A filter or endpoint that can't be understood, or telemetry that was set up before.
///
/// # Panics
/// Outside of a Tokio runtime, where spans are exported.
pub fn init(service: &'static str) -> anyhow::Result<Telemetry> {
    let filter = match std::env::var("RUST_LOG") {
        Ok(text) if !text.trim().is_empty() => {
            EnvFilter::try_new(&text).with_context(|| format!("RUST_LOG is {text:?}"))?
        }
        _ => EnvFilter::new(DEFAULT_FILTER),
    };
    opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
    let provider = provider(service)?;
    let spans = tracing_opentelemetry::layer().with_tracer(provider.tracer("lote"));

    let terminal = std::io::stderr().is_terminal();
    let format = std::env::var("LOG_FORMAT").unwrap_or_default();
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match format.as_str() {
        "json" => lines.json().flatten_event(true).with_span_list(false).boxed(),
        "text" => lines.with_ansi(terminal).boxed(),
        "" if terminal => lines.with_ansi(true).boxed(),
        "" => lines.json().flatten_event(true).with_span_list(false).boxed(),
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

fn provider(service: &'static str) -> anyhow::Result<SdkTracerProvider> {
    let resource = Resource::builder().with_service_name(service).build();
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
