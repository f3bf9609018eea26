use std::io::{Read, Write};
use std::net::TcpListener;

use super::*;

fn url(text: &str) -> Url {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn own(address: &str) -> Outbound {
    Outbound::new(vec![address.parse().expect("an address")], Vec::new())
}

fn client(outbound: &Outbound) -> Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    outbound.client(|| reqwest::Client::builder().no_proxy()).expect("a client")
}

/// Answers each request with the same bytes, on a free port of loopback.
fn serving(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    address
}

#[test]
fn metadata_services_are_out_of_bounds_in_every_spelling() {
    let outbound = Outbound::default();
    for bad in [
        "http://169.254.169.254/latest/meta-data",
        "http://[fe80::1]/",
        "http://[::ffff:169.254.169.254]/",
        "http://[fd00:ec2::254]/",
        "http://100.100.100.200/",
        "http://0.0.0.0/",
        "http://[::]/",
        "http://2852039166/",
        "http://0xA9FEA9FE/",
        "http://224.0.0.1/",
        "file:///etc/passwd",
        "gopher://127.0.0.1/",
    ] {
        assert!(outbound.check(&url(bad)).is_err(), "{bad} was taken");
    }
    for good in
        ["http://127.0.0.1:9093", "http://10.0.0.7/hook", "https://hooks.example.com/x", "http://[::1]:80/"]
    {
        assert_eq!(outbound.check(&url(good)), Ok(()), "{good}");
    }
}

#[test]
fn our_own_api_is_out_of_bounds_under_every_address_of_this_host() {
    let on_loopback = own("127.0.0.1:7878");
    assert!(matches!(on_loopback.check(&url("http://127.0.0.1:7878/events")), Err(Forbidden::Own(_))));
    assert!(on_loopback.check(&url("http://[::ffff:127.0.0.1]:7878/")).is_err());
    assert_eq!(on_loopback.check(&url("http://127.0.0.1:7879/")), Ok(()));
    assert_eq!(on_loopback.check(&url("http://192.0.2.7:7878/")), Ok(()), "another host's");
    let everywhere = own("0.0.0.0:7878");
    for ours in ["http://127.0.0.1:7878/", "http://127.9.9.9:7878/", "http://[::1]:7878/"] {
        assert!(everywhere.check(&url(ours)).is_err(), "{ours} was taken");
    }
    assert_eq!(everywhere.check(&url("http://192.0.2.7:7878/")), Ok(()), "no address of this host");
}

#[test]
fn what_the_operator_allows_is_allowed() {
    let networks = ["169.254.169.254/32", "127.0.0.0/8"].map(|text| text.parse().expect("a network"));
    let outbound = Outbound::new(vec!["127.0.0.1:7878".parse().expect("an address")], networks.to_vec());
    for good in ["http://169.254.169.254/", "http://127.0.0.1:7878/"] {
        assert_eq!(outbound.check(&url(good)), Ok(()), "{good}");
    }
    assert!(outbound.check(&url("http://169.254.1.1/")).is_err());
}

#[tokio::test]
async fn a_name_is_checked_when_it_is_looked_up() {
    let address = serving("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
    let by_name = url(&format!("http://localhost:{}/", address.port()));
    let answer = client(&Outbound::default()).get(by_name.clone()).expect("allowed").send().await;
    assert_eq!(answer.expect("an answer").status(), 200);

    let refused =
        client(&own(&address.to_string())).get(by_name).expect("a name is not looked up yet").send().await;
    let error = refused.expect_err("it was reached by its name");
    assert!(format!("{error:?}").contains("own API"), "{error:?}");
}

#[tokio::test]
async fn an_answer_cannot_send_us_elsewhere() {
    let redirect = "HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let address = serving(redirect);
    let asked = client(&Outbound::default()).get(url(&format!("http://{address}/"))).expect("allowed");
    assert_eq!(asked.send().await.expect("the redirect itself").status(), 302);
}
