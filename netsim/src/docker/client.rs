//! A client of the model: what a Docker CLI does for attach and exec, over any byte stream.

use std::io;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};

use super::api::REQUEST_NUMBER;

/// The head of an answer is shorter.
const HEAD_BYTES_MAX: u64 = 4 * 1024;

const REQUEST: &[u8] = b"POST /v1.41/echo HTTP/1.1\r\nHost: docker\r\n\
    Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n";

/// Asks for an echo and gives the raw connection once it is granted. `first` goes with
/// the request, as what a person has typed already.
///
/// # Errors
///
/// The connection broke, or something else than an Engine's consent was answered.
pub async fn hijack<S>(mut stream: S, first: &[u8]) -> io::Result<BufReader<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.write_all(&[REQUEST, first].concat()).await?;
    stream.flush().await?;
    let mut reader = BufReader::new(stream);
    let status = status(&mut reader).await?;
    if status != "HTTP/1.1 101 UPGRADED" {
        return Err(io::Error::other(format!("no echo was granted: {status}")));
    }
    Ok(reader)
}

/// Creates a container under a name. One that is there already is as good: that is how who had
/// no answer may ask again, under another number.
///
/// # Errors
///
/// The connection broke before the answer, or the Engine refused.
pub async fn create<S>(mut stream: S, name: &str, number: &str) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let request = format!(
        "POST /v1.41/containers/create?name={name} HTTP/1.1\r\nHost: docker\r\n\
         {REQUEST_NUMBER}: {number}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let status = status(&mut BufReader::new(stream)).await?;
    match status.split(' ').nth(1) {
        Some("201" | "409") => Ok(()),
        _ => Err(io::Error::other(format!("nothing was created: {status}"))),
    }
}

/// Reads the head of an answer, and gives its first line.
async fn status<R: AsyncRead + Unpin>(reader: &mut BufReader<R>) -> io::Result<String> {
    let mut head = reader.take(HEAD_BYTES_MAX);
    let (mut status, mut line) = (String::new(), String::new());
    loop {
        line.clear();
        head.read_line(&mut line).await?;
        match line.as_str() {
            "\r\n" => break,
            whole if whole.ends_with('\n') => {}
            _ => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
        if status.is_empty() {
            status.push_str(line.trim_end());
        }
    }
    Ok(status)
}

/// Has `bytes` echoed, finishes, and waits for the end of the answer.
///
/// # Errors
///
/// As [`hijack`]; `InvalidData` where something else came back.
pub async fn echo<S>(stream: S, bytes: &[u8]) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut read, mut write) = tokio::io::split(hijack(stream, b"").await?);
    let send = async {
        write.write_all(bytes).await?;
        write.shutdown().await
    };
    let receive = async {
        let mut back = Vec::with_capacity(bytes.len());
        // One more than is right, so that too much is seen and never all of it taken.
        let most = u64::try_from(bytes.len())
            .unwrap_or(u64::MAX)
            .saturating_add(1);
        (&mut read).take(most).read_to_end(&mut back).await?;
        Ok(back)
    };
    let ((), back) = tokio::try_join!(send, receive)?;
    if back != bytes {
        let problem = format!("{} bytes came back for {}", back.len(), bytes.len());
        return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
    }
    Ok(())
}
