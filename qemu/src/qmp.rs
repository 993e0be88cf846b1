//! Client for QEMU's control protocol: one JSON object a line over a Unix socket (QEMU's `docs/interop/qmp-spec.rst`).

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

/// Events kept for [`Qmp::wait_event`]; older ones are dropped.
const EVENTS_KEPT: usize = 256;

/// What went wrong on the control socket.
#[derive(Debug, thiserror::Error)]
pub enum QmpError {
    /// The socket could not be reached or written.
    #[error("QEMU's control socket")]
    Io(#[from] std::io::Error),
    /// QEMU ended or closed the socket.
    #[error("QEMU closed its control socket")]
    Closed,
    /// No answer in time.
    #[error("QEMU gave no {what} within {limit:?}")]
    Timeout {
        /// What was waited for.
        what: String,
        /// How long.
        limit: Duration,
    },
    /// QEMU refused a command.
    #[error("QEMU refused {command}: {description} ({class})")]
    Refused {
        /// The command.
        command: String,
        /// QEMU's error class.
        class: String,
        /// QEMU's words.
        description: String,
    },
}

/// One line from QEMU.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// First line of a connection.
    Greeting,
    /// Answer to a command.
    Return {
        /// The command's number.
        id: u64,
        /// Its result.
        value: Value,
    },
    /// Refusal of a command; QEMU leaves out the number when it could not read the command.
    Error {
        /// The command's number.
        id: Option<u64>,
        /// Error class.
        class: String,
        /// QEMU's words.
        description: String,
    },
    /// Something happened.
    Event(Event),
    /// A line that is none of these: skipped.
    Unknown,
}

/// Something that happened in the machine.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Such as `SHUTDOWN`, `RESET`, `STOP`, `WATCHDOG`.
    pub name: String,
    /// Its details.
    pub data: Map<String, Value>,
}

/// Reads one line. Total: any bytes give a message.
pub fn parse(line: &[u8]) -> Message {
    let Ok(Value::Object(mut object)) = serde_json::from_slice(line) else {
        return Message::Unknown;
    };
    let id = object.get("id").and_then(Value::as_u64);
    if object.contains_key("QMP") {
        return Message::Greeting;
    }
    if let (Some(value), Some(id)) = (object.remove("return"), id) {
        return Message::Return { id, value };
    }
    let text =
        |map: &Map<String, Value>, key| map.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    if let Some(Value::Object(error)) = object.get("error") {
        return Message::Error { id, class: text(error, "class"), description: text(error, "desc") };
    }
    if let Some(Value::String(name)) = object.get("event") {
        let name = name.clone();
        let data = match object.remove("data") {
            Some(Value::Object(data)) => data,
            _ => Map::new(),
        };
        return Message::Event(Event { name, data });
    }
    Message::Unknown
}

/// A connection to one QEMU.
#[derive(Debug)]
pub struct Qmp {
    stream: UnixStream,
    messages: Receiver<Message>,
    events: VecDeque<Event>,
    next_id: u64,
}

impl Qmp {
    /// Connects to a control socket. QEMU carries out the first command only when the machine is complete, so that a
    /// connection that succeeds means a machine that was accepted.
    ///
    /// # Errors
    /// The socket is not there (yet), or QEMU ends, or does not answer within `limit`.
    pub fn connect(socket: &Path, limit: Duration) -> Result<Self, QmpError> {
        Self::over(UnixStream::connect(socket)?, limit)
    }

    fn over(stream: UnixStream, limit: Duration) -> Result<Self, QmpError> {
        let deadline = Instant::now() + limit;
        let mut lines = BufReader::new(stream.try_clone()?);
        let (send, messages) = channel();
        std::thread::Builder::new().name("qmp".to_owned()).spawn(move || {
            let mut line = Vec::new();
            // Ends with the connection, or when nobody listens any more.
            while matches!(lines.read_until(b'\n', &mut line), Ok(1..)) {
                if send.send(parse(&line)).is_err() {
                    break;
                }
                line.clear();
            }
        })?;
        let mut qmp = Self { stream, messages, events: VecDeque::new(), next_id: 0 };
        while qmp.next(deadline, limit, "greeting")? != Message::Greeting {}
        qmp.execute("qmp_capabilities", &json!({}), deadline.saturating_duration_since(Instant::now()))?;
        Ok(qmp)
    }

    fn next(&self, deadline: Instant, limit: Duration, what: &str) -> Result<Message, QmpError> {
        self.messages.recv_timeout(deadline.saturating_duration_since(Instant::now())).map_err(|error| {
            match error {
                RecvTimeoutError::Timeout => QmpError::Timeout { what: what.to_owned(), limit },
                RecvTimeoutError::Disconnected => QmpError::Closed,
            }
        })
    }

