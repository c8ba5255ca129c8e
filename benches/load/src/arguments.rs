//! The command line, turned into what to do.

use std::path::PathBuf;
use std::time::Duration;

use crate::exchange::Exchange;

/// Where the server listens.
#[derive(Clone, Debug, PartialEq)]
pub enum Address {
    /// `tcp:HOST:PORT`
    Tcp(String),
    /// `tls:HOST:PORT`
    Tls(String),
    /// `udp:HOST:PORT`
    Udp(String),
    /// `unix:PATH`
    Unix(PathBuf),
}

/// When the measured part ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Until {
    /// After this much time.
    Elapsed(Duration),
    /// After this many answers.
    Answers(u64),
}

/// What the program is started for.
#[derive(Debug)]
pub enum Command {
    /// To be a client, and to measure.
    Load(Plan),
    /// To be a server.
    Serve(Exchange, Address),
    /// To keep so many connections open until standard input ends.
    Hold(Address, usize),
}

/// What a client does, and against whom.
#[derive(Debug)]
pub struct Plan {
    pub exchange: Exchange,
    pub address: Address,
    /// Who signed the server's certificate: a file.
    pub authority: PathBuf,
    pub connections: usize,
    pub until: Until,
    pub warmup: Duration,
    pub server_pid: Option<i32>,
    /// How long to sleep for news. Zero spins: a server then never pays for waking its client, which over loopback
    /// would cost it more than all the rest and come and go with who happens to be faster.
    pub nap: Duration,
}

const USAGE: &str = "\
usage: ferrio-load echo|connect|upload|download|http ADDRESS [--connections N] [--size BYTES] [--path PATH]
                   [--seconds S | --requests N] [--warmup S] [--nap S] [--server-pid PID] [--authority FILE]
       ferrio-load serve echo|upload|download|http ADDRESS [--size BYTES]
       ferrio-load hold ADDRESS [--connections N]
where ADDRESS is tcp:HOST:PORT, tls:HOST:PORT, udp:HOST:PORT or unix:PATH";

/// Reads the command line (without the program's name).
pub fn parse(mut words: impl Iterator<Item = String>) -> Result<Command, String> {
    let mut next = || words.next().ok_or(USAGE);
    let verb = next()?;
    let kind = if verb == "serve" { next()? } else { verb.clone() };
    let address = address(&next()?)?;

    let (mut size, mut path) = (1024, String::from("/"));
    let (mut connections, mut server_pid, mut authority) = (1, None, PathBuf::new());
    let mut nap = Duration::from_secs(1);
    let (mut until, mut warmup) = (Until::Elapsed(Duration::from_secs(1)), Duration::from_millis(200));
    while let Some(option) = words.next() {
        let value = words.next().ok_or_else(|| format!("{option} needs a value"))?;
        match option.as_str() {
            "--size" => size = number(&option, &value)?,
            "--path" => path = value,
            "--connections" => connections = number(&option, &value)?,
            "--seconds" => until = Until::Elapsed(seconds(&option, &value)?),
            "--requests" => until = Until::Answers(number(&option, &value)?),
            "--warmup" => warmup = seconds(&option, &value)?,
            "--nap" => nap = seconds(&option, &value)?,
            "--server-pid" => server_pid = Some(number(&option, &value)?),
            "--authority" => authority = value.into(),
            _ => return Err(format!("unknown option {option}\n{USAGE}")),
        }
    }
    if size == 0 || connections == 0 {
        return Err("--size and --connections must be at least 1".into());
    }
    if kind == "hold" {
        return Ok(Command::Hold(address, connections));
    }
    let exchange = match kind.as_str() {
        "echo" => Exchange::echo(size),
        "connect" => Exchange::connect(size),
        "upload" => Exchange::upload(size),
        "download" => Exchange::download(size),
        "http" => Exchange::http(&path),
        _ => return Err(USAGE.into()),
    };
    if verb == "serve" {
        return Ok(Command::Serve(exchange, address));
    }
    Ok(Command::Load(Plan { exchange, address, authority, connections, until, warmup, server_pid, nap }))
}

fn address(word: &str) -> Result<Address, String> {
    match word.split_once(':') {
        Some(("tcp", rest)) => Ok(Address::Tcp(rest.into())),
        Some(("tls", rest)) => Ok(Address::Tls(rest.into())),
        Some(("udp", rest)) => Ok(Address::Udp(rest.into())),
        Some(("unix", rest)) => Ok(Address::Unix(rest.into())),
        _ => Err(format!("not an address: {word}\n{USAGE}")),
    }
}

fn number<T: std::str::FromStr>(option: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{option}: not a number: {value}"))
}

fn seconds(option: &str, value: &str) -> Result<Duration, String> {
    Duration::try_from_secs_f64(number(option, value)?).map_err(|_| format!("{option}: not a duration: {value}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_line(line: &str) -> Result<Command, String> {
        parse(line.split_whitespace().map(String::from))
    }

    #[test]
    fn options_override_the_defaults() {
        let line = "echo unix:/tmp/s --connections 10 --requests 5 --warmup 0 --nap 0 --server-pid 7";
        let Command::Load(plan) = parse_line(line).unwrap() else { panic!("not a client") };
        assert_eq!(plan.address, Address::Unix("/tmp/s".into()));
        assert_eq!((plan.connections, plan.until), (10, Until::Answers(5)));
        assert_eq!((plan.warmup, plan.nap, plan.server_pid), (Duration::ZERO, Duration::ZERO, Some(7)));
    }

    #[test]
    fn the_first_word_says_which_side() {
        assert!(matches!(parse_line("echo tcp:h:1"), Ok(Command::Load(_))));
        assert!(matches!(parse_line("serve echo tcp:h:1"), Ok(Command::Serve(_, Address::Tcp(_)))));
        assert!(matches!(parse_line("hold tcp:h:1 --connections 5"), Ok(Command::Hold(_, 5))));
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        for (line, culprit) in [
            ("echo host:1", "host:1"),
            ("echo tcp:h:1 --size x", "--size"),
            ("echo tcp:h:1 --seconds -1", "--seconds"),
            ("echo tcp:h:1 --sizes 1", "--sizes"),
            ("echo tcp:h:1 --size", "--size"),
            ("serve", "usage"),
            ("serve tcp:h:1", "usage"),
        ] {
            let message = parse_line(line).unwrap_err();
            assert!(message.contains(culprit), "{line}: {message}");
        }
    }
}
