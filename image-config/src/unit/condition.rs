//! `Condition...=` and `Assert...=`: systemd.unit(5), "Conditions and Asserts".

/// One `Condition...=` or `Assert...=`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// What is asked.
    pub kind: ConditionKind,
    /// `|`: one of the triggering conditions must hold.
    pub trigger: bool,
    /// `!`: must not hold.
    pub negate: bool,
    /// The rest, specifiers expanded.
    pub argument: String,
}

/// What a condition asks; the names are systemd's without `Condition`/`Assert`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "systemd.unit(5) describes each under its own name")]
pub enum ConditionKind {
    AcPower,
    Architecture,
    Capability,
    ControlGroupController,
    Cpus,
    CpuFeature,
    CpuPressure,
    Credential,
    DirectoryNotEmpty,
    Environment,
    FileIsExecutable,
    FileNotEmpty,
    Firmware,
    FirstBoot,
    Group,
    Host,
    IoPressure,
    KernelCommandLine,
    KernelModuleLoaded,
    KernelVersion,
    Memory,
    MemoryPressure,
    NeedsUpdate,
    OsRelease,
    PathExists,
    PathExistsGlob,
    PathIsDirectory,
    PathIsEncrypted,
    PathIsMountPoint,
    PathIsReadWrite,
    PathIsSocket,
    PathIsSymbolicLink,
    Security,
    User,
    Version,
    Virtualization,
}

impl ConditionKind {
    const ALL: [(&'static str, Self); 36] = [
        ("ACPower", Self::AcPower),
        ("Architecture", Self::Architecture),
        ("Capability", Self::Capability),
        ("ControlGroupController", Self::ControlGroupController),
        ("CPUs", Self::Cpus),
        ("CPUFeature", Self::CpuFeature),
        ("CPUPressure", Self::CpuPressure),
        ("Credential", Self::Credential),
        ("DirectoryNotEmpty", Self::DirectoryNotEmpty),
        ("Environment", Self::Environment),
        ("FileIsExecutable", Self::FileIsExecutable),
        ("FileNotEmpty", Self::FileNotEmpty),
        ("Firmware", Self::Firmware),
        ("FirstBoot", Self::FirstBoot),
        ("Group", Self::Group),
        ("Host", Self::Host),
        ("IOPressure", Self::IoPressure),
        ("KernelCommandLine", Self::KernelCommandLine),
        ("KernelModuleLoaded", Self::KernelModuleLoaded),
        ("KernelVersion", Self::KernelVersion),
        ("Memory", Self::Memory),
        ("MemoryPressure", Self::MemoryPressure),
        ("NeedsUpdate", Self::NeedsUpdate),
        ("OSRelease", Self::OsRelease),
        ("PathExists", Self::PathExists),
        ("PathExistsGlob", Self::PathExistsGlob),
        ("PathIsDirectory", Self::PathIsDirectory),
        ("PathIsEncrypted", Self::PathIsEncrypted),
        ("PathIsMountPoint", Self::PathIsMountPoint),
        ("PathIsReadWrite", Self::PathIsReadWrite),
        ("PathIsSocket", Self::PathIsSocket),
        ("PathIsSymbolicLink", Self::PathIsSymbolicLink),
        ("Security", Self::Security),
        ("User", Self::User),
        ("Version", Self::Version),
        ("Virtualization", Self::Virtualization),
    ];

    /// Whether its argument is an absolute path (with wildcards or without).
    #[must_use]
    pub fn takes_path(self) -> bool {
        matches!(
            self,
            Self::DirectoryNotEmpty
                | Self::FileIsExecutable
                | Self::FileNotEmpty
                | Self::NeedsUpdate
                | Self::PathExists
                | Self::PathExistsGlob
                | Self::PathIsDirectory
                | Self::PathIsEncrypted
                | Self::PathIsMountPoint
                | Self::PathIsReadWrite
                | Self::PathIsSocket
                | Self::PathIsSymbolicLink
        )
    }

    /// The kind with systemd's name, without `Condition` or `Assert` before it.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(text, _)| *text == name).map(|(_, kind)| *kind)
    }

    /// systemd's name, without `Condition` or `Assert` before it.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, kind)| *kind == self).map_or("", |(text, _)| text)
    }
}
