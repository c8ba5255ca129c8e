//! What one request is, and when its answer is complete.

/// A request, sent again and again, and the rule for its answer.
#[derive(Debug)]
pub struct Exchange {
    request: Vec<u8>,
    rule: Rule,
    /// Every request has a connection of its own.
    once: bool,
}

#[derive(Debug)]
enum Rule {
    /// The answer is the request.
    Echo,
    /// The answer has so many bytes.
    Length(usize),
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

/// What has come of an answer.
#[derive(Default)]
pub struct Answer {
    length: usize,
    /// The bytes, where the rule has to see them together.
    head: Vec<u8>,
}

impl Exchange {
    /// A message of `size` bytes, to come back as it went.
    pub fn echo(size: usize) -> Self {
        Self { request: message(size), rule: Rule::Echo, once: false }
    }

    /// The same on a new connection each time.
    pub fn connect(size: usize) -> Self {
        Self { once: true, ..Self::echo(size) }
    }

    /// `size` bytes to the server, which says with a single one that it has them.
    pub fn upload(size: usize) -> Self {
        Self { request: message(size), rule: Rule::Length(1), once: false }
    }

    /// A single byte to the server, for which it gives `size`.
    pub fn download(size: usize) -> Self {
        Self { request: message(1), rule: Rule::Length(size), once: false }
    }

