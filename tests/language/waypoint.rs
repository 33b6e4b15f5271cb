//! Which service of a waypoint a request is for: the name of its filter chain tells.

use mesh_authz::policy::scope::{Gateway, ServiceName};
use mesh_authz::policy::waypoint::{Destination, ServicesByHost};

fn service(namespace: &str, name: &str, host: &str) -> ServiceName {
    ServiceName { namespace: namespace.to_owned(), name: name.to_owned(), host: Some(host.to_owned()) }
}

fn services() -> ServicesByHost {
    let gateway = Gateway {
        name: "w".to_owned(),
        waypoint: true,
        services: vec![
            service("shop", "cart", "cart.shop.svc.cluster.local"),
            service("bank", "cart", "cart.bank.svc.cluster.local"),
            service("svc", "cart", "cart.svc.svc.cluster.local"),
        ],
        service_entries: vec![
            service("shop", "out", "api.example.com"),
            service("shop", "out", "*.Example.com"),
            service("shop", "mixed", "app.default.mesh"),
        ],
    };
    let (services, twin) = ServicesByHost::new(&gateway);
    assert_eq!(twin, None);
    services
}

#[test]
fn the_host_in_the_name_of_the_chain_tells_the_service() {
    use Destination::{Other, Service, Unknown};
    let rows: &[(&[u8], Destination)] = &[
        (b"inbound-vip|8080|http|cart.shop.svc.cluster.local", Service(0)),
        (b"inbound-vip|80|http|cart.shop.svc.cluster.local", Service(0)),
        (b"inbound-vip|80|http/v1|cart.shop.svc.cluster.local", Service(0)),
        (b"inbound-vip|80||cart.shop.svc.cluster.local", Service(0)),
        (b"inbound-vip|8080|http|cart.bank.svc.cluster.local", Service(1)),
        (b"inbound-vip|8080|http|CART.Bank.svc.cluster.local", Service(1)),
        (b"inbound-vip|443|http|api.example.com", Service(3)),
        (b"inbound-vip|443|http|*.example.com", Service(3)),
        (b"inbound-vip|443|http|API.EXAMPLE.COM", Service(3)),
        (b"inbound-vip|8080|http|app.default.mesh", Service(5)),
        (b"inbound-vip|8080|http|cart.svc.svc.cluster.local", Service(2)),
        // No policy names these.
        (b"inbound-vip|8080|http|pay.shop.svc.cluster.local", Other),
        (b"inbound-vip|8080|http|cart.shopping.svc.cluster.local", Other),
        (b"inbound-vip|8080|http|x.cart.shop.svc.cluster.local", Other),
        (b"inbound-vip|8080|http|www.example.com", Other),
        (b"inbound-vip|8080|http|h", Other),
        (b"direct-http", Other),
        // The domain of the cluster is another one than the configuration says.
        (b"inbound-vip|8080|http|cart.shop.svc.mesh", Unknown),
        (b"inbound-vip|8080|http|Cart.shop.svc.mesh", Unknown),
        (b"inbound-vip|8080|http|cart.svc.svc.mesh", Unknown),
        (b"inbound-vip|8080|http|cart.bank.svc.clusterset.local", Unknown),
        // Not a chain for HTTP of a waypoint.
        (b"", Unknown),
        (b"default", Unknown),
        (b"direct-tcp", Unknown),
        (b"direct-http ", Unknown),
        (b"encap", Unknown),
        (b"inbound|8080||", Unknown),
        (b"inbound|8080|http|cart.shop.svc.cluster.local", Unknown),
        (b"outbound|8080|http|cart.shop.svc.cluster.local", Unknown),
        (b"virtualInbound", Unknown),
        (b"inbound-vip", Unknown),
        (b"inbound-vip|", Unknown),
        (b"inbound-vip|8080", Unknown),
        (b"inbound-vip|8080|http", Unknown),
        (b"inbound-vip|8080|cart.shop.svc.cluster.local", Unknown),
        (b"inbound-vip|8080|http|", Unknown),
        (b"inbound-vip|8080|http|cart.shop.svc.cluster.local|", Unknown),
        (b"inbound-vip|8080|http|x|cart.shop.svc.cluster.local", Unknown),
        (b"Inbound-vip|8080|http|cart.shop.svc.cluster.local", Unknown),
        (b" inbound-vip|8080|http|cart.shop.svc.cluster.local", Unknown),
    ];
    let services = services();
    for (chain, expected) in rows {
        assert_eq!(services.destination(chain), *expected, "{}", String::from_utf8_lossy(chain));
    }
}

#[test]
fn a_host_that_is_there_twice_is_found() {
    let twin = |services: Vec<ServiceName>, service_entries: Vec<ServiceName>| {
        let gateway = Gateway { name: "w".to_owned(), waypoint: true, services, service_entries };
        ServicesByHost::new(&gateway).1.map(str::to_owned)
    };
    let host = "cart.shop.svc.cluster.local";
    let cart = || service("shop", "cart", host);
    assert_eq!(twin(vec![cart()], vec![]), None);
    assert_eq!(twin(vec![cart(), cart()], vec![]).as_deref(), Some(host));
    assert_eq!(twin(vec![cart()], vec![service("a", "x", host)]).as_deref(), Some(host));
    assert_eq!(twin(vec![cart()], vec![service("a", "x", &host.to_uppercase())]), Some(host.to_uppercase()));
    let further = service("shop", "cart", "cart.shop.svc.clusterset.local");
    assert_eq!(twin(vec![cart(), further], vec![]), None, "a Service can have several hosts");
}
