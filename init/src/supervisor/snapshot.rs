//! The state of everything that runs, to be handed from one PID 1 program to the next (`daemon-reexec`).

use serde::{Deserialize, Serialize};

use super::event::ProcessId;
use super::spec::Monotonic;
use super::state::SubState;
use super::unit::{Job, RateLimit, ServiceRun, Times};
use super::{Clock, Supervisor};

/// All of it. Files are not part of it: they are read again.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Snapshot {
    units: Vec<UnitSnapshot>,
    processes: Vec<(ProcessId, String)>,
    last_process: u64,
    last_job: u32,
}

/// One unit.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UnitSnapshot {
    /// Its name.
    pub name: String,
    sub: SubState,
    job: Option<Job>,
    run: ServiceRun,
    condition: Option<String>,
    changed_at: Monotonic,
    active_since: Option<Monotonic>,
    times: Times,
    present: bool,
    #[serde(default)]
    activated_by: Option<String>,
    last_trigger: Option<Monotonic>,
    next_elapse: Option<Monotonic>,
    accepted: u32,
    limit: RateLimit,
    trigger_limit: RateLimit,
    deadline: Option<Monotonic>,
    watchdog: Option<Monotonic>,
}

impl Snapshot {
    /// Names of the units in it, which are to be loaded before it is taken over.
    pub fn names(&self) -> Vec<String> {
        self.units.iter().map(|unit| unit.name.clone()).collect()
    }
}

impl Supervisor {
    /// The state of every unit that is not as if it had never been touched.
    pub fn snapshot(&self) -> Snapshot {
        let touched = self.units.iter().filter(|unit| {
            unit.sub != SubState::Dead || unit.job.is_some() || unit.times != Times::default() || unit.present
        });
        let units = touched.map(|unit| UnitSnapshot {
            name: unit.spec.name.clone(),
            sub: unit.sub,
            job: unit.job.clone(),
            run: unit.run.clone(),
            condition: unit.condition.clone(),
            changed_at: unit.changed_at,
            active_since: unit.active_since,
            times: unit.times,
            present: unit.present,
            activated_by: unit.activated_by.map(|by| self.name(by).to_owned()),
            last_trigger: unit.last_trigger,
            next_elapse: unit.next_elapse,
            accepted: unit.accepted,
            limit: unit.limit.clone(),
            trigger_limit: unit.trigger_limit.clone(),
            deadline: unit.deadline,
            watchdog: unit.watchdog,
        });
        let processes =
            self.processes.iter().map(|(process, unit)| (*process, self.name(*unit).to_owned())).collect();
        Snapshot {
            units: units.collect(),
            processes,
            last_process: self.last_process,
            last_job: self.last_job,
        }
    }

    /// Takes a snapshot over, into a supervisor that has the units' files and has done nothing yet. Checks of conditions
    /// that were under way are begun anew.
    pub fn restore(&mut self, snapshot: Snapshot) {
        self.last_process = snapshot.last_process;
        self.last_job = snapshot.last_job;
        for saved in snapshot.units {
            let id = self.lookup_or_insert(&saved.name);
            let activated_by = saved.activated_by.map(|by| self.lookup_or_insert(&by));
            let Some(unit) = self.units.get_mut(id.index()) else { continue };
            unit.sub = saved.sub;
            unit.activated_by = activated_by;
            unit.run = saved.run;
            unit.condition = saved.condition;
            unit.changed_at = saved.changed_at;
            unit.active_since = saved.active_since;
            unit.times = saved.times;
            unit.present = saved.present;
            unit.last_trigger = saved.last_trigger;
            unit.next_elapse = saved.next_elapse;
            unit.accepted = saved.accepted;
            unit.limit = saved.limit;
            unit.trigger_limit = saved.trigger_limit;
            let job_deadline = saved.job.as_ref().and_then(|job| job.deadline);
            if let Some(mut job) = saved.job {
                // A job that had only got as far as its conditions has changed nothing yet.
                job.running &= !unit.sub.active_state().is_down();
                unit.job = Some(job);
                self.jobs = self.jobs.saturating_add(1);
            }
            if unit.run.idle_wait {
                self.idle.insert(id);
            }
            self.set_clock(id, Clock::State, saved.deadline);
            self.set_clock(id, Clock::Watchdog, saved.watchdog);
            self.set_clock(id, Clock::Job, job_deadline);
            self.queue.insert(id);
        }
        for (process, name) in snapshot.processes {
            let id = self.lookup_or_insert(&name);
            self.processes.insert(process, id);
        }
    }
}
