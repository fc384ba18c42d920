//! Sockets on the operator's machine, and the connections they take.

use std::{
    fs, io,
    net::SocketAddr,
    os::unix::{
        fs::{FileTypeExt, MetadataExt},
        net::{UnixListener as StdUnixListener, UnixStream as StdUnixStream},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Mode, fchmod},
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType},
};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::{
    failure::{Exit, Failure},
    listen_address::ListenAddress,
};

/// Connections that wait to be accepted: the kernel's own bound for most machines.
const BACKLOG: i32 = 128;

/// A listening socket. The file of a Unix socket goes with it.
#[derive(Debug)]
pub struct LocalListener {
    socket: Socket,
    address: ListenAddress,
    /// Declared after the socket: the file is removed once nobody listens.
    _file: Option<SocketFile>,
}

#[derive(Debug)]
enum Socket {
    Unix(UnixListener),
    Tcp(TcpListener),
}

/// A connection of a local program.
#[derive(Debug)]
pub enum LocalStream {
    /// Over the Unix socket.
    Unix(UnixStream),
    /// Over TCP.
    Tcp(TcpStream),
}

/// The file of a Unix socket that this process has bound; removed when dropped,
/// unless another process has put its own in the place.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl LocalListener {
    /// Listens. A socket file that a dead process left is replaced; the file is
    /// for its owner alone (mode 0600) from its first moment.
    ///
    /// # Errors
    ///
    /// Another process listens there, or the address cannot be had.
    pub async fn bind(address: &ListenAddress) -> Result<Self, Failure> {
        match address {
            ListenAddress::Unix(path) => Self::bind_unix(path),
            ListenAddress::Tcp(address) => Self::bind_tcp(*address).await,
        }
    }

    async fn bind_tcp(address: SocketAddr) -> Result<Self, Failure> {
        let failure = |error: io::Error| {
            let failure = Failure::new(
                Exit::CannotListen,
                format!("cannot listen at {address}: {error}"),
            );
            match error.kind() {
                io::ErrorKind::AddrInUse => {
                    failure.advise("choose another port; 0 takes a free one")
                }
                io::ErrorKind::PermissionDenied => failure.advise("choose a port above 1023"),
                _ => failure,
            }
        };
        let listener = TcpListener::bind(address).await.map_err(failure)?;
        let address = ListenAddress::Tcp(listener.local_addr().map_err(failure)?);
        Ok(Self {
            socket: Socket::Tcp(listener),
            address,
            _file: None,
        })
    }

    fn bind_unix(path: &Path) -> Result<Self, Failure> {
        remove_stale(path)?;
        let (listener, file) = listen_unix(path).map_err(|error| {
            let message = format!("cannot listen at {}: {error}", path.display());
            let failure = Failure::new(Exit::CannotListen, message);
            match error.kind() {
                io::ErrorKind::NotFound => failure.advise("its directory must exist"),
                io::ErrorKind::InvalidInput => failure.advise("choose a path below 108 characters"),
                _ => failure,
            }
        })?;
        let address = ListenAddress::Unix(path.to_owned());
        Ok(Self {
            socket: Socket::Unix(listener),
            address,
            _file: Some(file),
        })
    }

    /// The address, with the port that the system has chosen.
    pub const fn address(&self) -> &ListenAddress {
        &self.address
    }

    /// Takes the next connection. Cancel safe.
    ///
    /// # Errors
    ///
    /// As of the system's call; the listener stays usable.
    pub async fn accept(&self) -> io::Result<LocalStream> {
        match &self.socket {
            Socket::Unix(listener) => Ok(LocalStream::Unix(listener.accept().await?.0)),
            Socket::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // Small requests and echoes of keys must not wait for more.
                stream.set_nodelay(true)?;
                Ok(LocalStream::Tcp(stream))
            }
        }
    }
}

