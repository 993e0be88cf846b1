//! The shell around the plans: members asked one after the other, transactions repeated until nothing came in between.

use std::time::{Duration, Instant};

use super::failure::{Failure, problem};
use super::flags::quoted;
use super::plan::{self, Change, Fault, Plan, Request, code};
use super::settings::Settings;
use super::tree::{Facts, Response};
use crate::client::{Client, Error};
use crate::config::{Config, Credentials};
use crate::message::{KeyRange, LeaseId, Op, OpResult, Transaction};

/// The longest lease that etcd grants, in seconds (`lease.MaxLeaseTTL`).
const LONGEST_LEASE: i64 = 9_000_000_000;
/// The longest pause before a transaction is planned anew, in milliseconds.
const PAUSE: u64 = 20;

/// Whether something may be asked of the next member when it is not known what became of it at the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempts {
    /// It changes nothing, or the same twice is the same as once.
    AtEach,
    /// It is not.
    AtOne,
}

/// One command's conversation with a cluster.
#[derive(Debug)]
pub struct Session {
    settings: Settings,
    credentials: Option<Credentials>,
    /// A client for each member, once it is needed.
    clients: Vec<Option<Client>>,
    /// The member that is asked first.
    current: usize,
    deadline: Instant,
}

impl Session {
    /// Nothing is connected yet.
    pub fn new(settings: Settings, credentials: Option<Credentials>) -> Self {
        if settings.debug {
            eprintln!("Cluster-Endpoints: {}", settings.endpoints.join(", "));
        }
        let clients = settings.endpoints.iter().map(|_| None).collect();
        // A limit that no clock reaches is none.
        let now = Instant::now();
        let deadline = now.checked_add(settings.total).unwrap_or(now + Duration::from_secs(1 << 30));
        Self { settings, credentials, clients, current: 0, deadline }
    }

    /// The settings.
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// A client for these members, with `deadline` for each call.
    ///
    /// # Errors
    /// Files for TLS cannot be used.
    pub fn client(&self, endpoints: Vec<String>, deadline: Duration) -> Result<Client, Failure> {
        let config = Config {
            endpoints,
            tls: self.settings.tls.clone(),
            credentials: self.credentials.clone(),
            attempt: self.settings.attempt,
            deadline,
        };
        let client = if self.settings.debug {
            Client::traced(config, |url, body| {
                eprintln!("cURL Command: curl -X POST {url} -d {}", quoted(body));
            })
        } else {
            Client::new(config)
        };
        client.map_err(|error| Failure::of_settings(&error))
    }

    /// Asks one member after the other.
    ///
    /// # Errors
    /// None has an answer, or one refuses.
    pub fn ask<T>(
        &mut self,
        attempts: Attempts,
        call: impl Fn(&Client) -> Result<T, Error>,
    ) -> Result<T, Failure> {
        let mut problems = Vec::new();
        let count = self.settings.endpoints.len();
        for step in 0..count {
            let index = (self.current + step) % count;
            if Instant::now() >= self.deadline {
                return Err(Failure::Deadline);
            }
            let Some(url) = self.settings.endpoints.get(index).cloned() else { break };
            let client = match self.clients.get(index).cloned().flatten() {
                Some(client) => client,
                None => {
                    let client = self.client(vec![url.clone()], Duration::ZERO)?;
                    if let Some(place) = self.clients.get_mut(index) {
                        *place = Some(client.clone());
                    }
                    client
                }
            };
            match call(&client) {
                Ok(answer) => {
                    self.current = index;
                    return Ok(answer);
                }
                Err(Error::Unavailable { last }) => problems.push(problem(&url, &last)),
                Err(Error::Unknown { last }) if attempts == Attempts::AtEach => {
                    problems.push(problem(&url, &last));
                }
                Err(Error::Unknown { last }) => return Err(Failure::One(problem(&url, &last))),
                // Nobody has to prove who they are: whoever offers to is welcome all the same.
                Err(Error::Refused { message, .. })
                    if message.contains("authentication is not enabled") && self.credentials.is_some() =>
                {
                    self.credentials = None;
                    self.clients.iter_mut().for_each(|client| *client = None);
                    return self.ask(attempts, call);
                }
                Err(error) => return Err(Failure::of_refusal(&error)),
            }
        }
        Err(Failure::Cluster(problems))
    }

    /// Carries out an operation of v2's.
    ///
    /// # Errors
    /// The store refuses, or cannot be reached.
    pub fn carry_out(&mut self, request: &Request) -> Result<Response, Failure> {
        self.carried_out(request).map_err(|failure| match failure {
            // The old one asked one member only to remove something or to make something new.
            Failure::Cluster(problems) if !self.settings.sync && is_once(request) => {
                problems.into_iter().next().map_or(Failure::Deadline, Failure::One)
            }
            other => other,
        })
    }

