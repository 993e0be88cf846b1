//! What comes in: signals, ends of processes, notifications, output.

use super::button::PowerButton;
use super::cgroup;
use super::journal::JournalPorts;
use super::logs::Record;
use super::process::code::RESOURCES;
use super::shell::{Shell, now};
use super::watches::Source;
use crate::supervisor::{Event, ExitStatus, Level, ProcessId, UnitId};
use crate::sys::signals::{self, Ending};
use crate::sys::spawn::Failure;

/// How much of a unit's output is read before somebody else gets a turn.
const OUTPUT_TURN: usize = 16 << 10;

impl Shell {
    pub(super) fn dispatch(&mut self, key: u64) {
        match self.watches.get(key) {
            None => {}
            Some(Source::Signals) => self.read_signals(),
            Some(Source::Notify) => self.read_notifications(),
            Some(Source::Cgroups) => self.read_cgroups(),
            Some(Source::Listener) => self.accept_clients(),
            Some(Source::Client) => self.serve_client(key),
            Some(Source::Report(..)) => self.read_report(key),
            Some(Source::Output { .. }) => self.read_output(key),
            Some(Source::Adopted(process, _)) => {
                let process = *process;
                self.reap();
                if self.processes.contains_key(&process) {
                    self.process_gone(process, ExitStatus::Unknown);
                }
            }
            Some(Source::PowerButton) => self.read_button(),
            Some(Source::Socket(unit, index)) => {
                let (unit, index) = (*unit, *index);
                self.socket_ready(unit, index);
            }
            Some(Source::Paths(unit)) => {
                let unit = *unit;
                self.paths_ready(unit);
            }
            Some(Source::Tables) => self.tables_ready(),
            Some(Source::Devices) => self.devices_ready(),
            Some(Source::Clock) => self.clock_ready(),
            Some(Source::Zone) => self.zone_ready(),
            Some(Source::Stored(unit)) => {
                let unit = *unit;
                self.stored_ended(unit, key);
            }
            Some(Source::Journal) => {
                self.journal.as_mut().map(JournalPorts::read).unwrap_or_default();
                self.log.flush();
            }
        }
        self.carry_out(Vec::new());
    }

    pub(super) fn read_button(&mut self) {
        if self.button.as_ref().is_some_and(PowerButton::was_pressed) {
            self.console.note("Power button pressed");
            self.begin_power("poweroff.target");
        }
    }

    fn clock_ready(&mut self) {
        let Some(clock) = &self.clock else { return };
        let mut count = [0; 8];
        // ECANCELED is the news; what else there may be means nothing.
        let _news = rustix::io::read(clock, &mut count);
        if let Err(error) = super::timer_units::arm_clock_watch(clock) {
            self.say(Level::Warning, &format!("changes of the clock are not noticed any more: {error}"));
        }
        self.clock_was_set();
    }

    pub(super) fn read_signals(&mut self) {
        let realtime = signals::first_realtime();
        while let Some(number) = self.signals.read() {
            match number {
                libc::SIGCHLD => self.reap(),
                libc::SIGINT => self.begin_power("reboot.target"), // Ctrl-Alt-Del
                libc::SIGPWR => self.begin_power("poweroff.target"),
                libc::SIGHUP => self.reload_files(),
                // BusyBox's own reboot, poweroff and halt, which its shell prefers to programs of those names.
                libc::SIGTERM => self.begin_power("reboot.target"),
                libc::SIGUSR2 => self.begin_power("poweroff.target"),
                libc::SIGUSR1 => self.begin_power("halt.target"),
                number if number == realtime + 3 => self.begin_power("halt.target"),
                number if number == realtime + 4 => self.begin_power("poweroff.target"),
                number if number == realtime + 5 => self.begin_power("reboot.target"),
                number => self.say(Level::Notice, &format!("signal {number} means nothing to PID 1")),
            }
        }
    }

    /// Reaps every child that has ended, strangers too.
    pub(super) fn reap(&mut self) {
        // What a process said before its end comes before its end.
        self.read_notifications();
        while let Some((pid, ending)) = signals::reap_any() {
            let Some(process) = self.pids.get(&pid).copied() else { continue };
            let status = match ending {
                Ending::Exited(code) => ExitStatus::Code(code),
                Ending::Killed(signal, core) => ExitStatus::Signal { signal, core },
            };
            self.process_gone(process, status);
        }
    }

