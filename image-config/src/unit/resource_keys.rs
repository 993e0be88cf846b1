//! The keys of [`ResourceControl`] and how their values are read.

use super::name::{UnitName, UnitType};
use super::reader::{Directive, Ignored};
use super::resources::{Amount, CpuWeight, Delegate, DevicePolicy, DeviceRule, IoLimit, ResourceControl};
use super::setting::Setting;
use super::syntax::Escapes;
use super::value::{self, ValueError, boolean};

/// Whether a key is one of systemd.resource-control(5) that is understood: what `systemctl set-property` takes.
#[must_use]
pub fn is_resource_key(key: &str) -> bool {
    RESOURCES.iter().any(|(known, _)| *known == key)
}

/// Keys of systemd.resource-control(5).
pub(super) const RESOURCES: &[Directive<ResourceControl>] = &[
    ("CPUWeight", |control, it| it.optional(&mut control.cpu_weight, cpu_weight)),
    ("StartupCPUWeight", |control, it| it.optional(&mut control.startup_cpu_weight, cpu_weight)),
    ("CPUQuota", |control, it| it.optional(&mut control.cpu_quota, quota)),
    ("CPUQuotaPeriodSec", |control, it| it.optional(&mut control.cpu_quota_period, microseconds)),
    ("AllowedCPUs", |control, it| it.cpu_set(&mut control.allowed_cpus)),
    ("AllowedMemoryNodes", |control, it| it.cpu_set(&mut control.allowed_memory_nodes)),
    ("MemoryMin", |control, it| it.optional(&mut control.memory_min, memory)),
    ("MemoryLow", |control, it| it.optional(&mut control.memory_low, memory)),
    ("MemoryHigh", |control, it| it.optional(&mut control.memory_high, memory)),
    ("MemoryMax", |control, it| it.optional(&mut control.memory_max, memory)),
    ("MemorySwapMax", |control, it| it.optional(&mut control.memory_swap_max, memory)),
    ("MemoryZSwapMax", |control, it| it.optional(&mut control.memory_zswap_max, memory)),
    ("TasksMax", |control, it| it.optional(&mut control.tasks_max, tasks)),
    ("IOWeight", |control, it| it.optional(&mut control.io_weight, weight)),
    ("StartupIOWeight", |control, it| it.optional(&mut control.startup_io_weight, weight)),
    ("IODeviceWeight", |control, it| it.of_device(&mut control.io_device_weights, weight)),
    ("IOReadBandwidthMax", |control, it| it.io_limit(&mut control.io_limits, IoLimit::ReadBandwidth)),
    ("IOWriteBandwidthMax", |control, it| it.io_limit(&mut control.io_limits, IoLimit::WriteBandwidth)),
    ("IOReadIOPSMax", |control, it| it.io_limit(&mut control.io_limits, IoLimit::ReadIops)),
    ("IOWriteIOPSMax", |control, it| it.io_limit(&mut control.io_limits, IoLimit::WriteIops)),
    ("IODeviceLatencyTargetSec", |control, it| it.of_device(&mut control.io_latencies, microseconds)),
    ("Delegate", |control, it| it.delegate(&mut control.delegate)),
    ("DelegateSubgroup", |control, it| it.subgroup(&mut control.delegate_subgroup)),
    ("Slice", |control, it| it.slice(&mut control.slice)),
    ("DevicePolicy", |control, it| it.choice(&mut control.device_policy, DEVICE_POLICIES)),
    ("DeviceAllow", |control, it| it.device_rule(&mut control.device_allow)),
];

const DEVICE_POLICIES: &[(&str, DevicePolicy)] =
    &[("auto", DevicePolicy::Auto), ("closed", DevicePolicy::Closed), ("strict", DevicePolicy::Strict)];
/// Controllers of cgroup v2 that a unit can be given.
const CONTROLLERS: [&str; 7] = ["cpu", "cpuset", "io", "memory", "pids", "hugetlb", "misc"];
/// Those of version 1, and pseudo controllers, that systemd takes and that mean nothing here.
const OTHER_CONTROLLERS: [&str; 7] =
    ["cpuacct", "blkio", "devices", "bpf-firewall", "bpf-devices", "bpf-foreign", "bpf-socket-bind"];

fn refused(value: &str, expected: &'static str) -> ValueError {
    ValueError { value: value.to_owned(), expected }
}

