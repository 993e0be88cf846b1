//! What commands ask the API for, whoever answers.

use std::time::Duration;

use serde::de::DeserializeOwned;

use super::answer::Answer;
use crate::api::entity::{
    ErrorBody, MachineEntity, MachinePage, StateEntity, StatePage, UnitEntity, UnitPage,
};
use crate::api::http::encode;

/// One request and its answer, and the time between two.
pub trait Api {
    /// Sends a request; status and body of the answer.
    ///
    /// # Errors
    /// There is none, in words.
    fn call(&mut self, method: &str, path: &str, body: Option<&[u8]>) -> Result<Answer, String>;

    /// Lets time pass.
    fn rest(&mut self, pause: Duration);
}

/// What the answer comes to; an error in the API's words.
fn read<T: DeserializeOwned>((status, body): Answer) -> Result<T, String> {
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
    tell_with(api, method, path, None)
}

/// The same with a body.
///
/// # Errors
/// In words.
pub fn tell_with(api: &mut dyn Api, method: &str, path: &str, body: Option<&[u8]>) -> Result<bool, String> {
    let (status, body) = api.call(method, path, body)?;
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
