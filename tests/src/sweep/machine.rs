//! Power-on in the model: the firmware, then the loader's own code over a state.

use std::io;

use boot::machine::Machine;
use boot::select;
use boot::trust::Trust;
use slots::{Device, Geometry};

use super::model::{Behaviour, ModelDisk, Op};
use super::readers;
use super::sectors::{Patched, Sectors};

/// The firmware's variables, of which the loader keeps one: the rollback floor (SAFETY 12).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variables {
    /// They hold this floor. A store that was lost comes back with 0.
    Floor(u64),
    /// They can be neither read nor written.
    Broken,
}

/// What a power-on came to.
#[derive(Debug)]
pub struct PoweredOn<'a> {
    /// What firmware and loader did to the disk, in order.
    pub ops: Vec<Op>,
    /// The disk as the kernel finds it.
    pub disk: Patched<'a>,
    /// The slot that was started; none when nothing was.
    pub started: Option<Started>,
    /// The rollback floor that the firmware keeps from now on.
    pub floor: u64,
    /// What the loader said, and why the firmware did not come to it.
    pub lines: Vec<String>,
}

/// A slot that the loader has handed over to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    /// Its PARTUUID as the loader wrote it on the command line.
    pub slot: String,
    /// Not yet known to be good.
    pub trial: bool,
}

/// Switches the machine on.
///
/// # Errors
/// The state cannot be read.
pub fn power_on<'a>(
    state: &'a dyn Sectors,
    trust: &Trust,
    behaviour: Behaviour,
    variables: Variables,
) -> io::Result<PoweredOn<'a>> {
    let mut disk = ModelDisk::over(state, behaviour);
    let seen = readers::firmware(&mut disk)?;
    let esp = slots::types::ESP.to_disk();
    let has_esp = seen.as_ref().is_some_and(|seen| seen.iter().any(|one| one.kind == esp));
    let mut machine = Loader { disk, variables, started: None, lines: Vec::new() };
    if has_esp {
        let gave_up = select::boot(&mut machine, trust, 0);
        machine.lines.extend(gave_up.lines);
    } else {
        let reason = if seen.is_none() { "no partition table" } else { "no system partition" };
        machine.lines.push(format!("the firmware finds {reason}"));
    }
    let Loader { disk, variables, started, lines } = machine;
    let floor = if let Variables::Floor(floor) = variables { floor } else { 0 };
    let layer = disk.now().clone();
    Ok(PoweredOn { ops: disk.ops, disk: layer, started, floor, lines })
}

struct Loader<'a> {
    disk: ModelDisk<'a>,
    variables: Variables,
    started: Option<Started>,
    lines: Vec<String>,
}

impl Device for Loader<'_> {
    type Error = io::Error;

    fn geometry(&self) -> Geometry {
        self.disk.geometry()
    }

    fn read(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.disk.read(offset, buffer)
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.disk.write(offset, data)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.disk.flush()
    }
}

impl Machine for Loader<'_> {
    type Buffer = Vec<u8>;
    type Image = ();

    fn buffer(&mut self, bytes: usize) -> io::Result<Vec<u8>> {
        Ok(vec![0; bytes])
    }

    fn load_image(&mut self, program: &[u8]) -> io::Result<()> {
        // What every EFI program begins with; its hash has been checked.
        if program.starts_with(b"MZ") { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
    }

    fn start(&mut self, (): (), _: Vec<u8>, _: usize, command_line: &str) -> io::Error {
        let word =
            |key: &str| command_line.split(' ').find_map(|word| word.strip_prefix(key)).unwrap_or_default();
        if self.started.is_none() {
            let (slot, trial) = (word("ferrite.slot=").to_owned(), word("ferrite.trial=") == "1");
            self.started = Some(Started { slot, trial });
        }
        // The kernel does not come back; what the loader would do if it did is not looked at.
        self.disk.left = true;
        io::Error::other("handed over")
    }

    fn rollback_floor(&mut self, _: &str) -> io::Result<u64> {
        match self.variables {
            Variables::Floor(floor) => Ok(floor),
            Variables::Broken => Err(io::Error::other("no variables")),
        }
    }

    fn raise_rollback_floor(&mut self, _: &str, floor: u64) -> io::Result<()> {
        match &mut self.variables {
            Variables::Floor(kept) => *kept = floor,
            Variables::Broken => return Err(io::Error::other("no variables")),
        }
        Ok(())
    }

    fn now_us(&mut self) -> u64 {
        0
    }

    fn say(&mut self, line: std::fmt::Arguments<'_>) {
        if !self.disk.left {
            self.lines.push(line.to_string());
        }
    }
}
