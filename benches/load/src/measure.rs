//! The run itself: connect, warm up, measure, report.

use std::time::{Duration, Instant};

use crate::arguments::{Address, Plan, Until};
use crate::connection::Connection;
use crate::link::Peer;
use crate::sys::{Epoll, cpu_time_of};

/// A server that has been silent for so long hangs.
const PATIENCE: Duration = Duration::from_secs(10);

/// Enough for the answers of a burst; longer messages take several reads.
const BUFFER: usize = 256 * 1024;

/// What was measured.
pub struct Report {
    connections: usize,
    elapsed: Duration,
    server_cpu: Option<Duration>,
    /// Nanoseconds from request to answer, sorted.
    latencies: Vec<u64>,
}

impl Report {
    /// One line of JSON.
    pub fn json(&self) -> String {
        let requests = self.latencies.len();
        let seconds = self.elapsed.as_secs_f64();
        let server_cpu = match self.server_cpu {
            Some(time) => format!("{:.3}", time.as_secs_f64() * 1e6 / requests as f64),
            None => "null".into(),
        };
        format!(
            "{{\"connections\": {}, \"requests\": {requests}, \"seconds\": {seconds:.6}, \"requests_per_second\": {:.1}, \
             \"server_cpu_us_per_request\": {server_cpu}, \"p50_us\": {:.1}, \"p99_us\": {:.1}}}",
            self.connections,
            requests as f64 / seconds,
            self.percentile(0.50),
            self.percentile(0.99),
        )
    }

    fn percentile(&self, fraction: f64) -> f64 {
        let index = ((self.latencies.len() - 1) as f64 * fraction) as usize;
        self.latencies[index] as f64 / 1e3
    }
}

/// Follows the plan.
pub fn run(plan: &Plan) -> Result<Report, String> {
    let mut load = Load::connect(plan)?;
    load.drive(Until::Elapsed(plan.warmup))?;
    let cpu_before = plan.server_pid.map(server_cpu_time).transpose()?;
    let started = Instant::now();
    let mut latencies = load.drive(plan.until)?;
    let elapsed = started.elapsed();
    let server_cpu = match (plan.server_pid, cpu_before) {
        (Some(pid), Some(before)) => Some(server_cpu_time(pid)?.saturating_sub(before)),
        _ => None,
    };
    if latencies.is_empty() {
        return Err("no request was answered in the time given".into());
    }
    latencies.sort_unstable();
    Ok(Report { connections: plan.connections, elapsed, server_cpu, latencies })
}

fn server_cpu_time(pid: i32) -> Result<Duration, String> {
    cpu_time_of(pid).map_err(|error| format!("CPU time of process {pid}: {error}"))
}

struct Load<'a> {
    plan: &'a Plan,
    peer: Peer,
    connections: Vec<Connection>,
    epoll: Epoll,
    buffer: Vec<u8>,
}

fn connect(peer: &Peer, address: &Address) -> Result<Connection, String> {
    Connection::open(peer).map_err(|error| format!("connecting to {address:?}: {error}"))
}

fn watch(epoll: &Epoll, connection: &Connection, token: usize) -> Result<(), String> {
    epoll.watch(connection.fd(), token).map_err(|error| format!("epoll: {error}"))
}

impl<'a> Load<'a> {
    fn connect(plan: &'a Plan) -> Result<Self, String> {
        let peer = Peer::new(&plan.address, &plan.authority)?;
        let connections =
            (0..plan.connections).map(|_| connect(&peer, &plan.address)).collect::<Result<Vec<_>, _>>()?;
        let epoll = Epoll::new(plan.connections).map_err(|error| format!("epoll: {error}"))?;
        for (token, connection) in connections.iter().enumerate() {
            watch(&epoll, connection, token)?;
        }
        Ok(Self { plan, peer, connections, epoll, buffer: vec![0; BUFFER] })
    }

    /// Exchanges until the end and returns the nanoseconds of every answer.
    fn drive(&mut self, until: Until) -> Result<Vec<u64>, String> {
        let started = Instant::now();
        let mut last_news = started;
        let (mut latencies, mut ready) = (Vec::new(), Vec::new());
        loop {
            let done = match until {
                // However busy the machine is, there is something to measure.
                Until::Elapsed(limit) => started.elapsed() >= limit && (limit.is_zero() || !latencies.is_empty()),
                Until::Answers(limit) => latencies.len() as u64 >= limit,
            };
            if done {
                return Ok(latencies);
            }
            self.epoll.wait(self.plan.nap, &mut ready).map_err(|error| format!("epoll: {error}"))?;
            for &token in &ready {
                if let Some(taken) = self.connections[token].advance(&self.plan.exchange, &mut self.buffer)? {
                    latencies.push(taken);
                    if self.plan.exchange.once() {
                        self.connections[token] = connect(&self.peer, &self.plan.address)?;
                        watch(&self.epoll, &self.connections[token], token)?;
                    }
                }
            }
            if !ready.is_empty() {
                last_news = Instant::now();
            } else if last_news.elapsed() >= PATIENCE {
                return Err(format!("the server has not answered for {PATIENCE:?}"));
            }
        }
    }
}
