//! What is counted, in Prometheus' text format under fleet's names (`metrics/metrics.go` of fleet 1.0).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

/// Upper ends of a histogram's buckets in seconds: those of Prometheus' own client, which fleet took.
const BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Times, sorted into buckets.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Histogram {
    /// Times up to the end of each bucket, those of earlier ones not among them.
    buckets: [u64; BUCKETS.len()],
    count: u64,
    sum: Duration,
}

impl Histogram {
    const fn new() -> Self {
        Self { buckets: [0; BUCKETS.len()], count: 0, sum: Duration::ZERO }
    }

    /// Counts a time.
    pub fn observe(&mut self, time: Duration) {
        let seconds = time.as_secs_f64();
        if let Some(bucket) =
            BUCKETS.iter().position(|end| seconds <= *end).and_then(|at| self.buckets.get_mut(at))
        {
            *bucket += 1;
        }
        self.count += 1;
        self.sum = self.sum.saturating_add(time);
    }

    /// `label`: `ops="set"`, or nothing.
    fn write(&self, out: &mut String, name: &str, label: &str) {
        let mut sum = 0;
        let and = if label.is_empty() { "" } else { "," };
        for (end, count) in BUCKETS.iter().zip(self.buckets) {
            sum += count;
            line(out, &format!("{name}_bucket{{{label}{and}le=\"{end}\"}}"), sum);
        }
        line(out, &format!("{name}_bucket{{{label}{and}le=\"+Inf\"}}"), self.count);
        let braces = if label.is_empty() { String::new() } else { format!("{{{label}}}") };
        line(out, &format!("{name}_sum{braces}"), self.sum.as_secs_f64());
        line(out, &format!("{name}_count{braces}"), self.count);
    }
}

/// What the engine has done since the daemon began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Decisions {
    /// Since when it leads, by the clock of the node.
    pub leads_since: Option<u64>,
    /// Looks at the whole cluster.
    pub looks: u64,
    /// Tasks that were sent.
    pub tasks: Tasks,
    /// Those of which it is not known that they were carried out.
    pub failed: Tasks,
    /// Units that lost their machine because that is gone.
    pub machine_away: u64,
    /// Units that their machine does not suit any more.
    pub unsuited: u64,
    /// Units without a machine, each look anew.
    pub unplaced: u64,
}

/// Tasks by what they do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tasks {
    /// A unit is given to a machine.
    pub schedule: u64,
    /// A unit is taken away from one.
    pub unschedule: u64,
}

impl Tasks {
    /// More of them.
    pub const fn add(&mut self, more: Self) {
        self.schedule += more.schedule;
        self.unschedule += more.unschedule;
    }
}

/// What is asked of etcd, in fleet's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// Everything is read: once, and when changes in between cannot be had.
    GetAll,
    /// A change, or a renewal of the lease.
    Set,
}

impl Operation {
    const fn word(self) -> &'static str {
        match self {
            Self::GetAll => "get_all",
            Self::Set => "set",
        }
    }
}

/// What only the shell around the state machine can tell: how long things take.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Meter {
    looks: Histogram,
    done: BTreeMap<Operation, u64>,
    failed: BTreeMap<Operation, u64>,
    changes: Histogram,
}

impl Meter {
    /// Nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            looks: Histogram::new(),
            done: BTreeMap::new(),
            failed: BTreeMap::new(),
            changes: Histogram::new(),
        }
    }

    /// A look at the whole cluster took so long.
    pub fn looked(&mut self, time: Duration) {
        self.looks.observe(time);
    }

    /// An operation of etcd has succeeded, or failed.
    pub fn asked(&mut self, operation: Operation, succeeded: bool) {
        let counts = if succeeded { &mut self.done } else { &mut self.failed };
        *counts.entry(operation).or_default() += 1;
    }

    /// A change took so long.
    pub fn changed(&mut self, time: Duration) {
        self.changes.observe(time);
    }
}

