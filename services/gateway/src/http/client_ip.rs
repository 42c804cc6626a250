//! Who is calling, by address.

use std::net::{IpAddr, Ipv4Addr};

use actix_web::HttpRequest;

use crate::domain::network::Network;

/// The client's address. Behind trusted proxies it is the last one in `X-Forwarded-For` that is not
/// itself a trusted proxy's: what stands before it, the client may have made up.
pub fn client_ip(request: &HttpRequest, trusted: &[Network]) -> IpAddr {
    // Only a test request has no peer.
    let peer = request.peer_addr().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip());
    resolve(peer, &forwarded_for(request), trusted)
}

fn forwarded_for(request: &HttpRequest) -> String {
    let lines: Vec<_> =
        request.headers().get_all("x-forwarded-for").filter_map(|value| value.to_str().ok()).collect();
    lines.join(",")
}

/// Whether the request came straight from a trusted proxy, so that its other `X-Forwarded-*` count.
pub fn from_trusted(request: &HttpRequest, trusted: &[Network]) -> bool {
    request.peer_addr().is_some_and(|peer| trusted.iter().any(|network| network.contains(peer.ip())))
}

fn resolve(peer: IpAddr, forwarded: &str, trusted: &[Network]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    let mut client = peer;
    for hop in forwarded.rsplit(',') {
        if !is_trusted(client) {
            break;
        }
        match hop.trim().parse() {
            Ok(address) => client = address,
            Err(_) => break,
        }
    }
    client
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_trusted_proxies_are_believed() {
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        let trusted: Vec<Network> = vec!["10.0.0.0/8".parse().expect("a range")];
        let resolve = |peer: &str, forwarded: &str| super::resolve(ip(peer), forwarded, &trusted);
        assert_eq!(resolve("203.0.113.9", "1.2.3.4"), ip("203.0.113.9"), "a stranger's word");
        assert_eq!(resolve("10.0.0.1", "1.2.3.4"), ip("1.2.3.4"));
        assert_eq!(resolve("10.0.0.1", "6.6.6.6, 1.2.3.4, 10.0.0.2"), ip("1.2.3.4"), "6.6.6.6 is made up");
        assert_eq!(resolve("10.0.0.1", ""), ip("10.0.0.1"));
        assert_eq!(resolve("10.0.0.1", "junk"), ip("10.0.0.1"));
    }
}
