//! `/units`

use super::entity::{UnitEntity, UnitPage};
use super::http::{Request, Response};
use super::page::Page;
use super::{Cluster, Reply, empty, error, response};
use crate::change;
use crate::name;
use crate::node::Reason;
use crate::picture::Job;
use crate::requirements::Requirements;
use crate::snapshot::TargetState;
use crate::unit_file::UnitFile;

fn entity(name: &str, job: &Job, reason: Option<&Reason>) -> UnitEntity {
    let target = job.target.as_ref().filter(|_| !job.requirements().global);
    UnitEntity {
        name: name.to_owned(),
        options: job.file.as_ref().map(|file| file.options().to_vec()).unwrap_or_default(),
        desired_state: job.wanted().word().to_owned(),
        current_state: job.current().map_or("", TargetState::word).to_owned(),
        machine: target.map(|target| target.value.clone()).unwrap_or_default(),
        reason: reason.map(|reason| reason.text.clone()).unwrap_or_default(),
        unschedulable: reason.is_some_and(|reason| reason.is_final),
    }
}

pub(super) fn list(cluster: &dyn Cluster, now: u64, page: Page) -> Response {
    let reasons = cluster.reasons(now);
    let units = cluster.picture().units().map(|(name, job)| entity(name, job, reasons.get(name)));
    let (units, next_page_token) = page.cut(units.collect());
    response(200, &UnitPage { units, next_page_token })
}

pub(super) fn get(cluster: &dyn Cluster, now: u64, name: &str) -> Response {
    match cluster.picture().unit(name) {
        Some(job) => {
            // Whoever is where it should be needs no reason.
            let settled = job.target.is_some() || job.wanted() == TargetState::Inactive;
            let reasons =
                if settled && !cluster.is_anybody_away() { None } else { Some(cluster.reasons(now)) };
            response(200, &entity(name, job, reasons.as_ref().and_then(|reasons| reasons.get(name))))
        }
        None => error(404, "unit does not exist"),
    }
}

pub(super) fn delete(cluster: &dyn Cluster, name: &str) -> Reply {
    match cluster.picture().unit(name) {
        Some(_) => Reply::Commit(change::destroy(cluster.picture(), name), empty(204)),
        None if cluster.picture().is_garbled(name) => {
            Reply::Commit(change::destroy(cluster.picture(), name), empty(204))
        }
        None => Reply::Done(error(404, "unit does not exist")),
    }
}

/// Makes a unit, gives one another file, or wants one in another state.
pub(super) fn put(cluster: &dyn Cluster, name: &str, request: &Request) -> Reply {
    match try_put(cluster, name, request) {
        Ok(reply) => reply,
        Err(response) => Reply::Done(response),
    }
}

fn try_put(cluster: &dyn Cluster, name: &str, request: &Request) -> Result<Reply, Response> {
    let is_json =
        |kind: &String| kind.split(';').next().is_some_and(|kind| kind.trim() == "application/json");
    if !matches!(request.content_types.as_slice(), [kind] if is_json(kind)) {
        return Err(error(415, "application/json is the only supported Content-Type"));
    }
    let body: UnitEntity = serde_json::from_slice(&request.body)
        .map_err(|problem| error(400, format!("unable to decode body: {problem}")))?;
    if !body.name.is_empty() && body.name != name {
        return Err(error(400, format!("name in URL {name:?} differs from name in body {:?}", body.name)));
    }
    let parsed = name::check(name).map_err(|problem| error(400, problem.to_string()))?;
    let wanted: Option<TargetState> = match body.desired_state.as_str() {
        "" => None,
        word => {
            Some(word.parse().map_err(|problem: crate::snapshot::NoState| error(400, problem.to_string()))?)
        }
    };
    let is_active = wanted.is_some_and(|wanted| wanted != TargetState::Inactive);
    if parsed.is_template() && is_active {
        return Err(error(400, format!("cannot activate template {name:?}")));
    }
    let picture = cluster.picture();
    let known = picture.unit(name);
    let file = UnitFile::new(body.options);
    let differs = known.is_some_and(|job| job.object.as_ref().is_some_and(|it| it.value != file.hash()));
    if file.options().is_empty() {
        return match (known, wanted) {
            (None, _) => Err(error(409, "unit does not exist and options field empty")),
            (Some(_), None) => Err(error(409, "must provide DesiredState to update existing unit")),
            (Some(_), Some(wanted)) => Ok(Reply::Commit(change::want(picture, name, wanted), empty(204))),
        };
    }
    if known.is_none() || differs {
        // It is read again from its text: what cannot be written as a unit file is none.
        let again = UnitFile::parse(&file.to_string()).map_err(|problem| error(400, problem.to_string()))?;
        if again.hash() != file.hash() {
            return Err(error(400, "the options cannot be written as a unit file"));
        }
        let (requirements, _) = Requirements::of(&parsed, &file);
        requirements.check().map_err(|problem| error(400, problem.to_string()))?;
        let state = if known.is_some() { wanted } else { Some(wanted.unwrap_or_default()) };
        return Ok(Reply::Commit(change::put_unit(picture, name, &file, state), empty(201)));
    }
    match wanted {
        Some(wanted) => Ok(Reply::Commit(change::want(picture, name, wanted), empty(204))),
        None => Err(error(409, "must provide DesiredState to update existing unit")),
    }
}
