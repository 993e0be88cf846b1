//! The way to a `fleetd`: its socket, a TCP port, or either of them behind SSH.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::remote::Ssh;
use crate::api::entity::{
    ErrorBody, MachineEntity, MachinePage, StateEntity, StatePage, UnitEntity, UnitPage,
};
use crate::api::http::encode;

/// Where fleetd listens unless told otherwise.
pub const DEFAULT_ENDPOINT: &str = "unix:///run/fleet.sock";
/// Longest answer.
const LONGEST_ANSWER: u64 = 64 << 20;

/// One request and its answer, and the time between two.
pub trait Api {
    /// Sends a request; status and body of the answer.
    ///
    /// # Errors
    /// There is none, in words.
    fn call(&mut self, method: &str, path: &str, body: Option<&[u8]>) -> Result<(u16, Vec<u8>), String>;

    /// Lets time pass.
    fn rest(&mut self, pause: Duration);
}

/// Where fleetd listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A socket.
    Unix(String),
    /// Host and port.
    Tcp(String),
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
            .ok_or_else(|| format!("the endpoint {first:?} has no scheme: unix:// or http://"))?;
        match scheme {
            "unix" | "file" if rest.starts_with('/') => Ok(Self::Unix(rest.to_owned())),
            "unix" | "file" => {
                Err(format!("the endpoint {first:?} names a host: a socket has three slashes"))
            }
            "http" => Ok(Self::Tcp(rest.trim_end_matches('/').to_owned())),
            _ => Err(format!("the endpoint {first:?} has a scheme other than unix:// and http://")),
        }
    }
}

/// A connection for each request.
#[derive(Debug)]
pub struct Remote {
    /// Where to.
    pub endpoint: Endpoint,
    /// Through this machine.
    pub tunnel: Option<Ssh>,
    /// The most that a request may take.
    pub limit: Duration,
    /// Tell requests.
    pub debug: bool,
}

impl Api for Remote {
    fn call(&mut self, method: &str, path: &str, body: Option<&[u8]>) -> Result<(u16, Vec<u8>), String> {
        if self.debug {
            eprintln!("{method} {path}");
        }
        let body = body.unwrap_or_default();
        let mut request =
            format!("{method} /fleet/v1/{path} HTTP/1.1\r\nHost: fleet\r\nConnection: close\r\n");
        if !body.is_empty() {
            request.push_str("Content-Type: application/json\r\n");
        }
        request.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
        let mut bytes = request.into_bytes();
        bytes.extend_from_slice(body);
        let answer = match (&self.tunnel, &self.endpoint) {
            (Some(ssh), endpoint) => through(ssh, endpoint, &bytes),
            (None, Endpoint::Unix(socket)) => UnixStream::connect(socket).and_then(|stream| {
                stream.set_read_timeout(Some(self.limit))?;
                exchange(stream, &bytes)
            }),
            (None, Endpoint::Tcp(host)) => connect(host, self.limit).and_then(|stream| {
                stream.set_read_timeout(Some(self.limit))?;
                exchange(stream, &bytes)
            }),
        };
        let answer = answer.map_err(|error| format!("cannot talk to fleetd: {error}"))?;
        parse(&answer)
    }

    fn rest(&mut self, pause: Duration) {
        std::thread::sleep(pause);
    }
}

fn connect(host: &str, limit: Duration) -> std::io::Result<TcpStream> {
    let address = host.to_socket_addrs()?.next().ok_or(std::io::ErrorKind::NotFound)?;
    TcpStream::connect_timeout(&address, limit)
}

fn exchange(mut stream: impl Read + Write, request: &[u8]) -> std::io::Result<Vec<u8>> {
    stream.write_all(request)?;
    let mut answer = Vec::new();
    stream.take(LONGEST_ANSWER).read_to_end(&mut answer)?;
    Ok(answer)
}

