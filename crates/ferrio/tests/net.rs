//! Sockets and signals of the Rust face.
#![cfg(unix)]

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::time::Duration;

use ferrio::net::*;
use ferrio::signal::{SIGHUP, SIGUSR2, Signal};
use ferrio::*;

const SOON: Duration = Duration::from_millis(5);
const LOCALHOST: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

async fn connected() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind(LOCALHOST)?;
    let (client, server) = gather((TcpStream::connect(listener.local_addr()?), listener.accept())).await;
    Ok((client?, server?.0))
}

fn path(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("ferrio-test-{name}-{}", std::process::id()))
}

#[test]
fn a_large_transfer_waits_for_its_reader_and_arrives_whole() {
    run(async {
        let (client, server) = connected().await?;
        let sent: Vec<u8> = (0..8_000_000u32).map(|n| (n % 251) as u8).collect();
        let expected = sent.clone();
        let sender = create_task(async move {
            client.write_all(&sent).await?;
            client.write_eof()
        });
        let mut received = Vec::new();
        server.read_to_end(&mut received).await?;
        sender.await.unwrap()?;
        assert!(received == expected);
        io::Result::Ok(())
    })
    .unwrap();
}

#[test]
fn after_write_eof_reading_goes_on() {
    run(async {
        let (client, server) = connected().await?;
        client.write_all(b"question").await?;
        client.write_eof()?;
        let mut question = Vec::new();
        server.read_to_end(&mut question).await?;
        server.write_all(b"answer").await?;
        drop(server);
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await?;
        assert_eq!((&question[..], &answer[..]), (&b"question"[..], &b"answer"[..]));
        io::Result::Ok(())
    })
    .unwrap();
}