/// Removes the socket file of a process that is gone.
fn remove_stale(path: &Path) -> Result<(), Failure> {
    let refuse = |message: String| Failure::new(Exit::CannotListen, message);
    // Whatever else may be wrong with the path, binding says it better.
    let Ok(file) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !file.file_type().is_socket() {
        return Err(
            refuse(format!("{} exists and is no socket", path.display()))
                .advise("choose another path: only a socket is replaced"),
        );
    }
    match StdUnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path)
            .map_err(|error| refuse(format!("cannot replace {}: {error}", path.display()))),
        Ok(_) => Err(
            refuse(format!("another process listens at {}", path.display()))
                .advise("stop it, or choose another path"),
        ),
        Err(error) => Err(refuse(format!(
            "{} is there already, and cannot be tried: {error}",
            path.display()
        ))
        .advise("choose another path")),
    }
}

/// Binds with mode 0600 at once: on Linux a socket file takes the mode of its
/// unbound socket, so that there is no moment at which others could connect.
fn listen_unix(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let owner_only = Mode::RUSR | Mode::WUSR;
    fchmod(&socket, owner_only)?;
    let address = SocketAddrUnix::new(path).map_err(|_| io::ErrorKind::InvalidInput)?;
    rustix::net::bind(&socket, &address)?;
    let file = fs::symlink_metadata(path)?;
    let file = SocketFile {
        path: path.to_owned(),
        device: file.dev(),
        inode: file.ino(),
    };
    rustix::net::listen(&socket, BACKLOG)?;
    Ok((UnixListener::from_std(StdUnixListener::from(socket))?, file))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|file| (file.dev(), file.ino()) == (self.device, self.inode));
        if is_ours {
            // What cannot be removed is found stale by the next process.
            fs::remove_file(&self.path).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use tempfile::TempDir;

    use super::*;

    fn socket_in(dir: &TempDir) -> (PathBuf, ListenAddress) {
        let path = dir.path().join("docker.sock");
        (path.clone(), ListenAddress::Unix(path))
    }

    #[tokio::test]
    async fn a_socket_file_is_for_its_owner_alone_and_goes_with_the_listener() {
        let dir = TempDir::new().unwrap();
        let (path, address) = socket_in(&dir);

        let listener = LocalListener::bind(&address).await.unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        drop(listener);

        assert_eq!(mode, 0o600);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_stale_socket_file_is_replaced() {
        let dir = TempDir::new().unwrap();
        let (path, address) = socket_in(&dir);
        drop(StdUnixListener::bind(&path).unwrap());

        let listener = LocalListener::bind(&address).await.unwrap();
        let client = UnixStream::connect(&path).await;

        assert!(client.is_ok());
        assert!(matches!(listener.accept().await, Ok(LocalStream::Unix(_))));
    }

    #[tokio::test]
    async fn a_socket_file_in_use_is_refused_and_stays() {
        let dir = TempDir::new().unwrap();
        let (path, address) = socket_in(&dir);
        let _theirs = StdUnixListener::bind(&path).unwrap();

        let failure = LocalListener::bind(&address).await.unwrap_err();

        assert_eq!(failure.exit(), Exit::CannotListen);
        assert!(StdUnixStream::connect(&path).is_ok());
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_is_never_replaced() {
        let dir = TempDir::new().unwrap();
        let (path, address) = socket_in(&dir);
        fs::write(&path, "precious").unwrap();

        let failure = LocalListener::bind(&address).await.unwrap_err();

        assert_eq!(failure.exit(), Exit::CannotListen);
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[tokio::test]
    async fn a_socket_that_took_the_place_of_ours_is_left_alone() {
        let dir = TempDir::new().unwrap();
        let (path, address) = socket_in(&dir);
        let listener = LocalListener::bind(&address).await.unwrap();
        fs::remove_file(&path).unwrap();
        let _theirs = StdUnixListener::bind(&path).unwrap();

        drop(listener);

        assert!(path.exists());
    }

    #[tokio::test]
    async fn a_path_that_is_too_long_says_so() {
        let address = ListenAddress::Unix(PathBuf::from(format!("/tmp/{}", "x".repeat(120))));

        let failure = LocalListener::bind(&address).await.unwrap_err();

        assert!(failure.to_string().contains("below 108"), "{failure}");
    }

    #[tokio::test]
    async fn a_tcp_listener_knows_the_port_that_the_system_chose() {
        let listener = LocalListener::bind(&"127.0.0.1:0".parse().unwrap())
            .await
            .unwrap();

        let ListenAddress::Tcp(address) = listener.address() else {
            panic!("not TCP")
        };
        assert_ne!(address.port(), 0);
    }
}
