//! An echo server and its clients.
//!
//! ```text
//! cargo run -p ferrio --example echo              # a server and three clients in one program
//! cargo run -p ferrio --example echo 127.0.0.1:7  # only the server, until Ctrl-C
//! ```

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use ferrio::net::{TcpListener, TcpStream};
use ferrio::{create_task, gather, run, sleep, timeout};

/// Serves every connection in a task of its own, until it is cancelled.
pub async fn serve(listener: TcpListener) -> io::Result<()> {
    loop {
        match listener.accept().await {
            Ok((connection, peer)) => drop(create_task(async move {
                if let Err(error) = echo(connection).await {
                    eprintln!("{peer}: {error}");
                }
            })),
            // Out of descriptors, most likely: others will be closed soon.
            Err(error) => {
                eprintln!("cannot accept: {error}");
                sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn echo(connection: TcpStream) -> io::Result<()> {
    let mut buffer = [0; 16 * 1024];
    loop {
        match connection.read(&mut buffer).await? {
            0 => return Ok(()),
            count => connection.write_all(&buffer[..count]).await?,
        }
    }
}

/// Sends `text`, and gives what comes back.
pub async fn ask(server: SocketAddr, text: &str) -> io::Result<String> {
    let connection = TcpStream::connect(server).await?;
    connection.write_all(text.as_bytes()).await?;
    connection.write_eof()?;
    let mut answer = Vec::new();
    timeout(Duration::from_secs(5), connection.read_to_end(&mut answer)).await??;
    String::from_utf8(answer).map_err(io::Error::other)
}

/// A server and three clients at once, in one thread.
pub async fn server_and_clients() -> io::Result<[String; 3]> {
    let listener = TcpListener::bind(([127, 0, 0, 1], 0))?;
    let address = listener.local_addr()?;
    let server = create_task(serve(listener));
    let [one, two, three] = gather(["one", "two", "three"].map(|text| ask(address, text))).await;
    server.cancel();
    Ok([one?, two?, three?])
}

// The test uses the functions above and not this one.
#[allow(dead_code)]
fn main() -> io::Result<()> {
    match std::env::args().nth(1) {
        Some(address) => run(async {
            let listener = TcpListener::bind(address.parse::<SocketAddr>().map_err(io::Error::other)?)?;
            println!("listening on {}", listener.local_addr()?);
            let server = create_task(serve(listener));
            #[cfg(unix)]
            {
                ferrio::signal::ctrl_c().await?;
                server.cancel();
            }
            server.await.unwrap_or(Ok(()))
        }),
        None => {
            println!("{:?}", run(server_and_clients())?);
            Ok(())
        }
    }
}