fn line(out: &mut String, name: &str, value: impl std::fmt::Display) {
    // Text in memory takes every line.
    let _fits = writeln!(out, "{name} {value}");
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _fits = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

/// Everything. `leads_since`: seconds since 1970; 0 if it does not lead.
#[must_use]
pub fn text(decisions: &Decisions, leads_since: u64, meter: &Meter) -> String {
    let mut out = String::new();
    let name = "fleet_engine_leader_start_time";
    head(
        &mut out,
        name,
        "gauge",
        "When this machine became the leader, in seconds since 1970; 0 if it is not.",
    );
    line(&mut out, name, leads_since);
    for (name, help, tasks) in [
        ("fleet_engine_task_count_total", "Tasks of the engine.", decisions.tasks),
        (
            "fleet_engine_task_failure_count_total",
            "Tasks that may not have been carried out.",
            decisions.failed,
        ),
    ] {
        head(&mut out, name, "counter", help);
        line(&mut out, &format!("{name}{{type=\"attemptscheduleunit\"}}"), tasks.schedule);
        line(&mut out, &format!("{name}{{type=\"unscheduleunit\"}}"), tasks.unschedule);
    }
    let name = "fleet_engine_reconcile_count_total";
    head(&mut out, name, "counter", "Looks at the whole cluster.");
    line(&mut out, name, decisions.looks);
    let name = "fleet_engine_reconcile_duration_second";
    head(&mut out, name, "histogram", "How long each of them took.");
    meter.looks.write(&mut out, name, "");
    let name = "fleet_engine_reconcile_failure_count_total";
    head(
        &mut out,
        name,
        "counter",
        "Units that lost their machine (machine_away, run) or found none (schedule).",
    );
    for (kind, value) in [
        ("machine_away", decisions.machine_away),
        ("run", decisions.unsuited),
        ("schedule", decisions.unplaced),
    ] {
        line(&mut out, &format!("{name}{{type=\"{kind}\"}}"), value);
    }
    for (name, help, counts) in [
        ("fleet_registry_operation_count_total", "Operations of etcd that succeeded.", &meter.done),
        ("fleet_registry_operation_failed_count_total", "Operations of etcd that failed.", &meter.failed),
    ] {
        head(&mut out, name, "counter", help);
        for kind in [Operation::GetAll, Operation::Set] {
            let count = counts.get(&kind).copied().unwrap_or_default();
            line(&mut out, &format!("{name}{{type=\"{}\"}}", kind.word()), count);
        }
    }
    let name = "fleet_registry_operation_duration_second";
    head(&mut out, name, "histogram", "How long changes took that succeeded.");
    meter.changes.write(&mut out, name, "ops=\"set\"");
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn buckets_add_up() {
        let mut histogram = Histogram::default();
        for milliseconds in [1, 5, 6, 400, 20_000] {
            histogram.observe(Duration::from_millis(milliseconds));
        }
        let mut out = String::new();
        histogram.write(&mut out, "x", "ops=\"set\"");
        let value =
            |name: &str| out.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).unwrap();
        assert_eq!(value("x_bucket{ops=\"set\",le=\"0.005\"}"), "2");
        assert_eq!(value("x_bucket{ops=\"set\",le=\"0.01\"}"), "3");
        assert_eq!(value("x_bucket{ops=\"set\",le=\"0.5\"}"), "4");
        assert_eq!(value("x_bucket{ops=\"set\",le=\"10\"}"), "4");
        assert_eq!(value("x_bucket{ops=\"set\",le=\"+Inf\"}"), "5");
        assert_eq!((value("x_sum{ops=\"set\"}"), value("x_count{ops=\"set\"}")), ("20.412", "5"));
        let mut plain = String::new();
        histogram.write(&mut plain, "x", "");
        assert!(
            plain.contains("x_bucket{le=\"1\"} 4\n") && plain.ends_with("x_sum 20.412\nx_count 5\n"),
            "{plain}"
        );
    }

    /// Reference 1.10: the names that fleet had, each described once, before its values.
    #[test]
    fn all_of_fleets_metrics_are_there() {
        let text = text(&Decisions::default(), 0, &Meter::default());
        let types: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE fleet_")).collect();
        let want = [
            "engine_leader_start_time gauge",
            "engine_task_count_total counter",
            "engine_task_failure_count_total counter",
            "engine_reconcile_count_total counter",
            "engine_reconcile_duration_second histogram",
            "engine_reconcile_failure_count_total counter",
            "registry_operation_count_total counter",
            "registry_operation_failed_count_total counter",
            "registry_operation_duration_second histogram",
        ];
        assert_eq!(types, want);
        let names: Vec<&str> = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split_once(' ').unwrap().0)
            .collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "no value is there twice");
    }
}
