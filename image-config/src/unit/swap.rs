//! `[Swap]`: systemd.swap(5).

use super::exec::ExecContext;
use super::mount::device_unit;
use super::name::{UnitName, escape_path};
use super::reader::{Directive, Section};
use super::resources::ResourceControl;
use super::service::KillContext;
use super::value::{self, DEFAULT_TIMEOUT, TimeSpan};

/// Settings of the `[Swap]` section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Swap {
    /// `What=`: device or file; `UUID=` and the like are paths below `/dev/disk` by now.
    pub what: String,
    /// `Priority=`: -1 (the kernel's choice) to 32767. See [`Swap::priority`].
    pub written_priority: Option<i32>,
    /// `Options=`, as written: separated by commas.
    pub options: String,
    /// `TimeoutSec=`: 90 s unless written.
    pub timeout: TimeSpan,
    /// How a swap program runs.
    pub exec: ExecContext,
    /// What its processes may use up.
    pub resources: ResourceControl,
    /// How it is ended.
    pub kill: KillContext,
}

impl Default for Swap {
    fn default() -> Self {
        Self {
            what: String::new(),
            written_priority: None,
            options: String::new(),
            timeout: DEFAULT_TIMEOUT,
            exec: ExecContext::default(),
            resources: ResourceControl::default(),
            kill: KillContext::default(),
        }
    }
}

impl Swap {
    /// The priority in force: `pri=` among the options, else as written; `None` is the kernel's choice.
    #[must_use]
    pub fn priority(&self) -> Option<i32> {
        let option = self.options.split(',').find_map(|option| option.strip_prefix("pri="));
        let priority = option.and_then(|text| priority(text).ok()).or(self.written_priority);
        priority.filter(|priority| *priority >= 0)
    }

    /// The device unit that it needs, if it is one of a block device.
    #[must_use]
    pub fn device(&self) -> Option<UnitName> {
        device_unit(&self.what)
    }
}

fn priority(text: &str) -> Result<i32, value::ValueError> {
    value::integer(text, -1..=32767, "a priority from -1 to 32767")
}

impl Section for Swap {
    const OWN: &'static [Directive<Self>] = &[
        ("What", |swap, it| it.device_node(&mut swap.what)),
        ("Priority", |swap, it| it.optional(&mut swap.written_priority, priority)),
        ("Options", |swap, it| it.text(&mut swap.options)),
        ("TimeoutSec", |swap, it| it.limit_span(&mut swap.timeout)),
    ];

    fn exec(&mut self) -> Option<&mut ExecContext> {
        Some(&mut self.exec)
    }

    fn resources(&mut self) -> Option<&mut ResourceControl> {
        Some(&mut self.resources)
    }

    fn kill(&mut self) -> Option<&mut KillContext> {
        Some(&mut self.kill)
    }

    /// systemd's `swap_verify`.
    fn problem(&self, own: &UnitName) -> Option<&'static str> {
        if self.what.is_empty() {
            return Some("the swap has no What= line");
        }
        (escape_path(&self.what).as_deref() != Some(own.stem()))
            .then_some("What= does not fit the unit's name, which is the escaped path")
    }
}
