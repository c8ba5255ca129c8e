//! What one request is, and when its answer is complete.

/// A request, sent again and again, and the rule for its answer.
#[derive(Debug)]
pub struct Exchange {
    request: Vec<u8>,
    rule: Rule,
}

#[derive(Debug)]
enum Rule {
    /// The answer is the request.
    Echo,
    /// The answer is an HTTP response with status 200 and a Content-Length.
    Http,
}

/// What is known of an answer after some more of its bytes.
#[derive(Debug, PartialEq)]
pub enum Progress {
    /// More bytes must come.
    Partial,
    /// The answer is whole.
    Complete,
}

impl Exchange {
    /// A message of `size` bytes, to come back as it went.
    pub fn echo(size: usize) -> Self {
        // No two neighbouring bytes alike and no period that divides a buffer's size: a lost or doubled piece shows.
        let request = (0..size).map(|i| (i % 251) as u8).collect();
        Self { request, rule: Rule::Echo }
    }

    /// `GET path` on a connection that stays open.
    pub fn http(path: &str) -> Self {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: ferrio-load\r\nAccept: */*\r\n\r\n");
        Self { request: request.into_bytes(), rule: Rule::Http }
    }

    /// The bytes to send.
    pub fn request(&self) -> &[u8] {
        &self.request
    }

    /// Judges everything received since the request went out.
    pub fn judge(&self, answer: &[u8]) -> Result<Progress, String> {
        match self.rule {
            Rule::Echo if answer.len() < self.request.len() => Ok(Progress::Partial),
            Rule::Echo if answer == self.request => Ok(Progress::Complete),
            Rule::Echo => Err("the echo differs from what was sent".into()),
            Rule::Http => judge_http(answer),
        }
    }
}

fn judge_http(answer: &[u8]) -> Result<Progress, String> {
    let Some(head_end) = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
        return Ok(Progress::Partial);
    };
    let head = std::str::from_utf8(&answer[..head_end]).map_err(|_| "the response's head is not text")?;
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("200") {
        return Err(format!("the response says {status:?}"));
    }
    let length: usize = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse().ok())
        .ok_or("the response has no Content-Length")?;
    match answer.len().cmp(&(head_end + 4 + length)) {
        std::cmp::Ordering::Less => Ok(Progress::Partial),
        std::cmp::Ordering::Equal => Ok(Progress::Complete),
        std::cmp::Ordering::Greater => Err("the response is longer than its Content-Length".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_is_complete_when_every_byte_is_back() {
        let exchange = Exchange::echo(600);
        let message = exchange.request().to_vec();
        assert_eq!(exchange.judge(&message[..599]), Ok(Progress::Partial));
        assert_eq!(exchange.judge(&message), Ok(Progress::Complete));
        let mut wrong = message.clone();
        wrong[300] ^= 1;
        assert!(exchange.judge(&wrong).is_err());
    }

    #[test]
    fn a_response_ends_where_its_content_length_says() {
        let exchange = Exchange::http("/");
        let whole = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc";
        assert_eq!(exchange.judge(&whole[..10]), Ok(Progress::Partial));
        assert_eq!(exchange.judge(&whole[..whole.len() - 1]), Ok(Progress::Partial));
        assert_eq!(exchange.judge(whole), Ok(Progress::Complete));
        assert!(exchange.judge(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabcd").is_err());
        assert!(exchange.judge(b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n").is_err());
        assert!(exchange.judge(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
