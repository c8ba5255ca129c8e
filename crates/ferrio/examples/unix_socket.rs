//! A Unix socket: a service that is found in the file system.
//!
//! ```text
//! cargo run -p ferrio --example unix_socket
//! ```

/// The service, where there are Unix sockets.
#[cfg(unix)]
pub mod service {
    use std::io;
    use std::path::Path;

    use ferrio::create_task;
    use ferrio::net::{UnixListener, UnixStream};

    /// Answers one question with its letters in capitals.
    async fn answer(connection: UnixStream) -> io::Result<()> {
        let mut question = Vec::new();
        connection.read_to_end(&mut question).await?;
        connection.write_all(&question.to_ascii_uppercase()).await
    }

    /// Listens at `path`, asks one question there, and gives the answer.
    pub async fn ask_once(path: &Path, question: &str) -> io::Result<String> {
        let listener = UnixListener::bind(path)?;
        let service = create_task(async move { answer(listener.accept().await?.0).await });

        let client = UnixStream::connect(path).await?;
        client.write_all(question.as_bytes()).await?;
        client.write_eof()?;
        let mut bytes = Vec::new();
        client.read_to_end(&mut bytes).await?;
        service.await.map_err(io::Error::other)??;
        // The path outlives the listener: who made it removes it.
        std::fs::remove_file(path)?;
        String::from_utf8(bytes).map_err(io::Error::other)
    }
}

// The test uses the module above and not this.
#[allow(dead_code)]
fn main() -> std::io::Result<()> {
    #[cfg(unix)]
    {
        let path = std::env::temp_dir().join(format!("ferrio-example-{}", std::process::id()));
        println!("{}", ferrio::run(service::ask_once(&path, "hello"))?);
    }
    Ok(())
}