/// The request goes in at one end of an SSH session and the answer comes out of it.
fn through(ssh: &Ssh, endpoint: &Endpoint, request: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut command: Command = match endpoint {
        Endpoint::Unix(socket) => {
            let mut command = ssh.command(&[]);
            command.args(["--", "fleetctl", "fd-forward", socket]);
            command
        }
        Endpoint::Tcp(host) => ssh.command(&["-W", host]),
    };
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let (input, output) = (child.stdin.take(), child.stdout.take());
    if let Some(mut input) = input {
        input.write_all(request)?;
    }
    let mut answer = Vec::new();
    if let Some(output) = output {
        output.take(LONGEST_ANSWER).read_to_end(&mut answer)?;
    }
    let status = child.wait()?;
    if answer.is_empty() {
        return Err(std::io::Error::other(format!("ssh ended with {status}")));
    }
    Ok(answer)
}

fn parse(answer: &[u8]) -> Result<(u16, Vec<u8>), String> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut headers);
    match head.parse(answer) {
        Ok(httparse::Status::Complete(end)) => {
            Ok((head.code.unwrap_or(0), answer.get(end..).unwrap_or_default().to_vec()))
        }
        Ok(httparse::Status::Partial) => Err("the answer of fleetd ends too early".to_owned()),
        Err(error) => Err(format!("fleetd's answer is no HTTP: {error}")),
    }
}

/// What the answer comes to; an error in the API's words.
fn read<T: DeserializeOwned>((status, body): (u16, Vec<u8>)) -> Result<T, String> {
    if !(200..300).contains(&status) {
        return Err(failure(status, &body));
    }
    serde_json::from_slice(&body).map_err(|error| format!("fleetd's answer cannot be understood: {error}"))
}

fn failure(status: u16, body: &[u8]) -> String {
    let message =
        serde_json::from_slice::<ErrorBody>(body).map(|body| body.error.message).unwrap_or_default();
    if message.is_empty() { format!("fleetd answers {status}") } else { message }
}

/// A unit; `None`: there is none of that name.
///
/// # Errors
/// In words.
pub fn unit(api: &mut dyn Api, name: &str) -> Result<Option<UnitEntity>, String> {
    let answer = api.call("GET", &format!("units/{}", encode(name)), None)?;
    if answer.0 == 404 { Ok(None) } else { read(answer).map(Some) }
}

/// Makes or changes a unit.
///
/// # Errors
/// In words.
pub fn put(api: &mut dyn Api, unit: &UnitEntity) -> Result<(), String> {
    let body = serde_json::to_vec(unit).map_err(|error| error.to_string())?;
    let (status, body) = api.call("PUT", &format!("units/{}", encode(&unit.name)), Some(&body))?;
    if (200..300).contains(&status) { Ok(()) } else { Err(failure(status, &body)) }
}

/// A request that is answered by nothing; `false`: what it is about is not there.
///
/// # Errors
/// In words.
pub fn tell(api: &mut dyn Api, method: &str, path: &str) -> Result<bool, String> {
    let (status, body) = api.call(method, path, None)?;
    match status {
        200..300 => Ok(true),
        404 => Ok(false),
        _ => Err(failure(status, &body)),
    }
}

fn pages<P: DeserializeOwned, T>(
    api: &mut dyn Api,
    path: &str,
    split: impl Fn(P) -> (Vec<T>, String),
) -> Result<Vec<T>, String> {
    let (mut all, mut token) = (Vec::new(), String::new());
    loop {
        let page = api.call("GET", &format!("{path}?nextPageToken={}", encode(&token)), None)?;
        let (part, next) = split(read(page)?);
        all.extend(part);
        if next.is_empty() {
            return Ok(all);
        }
        token = next;
    }
}

/// All units.
///
/// # Errors
/// In words.
pub fn units(api: &mut dyn Api) -> Result<Vec<UnitEntity>, String> {
    pages(api, "units", |page: UnitPage| (page.units, page.next_page_token))
}

/// All states.
///
/// # Errors
/// In words.
pub fn states(api: &mut dyn Api) -> Result<Vec<StateEntity>, String> {
    pages(api, "state", |page: StatePage| (page.states, page.next_page_token))
}

/// All machines.
///
/// # Errors
/// In words.
pub fn machines(api: &mut dyn Api) -> Result<Vec<MachineEntity>, String> {
    pages(api, "machines", |page: MachinePage| (page.machines, page.next_page_token))
}
