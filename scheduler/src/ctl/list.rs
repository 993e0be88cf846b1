//! Commands that show something.

use std::collections::BTreeMap;

use serde::Serialize;

use super::args::Parsed;
use super::client;
use super::table::table;
use super::{Session, machine_name};
use crate::api::entity::{MachineEntity, StateEntity, UnitEntity};
use crate::name;
use crate::requirements::Requirements;
use crate::unit_file::UnitFile;

/// A column: its name, and what stands in it.
type Column<'a, T> = (&'static str, Box<dyn Fn(&T) -> String + 'a>);

fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

impl Session<'_> {
    /// A table of the columns that were asked for.
    fn show<T>(
        &mut self,
        parsed: &Parsed,
        rows: &[T],
        default: &str,
        columns: &[Column<'_, T>],
    ) -> Result<u8, String> {
        let fields = parsed.value("fields").unwrap_or(default);
        let mut chosen = Vec::new();
        for field in fields.split(',').map(str::trim) {
            let column = columns.iter().find(|(name, _)| *name == field);
            chosen.push(column.ok_or_else(|| format!("Invalid key in output format: {field:?}"))?);
        }
        let mut lines: Vec<Vec<String>> = Vec::new();
        if !parsed.has("no-legend") {
            lines.push(chosen.iter().map(|(name, _)| name.to_ascii_uppercase()).collect());
        }
        lines.extend(rows.iter().map(|row| chosen.iter().map(|(_, cell)| cell(row)).collect()));
        self.print(&table(&lines));
        Ok(0)
    }

    /// `-o json`; `false`: text is wanted.
    fn json(&mut self, parsed: &Parsed, value: &impl Serialize) -> Result<bool, String> {
        match parsed.value("output") {
            None | Some("text") => Ok(false),
            Some("json") => {
                let text = serde_json::to_string_pretty(value).map_err(|error| error.to_string())?;
                self.say(&text);
                Ok(true)
            }
            Some(other) => Err(format!("--output is text or json, not {other:?}")),
        }
    }

    pub(super) fn list_machines(&mut self, parsed: &Parsed) -> Result<u8, String> {
        let machines = client::machines(self.api)
            .map_err(|error| format!("Error retrieving list of active machines: {error}\n{HINTS}"))?;
        if self.json(parsed, &machines)? {
            return Ok(0);
        }
        let full = parsed.has("full");
        let metadata = |machine: &MachineEntity| {
            let pairs: Vec<String> =
                machine.metadata.iter().map(|(key, value)| format!("{key}={value}")).collect();
            or_dash(&pairs.join(","))
        };
        let columns: [Column<'_, MachineEntity>; 4] = [
            ("machine", Box::new(move |machine| machine_name(&machine.id, "", full))),
            ("ip", Box::new(|machine| or_dash(&machine.primary_ip))),
            ("metadata", Box::new(metadata)),
            ("draining", Box::new(|machine| or_dash(&machine.draining))),
        ];
        self.show(parsed, &machines, "machine,ip,metadata", &columns)
    }

    fn addresses(&mut self) -> Result<BTreeMap<String, String>, String> {
        let machines = client::machines(self.api)?;
        Ok(machines.into_iter().map(|machine| (machine.id, machine.primary_ip)).collect())
    }

    pub(super) fn list_units(&mut self, parsed: &Parsed) -> Result<u8, String> {
        let (states, units) = (client::states(self.api)?, client::units(self.api)?);
        // Units that should be on a machine and are on none stand there as well, with nothing to say.
        let missing = units.iter().filter(|unit| !unit.reason.is_empty());
        let mut rows = states;
        let nowhere: Vec<StateEntity> = missing
            .filter(|unit| !rows.iter().any(|row| row.name == unit.name))
            .map(|unit| StateEntity { name: unit.name.clone(), ..StateEntity::default() })
            .collect();
        rows.extend(nowhere);
        rows.sort_by(|a, b| (&a.name, &a.machine).cmp(&(&b.name, &b.machine)));
        let reasons: BTreeMap<String, String> = units
            .into_iter()
            .filter(|unit| !unit.reason.is_empty())
            .map(|unit| (unit.name, unit.reason))
            .collect();
        let value: Vec<serde_json::Value> = rows
            .iter()
            .filter_map(|row| {
                let mut value = serde_json::to_value(row).ok()?;
                if let (Some(reason), Some(fields)) = (reasons.get(&row.name), value.as_object_mut()) {
                    fields.insert("reason".to_owned(), reason.as_str().into());
                }
                Some(value)
            })
            .collect();
        if self.json(parsed, &value)? {
            return Ok(0);
        }
        let (full, addresses) = (parsed.has("full"), self.addresses()?);
        let place = |row: &StateEntity| {
            let ip = addresses.get(&row.machine).map_or("", String::as_str);
            if row.machine.is_empty() { "-".to_owned() } else { machine_name(&row.machine, ip, full) }
        };
        let told = reasons.clone();
        let columns: [Column<'_, StateEntity>; 8] = [
            ("unit", Box::new(|row| row.name.clone())),
            ("machine", Box::new(place)),
            ("load", Box::new(|row| or_dash(&row.load))),
            ("active", Box::new(|row| or_dash(&row.active))),
            ("sub", Box::new(|row| or_dash(&row.sub))),
            ("hash", Box::new(move |row| hash(&row.hash, full))),
            ("problem", Box::new(|row| or_dash(&row.problem))),
            ("reason", Box::new(move |row| or_dash(told.get(&row.name).map_or("", String::as_str)))),
        ];
        self.show(parsed, &rows, "unit,machine,active,sub", &columns)?;
        for (unit, reason) in &reasons {
            self.tell(&format!("{unit}: {reason}"));
        }
        for row in rows.iter().filter(|row| !row.problem.is_empty()) {
            self.tell(&format!("{} on {}: {}", row.name, machine_name(&row.machine, "", full), row.problem));
        }
        Ok(0)
    }

    pub(super) fn list_unit_files(&mut self, parsed: &Parsed) -> Result<u8, String> {
        let units = client::units(self.api)?;
        if self.json(parsed, &units)? {
            return Ok(0);
        }
        let (full, addresses) = (parsed.has("full"), self.addresses()?);
        let is_global = |unit: &UnitEntity| unit.current_state.is_empty();
        let target = move |unit: &UnitEntity| {
            let ip = addresses.get(&unit.machine).map_or("", String::as_str);
            match unit.machine.as_str() {
                _ if is_global(unit) => "global".to_owned(),
                "" => "-".to_owned(),
                id => machine_name(id, ip, full),
            }
        };
        let description = |unit: &UnitEntity| {
            let file = UnitFile::new(unit.options.clone());
            or_dash(file.values("Unit", "Description").last().unwrap_or_default())
        };
        let columns: [Column<'_, UnitEntity>; 8] = [
            ("unit", Box::new(|unit| unit.name.clone())),
            (
                "hash",
                Box::new(move |unit| hash(&UnitFile::new(unit.options.clone()).hash().to_string(), full)),
            ),
            ("dstate", Box::new(|unit| or_dash(&unit.desired_state))),
            ("state", Box::new(|unit| or_dash(&unit.current_state))),
            ("target", Box::new(target)),
            ("global", Box::new(move |unit| is_global(unit).to_string())),
            ("desc", Box::new(description)),
            ("reason", Box::new(|unit| or_dash(&unit.reason))),
        ];
        self.show(parsed, &units, "unit,hash,dstate,state,target", &columns)
    }

    pub(super) fn cat(&mut self, parsed: &Parsed) -> Result<u8, String> {
        let [word] = parsed.arguments.as_slice() else { return Err("cat takes one unit".to_owned()) };
        let name = name::of_argument(word);
        let unit = client::unit(self.api, &name)?.ok_or_else(|| format!("Unit {name} not found"))?;
        if !self.json(parsed, &unit)? {
            self.print(&UnitFile::new(unit.options).to_string());
        }
        Ok(0)
    }

    /// Says what is wrong with unit files, as the cluster would.
    pub(super) fn verify(&mut self, parsed: &Parsed) -> Result<u8, String> {
        let mut status = 0;
        for path in &parsed.arguments {
            let problem = self.verify_one(path);
            if let Err(problem) = problem {
                self.tell(&problem);
                status = 2;
            }
        }
        Ok(status)
    }

    fn verify_one(&mut self, path: &str) -> Result<(), String> {
        let name = name::check(&name::of_argument(path)).map_err(|error| error.to_string())?;
        let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {path}: {error}"))?;
        let file =
            UnitFile::parse(&text).map_err(|error| format!("{path}:{}: {}", error.line, error.problem))?;
        let (requirements, warnings) = Requirements::of(&name, &file);
        for warning in warnings {
            self.tell(&format!("{path}: warning: {warning}"));
        }
        requirements.check().map_err(|error| format!("{path}: {error}"))
    }
}

fn hash(text: &str, full: bool) -> String {
    if full { or_dash(text) } else { or_dash(text.get(..7).unwrap_or(text)) }
}

const HINTS: &str = "Check that fleetd runs on this machine (systemctl status fleet), that etcd is healthy, and that --endpoint is right.";
