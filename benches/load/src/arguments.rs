//! The command line, turned into a plan.

use std::path::PathBuf;
use std::time::Duration;

use crate::exchange::Exchange;

/// Where the server listens.
#[derive(Clone, Debug, PartialEq)]
pub enum Address {
    /// `tcp:HOST:PORT`
    Tcp(String),
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

/// What to do, and against whom.
#[derive(Debug)]
pub struct Plan {
    pub exchange: Exchange,
    pub address: Address,
    pub connections: usize,
    pub until: Until,
    pub warmup: Duration,
    pub server_pid: Option<i32>,
    /// How long to sleep for news. Zero spins: a server then never pays for waking its client, which over loopback
    /// would cost it more than all the rest and come and go with who happens to be faster.
    pub nap: Duration,
}

const USAGE: &str = "usage: ferrio-load http|echo tcp:HOST:PORT|udp:HOST:PORT|unix:PATH \
                     [--connections N] [--size BYTES] [--path PATH] [--seconds S | --requests N] [--warmup S] [--nap S] \
                     [--server-pid PID]";

/// Reads the command line (without the program's name).
pub fn parse(mut words: impl Iterator<Item = String>) -> Result<Plan, String> {
    let kind = words.next().ok_or(USAGE)?;
    let address = address(&words.next().ok_or(USAGE)?)?;

    let (mut size, mut path) = (1024, String::from("/"));
    let (mut connections, mut server_pid) = (1, None);
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
            _ => return Err(format!("unknown option {option}\n{USAGE}")),
        }
    }
    if size == 0 || connections == 0 {
        return Err("--size and --connections must be at least 1".into());
    }
    let exchange = match kind.as_str() {
        "http" => Exchange::http(&path),
        "echo" => Exchange::echo(size),
        _ => return Err(USAGE.into()),
    };
    Ok(Plan { exchange, address, connections, until, warmup, server_pid, nap })
}

fn address(word: &str) -> Result<Address, String> {
    match word.split_once(':') {
        Some(("tcp", rest)) => Ok(Address::Tcp(rest.into())),
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

    fn parse_line(line: &str) -> Result<Plan, String> {
        parse(line.split_whitespace().map(String::from))
    }

    #[test]
    fn options_override_the_defaults() {
        let plan =
            parse_line("echo unix:/tmp/s --connections 10 --requests 5 --warmup 0 --nap 0 --server-pid 7").unwrap();
        assert_eq!(plan.address, Address::Unix("/tmp/s".into()));
        assert_eq!((plan.connections, plan.until), (10, Until::Answers(5)));
        assert_eq!((plan.warmup, plan.nap, plan.server_pid), (Duration::ZERO, Duration::ZERO, Some(7)));
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        for (line, culprit) in [
            ("echo host:1", "host:1"),
            ("echo tcp:h:1 --size x", "--size"),
            ("echo tcp:h:1 --seconds -1", "--seconds"),
            ("echo tcp:h:1 --sizes 1", "--sizes"),
            ("echo tcp:h:1 --size", "--size"),
        ] {
            let message = parse_line(line).unwrap_err();
            assert!(message.contains(culprit), "{line}: {message}");
        }
    }
}
