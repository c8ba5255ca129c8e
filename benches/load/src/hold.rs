//! Connections that say nothing: what a server has to remember beside those that it works for.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::arguments::{Address, Plan, Until};
use crate::connection::Connection;
use crate::exchange::Exchange;
use crate::link::Peer;
use crate::measure;

/// So many at once that no server's backlog overflows.
const BURST: usize = 64;

/// Opens the connections, says when they are there, and keeps them until standard input ends.
pub fn run(address: &Address, count: usize) -> Result<(), String> {
    // An answer on a later connection shows that those before it were accepted.
    let question = Plan {
        exchange: Exchange::echo(1),
        address: address.clone(),
        authority: PathBuf::new(),
        connections: 1,
        until: Until::Answers(1),
        warmup: Duration::ZERO,
        server_pid: None,
        nap: Duration::from_secs(1),
    };
    let peer = Peer::new(address, &question.authority)?;
    let mut connections = Vec::with_capacity(count);
    while connections.len() < count {
        connections.push(Connection::open(&peer).map_err(|error| format!("connecting to {address:?}: {error}"))?);
        if connections.len() % BURST == 0 {
            measure::run(&question)?;
        }
    }
    measure::run(&question)?;
    println!("{{\"held\": {count}}}");
    io::copy(&mut io::stdin(), &mut io::sink()).map_err(|error| format!("standard input: {error}"))?;
    Ok(())
}