    pub(super) fn process_gone(&mut self, process: ProcessId, status: ExitStatus) {
        if let Some(key) = self.processes.get(&process).and_then(|entry| entry.report) {
            self.read_report(key);
        }
        let Some(entry) = self.processes.remove(&process) else { return };
        self.pids.remove(&entry.pid);
        if let Some(key) = entry.adopted {
            self.watches.remove(key);
        }
        // The reason comes before the end that it is the reason of.
        if matches!(status, ExitStatus::Signal { signal: libc::SIGKILL, .. })
            && self.cgroups.as_mut().is_some_and(|cgroups| cgroups.was_out_of_memory(entry.unit))
        {
            self.events.push_back(Event::OutOfMemory { unit: entry.unit });
        }
        self.drain_output(entry.unit, entry.pid);
        // Known before the end is told, there is nothing left to be signalled and waited for.
        if self.cgroups.as_ref().is_some_and(|cgroups| cgroups.is_empty(entry.unit)) {
            self.events.push_back(Event::GroupEmpty { unit: entry.unit });
        }
        self.events.push_back(match entry.failure {
            Some(failure) => {
                let code = Some(i32::from(failure.code)).filter(|code| *code != i32::from(RESOURCES));
                Event::SpawnFailed { process, code, reason: failure.text }
            }
            None => Event::Exited { process, status },
        });
        let has_others = self.processes.values().any(|other| other.unit == entry.unit);
        if self.cgroups.is_none() && !has_others {
            self.events.push_back(Event::GroupEmpty { unit: entry.unit });
        }
        self.carry_out(Vec::new());
    }

    pub(super) fn read_notifications(&mut self) {
        while let Some((pid, message, descriptors)) = self.notify.read() {
            let from = self.pids.get(&pid).copied();
            let unit = match from.and_then(|process| self.processes.get(&process)) {
                Some(entry) => Some(entry.unit),
                None => cgroup::unit_of(pid).and_then(|name| self.sup.lookup(&name)),
            };
            if let Some(unit) = unit {
                if self.sup.hears(unit, from) {
                    self.told_of_descriptors(unit, &message, descriptors);
                }
                self.events.push_back(Event::Notify { unit, from, message });
            }
        }
        self.carry_out(Vec::new());
    }

    pub(super) fn read_cgroups(&mut self) {
        let Some(cgroups) = &mut self.cgroups else { return };
        let changed = cgroups.read_events();
        let short: Vec<UnitId> =
            changed.memory.into_iter().filter(|unit| cgroups.was_out_of_memory(*unit)).collect();
        let empty: Vec<UnitId> =
            changed.population.into_iter().filter(|unit| !cgroups.is_populated(*unit)).collect();
        self.events.extend(short.into_iter().map(|unit| Event::OutOfMemory { unit }));
        self.events.extend(empty.into_iter().map(|unit| Event::GroupEmpty { unit }));
    }

    pub(super) fn read_report(&mut self, key: u64) {
        let Some(Source::Report(process, pipe)) = self.watches.get(key) else { return };
        let process = *process;
        let mut bytes = [0; Failure::LONGEST];
        let count = match rustix::io::read(pipe, &mut bytes) {
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return,
            Err(_) => 0,
            Ok(count) => count,
        };
        let report = bytes.get(..count).unwrap_or_default();
        self.watches.remove(key);
        let entry = self.processes.get_mut(&process);
        let failure = match entry.as_ref().and_then(|entry| entry.launch.as_ref()) {
            Some(launch) => launch.explain(report),
            None => Failure::parse(report),
        };
        if let Some(entry) = entry {
            entry.report = None;
            if count == 0 {
                // It has left this process's memory; one that has failed will when it has ended.
                entry.launch = None;
            }
        }
        match failure {
            None => self.events.push_back(Event::Executed { process }),
            Some(failure) => {
                // It is about to end by itself; the reason says more than the exit code that it ends with.
                if let Some(entry) = self.processes.get_mut(&process) {
                    entry.failure = Some(failure);
                }
            }
        }
    }

    pub(super) fn read_output(&mut self, key: u64) {
        let Some(Source::Output { unit, pid, pipe, lines }) = self.watches.get_mut(key) else { return };
        let source = self.sup.name(*unit);
        let mut open = true;
        let mut turn = 0;
        let mut bytes = [0; 4096];
        let pid = *pid;
        let log = &mut self.log;
        while turn < OUTPUT_TURN {
            match rustix::io::read(&*pipe, &mut bytes) {
                Ok(0) => open = false,
                Ok(count) => {
                    turn = turn.saturating_add(count);
                    let read = bytes.get(..count).unwrap_or_default();
                    lines.push(read, |text| {
                        log.write(now(), Record { source, pid, level: Level::Info, text })
                    });
                    continue;
                }
                Err(rustix::io::Errno::INTR) => continue,
                Err(rustix::io::Errno::AGAIN) => {}
                Err(_) => open = false,
            }
            break;
        }
        if !open {
            lines.flush(|text| log.write(now(), Record { source, pid, level: Level::Info, text }));
            self.watches.remove(key);
        }
    }

    /// Reads what a process has written before its end is told.
    pub(super) fn drain_output(&mut self, unit: UnitId, pid: u32) {
        let is_its = |source: &Source| matches!(source, Source::Output { unit: owner, pid: writer, .. } if *owner == unit && *writer == pid);
        let keys: Vec<u64> =
            self.watches.iter().filter(|(_, source)| is_its(source)).map(|(key, _)| key).collect();
        keys.into_iter().for_each(|key| self.read_output(key));
    }
}
