//! The way to a `fleetd`: its socket, a TCP port with or without TLS, or any of them behind SSH.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::unix::net::UnixStream;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use kv::TlsFiles;

use super::answer::{self, Answer};
use super::client::Api;
use super::remote::Ssh;

/// Where fleetd listens unless told otherwise.
pub const DEFAULT_ENDPOINT: &str = "unix:///run/fleet.sock";

/// Where fleetd listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A socket.
    Unix(String),
    /// A host and a port.
    Tcp {
        /// Name or address, the latter without brackets.
        host: String,
        /// 80 and 443 unless it says another one.
        port: u16,
        /// `https`
        is_secured: bool,
    },
}

impl Endpoint {
    /// Reads what `--endpoint` says.
    ///
    /// # Errors
    /// It is no endpoint, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let first = text.split(',').next().unwrap_or_default().trim();
        let (scheme, rest) = first
            .split_once("://")
            .ok_or_else(|| format!("the endpoint {first:?} has no scheme: unix://, http:// or https://"))?;
        match scheme {
            "unix" | "file" if rest.starts_with('/') => Ok(Self::Unix(rest.to_owned())),
            "unix" | "file" => {
                Err(format!("the endpoint {first:?} names a host: a socket has three slashes"))
            }
            "http" | "https" => {
                let is_secured = scheme == "https";
                let (host, port) =
                    host_and_port(rest.trim_end_matches('/'), if is_secured { 443 } else { 80 })
                        .ok_or_else(|| format!("the endpoint {first:?} is no {scheme}://HOST:PORT"))?;
                Ok(Self::Tcp { host, port, is_secured })
            }
            _ => Err(format!("the endpoint {first:?} has a scheme other than unix://, http:// and https://")),
        }
    }
}

fn host_and_port(text: &str, default: u16) -> Option<(String, u16)> {
    let (host, port) = match text.rsplit_once(':') {
        // An address of IPv6 is in brackets.
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
        _ => (text, default),
    };
    let host = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    let is_plain = host.bytes().all(|it| it.is_ascii_alphanumeric() || b".-_:%".contains(&it));
    (!host.is_empty() && is_plain).then(|| (host.to_owned(), port))
}

fn joined(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(socket) => write!(formatter, "unix://{socket}"),
            Self::Tcp { host, port, is_secured } => {
                let scheme = if *is_secured { "https" } else { "http" };
                write!(formatter, "{scheme}://{}", joined(host, *port))
            }
        }
    }
}

/// A connection for each request.
#[derive(Debug)]
pub struct Remote {
    /// Where to.
    pub endpoint: Endpoint,
    /// For `https`.
    pub tls: TlsFiles,
    /// Through this machine.
    pub tunnel: Option<Ssh>,
    /// The most that a silence may take.
    pub limit: Duration,
    /// Tell requests.
    pub debug: bool,
}

impl Api for Remote {
    fn call(&mut self, method: &str, path: &str, body: Option<&[u8]>) -> Result<Answer, String> {
        if self.debug {
            eprintln!("{method} {path}");
        }
        let host = match &self.endpoint {
            Endpoint::Unix(_) => "fleet".to_owned(),
            Endpoint::Tcp { host, port, .. } => joined(host, *port),
        };
        let request = answer::request(method, path, &host, body.unwrap_or_default());
        self.ask(&request).map_err(|error| {
            let what = match error.kind() {
                // What a read says whose time is over.
                ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                    format!("there is no answer within {} s", self.limit.as_secs_f64())
                }
                ErrorKind::NotFound if matches!(self.endpoint, Endpoint::Unix(_)) => {
                    "there is no such socket: fleetd does not run there, or listens elsewhere".to_owned()
                }
                _ => error.to_string(),
            };
            format!("cannot talk to fleetd at {}: {what}", self.endpoint)
        })
    }

    fn rest(&mut self, pause: Duration) {
        std::thread::sleep(pause);
    }
}

