//! Checks of a release that need no process: a request or a connection to this very machine.

use std::{io, net::SocketAddr, time::Duration};

use bucket::{HttpProbe, LoopbackAddress};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::failure::{CheckEnd, CheckFault, Limit};

use super::service_manager::CheckResult;

/// Most bytes of a response that are read.
const MAX_RESPONSE: u64 = 16 << 10;

/// Most characters of a response that are shown.
const MAX_SHOWN: usize = 200;

/// Whether something accepts a connection.
pub(super) async fn tcp(address: &LoopbackAddress, time_limit: Duration) -> CheckResult {
    let connected = timeout(time_limit, connect(&address.addresses())).await;
    result(
        &format!("tcp://{address}"),
        time_limit,
        connected.map(|stream| stream.map(drop).map_err(|error| in_words(&error))),
    )
}

/// Whether a GET is answered with a status of 2xx. A redirect is none, and is not followed.
pub(super) async fn http(url: &HttpProbe, time_limit: Duration) -> CheckResult {
    let answered = async {
        let mut stream = connect(&url.addresses()).await.map_err(|error| in_words(&error))?;
        let (path, host) = (url.path(), url.authority());
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: pulld\r\nAccept: */*\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.map_err(|error| in_words(&error))?;
        judge(&mut stream).await
    };
    result(&url.to_string(), time_limit, timeout(time_limit, answered).await)
}

async fn connect(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut failed = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// Reads the response as far as it is needed: a good one up to its status.
async fn judge(stream: &mut TcpStream) -> Result<(), String> {
    let mut response = Vec::new();
    let mut rest = stream.take(MAX_RESPONSE);
    loop {
        let read = rest.read_buf(&mut response).await.map_err(|error| in_words(&error))?;
        match status(&response) {
            Some(Ok(200..=299)) => return Ok(()),
            Some(Err(())) => return Err("the response is not HTTP".to_owned()),
            _ if read > 0 => {}
            Some(Ok(status)) => return Err(refusal(status, &response)),
            None => return Err("the connection was closed without a response".to_owned()),
        }
    }
}

/// The status of a response; `None` while its first line isn't complete.
fn status(response: &[u8]) -> Option<Result<u16, ()>> {
    let end = response.iter().position(|byte| *byte == b'\n')?;
    let line = str::from_utf8(&response[..end]).unwrap_or_default();
    let word = line.strip_prefix("HTTP/1.").and_then(|rest| rest.split_ascii_whitespace().nth(1));
    Some(word.filter(|word| word.len() == 3).and_then(|word| word.parse().ok()).ok_or(()))
}

/// What a response of another status says, on one line and safe to show.
fn refusal(status: u16, response: &[u8]) -> String {
    let text = String::from_utf8_lossy(response);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let is_chunked = head.to_ascii_lowercase().contains("\r\ntransfer-encoding: chunked");
    // Of chunks, the first line is the size of the first.
    let body = if is_chunked { body.split_once('\n').map_or("", |(_, rest)| rest) } else { body };
    let said: String = body.trim().chars().take(MAX_SHOWN).flat_map(char::escape_debug).collect();
    let hint = if (300..400).contains(&status) { ", and redirects are not followed" } else { "" };
    if said.is_empty() {
        format!("its status is {status}{hint}")
    } else {
        format!("its status is {status}{hint}: {said}")
    }
}

fn in_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "nothing listens there".to_owned(),
        _ => error.to_string(),
    }
}

fn result(
    probe: &str,
    time_limit: Duration,
    ended: Result<Result<(), String>, tokio::time::error::Elapsed>,
) -> CheckResult {
    let how = match ended {
        Ok(Ok(())) => return CheckResult::Passed,
        Ok(Err(words)) => CheckEnd::Answer { words },
        Err(_) => CheckEnd::NoAnswer { within: Limit(time_limit) },
    };
    CheckResult::Failed(CheckFault { check: probe.to_owned(), how })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    const LIMIT: Duration = Duration::from_secs(20);

    /// What an HTTP check says of a server that answers with these bytes, and closes the connection unless it `hangs`.
    async fn says(response: &'static [u8], hangs: bool) -> Option<String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url: HttpProbe = format!("http://{}/healthz", listener.local_addr().unwrap()).parse().unwrap();
        let serving = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1000];
            let read = stream.read(&mut request).await.unwrap();
            assert!(request[..read].starts_with(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:"));
            // It may have its verdict before the end.
            let _ = stream.write_all(response).await;
            if hangs {
                std::future::pending::<()>().await;
            }
            drop(stream);
            std::future::pending::<()>().await;
        };
        let limit = if hangs { Duration::from_millis(200) } else { LIMIT };
        let result = tokio::select! {
            result = http(&url, limit) => result,
            () = serving => unreachable!("it never ends"),
        };
        match result {
            CheckResult::Passed => None,
            CheckResult::Failed(fault) => {
                assert_eq!(fault.check, url.to_string(), "it says which check failed");
                Some(match fault.how {
                    CheckEnd::Answer { words } => words,
                    CheckEnd::NoAnswer { within } => {
                        assert_eq!(within, Limit(limit));
                        "no answer".to_owned()
                    }
                    CheckEnd::CommandFailed { .. } => unreachable!("it is no command"),
                })
            }
        }
    }

    #[tokio::test]
    async fn only_a_status_of_2xx_passes() {
        assert_eq!(says(b"HTTP/1.1 200 OK\r\n\r\n", false).await, None);
        assert_eq!(says(b"HTTP/1.0 204 No Content\r\n", true).await, None, "whatever comes after, and never ends");
        for (response, expected) in [
            (&b"HTTP/1.1 503 x\r\nA: b\r\n\r\nno database\n\x1b[2J"[..], "its status is 503: no database\\n\\u{1b}[2J"),
            (
                b"HTTP/1.1 500 x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\noops\n\r\n0\r\n\r\n",
                "its status is 500: oops",
            ),
            (b"HTTP/1.1 302 x\r\nLocation: http://x/\r\n\r\n", "its status is 302, and redirects are not followed"),
            (b"SSH-2.0-OpenSSH\r\n", "the response is not HTTP"),
            (b"HTTP/1.1 2000 x\r\n", "the response is not HTTP"),
            (b"HTTP/1.1", "the connection was closed without a response"),
        ] {
            let said = says(response, false).await.unwrap();
            assert!(said.starts_with(expected), "{said}");
        }
        assert_eq!(says(b"HTTP/1.1 ", true).await.unwrap(), "no answer");
    }

    #[tokio::test]
    async fn an_endless_response_is_read_to_a_bound() {
        static ENDLESS: [u8; 1 << 20] = [b'x'; 1 << 20];
        let said = says(&ENDLESS, true).await.unwrap();
        assert_eq!(said, "the connection was closed without a response");
    }

    #[tokio::test]
    async fn a_port_is_open_or_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: LoopbackAddress = listener.local_addr().unwrap().to_string().parse().unwrap();
        assert_eq!(tcp(&address, LIMIT).await, CheckResult::Passed);
        let by_name: LoopbackAddress = format!("localhost:{}", listener.local_addr().unwrap().port()).parse().unwrap();
        assert_eq!(tcp(&by_name, LIMIT).await, CheckResult::Passed);
        drop(listener);
        let how = CheckEnd::Answer { words: "nothing listens there".to_owned() };
        let fault = CheckFault { check: format!("tcp://{address}"), how };
        assert_eq!(tcp(&address, LIMIT).await, CheckResult::Failed(fault));
    }
}
