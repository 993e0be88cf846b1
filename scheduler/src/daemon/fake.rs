//! A PID 1 for tests: it speaks at the control socket, and starts and stops at once.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use init::control::{Answer, Call, Frames, Method, Refusal, RefusalKind, Reply, UnitView};

#[derive(Debug, Default)]
struct State {
    calls: Vec<String>,
    /// Questions after states of units.
    looks: usize,
    active: BTreeMap<String, String>,
}

/// A system below a folder of its own.
#[derive(Debug)]
pub(crate) struct Fake {
    folder: tempfile::TempDir,
    state: Arc<Mutex<State>>,
}

impl Fake {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("run/ferrite/control");
        std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
        let listener = UnixListener::bind(socket).unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let own = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                serve(&mut stream.unwrap(), &own);
            }
        });
        Self { folder, state }
    }

    pub fn root(&self) -> &Path {
        self.folder.path()
    }

    /// How often the states of units were asked for.
    #[allow(dead_code, reason = "the programs' tests, which share this file, have no use for it")]
    pub fn looks(&self) -> usize {
        self.state.lock().unwrap().looks
    }

    /// What was asked for since the last time.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().calls)
    }
}

fn serve(stream: &mut UnixStream, state: &Mutex<State>) {
    let (mut frames, mut buffer) = (Frames::default(), [0; 4096]);
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        for message in frames.push(&buffer[..count]).unwrap() {
            let call: Call = serde_json::from_slice(&message).unwrap();
            let reply = match answer(call.method, &mut state.lock().unwrap()) {
                Ok(answer) => Reply { parameters: Some(answer), error: None },
                Err(text) => {
                    Reply { parameters: None, error: Some(Refusal { text, kind: RefusalKind::NoSuchUnit }) }
                }
            };
            let mut bytes = serde_json::to_vec(&reply).unwrap();
            bytes.push(0);
            let _gone = stream.write_all(&bytes);
        }
    }
}

fn answer(method: Method, state: &mut State) -> Result<Answer, String> {
    match method {
        Method::Reload {} => state.calls.push("reload".to_owned()),
        Method::Job(request) => {
            state.calls.push(format!("{} {}", request.verb, request.unit));
            let active = if request.verb == "start" { "active" } else { "inactive" };
            state.active.insert(request.unit, active.to_owned());
        }
        Method::States { units } => {
            state.looks += 1;
            let view = |name: String| {
                let active = state.active.get(&name)?.clone();
                let sub = if active == "active" { "running" } else { "dead" }.to_owned();
                Some(UnitView { name, load: "loaded".to_owned(), active, sub, ..UnitView::default() })
            };
            return Ok(Answer { units: units.into_iter().filter_map(view).collect(), ..Answer::default() });
        }
        Method::ResetFailed { .. } => return Err("not loaded".to_owned()),
        other => return Err(format!("{other:?} is not expected")),
    }
    Ok(Answer::default())
}