#[test]
fn reading_exactly_more_than_there_is_says_unexpected_end() {
    run(async {
        let (client, server) = connected().await.unwrap();
        client.write_all(b"abc").await.unwrap();
        drop(client);
        let error = server.read_exact(&mut [0; 4]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    });
}

#[test]
fn a_refused_connection_is_an_error() {
    run(async {
        let address = TcpListener::bind(LOCALHOST).unwrap().local_addr().unwrap();
        // The listener is closed: nobody is there.
        assert_eq!(TcpStream::connect(address).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        let error = TcpStream::connect_host("127.0.0.1", address.port()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    });
}

#[test]
fn a_numeric_host_is_answered_at_once_and_a_name_by_the_resolver() {
    run(async {
        let [ready] = gather([lookup("127.0.0.1", 80)]).await;
        assert_eq!(ready.unwrap(), [SocketAddr::from(([127, 0, 0, 1], 80))]);
        assert_eq!(lookup("::1", 80).await.unwrap(), ["[::1]:80".parse::<SocketAddr>().unwrap()]);
        assert!(lookup("localhost", 80).await.unwrap().iter().all(|address| address.ip().is_loopback()));
        assert!(lookup("no such host", 80).await.is_err());
    });
}

#[test]
fn a_read_that_timed_out_has_lost_nothing_and_leaves_no_watcher() {
    run(async {
        let (client, server) = connected().await?;
        let mut byte = [0];
        assert!(timeout(SOON, server.read(&mut byte)).await.is_err());
        client.write_all(b"x").await?;
        server.read_exact(&mut byte).await?;
        assert_eq!(&byte, b"x");
        io::Result::Ok(())
    })
    .unwrap();
}

#[test]
fn sockets_dropped_in_the_middle_of_a_wait_do_not_disturb_their_successors() {
    run(async {
        for _ in 0..50 {
            let (client, server) = connected().await?;
            let waiting = create_task(async move { server.read(&mut [0]).await });
            yield_now().await;
            waiting.cancel();
            assert!(waiting.await.unwrap_err().is_cancelled());
            drop(client);
            // Most likely under the same numbers.
            let (client, server) = connected().await?;
            let reader = create_task(async move {
                let mut byte = [0];
                server.read_exact(&mut byte).await.map(|()| byte)
            });
            yield_now().await;
            client.write_all(b"y").await?;
            assert_eq!(timeout(Duration::from_secs(5), reader).await.unwrap().unwrap()?, *b"y");
        }
        io::Result::Ok(())
    })
    .unwrap();
}

#[test]
fn several_tasks_may_accept_from_one_listener() {
    run(async {
        let listener = std::rc::Rc::new(TcpListener::bind(LOCALHOST)?);
        let address = listener.local_addr()?;
        let accepting: Vec<_> = (0..3)
            .map(|_| {
                let listener = listener.clone();
                create_task(async move { listener.accept().await.map(|(stream, _)| stream) })
            })
            .collect();
        yield_now().await;
        // One of them gives up; the others must still hear of what comes.
        accepting[0].cancel();
        let first = TcpStream::connect(address).await?;
        sleep(SOON).await;
        assert_eq!(
            accepting.iter().filter(|task| task.is_finished()).count(),
            2,
            "the cancelled and one of the others"
        );
        let second = TcpStream::connect(address).await?;
        let results = timeout(Duration::from_secs(5), gather(accepting)).await.expect("both are accepted");
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 2);
        drop((first, second));
        io::Result::Ok(())
    })
    .unwrap();
}

#[test]
fn one_task_reads_while_another_writes() {
    run(async {
        let (client, server) = connected().await?;
        let echo = create_task(async move {
            let mut buffer = [0; 1024];
            loop {
                match server.read(&mut buffer).await? {
                    0 => return io::Result::Ok(()),
                    count => server.write_all(&buffer[..count]).await?,
                }
            }
        });
        let data = vec![7; 1_000_000];
        let mut back = vec![0; data.len()];
        let (written, read) = gather((client.write_all(&data), client.read_exact(&mut back))).await;
        written?;
        read?;
        assert!(back == data);
        drop(client);
        echo.await.unwrap()
    })
    .unwrap();
}

#[test]
fn a_socket_can_be_used_on_one_loop_after_another() {
    let (here, there) = UnixStream::pair().unwrap();
    assert!(run(timeout(SOON, here.read(&mut [0]))).is_err());
    run(there.write_all(b"z")).unwrap();
    let mut byte = [0];
    run(here.read_exact(&mut byte)).unwrap();
    assert_eq!(&byte, b"z");
    assert!(here.into_inner().as_raw_fd() >= 0);
}

#[test]
fn a_connection_to_a_full_unix_listener_waits_until_there_is_room() {
    let path = path("full");
    let listener = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    listener.bind(&socket2::SockAddr::unix(&path).unwrap()).unwrap();
    listener.listen(0).unwrap();
    listener.set_nonblocking(true).unwrap();
    let listener = UnixListener::new(std::os::fd::OwnedFd::from(listener).into());
    run(async {
        let first = UnixStream::connect(&path).await?;
        let second = create_task(UnixStream::connect(path.clone()));
        sleep(SOON).await;
        assert!(!second.is_finished());
        listener.accept().await?;
        timeout(Duration::from_secs(5), second).await.expect("there is room").unwrap()?;
        drop(first);
        io::Result::Ok(())
    })
    .unwrap();
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_full_unix_datagram_socket_holds_up_its_sender_and_loses_nothing() {
    run(async {
        let (sender, receiver) = UnixDatagram::pair()?;
        let sending = create_task(async move {
            for number in 0..2000u32 {
                sender.send(&number.to_be_bytes()).await?;
            }
            io::Result::Ok(())
        });
        let mut datagram = [0; 8];
        for number in 0..2000u32 {
            assert_eq!(receiver.recv(&mut datagram).await?, 4);
            assert_eq!(datagram[..4], number.to_be_bytes());
        }
        sending.await.unwrap()
    })
    .unwrap();
}

#[test]
fn udp_keeps_datagrams_apart_and_delivers_empty_ones() {
    run(async {
        let (one, other) = (UdpSocket::bind(LOCALHOST)?, UdpSocket::bind(LOCALHOST)?);
        one.connect(other.local_addr()?)?;
        for datagram in [&b"first"[..], b"", b"third"] {
            one.send(datagram).await?;
        }
        let mut buffer = [0; 100];
        for expected in [&b"first"[..], b"", b"third"] {
            let (length, from) = other.recv_from(&mut buffer).await?;
            assert_eq!((&buffer[..length], from), (expected, one.local_addr()?));
        }
        io::Result::Ok(())
    })
    .unwrap();
}

fn raise(signal: i32) {
    // SAFETY: has no preconditions; the test has a handler for the signal.
    assert_eq!(unsafe { libc::raise(signal) }, 0);
}

#[test]
fn every_receiver_gets_a_signal_and_many_at_once_count_as_one() {
    run(async {
        let (mut one, mut other) = (Signal::new(SIGUSR2)?, Signal::new(SIGUSR2)?);
        assert!(timeout(SOON, one.recv()).await.is_err());
        for _ in 0..1000 {
            raise(SIGUSR2);
        }
        one.recv().await?;
        other.recv().await?;
        assert!(timeout(SOON, one.recv()).await.is_err());
        drop(other);
        for _ in 0..3 {
            raise(SIGUSR2);
            one.recv().await?;
        }
        io::Result::Ok(())
    })
    .unwrap();
}

#[test]
fn a_signal_ends_a_wait_that_sleeps() {
    run(async {
        let mut signal = Signal::new(SIGHUP)?;
        let waiting = create_task(async move { signal.recv().await });
        sleep(SOON).await;
        assert!(!waiting.is_finished());
        spawn_blocking(|| raise(SIGHUP)).await.unwrap();
        timeout(Duration::from_secs(5), waiting).await.expect("it came").unwrap()
    })
    .unwrap();
}

#[test]
fn a_signal_that_cannot_be_received_is_refused() {
    for number in [libc::SIGKILL, libc::SIGSEGV] {
        assert_eq!(Signal::new(number).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
    assert!(Signal::new(100_000).is_err());
}
