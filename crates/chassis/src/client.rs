use std::{sync::LazyLock, time::Duration};

/// The process's HTTP client: ring for TLS, two seconds to connect, thirty for the whole answer (a call
/// may set less), no redirects (an internal service has no reason to send us elsewhere). It shares one
/// pool of connections, so cloning is cheap.
pub fn http_client() -> reqwest::Client {
    static CLIENT: LazyLock<reqwest::Client> = LazyLock::new(|| {
        crate::tls::install();
        reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(2))
            .timeout(Duration::from_secs(30))
            .pool_idle_timeout(Duration::from_secs(60))
            .pool_max_idle_per_host(64)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("lote/", env!("CARGO_PKG_VERSION")))
            .build()
            .expect("the client has a TLS provider, and no option that can fail")
    });
    CLIENT.clone()
}