    fn carried_out(&mut self, request: &Request) -> Result<Response, Failure> {
        let mut facts = self.facts(request)?;
        loop {
            let change = match plan::plan(request, &facts) {
                Err(fault) => return Err(Failure::Fault(fault, facts.revision)),
                Ok(Plan::Answer(response)) => return Ok(*response),
                Ok(Plan::Commit(change)) => change,
            };
            if let Some(response) = self.commit(request, &change).map_err(Failure::after_contact)? {
                return Ok(response);
            }
            let chance = self.clients.iter().flatten().next().map_or(0, Client::random);
            std::thread::sleep(Duration::from_millis(1 + chance % PAUSE));
            facts = self.facts(request).map_err(Failure::after_contact)?;
        }
    }

    /// Commits a change; `None` if something came in between.
    fn commit(&mut self, request: &Request, change: &Change) -> Result<Option<Response>, Failure> {
        let lease = match change.ttl {
            None => None,
            Some(ttl) => {
                let ttl = ttl.clamp(1, LONGEST_LEASE);
                Some(self.ask(Attempts::AtEach, |client| client.grant(ttl))?)
            }
        };
        let id = lease.map_or(0, |(id, _)| id);
        let transaction = change.transaction(id);
        // Setting a key twice to the same is setting it; whatever asks for what was before must not see its own work.
        let is_plain = matches!(request, Request::Set { only: plan::Only::Always, .. });
        let attempts = if is_plain { Attempts::AtEach } else { Attempts::AtOne };
        let result = self.ask(attempts, |client| client.transact(&transaction));
        match result {
            Ok(result) if result.succeeded => {
                Ok(Some(change.response(result.revision, lease.map(|(_, seconds)| seconds))))
            }
            Ok(_) => {
                self.give_back(id);
                Ok(None)
            }
            Err(failure) => {
                // The lease of a directory may have ended since; all else is final.
                let has_ended = matches!(&failure, Failure::Fault(Fault::Api { code: code::RAFT_INTERNAL, cause }, _)
                    if cause.ends_with(b"requested lease not found"));
                // One that may hold the key by now stays; it ends by itself.
                if !matches!(failure, Failure::One(_) | Failure::Cluster(_)) {
                    self.give_back(id);
                }
                if has_ended { Ok(None) } else { Err(failure) }
            }
        }
    }

    fn give_back(&mut self, lease: LeaseId) {
        if lease != 0 {
            // It ends by itself otherwise.
            let _ = self.ask(Attempts::AtEach, |client| client.revoke(lease));
        }
    }

    fn facts(&mut self, request: &Request) -> Result<Facts, Failure> {
        let reads = request.reads();
        let mut facts = self.seen(&reads)?;
        let leases = match request {
            Request::Get { .. } if self.settings.format.is_full() => facts.all_leases(),
            Request::Get { .. } => Vec::new(),
            _ if self.settings.format.is_full() => facts.all_leases(),
            _ => facts.leases_of_markers(),
        };
        for lease in leases {
            let found = self.ask(Attempts::AtEach, |client| client.time_to_live(lease))?;
            facts.leases.insert(lease, found);
        }
        Ok(facts)
    }

    /// Reads ranges at one revision.
    fn seen(&mut self, reads: &[KeyRange]) -> Result<Facts, Failure> {
        let all =
            Transaction { success: reads.iter().cloned().map(Op::Range).collect(), ..Transaction::default() };
        let mut facts = Facts::default();
        match self.ask(Attempts::AtEach, |client| client.transact(&all)) {
            Ok(result) => {
                facts.revision = result.revision;
                for found in result.results {
                    if let OpResult::Range(kvs) = found {
                        facts.keys.extend(kvs.into_iter().map(|kv| (kv.key.clone(), kv)));
                    }
                }
                Ok(facts)
            }
            Err(failure) if is_forbidden(&failure) => self.seen_in_part(reads, failure),
            Err(failure) => Err(failure),
        }
    }

    /// Reads those ranges that this user may see.
    fn seen_in_part(&mut self, reads: &[KeyRange], refusal: Failure) -> Result<Facts, Failure> {
        let mut facts = Facts::default();
        for range in reads {
            let revision = facts.revision;
            let found = self.ask(Attempts::AtEach, |client| {
                if revision == 0 {
                    client.range(range)
                } else {
                    Ok((client.range_at(range, revision)?, revision))
                }
            });
            match found {
                Ok((kvs, revision)) => {
                    facts.revision = revision;
                    facts.seen.push(range.clone());
                    facts.keys.extend(kvs.into_iter().map(|kv| (kv.key.clone(), kv)));
                }
                Err(failure) if is_forbidden(&failure) => facts.unseen.push(range.clone()),
                Err(failure) => return Err(failure),
            }
        }
        if facts.unseen.len() == reads.len() { Err(refusal) } else { Ok(facts) }
    }
}

const fn is_once(request: &Request) -> bool {
    matches!(request, Request::Remove { .. } | Request::Set { only: plan::Only::IfAbsent, .. })
}

fn is_forbidden(failure: &Failure) -> bool {
    matches!(failure, Failure::Fault(Fault::Api { code: code::UNAUTHORIZED, .. }, _))
}
