//! The other side of the benchmarks.
//!
//! As a client: one thread, one epoll, so cheap that the Python server under test is always the slower side. Every
//! connection has one request under way: it sends, waits for the whole answer, checks it, and sends again. The result
//! is one line of JSON, with the server's own CPU time when its process id is given:
//!
//! ```text
//! ferrio-load http tcp:127.0.0.1:8000 --connections 64 --seconds 2 --server-pid 1234
//! ferrio-load echo unix:/tmp/echo.sock --size 1024 --connections 10 --requests 100000
//! ferrio-load echo tls:127.0.0.1:9000 --size 1024 --authority ca.pem
//! ferrio-load download tcp:127.0.0.1:9000 --size 1048576
//! ```
//!
//! As a server: the limit, what the same exchange costs with system calls and nothing else.
//!
//! ```text
//! ferrio-load serve echo tcp:127.0.0.1:0
//! ```

#[cfg(target_os = "linux")]
mod arguments;
#[cfg(target_os = "linux")]
mod connection;
#[cfg(target_os = "linux")]
mod exchange;
#[cfg(target_os = "linux")]
mod hold;
#[cfg(target_os = "linux")]
mod link;
#[cfg(target_os = "linux")]
mod measure;
#[cfg(target_os = "linux")]
mod server;
#[cfg(target_os = "linux")]
mod sys;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    use arguments::Command;

    let outcome = arguments::parse(std::env::args().skip(1)).and_then(|command| match command {
        Command::Load(plan) => measure::run(&plan).map(|report| println!("{}", report.json())),
        Command::Serve(exchange, address) => server::run(&exchange, &address).map_err(|error| error.to_string()),
        Command::Hold(address, count) => hold::run(&address, count),
    });
    match outcome {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("ferrio-load: {message}");
            std::process::ExitCode::FAILURE
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn main() -> std::process::ExitCode {
    eprintln!("ferrio-load: needs Linux (epoll)");
    std::process::ExitCode::FAILURE
}