impl Remote {
    fn ask(&self, request: &[u8]) -> io::Result<Answer> {
        match (&self.tunnel, &self.endpoint) {
            (Some(ssh), _) => self.through(ssh, request),
            (None, Endpoint::Unix(socket)) => {
                let mut stream = UnixStream::connect(socket)?;
                stream.set_read_timeout(Some(self.limit))?;
                stream.set_write_timeout(Some(self.limit))?;
                answer::exchange(&mut stream, request)
            }
            (None, Endpoint::Tcp { host, port, .. }) => {
                let stream = connect(host, *port, self.limit)?;
                stream.set_read_timeout(Some(self.limit))?;
                stream.set_write_timeout(Some(self.limit))?;
                self.over(stream, request)
            }
        }
    }

    /// Over a connection to the endpoint's port.
    fn over(&self, mut stream: impl Read + Write, request: &[u8]) -> io::Result<Answer> {
        match &self.endpoint {
            Endpoint::Tcp { host, is_secured: true, .. } => {
                let secured = kv::tls::secure(stream, host, &self.tls);
                let mut secured = secured.map_err(|error| io::Error::other(kv::client::chain(&error)))?;
                answer::exchange(&mut secured, request)
            }
            _ => answer::exchange(&mut stream, request),
        }
    }

    /// The request goes in at one end of an SSH session and the answer comes out of it.
    fn through(&self, ssh: &Ssh, request: &[u8]) -> io::Result<Answer> {
        let mut command: Command = match &self.endpoint {
            Endpoint::Unix(socket) => {
                let mut command = ssh.command(&[]);
                command.args(["--", "fleetctl", "fd-forward", socket]);
                command
            }
            Endpoint::Tcp { host, port, .. } => ssh.command(&["-W", &joined(host, *port)]),
        };
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("ssh has no stdin and stdout"));
        };
        let result = self.over(Pipe { input, output }, request);
        // Its pipes are closed: it ends.
        let status = child.wait()?;
        match result {
            Err(_) if !status.success() => Err(io::Error::other(format!("ssh ended with {status}"))),
            result => result,
        }
    }
}

/// The two ends of a program that is a connection.
struct Pipe {
    input: ChildStdin,
    output: ChildStdout,
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.output.read(buffer)
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.input.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.input.flush()
    }
}

/// The first of a host's addresses that answers.
fn connect(host: &str, port: u16, limit: Duration) -> io::Result<TcpStream> {
    let mut last = io::Error::new(ErrorKind::AddrNotAvailable, "the host has no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, limit) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_as_fleet_wrote_them() {
        let tcp = |host: &str, port, is_secured| Endpoint::Tcp { host: host.to_owned(), port, is_secured };
        let unix = |path: &str| Endpoint::Unix(path.to_owned());
        let good = [
            ("unix:///var/run/fleet.sock", unix("/var/run/fleet.sock")),
            ("file:///x,http://other", unix("/x")),
            ("http://10.0.0.1:49153/", tcp("10.0.0.1", 49153, false)),
            ("https://fleet.example", tcp("fleet.example", 443, true)),
            ("https://[fe80::1]:1", tcp("fe80::1", 1, true)),
            ("http://[::1]", tcp("::1", 80, false)),
        ];
        for (text, want) in good {
            let endpoint = Endpoint::parse(text).unwrap();
            assert_eq!(endpoint, want, "{text}");
            assert_eq!(Endpoint::parse(&endpoint.to_string()).unwrap(), want, "{text}");
        }
        for (text, want) in [
            ("/run/fleet.sock", "has no scheme"),
            ("unix://run/fleet.sock", "a socket has three slashes"),
            ("ftp://x", "a scheme other than"),
            ("http://", "is no http://HOST:PORT"),
            ("https://x:port", "is no https://HOST:PORT"),
            ("http://x/fleet", "is no http://HOST:PORT"),
            ("", "has no scheme"),
        ] {
            let told = Endpoint::parse(text).unwrap_err();
            assert!(told.contains(want), "{text}: {told}");
        }
    }
}
