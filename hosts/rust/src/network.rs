//! The network that one call of a runner sees: the endpoints that `connect` named, and nothing else.
//!
//! The host resolves their names itself, once per call. The runner may open TCP connections to exactly the addresses
//! found, and its own questions for names are answered from the same list, so that a name which changes its address in
//! between opens nothing new. UDP, listening, and binding to an address stay closed.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::bindings::sockets::ip_name_lookup::{self, ResolveAddressStream};
use wasmtime_wasi::p2::bindings::sockets::network::{self, ErrorCode, IpAddress, Network};
use wasmtime_wasi::p2::{DynPollable, Pollable, SocketError, subscribe};
use wasmtime_wasi::sockets::SocketAddrUse;

use crate::state::State;
use crate::{Endpoint, Error};

/// How long the resolver may take.
const RESOLVE: Duration = Duration::from_secs(10);

/// What a call may reach.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reach {
    hosts: Arc<Vec<(String, Vec<IpAddr>)>>,
    addresses: Arc<HashSet<SocketAddr>>,
}

impl Reach {
    /// Resolves the endpoints.
    pub(crate) async fn resolve(endpoints: &[Endpoint]) -> Result<Self, Error> {
        let found = try_join_all(endpoints.iter().map(lookup)).await?;
        let hosts = endpoints
            .iter()
            .zip(&found)
            .map(|(endpoint, addresses)| (endpoint.host.clone(), addresses.iter().map(SocketAddr::ip).collect()));
        Ok(Self {
            hosts: Arc::new(hosts.collect()),
            addresses: Arc::new(found.into_iter().flatten().collect()),
        })
    }

    /// True if anything at all may be reached.
    pub(crate) fn is_some(&self) -> bool {
        !self.addresses.is_empty()
    }

    /// What wasmtime asks before each use of a socket.
    pub(crate) fn allows(&self, address: SocketAddr, purpose: SocketAddrUse) -> bool {
        match purpose {
            SocketAddrUse::TcpConnect => self.addresses.contains(&address),
            // Asked before each connection too, for the address that the system picks. As listening is not allowed, a
            // runner that binds to it by itself gains nothing.
            SocketAddrUse::TcpBind => address.ip().is_unspecified() && address.port() == 0,
            _ => false,
        }
    }

    /// The addresses of a name; none for a name that `connect` did not return.
    fn addresses_of(&self, name: &str) -> Option<Vec<IpAddr>> {
        let plain = |name: &str| name.trim_end_matches('.').to_ascii_lowercase();
        let name = plain(name);
        let mut known = self.hosts.iter().filter(|(host, _)| plain(host) == name).peekable();
        known.peek()?;
        Some(known.flat_map(|(_, addresses)| addresses.iter().copied()).collect())
    }
}

async fn lookup(endpoint: &Endpoint) -> Result<Vec<SocketAddr>, Error> {
    let Endpoint { host, port } = endpoint;
    let unresolved = |why: String| Error::Unavailable(format!("name `{host}` of the target cannot be resolved: {why}"));
    let found = tokio::time::timeout(RESOLVE, tokio::net::lookup_host((host.as_str(), *port)))
        .await
        .map_err(|_| unresolved(format!("no answer within {RESOLVE:?}")))?
        .map_err(|error| unresolved(error.to_string()))?;
    // WASI has no IPv4 addresses in IPv6 notation.
    let found: Vec<_> = found
        .map(|address| SocketAddr::new(address.ip().to_canonical(), address.port()))
        .collect();
    if found.is_empty() {
        Err(unresolved("it has no address".to_owned()))
    } else {
        Ok(found)
    }
}

/// Answers the runner's questions for names from its call's [`Reach`], in the place of wasmtime's resolver.
pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    ip_name_lookup::add_to_linker::<State, Names>(linker, |state| {
        let (reach, table) = state.names();
        NamesView { reach, table }
    })
}

struct Names;

impl HasData for Names {
    type Data<'a> = NamesView<'a>;
}

struct NamesView<'a> {
    reach: &'a Reach,
    table: &'a mut ResourceTable,
}

/// What is left to tell of a name's addresses.
struct Addresses(std::vec::IntoIter<IpAddr>);

#[async_trait]
impl Pollable for Addresses {
    async fn ready(&mut self) {}
}

/// The linker knows the resource under wasmtime's type, which cannot be made here; the table holds this crate's. Both
/// go by the same number.
fn ours(stream: &Resource<ResolveAddressStream>) -> Resource<Addresses> {
    Resource::new_own(stream.rep())
}

