//! The networking examples do what they say. (The tutorial has a file of its own, with virtual time.)

#[path = "../examples/echo.rs"]
mod echo;
#[path = "../examples/udp.rs"]
mod udp;
#[path = "../examples/unix_socket.rs"]
mod unix_socket;

#[test]
fn every_client_of_the_echo_server_gets_its_own_text_back() {
    assert_eq!(ferrio::run(echo::server_and_clients()).unwrap(), ["one", "two", "three"]);
}

#[test]
fn the_udp_service_measures_empty_datagrams_too() {
    assert_eq!(ferrio::run(udp::lengths()).unwrap(), ["0", "3", "5"]);
}

#[cfg(unix)]
#[test]
fn the_unix_service_answers_in_capitals() {
    let path = std::env::temp_dir().join(format!("ferrio-test-example-{}", std::process::id()));
    assert_eq!(ferrio::run(unix_socket::service::ask_once(&path, "hello")).unwrap(), "HELLO");
    assert!(!path.exists());
}