    /// `GET path` on a connection that stays open.
    pub fn http(path: &str) -> Self {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: ferrio-load\r\nAccept: */*\r\n\r\n");
        Self { request: request.into_bytes(), rule: Rule::Http, once: false }
    }

    /// The bytes to send.
    pub fn request(&self) -> &[u8] {
        &self.request
    }

    /// Whether the connection ends with the answer.
    pub fn once(&self) -> bool {
        self.once
    }

    /// Judges the next bytes of an answer.
    pub fn judge(&self, answer: &mut Answer, bytes: &[u8]) -> Result<Progress, String> {
        let before = answer.length;
        answer.length += bytes.len();
        match self.rule {
            Rule::Echo if self.request.get(before..answer.length) != Some(bytes) => {
                Err("the echo differs from what was sent".into())
            }
            Rule::Echo => progress(answer.length, self.request.len()),
            Rule::Length(length) => progress(answer.length, length),
            Rule::Http => {
                answer.head.extend_from_slice(bytes);
                match http_length(&answer.head)? {
                    Some(length) => progress(answer.length, length),
                    None => Ok(Progress::Partial),
                }
            }
        }
    }

    /// What a server says to each request; nothing where it says what it hears.
    pub fn reply(&self) -> Vec<u8> {
        match self.rule {
            Rule::Echo => Vec::new(),
            Rule::Length(length) => message(length),
            Rule::Http => b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 6\r\n\r\nHello\n".into(),
        }
    }

    /// How many requests end in these bytes from a client; `begun` is how much there is of the one that comes next.
    pub fn requests(&self, begun: &mut usize, bytes: &[u8]) -> usize {
        match self.rule {
            Rule::Echo => 0,
            Rule::Length(_) => {
                let all = *begun + bytes.len();
                *begun = all % self.request.len();
                all / self.request.len()
            }
            Rule::Http => bytes.iter().filter(|&&byte| ends_head(begun, byte)).count(),
        }
    }
}

/// Whether the byte ends an empty line, of which there are `begun` bytes.
fn ends_head(begun: &mut usize, byte: u8) -> bool {
    const END: &[u8] = b"\r\n\r\n";
    *begun = if byte == END[*begun] { *begun + 1 } else { usize::from(byte == END[0]) };
    let ends = *begun == END.len();
    if ends {
        *begun = 0;
    }
    ends
}

/// Bytes of which no two neighbours are alike, with no period that divides a buffer's size: a lost or doubled piece shows.
pub fn message(size: usize) -> Vec<u8> {
    (0..size).map(|i| (i % 251) as u8).collect()
}

fn progress(length: usize, whole: usize) -> Result<Progress, String> {
    match length.cmp(&whole) {
        std::cmp::Ordering::Less => Ok(Progress::Partial),
        std::cmp::Ordering::Equal => Ok(Progress::Complete),
        std::cmp::Ordering::Greater => Err(format!("the answer is longer than {whole} bytes")),
    }
}

/// How long the response is, as soon as its head is there.
fn http_length(answer: &[u8]) -> Result<Option<usize>, String> {
    let Some(head_end) = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
        return Ok(None);
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
    Ok(Some(head_end + 4 + length))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of an answer that comes in these pieces.
    fn judge(exchange: &Exchange, pieces: &[&[u8]]) -> Result<Progress, String> {
        let mut answer = Answer::default();
        pieces.iter().try_fold(Progress::Partial, |_, piece| exchange.judge(&mut answer, piece))
    }

    #[test]
    fn an_echo_is_complete_when_every_byte_is_back() {
        let exchange = Exchange::echo(600);
        let message = exchange.request().to_vec();
        assert_eq!(judge(&exchange, &[&message[..599]]), Ok(Progress::Partial));
        assert_eq!(judge(&exchange, &[&message[..599], &message[599..]]), Ok(Progress::Complete));
        assert!(judge(&exchange, &[&message, b"x"]).is_err());
        let mut wrong = message.clone();
        wrong[300] ^= 1;
        assert!(judge(&exchange, &[&wrong]).is_err());
    }

    #[test]
    fn uploads_and_downloads_are_complete_by_their_length() {
        assert_eq!(judge(&Exchange::upload(10), &[b"."]), Ok(Progress::Complete));
        assert_eq!(judge(&Exchange::download(10), &[b"12345"]), Ok(Progress::Partial));
        assert_eq!(judge(&Exchange::download(10), &[b"12345", b"67890"]), Ok(Progress::Complete));
        assert!(judge(&Exchange::download(10), &[b"12345", b"678901"]).is_err());
    }

    #[test]
    fn a_response_ends_where_its_content_length_says() {
        let exchange = Exchange::http("/");
        let whole = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc";
        assert_eq!(judge(&exchange, &[&whole[..10]]), Ok(Progress::Partial));
        assert_eq!(judge(&exchange, &[&whole[..whole.len() - 1]]), Ok(Progress::Partial));
        assert_eq!(judge(&exchange, &[&whole[..20], &whole[20..]]), Ok(Progress::Complete));
        assert!(judge(&exchange, &[whole, b"d"]).is_err());
        assert!(judge(&exchange, &[b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n"]).is_err());
        assert!(judge(&exchange, &[b"HTTP/1.1 200 OK\r\n\r\n"]).is_err());
    }

    /// How many requests a server finds in each of these pieces.
    fn requests(exchange: &Exchange, pieces: &[&[u8]]) -> Vec<usize> {
        let mut begun = 0;
        pieces.iter().map(|piece| exchange.requests(&mut begun, piece)).collect()
    }

    #[test]
    fn a_server_finds_the_ends_of_requests() {
        assert_eq!(requests(&Exchange::upload(3), &[b"ab", b"cdef", b"g", b"hi"]), [0, 2, 0, 1]);
        assert_eq!(requests(&Exchange::download(9), &[b"a", b"bc"]), [1, 2]);
        let http = Exchange::http("/");
        assert_eq!(requests(&http, &[b"GET / HTTP/1.1\r\nHost: h\r\n\r", b"\nGET", b"\r\r\n\r\n"]), [0, 1, 1]);
    }

    #[test]
    fn a_bare_servers_replies_satisfy_its_client() {
        for exchange in [Exchange::upload(10), Exchange::download(10), Exchange::http("/")] {
            assert_eq!(judge(&exchange, &[&exchange.reply()]), Ok(Progress::Complete));
        }
    }
}