fn weight(text: &str) -> Result<u64, ValueError> {
    match text.parse() {
        Ok(weight) if (1..=10_000).contains(&weight) => Ok(weight),
        _ => Err(refused(text, "a weight from 1 to 10000")),
    }
}

fn cpu_weight(text: &str) -> Result<CpuWeight, ValueError> {
    if text == "idle" { Ok(CpuWeight::Idle) } else { weight(text).map(CpuWeight::Weight) }
}

/// Hundredths of a percent; `None` when the text is no percentage.
fn share(text: &str) -> Option<u64> {
    let (number, scale) = match (text.strip_suffix('%'), text.strip_suffix('‰'), text.strip_suffix('‱')) {
        (Some(number), ..) => (number, 100),
        (_, Some(number), _) => (number, 10),
        (.., number) => (number?, 1),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = fraction.len();
    if digits > 2
        || whole.is_empty()
        || number.ends_with('.')
        || !number.bytes().all(|c| c.is_ascii_digit() || c == b'.')
    {
        return None;
    }
    let fraction: u64 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let fraction = if digits == 1 { fraction.checked_mul(10)? } else { fraction };
    whole.parse::<u64>().ok()?.checked_mul(scale)?.checked_add(fraction.checked_mul(scale)? / 100)
}

/// A share of one CPU, which may be above 100 %, as microseconds a second.
fn quota(text: &str) -> Result<u64, ValueError> {
    let quota = share(text).filter(|share| *share > 0).and_then(|share| share.checked_mul(100));
    quota.ok_or_else(|| refused(text, "a share of one CPU such as `20%`"))
}

fn microseconds(text: &str) -> Result<u64, ValueError> {
    let span = value::time_span(text)?.finite();
    let whole = span.and_then(|span| u64::try_from(span.as_micros()).ok());
    whole.filter(|us| *us > 0).ok_or_else(|| refused(text, "a span of time above zero"))
}

fn amount(text: &str, number: fn(&str) -> Result<u64, ValueError>) -> Result<Amount, ValueError> {
    if text == "infinity" {
        return Ok(Amount::Infinity);
    }
    if text.ends_with(['%', '‰', '‱']) {
        let part = share(text).and_then(|part| u32::try_from(part).ok()).filter(|part| *part <= 10_000);
        return part.map(Amount::Share).ok_or_else(|| refused(text, "a share from 0% to 100%"));
    }
    number(text).map(Amount::Number)
}

fn memory(text: &str) -> Result<Amount, ValueError> {
    amount(text, value::size)
}

fn tasks(text: &str) -> Result<Amount, ValueError> {
    match amount(text, value::count)? {
        Amount::Number(0) => Err(refused(text, "a number of tasks above zero")),
        amount => Ok(amount),
    }
}

impl Setting<'_> {
    /// `device value`; a device more than once: the last counts. Empty resets.
    pub fn of_device<T>(
        &mut self,
        slot: &mut Vec<(String, T)>,
        parse: fn(&str) -> Result<T, ValueError>,
    ) -> Result<(), Ignored> {
        if self.value.is_empty() {
            slot.clear();
            return Ok(());
        }
        let (device, value) = self.device_and_value()?;
        let value = parse(&value).map_err(|error| self.ignored(&error))?;
        slot.retain(|(other, _)| *other != device);
        slot.push((device, value));
        Ok(())
    }

    /// `IOReadBandwidthMax=` and its kin: bytes count in thousands here; empty resets this one.
    pub fn io_limit(
        &mut self,
        slot: &mut Vec<(String, IoLimit, Option<u64>)>,
        kind: IoLimit,
    ) -> Result<(), Ignored> {
        if self.value.is_empty() {
            slot.retain(|(_, other, _)| *other != kind);
            return Ok(());
        }
        let (device, value) = self.device_and_value()?;
        let limit = match value.as_str() {
            "infinity" => None,
            value => Some(value::decimal_size(value).map_err(|error| self.ignored(&error))?),
        };
        slot.retain(|(path, other, _)| !(*path == device && *other == kind));
        slot.push((device, kind, limit));
        Ok(())
    }

    fn device_and_value(&mut self) -> Result<(String, String), Ignored> {
        match <[String; 2]>::try_from(self.words(Escapes::Strip)?) {
            Ok([device, value]) => {
                let device = value::absolute_path(&device).map_err(|error| self.ignored(&error))?;
                Ok((device, value))
            }
            Err(_) => Err(self.ignored(&"a device and a value are wanted")),
        }
    }

    /// `Delegate=`: a boolean, or controllers, which add up.
    pub fn delegate(&mut self, slot: &mut Option<Delegate>) -> Result<(), Ignored> {
        if let Ok(yes) = boolean(self.value) {
            *slot = yes.then_some(Delegate::All);
            return Ok(());
        }
        // An empty value delegates the group without any controller.
        let mut controllers = match slot.take() {
            Some(Delegate::Controllers(controllers)) if !self.value.is_empty() => controllers,
            Some(Delegate::All) if !self.value.is_empty() => CONTROLLERS.map(str::to_owned).to_vec(),
            _ => Vec::new(),
        };
        for word in self.words(Escapes::Strip)? {
            if CONTROLLERS.contains(&word.as_str()) {
                if !controllers.contains(&word) {
                    controllers.push(word);
                }
            } else if !OTHER_CONTROLLERS.contains(&word.as_str()) {
                self.warn(format!("`{word}` in `{}=` is left out: it is no controller", self.key));
            }
        }
        *slot = Some(Delegate::Controllers(controllers));
        Ok(())
    }

    /// `DelegateSubgroup=`; empty resets.
    pub fn subgroup(&self, slot: &mut Option<String>) -> Result<(), Ignored> {
        self.optional_text(slot)?;
        let fits = |name: &String| !name.contains('/') && !name.starts_with('.') && name.len() <= 255;
        if slot.as_ref().is_some_and(|name| !fits(name)) {
            return Err(self.ignored(&format!("`{}` is no name of a group", slot.take().unwrap_or_default())));
        }
        Ok(())
    }

    /// `Slice=`; empty resets.
    pub fn slice(&self, slot: &mut Option<UnitName>) -> Result<(), Ignored> {
        let text = self.expand(self.value)?;
        if text.is_empty() {
            *slot = None;
            return Ok(());
        }
        match UnitName::parse(&text) {
            Ok(name) if name.kind() == UnitType::Slice && !name.is_template() => *slot = Some(name),
            Ok(_) => return Err(self.ignored(&format!("`{text}` is no slice"))),
            Err(error) => return Err(self.ignored(&error)),
        }
        Ok(())
    }

    /// `DeviceAllow=`, a device and any of `r`, `w`, `m`; empty resets.
    pub fn device_rule(&mut self, slot: &mut Vec<DeviceRule>) -> Result<(), Ignored> {
        if self.value.is_empty() {
            slot.clear();
            return Ok(());
        }
        let words = self.words(Escapes::Strip)?;
        let (device, access) = match words.as_slice() {
            [device] => (device.as_str(), "rwm"),
            [device, access] => (device.as_str(), access.as_str()),
            _ => return Err(self.ignored(&"a device and its access are wanted")),
        };
        if !access.chars().all(|c| "rwm".contains(c)) {
            return Err(self.ignored(&format!("`{access}` is not made of `r`, `w` and `m`")));
        }
        let is_device =
            ["/dev/", "/run/systemd/inaccessible/", "char-", "block-"].iter().any(|p| device.starts_with(p));
        if !is_device {
            return Err(self.ignored(&format!("`{device}` is neither below /dev nor a class of devices")));
        }
        slot.push(DeviceRule {
            device: device.to_owned(),
            read: access.contains('r'),
            write: access.contains('w'),
            make: access.contains('m'),
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_quotas_and_amounts_are_read() {
        let shares: [(&str, Option<u64>); 7] = [
            ("20%", Some(2000)),
            ("0.5%", Some(50)),
            ("12.34%", Some(1234)),
            ("5‰", Some(50)),
            ("20", None),
            ("1.234%", None),
            (".5%", None),
        ];
        for (text, want) in shares {
            assert_eq!(share(text), want, "{text}");
        }
        assert_eq!((quota("250%"), quota("0%").is_err()), (Ok(2_500_000), true));
        assert_eq!(
            (memory("1G"), memory("50%"), memory("infinity")),
            (Ok(Amount::Number(1 << 30)), Ok(Amount::Share(5000)), Ok(Amount::Infinity))
        );
        assert!(
            memory("120%").is_err()
                && tasks("0").is_err()
                && weight("0").is_err()
                && cpu_weight("idle").is_ok()
        );
    }
}