    fn keep(&mut self, event: Event) {
        if self.events.len() == EVENTS_KEPT {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    /// Runs a command and returns its result. Events that arrive meanwhile are kept.
    ///
    /// # Errors
    /// QEMU refuses the command, ends, or does not answer within `limit`.
    pub fn execute(&mut self, command: &str, arguments: &Value, limit: Duration) -> Result<Value, QmpError> {
        let deadline = Instant::now() + limit;
        let id = self.next_id;
        self.next_id += 1;
        let mut line = json!({"execute": command, "arguments": arguments, "id": id}).to_string();
        line.push('\n');
        self.stream.write_all(line.as_bytes()).map_err(|error| match error.kind() {
            std::io::ErrorKind::BrokenPipe | std::io::ErrorKind::ConnectionReset => QmpError::Closed,
            _ => QmpError::Io(error),
        })?;
        loop {
            match self.next(deadline, limit, command)? {
                Message::Return { id: got, value } if got == id => return Ok(value),
                Message::Error { id: got, class, description } if got.is_none_or(|got| got == id) => {
                    return Err(QmpError::Refused { command: command.to_owned(), class, description });
                }
                Message::Event(event) => self.keep(event),
                // Answers to commands that were given up, and lines of a newer QEMU.
                Message::Return { .. } | Message::Error { .. } | Message::Greeting | Message::Unknown => {}
            }
        }
    }

    /// The oldest event with this name, waited for; it is removed, other ones stay.
    ///
    /// # Errors
    /// QEMU ends, or the event does not come within `limit`.
    pub fn wait_event(&mut self, name: &str, limit: Duration) -> Result<Event, QmpError> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(found) = self.events.iter().position(|event| event.name == name)
                && let Some(event) = self.events.remove(found)
            {
                return Ok(event);
            }
            if let Message::Event(event) = self.next(deadline, limit, name)? {
                self.keep(event);
            }
        }
    }

    /// The machine's run state: `running`, `paused`, `shutdown`, `internal-error`, ...
    ///
    /// # Errors
    /// As [`Self::execute`].
    pub fn status(&mut self, limit: Duration) -> Result<String, QmpError> {
        let status = self.execute("query-status", &json!({}), limit)?;
        Ok(status.get("status").and_then(Value::as_str).unwrap_or_default().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMIT: Duration = Duration::from_secs(5);

    #[test]
    fn each_kind_of_line_is_recognised() {
        let cases: &[(&str, Message)] = &[
            (r#"{"QMP": {"version": {}, "capabilities": ["oob"]}}"#, Message::Greeting),
            (r#"{"return": {}, "id": 7}"#, Message::Return { id: 7, value: json!({}) }),
            (
                r#"{"id": 2, "error": {"class": "CommandNotFound", "desc": "no such"}}"#,
                Message::Error {
                    id: Some(2),
                    class: "CommandNotFound".to_owned(),
                    description: "no such".to_owned(),
                },
            ),
            (
                r#"{"error": {"class": "GenericError", "desc": "bad JSON"}}"#,
                Message::Error {
                    id: None,
                    class: "GenericError".to_owned(),
                    description: "bad JSON".to_owned(),
                },
            ),
            (
                r#"{"event": "RESUME", "timestamp": {"seconds": 1, "microseconds": 2}}"#,
                Message::Event(Event { name: "RESUME".to_owned(), data: Map::new() }),
            ),
            (r#"{"return": 1}"#, Message::Unknown),
            ("[]", Message::Unknown),
            ("", Message::Unknown),
        ];
        for (line, want) in cases {
            assert_eq!(&parse(line.as_bytes()), want, "line {line}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            parse(&line);
        }

        #[test]
        fn no_json_makes_the_parser_panic(
            key in "QMP|return|error|event|id|data|desc",
            other in "QMP|return|error|event|id|data|desc",
            value in r#"[0-9]{1,25}|-1|"x"|null|\[\]|\{\}|\{"class":1\}"#,
        ) {
            parse(format!(r#"{{"{key}": {value}, "{other}": {value}}}"#).as_bytes());
        }
    }

    /// Plays QEMU: after the greeting answers every line by the next of `replies`, with `$ID` replaced.
    fn server(replies: Vec<&'static str>) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        std::thread::spawn(move || {
            let mut out = theirs.try_clone().unwrap();
            out.write_all(b"{\"QMP\": {}}\n").unwrap();
            let mut replies = replies.into_iter();
            for line in BufReader::new(theirs).lines() {
                let id = serde_json::from_str::<Value>(&line.unwrap()).unwrap()["id"].clone();
                let Some(reply) = replies.next() else { return };
                out.write_all(reply.replace("$ID", &id.to_string()).as_bytes()).unwrap();
            }
        });
        ours
    }

    const OK: &str = "{\"return\": {}, \"id\": $ID}\n";

    #[test]
    fn an_answer_is_matched_by_its_number_and_events_are_kept() {
        let reply = "{\"return\": \"stale\", \"id\": 99}\n{\"event\": \"RESET\", \"data\": {\"guest\": true}}\n\
                     {\"event\": \"STOP\"}\n{\"return\": \"mine\", \"id\": $ID}\n";
        let mut qmp = Qmp::over(server(vec![OK, reply]), LIMIT).unwrap();
        assert_eq!(qmp.execute("x", &json!({}), LIMIT).unwrap(), json!("mine"));
        assert_eq!(qmp.wait_event("STOP", LIMIT).unwrap().name, "STOP");
        assert_eq!(qmp.wait_event("RESET", LIMIT).unwrap().data["guest"], json!(true));
    }

    #[test]
    fn a_refusal_names_command_and_reason() {
        let refusal = "{\"error\": {\"class\": \"GenericError\", \"desc\": \"not now\"}, \"id\": $ID}\n";
        let mut qmp = Qmp::over(server(vec![OK, refusal]), LIMIT).unwrap();
        let error = qmp.execute("stop", &json!({}), LIMIT).unwrap_err();
        assert_eq!(error.to_string(), "QEMU refused stop: not now (GenericError)");
    }

    #[test]
    fn silence_is_a_timeout_and_an_end_is_an_end() {
        let mut qmp = Qmp::over(server(vec![OK, ""]), LIMIT).unwrap();
        assert!(matches!(qmp.status(Duration::from_millis(50)), Err(QmpError::Timeout { .. })));
        assert!(matches!(qmp.status(LIMIT), Err(QmpError::Closed)));
    }
}