/// The generated trait asks for this as the home of `convert_error_code`; the rest is linked from wasmtime's own.
impl network::Host for NamesView<'_> {
    fn convert_error_code(&mut self, error: SocketError) -> wasmtime::Result<ErrorCode> {
        error.downcast()
    }

    fn network_error_code(&mut self, _: Resource<wasmtime::Error>) -> wasmtime::Result<Option<ErrorCode>> {
        Ok(None)
    }
}

impl network::HostNetwork for NamesView<'_> {
    fn drop(&mut self, network: Resource<Network>) -> wasmtime::Result<()> {
        self.table.delete(network)?;
        Ok(())
    }
}

impl ip_name_lookup::Host for NamesView<'_> {
    fn resolve_addresses(
        &mut self,
        network: Resource<Network>,
        name: String,
    ) -> Result<Resource<ResolveAddressStream>, SocketError> {
        self.table.get(&network)?;
        let Some(addresses) = self.reach.addresses_of(&name) else {
            tracing::debug!("a runner asked for the address of `{name}`, which `connect` did not name");
            return Err(ErrorCode::AccessDenied.into());
        };
        let stream = self.table.push(Addresses(addresses.into_iter()))?;
        Ok(Resource::new_own(stream.rep()))
    }
}

impl ip_name_lookup::HostResolveAddressStream for NamesView<'_> {
    fn resolve_next_address(
        &mut self,
        stream: Resource<ResolveAddressStream>,
    ) -> Result<Option<IpAddress>, SocketError> {
        Ok(self.table.get_mut(&ours(&stream))?.0.next().map(Into::into))
    }

    fn subscribe(&mut self, stream: Resource<ResolveAddressStream>) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(self.table, ours(&stream))
    }

    fn drop(&mut self, stream: Resource<ResolveAddressStream>) -> wasmtime::Result<()> {
        self.table.delete(ours(&stream))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(host: &str, port: u16) -> Endpoint {
        Endpoint {
            host: host.to_owned(),
            port,
        }
    }

    #[tokio::test]
    async fn only_named_addresses_and_ports_are_open_and_only_for_connecting() {
        let reach = Reach::resolve(&[endpoint("192.0.2.1", 6443), endpoint("2001:db8::1", 443)])
            .await
            .unwrap();
        let cases = [
            ("192.0.2.1:6443", SocketAddrUse::TcpConnect, true),
            ("[2001:db8::1]:443", SocketAddrUse::TcpConnect, true),
            ("192.0.2.1:443", SocketAddrUse::TcpConnect, false),
            ("192.0.2.2:6443", SocketAddrUse::TcpConnect, false),
            ("[2001:db8::1]:6443", SocketAddrUse::TcpConnect, false),
            ("0.0.0.0:0", SocketAddrUse::TcpBind, true),
            ("[::]:0", SocketAddrUse::TcpBind, true),
            ("0.0.0.0:80", SocketAddrUse::TcpBind, false),
            ("127.0.0.1:0", SocketAddrUse::TcpBind, false),
            ("0.0.0.0:0", SocketAddrUse::TcpListen, false),
            ("192.0.2.1:6443", SocketAddrUse::TcpAccept, false),
            ("0.0.0.0:0", SocketAddrUse::UdpBind, false),
            ("192.0.2.1:6443", SocketAddrUse::UdpSend, false),
            ("192.0.2.1:6443", SocketAddrUse::UdpReceive, false),
        ];
        for (address, purpose, allowed) in cases {
            assert_eq!(
                reach.allows(address.parse().unwrap(), purpose),
                allowed,
                "{address} {purpose:?}"
            );
        }
    }

    #[tokio::test]
    async fn names_are_answered_whatever_their_spelling_and_no_others() {
        let reach = Reach::resolve(&[endpoint("localhost", 6443)]).await.unwrap();
        for name in ["localhost", "LocalHost", "localhost."] {
            assert!(
                reach.addresses_of(name).unwrap().iter().all(IpAddr::is_loopback),
                "{name}"
            );
        }
        assert_eq!(reach.addresses_of("localhost.example"), None);
        assert_eq!(Reach::default().addresses_of("localhost"), None);
    }

    #[tokio::test]
    async fn unresolvable_name_is_named() {
        let error = Reach::resolve(&[endpoint("api.invalid", 6443)]).await.unwrap_err();
        assert!(
            matches!(&error, Error::Unavailable(text) if text.contains("`api.invalid`")),
            "{error}"
        );
    }
}
