//! UDP: a service that answers each datagram with its length, and a client that does not wait for ever.
//!
//! ```text
//! cargo run -p ferrio --example udp
//! ```

use std::io;
use std::time::Duration;

use ferrio::net::UdpSocket;
use ferrio::{create_task, run, timeout};

async fn measure(socket: UdpSocket) -> io::Result<()> {
    let mut datagram = [0; 65536];
    loop {
        let (length, from) = socket.recv_from(&mut datagram).await?;
        socket.send_to(length.to_string().as_bytes(), from).await?;
    }
}

/// The lengths of three datagrams, as the service measures them.
pub async fn lengths() -> io::Result<Vec<String>> {
    let service = UdpSocket::bind(([127, 0, 0, 1], 0))?;
    let client = UdpSocket::bind(([127, 0, 0, 1], 0))?;
    client.connect(service.local_addr()?)?;
    drop(create_task(measure(service)));

    let mut answers = Vec::new();
    let mut answer = [0; 20];
    for datagram in ["", "one", "three"] {
        client.send(datagram.as_bytes()).await?;
        // Datagrams may be lost, even here if the machine is out of memory.
        let length = timeout(Duration::from_secs(5), client.recv(&mut answer)).await??;
        answers.push(String::from_utf8_lossy(&answer[..length]).into_owned());
    }
    Ok(answers)
}

// The test uses the function above and not this one.
#[allow(dead_code)]
fn main() -> io::Result<()> {
    println!("{:?}", run(lengths())?);
    Ok(())
}
